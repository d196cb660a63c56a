/**
 * Better Auth 1.5 and newer: its `secrets` from the versions of a secret, so that a new one does not make
 * unreadable what the one before encrypted; and, with 1.3 and newer, sessions that survive a new secret.
 *
 * ```ts
 * export const auth = betterAuth({ ...secrets(vault, 'BETTER_AUTH_SECRET') });
 * ```
 *
 * The versions are those of the store. Where a file or variable delivers the secret, the one before is the
 * secret NAME_PREVIOUS, if something delivers that.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Vault } from '../index.js';

/**
 * `secrets`, the current version first, then `older` before it: 1 unless it is given. And `secret`, the oldest
 * of them, with which Better Auth reads what was encrypted before it had `secrets`.
 *
 * Better Auth writes a number with what it encrypts. It comes from the value, so that it is the same
 * however the value is delivered. What has a number of the store, or 0, is read as well.
 *
 * @throws VaultError `config` where Better Auth is older than 1.5, which would sign with a published
 *   default; as {@link Vault.secret}
 */
export function secrets(
  vault: Vault,
  name: string,
  older?: number,
): { secret: string; secrets: { version: number; value: string }[] };

/** What is read of Better Auth's instance. */
interface Auth {
  $context: Promise<{ authCookies: { sessionToken: { name: string }; dontRememberToken: { name: string } } }>;
}

/**
 * Takes cookies that the version before signed as if the current one had, and gives the browser the session's
 * anew, for `seconds` after the current version was set; or, where a file or variable delivers the secret, after
 * this call. Otherwise a new secret signs everybody out, since Better Auth checks with the current one alone.
 *
 * After a leak nothing that was signed before may be taken: `seconds` 0, or set the secret twice.
 *
 * @throws VaultError `usage` for the seconds; as {@link Vault.secret}
 */
export function sessionGrace(
  auth: Auth,
  vault: Vault,
  name: string,
  options: { seconds: number },
): {
  /** For Express, Connect and `node:http`, before everything that asks Better Auth. */
  middleware(request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void): void;
  /** Around a handler of `Request`, as `auth.handler`. */
  handler<Others extends unknown[]>(
    handle: (request: Request, ...others: Others) => Response | Promise<Response>,
  ): (request: Request, ...others: Others) => Promise<Response>;
};
