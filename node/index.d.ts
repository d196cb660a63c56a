/**
 * A secrets vault that an application links.
 *
 * It seals users' secrets before they reach the application's own database, and finds deployment
 * secrets by name.
 *
 * ```js
 * const { Context, Vault } = require('vault-core');
 *
 * const vault = Vault.load('vault.toml');
 * const url = vault.getSecret('DATABASE_URL');
 *
 * const context = new Context('user-secret', { tenant: '42', name: 'prod_db' });
 * const token = vault.seal(context, 'correct horse');
 * vault.open(context, token).toString(); // 'correct horse'
 * ```
 *
 * Every call is synchronous: `seal` and `open` take microseconds and do no I/O; calls that load or
 * find a secret by name read files or a store, and a legacy format with a slow key derivation takes
 * tens of milliseconds the first time that a key is used. Everything that fails throws a
 * {@link VaultError}.
 *
 * Threads. Worker threads may load the package; each loads keys of its own, because objects cannot be
 * handed to another thread. Bytes in a SharedArrayBuffer must not change while a call reads them.
 *
 * Memory. Secrets that calls return are Buffers of the caller's own, which JavaScript does not wipe:
 * `buffer.fill(0)` does, once it is not needed any more. Strings cannot be wiped at all, so secrets
 * that matter stay in Buffers. What the library keeps, keys above all, it wipes.
 */

/** The stable names of the kinds of errors, for programs. */
export type ErrorCode =
  /** Anything without a kind of its own, and bugs of the library. */
  | 'unclassified'
  /** A rule of the call was broken, as with an unknown option or a context without a field. */
  | 'usage'
  /** The user said no. Commands only. */
  | 'aborted'
  /** There is a vault already. Commands only. */
  | 'already-initialised'
  /** There is no configuration yet. Commands only. */
  | 'not-initialised'
  /** Nothing has this name. */
  | 'not-found'
  /** A text is not of the expected form. */
  | 'malformed'
  /** A version, suite, key type, flag or format that this release does not know. */
  | 'unsupported'
  /** Longer than the limit. */
  | 'too-large'
  /** Damaged, forged, or for legacy formats under another key. */
  | 'corrupt'
  /** The token is authentic and belongs to another context. */
  | 'context-mismatch'
  /** What a remote caller may be told of any refusal of a token or value: only in `publicCode`. */
  | 'open-failed'
  /** The primary key must not seal, or the operating system gives no randomness. */
  | 'cannot-seal'
  /** A check found something. Commands only. */
  | 'findings'
  /** A declaration in vault.toml or a state file is wrong, or a secret is not as declared. */
  | 'config'
  /** A file could not be read or written. */
  | 'io'
  /** A store or database refused, failed, or is not as declared. */
  | 'database'
  /** No key where one is needed. */
  | 'key-missing'
  /** A key file holds something that is not a key. */
  | 'key-malformed'
  /** The token names a key that the keyring does not list. */
  | 'unknown-key'
  /** The keyring lists the key, and its material was not found. */
  | 'key-unavailable'
  /** The doctor found failures. Commands only. */
  | 'doctor-failures'
  /** The key exists and is disabled. */
  | 'key-disabled'
  /** The key was destroyed. */
  | 'key-destroyed'
  /** Refused because it could lose data. */
  | 'refused'
  /** Written, but it may not survive a power loss. */
  | 'durability-unknown'
  /** Locked or interrupted: try again. */
  | 'temporary';

/** A call failed. Neither the message nor anything else of it holds a secret, key text or a token. */
export class VaultError extends Error {
  private constructor();
  /** The stable name of the kind. */
  readonly code: ErrorCode;
  /**
   * What to tell a remote caller: the code, or "open-failed" for everything that a token or value can
   * be refused for, so that nobody learns from an answer why it was.
   */
  readonly publicCode: ErrorCode;
  /** The number of the kind in `vault.h`. */
  readonly status: number;
  /** The status with which the command `vault` ends in such a case. */
  readonly exitCode: number;
  /** What to do, where the message does not say it already. */
  readonly hint?: string;
  /** Which item of a batch failed, from 0: set by `sealMany` and `openMany`. */
  readonly item?: number;
}

/**
 * What a token is bound to: it opens only for an equal context. Immutable.
 *
 * Texts have at most 4096 bytes of UTF-8 and are compared byte by byte; there are at most 64 of them.
 * An absent one differs from an empty one. A context without any is refused with `usage` when it is
 * used, because it is an accident: {@link Context.none} says that it is meant. So is a text with half
 * a character, a surrogate without its other half.
 */
export class Context {
  /**
   * @param purpose what kind of secret it is, as in "user-secret"
   * @throws VaultError `usage` for an unknown option, and for what is neither a string nor undefined
   */
  constructor(purpose?: string, options?: ContextOptions);
  /** Bound to nothing: a token opens wherever it is moved to. */
  static none(): Context;
  readonly purpose: string | undefined;
  readonly tenant: string | undefined;
  readonly name: string | undefined;
  /** The further pairs. */
  readonly extra: Record<string, string>;
  /** Whether it is {@link Context.none}. */
  readonly unbound: boolean;
}

export interface ContextOptions {
  /** Whose secret it is. */
  tenant?: string | undefined;
  /** Which secret it is. */
  name?: string | undefined;
  /** Further pairs, in any order. */
  extra?: Record<string, string> | undefined;
}

/** A token or a value as a database gives it: text, or its bytes in UTF-8. */
export type Text = string | Uint8Array;

/** Master keys that seal and open tokens. */
export class Sealer {
  protected constructor(made: never);

  /**
   * The one master key in a file, without a `vault.toml`.
   *
   * @throws VaultError `io`, `key-malformed`, `too-large`
   */
  static fromKeyFile(path: string, options?: SealerOptions): Sealer;

  /**
   * Seals a secret for a context under the primary key: bytes, or a string as UTF-8. The token is text
   * to keep.
   *
   * @throws VaultError `too-large`, `cannot-seal`; `usage` or `malformed` for the context;
   *   `key-missing` where there are no master keys
   */
  seal(context: Context, secret: string | Uint8Array): string;

  /**
   * The secret that was sealed for a context, in a Buffer of the caller's own.
   *
   * @throws VaultError `too-large`, `unsupported` or `malformed` for a text that is no token;
   *   `unknown-key`, `key-unavailable`, `key-disabled` or `key-destroyed` by its key; `corrupt` if any
   *   byte was altered; `context-mismatch` if it belongs elsewhere. Tell remote callers `publicCode` only.
   */
  open(context: Context, token: Text): Buffer;

  /**
   * Seals many secrets, each for its context, in one call, in their order.
   *
   * @throws VaultError as {@link seal}, of the first that fails, with its number, from 0, as `item`;
   *   {@link sealEach} gives the others
   */
  sealMany(items: Iterable<readonly [Context, string | Uint8Array]>): string[];

  /** As {@link sealMany}, but gives an item's error in its place. */
  sealEach(items: Iterable<readonly [Context, string | Uint8Array]>): (string | VaultError)[];

  /**
   * Opens many tokens, each for its context, in one call, in their order.
   *
   * @throws VaultError as {@link open}, of the first that fails, with its number, from 0, as `item`;
   *   {@link openEach} gives the others
   */
  openMany(items: Iterable<readonly [Context, Text]>): Buffer[];

  /** As {@link openMany}, but gives an item's error in its place. */
  openEach(items: Iterable<readonly [Context, Text]>): (Buffer | VaultError)[];

  /**
   * The same secret under the primary key: only the wrapped data key changes. A token that is under
   * the primary key already is verified and given as it is. No context is needed.
   *
   * @throws VaultError as {@link open} without `context-mismatch`, and `cannot-seal`
   */
  rewrap(token: Text): string;

  /**
   * Whether the whole token is authentic and its payload opens. The context is not checked: only
   * {@link open} does.
   *
   * @throws VaultError as {@link open} without `context-mismatch`
   */
  verify(token: Text): void;

  /**
   * The id of the key that new tokens name: 17 characters.
   *
   * @throws VaultError `cannot-seal` if that key is weak or published; `key-missing`
   */
  primary(): string;

  /**
   * Reads keys and states again, whether they seem to have changed or not. Where that fails,
   * everything stays as it was. Changes are followed without it.
   *
   * @throws VaultError as the call that loaded it; `refused` for states that are older than the loaded
   * ones
   */
  refresh(): void;

  /** How changes of keys are followed. */
  following(): Following;
}

export interface Following {
  /** When the last look at keys and states succeeded, in seconds since 1970. */
  looked: number;
  /** Why the looks since then failed; undefined if none did. What was loaded before goes on to seal and open. */
  failure: string | undefined;
}

export interface SealerOptions {
  /** How many bytes a secret may have: 1048576 unless it is given, and never more than 16777216. */
  limit?: number | undefined;
  /** Pads what is sealed to a multiple of 32 bytes, so that tokens tell less of the length. */
  padded?: boolean | undefined;
}

/**
 * What a `vault.toml` declares: keys, and secrets by name.
 *
 * A vault follows changes of its keys: before it seals or opens, it looks at the states of its keys and at
 * their files if its last look is older than `follow` in `vault.toml` (1 s), and it looks once more before
 * it refuses a value whose key it does not know or may not use. A look that fails leaves what is loaded,
 * and {@link following} shows why. `vault.toml` itself is read once.
 */
export class Vault extends Sealer {
  /**
   * Loads a `vault.toml`: that at `path`, or the one that VAULT_CORE_CONFIG names.
   *
   * @throws VaultError `io` or `config` for `vault.toml` or a state file; `not-found` where
   *   VAULT_CORE_CONFIG is not set; `key-missing`, `key-malformed`, `key-unavailable` or `too-large`
   *   for keys; `refused` for a state file that must not be trusted; `unsupported` for a preset that is
   *   not known; `usage` for an unknown option
   */
  static load<V extends typeof Vault>(this: V, path?: string, options?: VaultOptions): V['prototype'];

  /**
   * A deployment secret by name, from the first source that has it. NAME@previous or NAME@2 is an
   * older version from the store. Files and stores are read anew every time.
   *
   * @throws VaultError `not-found`, which says where it was looked for; `malformed` for a name that no
   *   secret can have; `config` if it is empty, not as declared, or set twice; `io`, `too-large` or
   *   `database` if a source cannot be read; as {@link open} for what a store holds
   */
  secret(name: string): Secret;

  /**
   * As {@link secret} without versions, but `undefined` where the secret is declared as not required and
   * no source has it.
   */
  optionalSecret(name: string): Secret | undefined;

  /**
   * The text of {@link secret}; with `required` false, `undefined` where no source has it. Anything else
   * that goes wrong, as with an empty file, is an error in both cases.
   *
   * @throws VaultError as {@link secret}, and `malformed` if it is not UTF-8
   */
  getSecret(name: string, required?: true): string;
  getSecret(name: string, required: boolean): string | undefined;

  /**
   * The versions of a secret in the store, the newest first. Empty if the store does not have it.
   *
   * @throws VaultError `config` if no store is declared; `malformed` for the name; `database`,
   *   `corrupt` or `refused` by the store
   */
  versions(name: string): Version[];

  /**
   * Writes a value in a legacy format, as in "flowfile-v1", under the primary key of a keyring of key
   * texts. `tenant` is the decimal user id where the format needs one.
   *
   * @throws VaultError as {@link openLegacy}, and `cannot-seal` for a weak or published key, for a key
   *   text that is not of the format's kind, and for formats that are never written
   */
  sealLegacy(keyring: string, format: string, secret: string | Uint8Array, options?: LegacyOptions): string;

  /**
   * Opens a value in a legacy format. `tenant` is the decimal user id where the format needs one and
   * the value does not carry it. Where the keyring has several keys, each that may open is tried: such
   * values name no key.
   *
   * @throws VaultError `unsupported` for a format that is not known or not legacy; `too-large`;
   *   `malformed` if the syntax does not fit; `corrupt` for a wrong key or an altered value; `config`
   *   for a keyring that is not declared or holds master keys
   */
  openLegacy(keyring: string, format: string, value: Text, options?: LegacyOptions): Buffer;
}

export interface VaultOptions extends SealerOptions {
  /** The profile, which VAULT_CORE_PROFILE names unless it is given. Only with a path. */
  profile?: string | undefined;
  /** Finds every secret by the rules of a preset, as in "strict", whatever the file declares. */
  preset?: string | undefined;
  /**
   * Looks for secrets at these variables instead of the process's. Keys are found where the process was
   * told to look.
   */
  variables?: Record<string, string | undefined> | undefined;
  /** Looks for mounted secrets in this directory instead of /run/secrets. */
  mounts?: string | undefined;
}

export interface LegacyOptions {
  /** A decimal user id. */
  tenant?: string | undefined;
}

export interface Version {
  /** From 1; NAME@number gives its value. */
  version: number;
  /** When it was set, in seconds since 1970. */
  created: number;
}

/**
 * A secret that was found by its name, and where. Redacted in logs and in JSON; in the place of a text
 * it throws `usage`.
 */
export class Secret {
  private constructor();
  /** The bytes: the same Buffer every time, so `fill(0)` wipes it. */
  exposeSecret(): Buffer;
  /**
   * The text.
   *
   * @throws VaultError `malformed` if it is not UTF-8
   */
  exposeText(): string;
  /** Where it was found, for people. */
  readonly source: string;
  /** The stable name of such a source. */
  readonly sourceKind:
    | 'composed'
    | 'credential'
    | 'declared'
    | 'default'
    | 'environment-file'
    | 'keyring'
    | 'mount'
    | 'named'
    | 'os-keyring'
    | 'store'
    | 'variable';
  /** The version in the store, from 1; other sources keep none. */
  readonly version: number | undefined;
  /** Notes on it for people, as on a default that was used. */
  readonly notes: readonly string[];
}

/** One key text, which reads and writes legacy formats without a `vault.toml`. */
export class LegacyKey {
  private constructor();
  /**
   * The one key text in a file, read as the application of a format reads it.
   *
   * @throws VaultError `io`, `key-malformed`, `too-large`; `unsupported` for a format that is not known
   *   or not legacy
   */
  static fromKeyFile(path: string, format: string): LegacyKey;
  /** As {@link Vault.sealLegacy}. */
  seal(format: string, secret: string | Uint8Array, options?: LegacyOptions): string;
  /** As {@link Vault.openLegacy}. */
  open(format: string, value: Text, options?: LegacyOptions): Buffer;
}

/** What a token tells without a key. None of it is authenticated. */
export interface Inspection {
  /** The id of the master key that it needs. */
  kid: string;
  /** When it was sealed, in seconds since 1970. */
  sealedAt: number;
  /** How many bytes the secret has; with padding, as many as the padded one. */
  payload: number;
  /** Whether the secret was padded to a multiple of 32 bytes. */
  padded: boolean;
}

/**
 * Reads a token without a key.
 *
 * @throws VaultError `too-large`, `unsupported` or `malformed`
 */
export function inspect(token: Text): Inspection;
