/*
 * libvault: sealed secrets under rotating master keys.
 *
 * Calls. A call that can fail returns a vault_status and takes `vault_error **error` as its last
 * parameter. On success it returns VAULT_OK and writes its results; `*error` is not written. On
 * failure it writes none of its results, and unless `error` is NULL it writes a new object to
 * `*error`, which vault_error_free frees. Nothing is kept between calls but what a handle holds:
 * there is no initialisation, no last error, no global state, no thread, no callback.
 *
 * Objects are opaque, each of its own type, and belong to the caller, who gives each to the free
 * function of its type once. NULL may be given to every free function and to every function that
 * cannot fail; elsewhere it is refused with VAULT_USAGE. Texts and bytes that a function returns
 * belong to the object they came from, live as long as it does, and must not be written to.
 *
 * Texts are UTF-8, given as a pointer and a number of bytes, and need no NUL at their end. NULL with
 * length 0 is an absent text where a text may be absent, and else an empty one. Parameters are
 * only read, and not after the call returned. Lengths are checked before anything is read: one
 * beyond its limit is refused with VAULT_TOO_LARGE.
 *
 * Secrets that the library hands out are in memory that it wipes when the object is freed. What a
 * program copies from there, it wipes itself. Keys are on pages that core files leave out and that
 * are locked as far as RLIMIT_MEMLOCK allows.
 *
 * Threads. A vault_handle may be used by any number of threads at the same time, vault_refresh
 * included; only vault_free must be the last call. Objects that were returned may be read by several
 * threads. A vault_config belongs to one thread at a time.
 *
 * fork(). A handle works in the child at once, with connections of its own, and parent and children
 * never seal under one data key. Where vault.toml has a store in a database, fork while no other thread is
 * inside a call: the locks that SQLite and the system hold in it would stay held in the child.
 *
 * Changes of keys. A vault follows them by itself: before it seals or opens, it looks at the states of
 * its keys and at their files if its last look is older than `follow` in `vault.toml` (1 s unless
 * said otherwise), and it looks once more before it refuses a value whose key it does not know or may
 * not use. A look that fails leaves what is loaded: vault_following shows why.
 *
 * A bug of the library ends in VAULT_UNCLASSIFIED, and never unwinds into the caller.
 */

#ifndef VAULT_H
#define VAULT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define VAULT_MUST_USE __attribute__((warn_unused_result))
#else
#define VAULT_MUST_USE
#endif

// The number that rises whenever something in this header changes its meaning or goes. What is
// only added does not change it.
#define VAULT_ABI_VERSION 0

// What became of each item, in the order of the items. vault_batch_free wipes it.
typedef struct vault_batch vault_batch;

// Bytes that the library owns: a secret or a token. vault_buf_free wipes them.
typedef struct vault_buf vault_buf;

// What a vault is to be loaded from. Nothing is read before vault_load. Not to be used by two
// threads at the same time.
typedef struct vault_config vault_config;

// Why a call failed: a status for programs, a text for people. Neither holds a secret, key text or
// a token.
typedef struct vault_error vault_error;

// A vault: keys, and with a `vault.toml` secrets by name. May be shared between threads, and used
// after fork(). It follows changes of its keys by itself. vault_free wipes its keys.
typedef struct vault_handle vault_handle;

// A secret that was found by its name, and where. vault_resolved_free wipes it.
typedef struct vault_resolved vault_resolved;

// The versions of a secret in the store, the newest first.
typedef struct vault_versions vault_versions;

// What a call returns: VAULT_OK, or one of the numbers below. A newer library may return numbers
// that this header does not list.
typedef uint32_t vault_status;

// A text of the caller's: UTF-8, not terminated. `data` NULL is an absent text, which differs from
// an empty one.
typedef struct vault_str {
    // The bytes.
    const char *data;
    // How many.
    size_t len;
} vault_str;

// A name and its value.
typedef struct vault_pair {
    // The name.
    struct vault_str key;
    // The value.
    struct vault_str value;
} vault_pair;

// What a token is bound to: it opens only for an equal context. Texts have at most 4096 bytes, and
// there are at most 64 fields.
typedef struct vault_context {
    // What kind of secret it is, as in "user-secret".
    struct vault_str purpose;
    // Whose secret it is.
    struct vault_str tenant;
    // Which secret it is.
    struct vault_str name;
    // Further pairs, in any order; each key once.
    const struct vault_pair *extra;
    // How many.
    size_t extra_len;
    // Not 0: bound to nothing is what is meant, and a token opens wherever it is moved to. With 0,
    // a context without any field is refused with VAULT_USAGE, because a struct of zeros is an
    // accident.
    uint32_t unbound;
} vault_context;

// What a token tells without a key. None of it is authenticated.
typedef struct vault_inspection {
    // The id of the master key that it needs, terminated by NUL.
    char kid[18];
    // 1 if the secret was padded to a multiple of 32 bytes, else 0.
    uint32_t padded;
    // When it was sealed, in seconds since 1970.
    uint64_t sealed_at;
    // How many bytes the secret has; with padding, as many as the padded one.
    uint64_t payload;
} vault_inspection;

// One secret or token of a batch, and its context.
typedef struct vault_item {
    // What it is bound to.
    const struct vault_context *context;
    // The secret, or the text of the token.
    const uint8_t *data;
    // How many bytes.
    size_t len;
} vault_item;

// The call did what it says.
#define VAULT_OK 0

// Anything without a status of its own, and bugs of the library.
#define VAULT_UNCLASSIFIED 1

// The caller broke a rule of this header: a NULL where there must be none, a context without a field.
#define VAULT_USAGE 2

// The user said no. Commands only.
#define VAULT_ABORTED 3

// There is a vault already. Commands only.
#define VAULT_ALREADY_INITIALISED 4

// There is no configuration yet. Commands only.
#define VAULT_NOT_INITIALISED 5

// Nothing has this name.
#define VAULT_NOT_FOUND 6

// A text is not of the expected form.
#define VAULT_MALFORMED 7

// A version, suite, key type, flag or format that this release does not know.
#define VAULT_UNSUPPORTED 8

// Longer than the limit.
#define VAULT_TOO_LARGE 9

// Damaged, forged, or for legacy formats under another key.
#define VAULT_CORRUPT 10

// The token is authentic and belongs to another context.
#define VAULT_CONTEXT_MISMATCH 11

// What a remote caller may be told of any of these: see vault_error_public_status.
#define VAULT_OPEN_FAILED 12

// The primary key must not seal, or the operating system gives no randomness.
#define VAULT_CANNOT_SEAL 13

// A check found something. Commands only.
#define VAULT_FINDINGS 14

// A declaration in vault.toml or a state file is wrong, or a secret is not as declared.
#define VAULT_CONFIG 15

// A file could not be read or written.
#define VAULT_IO 16

// A store or database refused, failed, or is not as declared.
#define VAULT_DATABASE 17

// No key where one is needed.
#define VAULT_KEY_MISSING 18

// A key file holds something that is not a key.
#define VAULT_KEY_MALFORMED 19

// The token names a key that the keyring does not list.
#define VAULT_UNKNOWN_KEY 20

// The keyring lists the key, and its material was not found.
#define VAULT_KEY_UNAVAILABLE 21

// The doctor found failures. Commands only.
#define VAULT_DOCTOR_FAILURES 22

// The key exists and is disabled.
#define VAULT_KEY_DISABLED 23

// The key was destroyed.
#define VAULT_KEY_DESTROYED 24

// Refused because it could lose data.
#define VAULT_REFUSED 25

// Written, but it may not survive a power loss.
#define VAULT_DURABILITY_UNKNOWN 26

// Locked or interrupted: try again.
#define VAULT_TEMPORARY 27

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The VAULT_ABI_VERSION that the library was built with: a program compares it with its header's.
uint32_t vault_abi_version(void);

// The library's release, as in "0.1.0". Static.
const char *vault_version(void);

// The stable name of a status, as in "context-mismatch", and "ok" for VAULT_OK. Static. "unclassified" for
// numbers that the library does not know.
const char *vault_status_name(vault_status status);

// The status with which the command `vault` ends in such a case.
uint32_t vault_status_exit_code(vault_status status);

// The status that the call returned. VAULT_OK for NULL.
vault_status vault_error_status(const struct vault_error *error);

// What to tell a remote caller: the status, or VAULT_OPEN_FAILED for everything that a token or
// value can be refused for, so that nobody learns from an answer why it was. VAULT_OK for NULL.
vault_status vault_error_public_status(const struct vault_error *error);

// The stable name of the status, as in "context-mismatch", terminated by NUL. Lives as long as the
// error. NULL for NULL.
const char *vault_error_kind(const struct vault_error *error);

// One line for people, UTF-8 terminated by NUL. Lives as long as the error. NULL for NULL.
const char *vault_error_message(const struct vault_error *error);

// What to do, where the message does not say it already: UTF-8 terminated by NUL, or NULL. Lives
// as long as the error.
const char *vault_error_hint(const struct vault_error *error);

// Frees an error. NULL is nothing.
void vault_error_free(struct vault_error *error);

// The bytes. A NUL that vault_buf_len does not count follows them, for tokens and other texts;
// a secret may have NUL within. They live until vault_buf_free. NULL for NULL.
const uint8_t *vault_buf_data(const struct vault_buf *buf);

// How many bytes. 0 for NULL.
size_t vault_buf_len(const struct vault_buf *buf);

// Wipes the bytes and frees them. NULL is nothing.
void vault_buf_free(struct vault_buf *buf);

// A `vault.toml` by its path. `profile` NULL: the one that VAULT_CORE_PROFILE names, if any.
//
// Fails with VAULT_USAGE, VAULT_MALFORMED or VAULT_TOO_LARGE for a path that is none.
VAULT_MUST_USE
vault_status vault_config_from_file(const char *path,
                                    size_t path_len,
                                    const char *profile,
                                    size_t profile_len,
                                    struct vault_config **config,
                                    struct vault_error **error);

// The `vault.toml` that VAULT_CORE_CONFIG names when vault_load is called. A library never searches
// for one.
//
// Fails with VAULT_USAGE.
VAULT_MUST_USE
vault_status vault_config_from_env(struct vault_config **config,
                                   struct vault_error **error);

// The one master key in a file, without a `vault.toml`: such a vault seals and opens, and has no
// secrets by name.
//
// Fails as vault_config_from_file.
VAULT_MUST_USE
vault_status vault_config_from_key_file(const char *path,
                                        size_t path_len,
                                        struct vault_config **config,
                                        struct vault_error **error);

// The one key text in a file, without a `vault.toml`, read as the application of a legacy format
// reads it: such a vault reads and writes legacy formats, with `keyring` NULL.
//
// Fails as vault_config_from_file, and with VAULT_UNSUPPORTED for a format that is not known or not
// legacy.
VAULT_MUST_USE
vault_status vault_config_from_text_key_file(const char *path,
                                             size_t path_len,
                                             const char *format,
                                             size_t format_len,
                                             struct vault_config **config,
                                             struct vault_error **error);

// Accepts secrets of up to `limit` bytes, at most 16777216; without this, 1048576.
//
// Fails with VAULT_USAGE.
VAULT_MUST_USE
vault_status vault_config_set_limit(struct vault_config *config,
                                    size_t limit,
                                    struct vault_error **error);

// With `padded` not 0, pads what is sealed to a multiple of 32 bytes, so that tokens tell less of
// the length.
//
// Fails with VAULT_USAGE.
VAULT_MUST_USE
vault_status vault_config_set_padding(struct vault_config *config,
                                      uint32_t padded,
                                      struct vault_error **error);

// Finds every secret by the rules of a preset, as in "strict", whatever `vault.toml` declares. Keys
// are found as it declares.
//
// Fails with VAULT_USAGE, and VAULT_UNSUPPORTED for a preset that is not known.
VAULT_MUST_USE
vault_status vault_config_set_preset(struct vault_config *config,
                                     const char *preset,
                                     size_t preset_len,
                                     struct vault_error **error);

// Looks for secrets at these variables instead of the process's, and in `mounts` instead of
// /run/secrets. Keys are found where the process was told to look. The library keeps copies of the
// variables, and no more wipes them than the system does the process's own.
//
// Fails with VAULT_USAGE, VAULT_MALFORMED or VAULT_TOO_LARGE.
VAULT_MUST_USE
vault_status vault_config_set_environment(struct vault_config *config,
                                          const struct vault_pair *variables,
                                          size_t variables_len,
                                          const char *mounts,
                                          size_t mounts_len,
                                          struct vault_error **error);

// Frees a configuration. Vaults that were loaded from it stay. NULL is nothing.
void vault_config_free(struct vault_config *config);

// Loads a vault. The configuration stays the caller's.
//
// Fails with VAULT_IO or VAULT_CONFIG for `vault.toml` or a state file; VAULT_NOT_FOUND where
// VAULT_CORE_CONFIG is not set; VAULT_KEY_MISSING, VAULT_KEY_MALFORMED, VAULT_KEY_UNAVAILABLE or
// VAULT_TOO_LARGE for keys; VAULT_REFUSED for a state file that must not be trusted.
VAULT_MUST_USE
vault_status vault_load(const struct vault_config *config,
                        struct vault_handle **vault,
                        struct vault_error **error);

// Reads keys and states again, whether they seem to have changed or not. Where that fails, the vault stays
// as it was. A vault follows changes by itself, so this is rarely needed. `vault.toml` is read by vault_load
// alone.
//
// Fails as vault_load, and with VAULT_REFUSED for states that are older than the loaded ones.
VAULT_MUST_USE
vault_status vault_refresh(const struct vault_handle *vault,
                           struct vault_error **error);

// How a vault follows changes of its keys: when the last look at them succeeded, in seconds since 1970, and
// why those since then failed. `*failure` becomes a text, or NULL if none has failed; what was loaded before
// goes on to seal and open. A vault in memory has nothing to look at: 0 and NULL.
//
// Fails with VAULT_USAGE.
VAULT_MUST_USE
vault_status vault_following(const struct vault_handle *vault,
                             uint64_t *looked,
                             struct vault_buf **failure,
                             struct vault_error **error);

// Frees a vault and wipes its keys; no other thread uses it any more. NULL is nothing.
void vault_free(struct vault_handle *vault);

// Seals a secret for a context under the primary key. `*token` becomes a text to keep.
//
// Fails with VAULT_TOO_LARGE, VAULT_MALFORMED, VAULT_USAGE for the context, VAULT_CANNOT_SEAL,
// VAULT_KEY_MISSING where the handle has no master keys.
VAULT_MUST_USE
vault_status vault_seal(const struct vault_handle *vault,
                        const struct vault_context *context,
                        const uint8_t *secret,
                        size_t secret_len,
                        struct vault_buf **token,
                        struct vault_error **error);

// The secret that was sealed for a context.
//
// Fails with VAULT_TOO_LARGE, VAULT_UNSUPPORTED or VAULT_MALFORMED for a text that is no token;
// VAULT_KEY_MISSING where the handle has no master keys; VAULT_UNKNOWN_KEY, VAULT_KEY_UNAVAILABLE,
// VAULT_KEY_DISABLED or VAULT_KEY_DESTROYED by its key; VAULT_CORRUPT if any byte was altered;
// VAULT_CONTEXT_MISMATCH if it belongs elsewhere. Remote callers learn vault_error_public_status only.
VAULT_MUST_USE
vault_status vault_open(const struct vault_handle *vault,
                        const struct vault_context *context,
                        const char *token,
                        size_t token_len,
                        struct vault_buf **secret,
                        struct vault_error **error);

// The hash of a context: `hash` has room for 32 bytes. vault_seal_for and vault_open_for take it in
// place of the context, for which it stands: a program that uses one context often has it hashed once.
//
// Fails as vault_seal does for the context.
VAULT_MUST_USE
vault_status vault_context_hash(const struct vault_context *context,
                                uint8_t *hash,
                                struct vault_error **error);

// vault_seal for the context of a hash, the 32 bytes that vault_context_hash wrote.
//
// Fails as vault_seal, and with VAULT_USAGE for zeros, because they are an accident.
VAULT_MUST_USE
vault_status vault_seal_for(const struct vault_handle *vault,
                            const uint8_t *context_hash,
                            const uint8_t *secret,
                            size_t secret_len,
                            struct vault_buf **token,
                            struct vault_error **error);

// vault_open for the context of a hash, the 32 bytes that vault_context_hash wrote.
//
// Fails as vault_open, and with VAULT_USAGE for zeros, because they are an accident.
VAULT_MUST_USE
vault_status vault_open_for(const struct vault_handle *vault,
                            const uint8_t *context_hash,
                            const char *token,
                            size_t token_len,
                            struct vault_buf **secret,
                            struct vault_error **error);

// The same secret under the primary key: only the wrapped data key changes. A token that is under
// the primary key already is verified and given as it is. No context is needed.
//
// Fails as vault_open without VAULT_CONTEXT_MISMATCH, and with VAULT_CANNOT_SEAL.
VAULT_MUST_USE
vault_status vault_rewrap(const struct vault_handle *vault,
                          const char *token,
                          size_t token_len,
                          struct vault_buf **rewrapped,
                          struct vault_error **error);

// Whether the whole token is authentic and its payload opens. The context is not checked: only
// vault_open does.
//
// Fails as vault_open without VAULT_CONTEXT_MISMATCH.
VAULT_MUST_USE
vault_status vault_verify(const struct vault_handle *vault,
                          const char *token,
                          size_t token_len,
                          struct vault_error **error);

// Reads a token without a key.
//
// Fails with VAULT_TOO_LARGE, VAULT_UNSUPPORTED or VAULT_MALFORMED.
VAULT_MUST_USE
vault_status vault_inspect(const char *token,
                           size_t token_len,
                           struct vault_inspection *inspection,
                           struct vault_error **error);

// The id of the key that new tokens name: 17 characters and a NUL, so `kid` has room for 18.
//
// Fails with VAULT_CANNOT_SEAL if that key is weak or published, and with VAULT_KEY_MISSING.
VAULT_MUST_USE
vault_status vault_primary(const struct vault_handle *vault,
                           char *kid,
                           struct vault_error **error);

// Seals many secrets. Returns VAULT_OK also where single ones fail: vault_batch_status tells of
// each. All are sealed under one primary key.
//
// Fails with VAULT_USAGE, VAULT_KEY_MISSING where the handle has no master keys, and VAULT_TOO_LARGE for
// more than 1048576 items.
VAULT_MUST_USE
vault_status vault_seal_batch(const struct vault_handle *vault,
                              const struct vault_item *items,
                              size_t items_len,
                              struct vault_batch **batch,
                              struct vault_error **error);

// Opens many tokens. Returns VAULT_OK also where single ones fail: vault_batch_status tells of
// each.
//
// Fails as vault_seal_batch.
VAULT_MUST_USE
vault_status vault_open_batch(const struct vault_handle *vault,
                              const struct vault_item *items,
                              size_t items_len,
                              struct vault_batch **batch,
                              struct vault_error **error);

// How many items. 0 for NULL.
size_t vault_batch_len(const struct vault_batch *batch);

// The status of an item. VAULT_USAGE for an item that there is not.
vault_status vault_batch_status(const struct vault_batch *batch,
                                size_t item);

// What an item became: the text of a token, or a secret; `*len` bytes, followed by a NUL. NULL and
// 0 where it failed. Lives as long as the batch. `len` may be NULL.
const uint8_t *vault_batch_data(const struct vault_batch *batch,
                                size_t item,
                                size_t *len);

// Why an item failed. It belongs to the batch: do not free it. NULL where the item did not fail.
const struct vault_error *vault_batch_error(const struct vault_batch *batch,
                                            size_t item);

// Wipes what the items became and frees it, with the errors. NULL is nothing.
void vault_batch_free(struct vault_batch *batch);

// Opens a value in a legacy format, as in "flowfile-v1". `keyring` names a keyring of key texts in
// `vault.toml`, and is NULL for a vault of one text key file. `tenant` is the decimal user id where
// the format needs one and the value does not carry it, else NULL. Where the keyring has several
// keys, each that may open is tried: such values name no key.
//
// Fails with VAULT_UNSUPPORTED for a format that is not known or not legacy; VAULT_TOO_LARGE;
// VAULT_MALFORMED if the syntax does not fit; VAULT_CORRUPT for a wrong key or an altered value;
// VAULT_CONFIG for a keyring that is not declared or holds master keys; VAULT_USAGE.
VAULT_MUST_USE
vault_status vault_legacy_open(const struct vault_handle *vault,
                               const char *keyring,
                               size_t keyring_len,
                               const char *format,
                               size_t format_len,
                               const char *tenant,
                               size_t tenant_len,
                               const uint8_t *value,
                               size_t value_len,
                               struct vault_buf **secret,
                               struct vault_error **error);

// Writes a value in a legacy format under the primary key of a keyring of key texts. The
// parameters are those of vault_legacy_open; `*value` becomes a text.
//
// Fails as there, and with VAULT_CANNOT_SEAL for a weak or published key, for a key text that is
// not of the format's kind, and for formats that are never written.
VAULT_MUST_USE
vault_status vault_legacy_seal(const struct vault_handle *vault,
                               const char *keyring,
                               size_t keyring_len,
                               const char *format,
                               size_t format_len,
                               const char *tenant,
                               size_t tenant_len,
                               const uint8_t *secret,
                               size_t secret_len,
                               struct vault_buf **value,
                               struct vault_error **error);

// A deployment secret by name, from the first source that has it. NAME@previous or NAME@2 is an
// older version from the store. Files and stores are read anew every time.
//
// Fails with VAULT_NOT_FOUND, which says where it was looked for; VAULT_MALFORMED for a name that
// no secret can have; VAULT_CONFIG if it is empty, not text where it should be, or set twice;
// VAULT_IO, VAULT_TOO_LARGE or VAULT_DATABASE if a source cannot be read; as vault_open for what a
// store holds; VAULT_USAGE for a vault that was loaded from a key file.
VAULT_MUST_USE
vault_status vault_secret(const struct vault_handle *vault,
                          const char *name,
                          size_t name_len,
                          struct vault_resolved **secret,
                          struct vault_error **error);

// As vault_secret without versions, but `*secret` becomes NULL where the secret is declared as not
// required and no source has it.
//
// Fails as there.
VAULT_MUST_USE
vault_status vault_optional_secret(const struct vault_handle *vault,
                                   const char *name,
                                   size_t name_len,
                                   struct vault_resolved **secret,
                                   struct vault_error **error);

// The secret: `*len` bytes, followed by a NUL that is not counted. Lives as long as the object. `len`
// may be NULL. NULL and 0 for NULL.
const uint8_t *vault_resolved_value(const struct vault_resolved *secret,
                                    size_t *len);

// Where it was found, for people: UTF-8 terminated by NUL. Lives as long as the object. NULL for
// NULL.
const char *vault_resolved_source(const struct vault_resolved *secret);

// The stable name of such a source, terminated by NUL: "composed", "credential", "declared",
// "default", "environment-file", "keyring", "mount", "named", "os-keyring", "store" or "variable". Lives as long
// as the object. NULL for NULL.
const char *vault_resolved_source_kind(const struct vault_resolved *secret);

// The version in the store, from 1. 0 for other sources, which keep none, and for NULL.
uint64_t vault_resolved_version(const struct vault_resolved *secret);

// How many notes there are on it for people, as on a default that was used. 0 for NULL.
size_t vault_resolved_notes(const struct vault_resolved *secret);

// A note: UTF-8 terminated by NUL. Lives as long as the object. NULL for a note that there is not.
const char *vault_resolved_note(const struct vault_resolved *secret,
                                size_t note);

// Wipes a secret and frees it. NULL is nothing.
void vault_resolved_free(struct vault_resolved *secret);

// The versions of a secret in the store, the newest first; none if the store does not have it.
// vault_secret with NAME@number gives their values.
//
// Fails with VAULT_CONFIG if no store is declared, VAULT_MALFORMED for the name, VAULT_DATABASE,
// VAULT_CORRUPT or VAULT_REFUSED by the store, VAULT_USAGE for a vault without a `vault.toml`.
VAULT_MUST_USE
vault_status vault_versions_list(const struct vault_handle *vault,
                                 const char *name,
                                 size_t name_len,
                                 struct vault_versions **versions,
                                 struct vault_error **error);

// How many versions. 0 for NULL.
size_t vault_versions_len(const struct vault_versions *versions);

// The number of a version, from 1. 0 for one that there is not.
uint64_t vault_versions_number(const struct vault_versions *versions,
                               size_t at);

// When a version was set, in seconds since 1970. 0 for one that there is not.
uint64_t vault_versions_created(const struct vault_versions *versions,
                                size_t at);

// Frees a list of versions. NULL is nothing.
void vault_versions_free(struct vault_versions *versions);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VAULT_H */
