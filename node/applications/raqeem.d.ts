/**
 * Raqeem: the functions of its `src/lib/secrets.ts`, with the same results and messages, by the preset
 * "raqeem". They read the `vault.toml` that VAULT_CORE_CONFIG names, and need none.
 *
 * Where the application takes an empty secret, and Better Auth then signs with a published one, these
 * fail. Nothing is logged.
 */

/**
 * The secret of the file that the variable `envFileVar` names, `envVar` with `_FILE` unless it is given,
 * or else of the variable `envVar`. Files are trimmed, variables are not.
 *
 * @throws VaultError "Secret not found: …" (`not-found`), "Failed to read secret from file: …" (`io`),
 *   "Secret is empty: …" (`config`)
 */
export function getSecret(envVar: string, envFileVar?: string): string;
/** {@link getSecret} of DATABASE_URL. */
export function getDatabaseUrl(): string;
/** {@link getSecret} of BETTER_AUTH_SECRET. */
export function getBetterAuthSecret(): string;
