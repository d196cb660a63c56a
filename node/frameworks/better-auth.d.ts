/**
 * Better Auth: its `secrets` from the versions of a secret in the store, so that a new one does not make
 * unreadable what an old one encrypted. What was encrypted before that option was used names no version:
 * give the secret of that time as `secret` beside it. For releases of Better Auth that have that option.
 *
 * ```ts
 * export const auth = betterAuth({ secrets: secrets(vault, 'BETTER_AUTH_SECRET') });
 * ```
 */
import type { Vault } from '../index.js';

/**
 * The current version first, then at most `older` before it: 1 unless it is given. A secret that is not in
 * the store has one version, 0.
 *
 * @throws VaultError as {@link Vault.secret}
 */
export function secrets(vault: Vault, name: string, older?: number): { version: number; value: string }[];
