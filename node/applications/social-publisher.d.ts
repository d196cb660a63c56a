/**
 * social-publisher: the functions of its `lib/token-crypto.ts` and `lib/secrets.ts`, with the same strings
 * in and out, by the preset "social-publisher". They read the `vault.toml` that VAULT_CORE_CONFIG names,
 * and need none: then the key text is the secret ENCRYPTION_KEY, of a file or of a variable.
 *
 * With VAULT_CORE_WRITES=vs1, tokens are sealed under the keyring "main", and rotated while the application
 * runs; everything that the application wrote before is read beside them. The context of the columns is then
 * `{ purpose = "channel-token" }`.
 *
 * Where the application stores plaintext without a key, or takes what does not decrypt for plaintext,
 * or accepts a tag that was cut off, these fail. A line break at the end of a key text is not part of
 * it, also where the application takes it for one, in a variable: what it wrote so, fails. Its key is derived once for each key text, in some
 * tens of milliseconds; after that a token takes microseconds.
 */
import type { Vault } from '../index.js';

/** The application's secrets and tokens through a vault. */
export class SocialPublisher {
  /**
   * `keyring` is the keyring of its key texts: "social-publisher" unless it is given. `writes` is what
   * `encryptToken` gives: "social-v1" unless it is given. Both are read.
   */
  constructor(vault: Vault, keyring?: string, writes?: 'social-v1' | 'vs1');

  /**
   * The text of a secret; `undefined` where no source has it, which with `required` is an error.
   *
   * @throws VaultError "Required secret '…' is not configured": `not-found`, and `config` where it is empty
   */
  getSecret(name: string, required: true): string;
  getSecret(name: string, required?: boolean): string | undefined;

  /**
   * Checks that the secrets that the application cannot do without are there.
   *
   * @throws VaultError `not-found`, with their names
   */
  validateSecrets(): void;

  /**
   * What to store for a token: `v1:…`, or a token of the vault, `vs1.…`.
   *
   * @throws VaultError as {@link Vault.sealLegacy} or {@link Vault.seal}
   */
  encryptToken(token: string): string;

  /**
   * The token of such a text, or of what the application wrote in hex before; the latter is not
   * authenticated. The token of a Telegram bot, which the application stores in clear, is given as it is.
   *
   * @throws VaultError as {@link Vault.openLegacy} or {@link Vault.open}: `malformed` for any other
   *   plaintext, `corrupt` for another key or damage
   */
  decryptToken(encryptedToken: string): string;
}

/** As {@link SocialPublisher.getSecret}. */
export function getSecret(name: string, required: true): string;
export function getSecret(name: string, required?: boolean): string | undefined;
/** As {@link SocialPublisher.validateSecrets}. */
export function validateSecrets(): void;
/** As {@link SocialPublisher.encryptToken}. */
export function encryptToken(token: string): string;
/** As {@link SocialPublisher.decryptToken}. */
export function decryptToken(encryptedToken: string): string;
