/*
 * The C ABI from C99 and from C++: a vault of a key file, one of a vault.toml, and what a caller may
 * do wrong.
 *
 *   abi DIRECTORY ROUNDS
 *
 * DIRECTORY is a copy of tests/conformance/fixtures/texts. Each round makes ten calls, of which
 * some fail.
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vault.h"

static void check(int good, const char *what, int line)
{
    if (!good) {
        fprintf(stderr, "abi.c:%d: %s\n", line, what);
        exit(1);
    }
}
#define CHECK(condition) check((condition) != 0, #condition, __LINE__)

/* Expects a status, and an object that tells of it. */
static void expect(vault_status status, vault_status got, vault_error **error, int line)
{
    if (got != status) {
        fprintf(stderr, "abi.c:%d: %s instead of %s: %s\n", line, vault_status_name(got), vault_status_name(status),
                *error != NULL ? vault_error_message(*error) : "");
        exit(1);
    }
    check((*error != NULL) == (status != VAULT_OK), "an error exactly where a call fails", line);
    if (*error != NULL) {
        check(vault_error_status(*error) == status, "the status of the error", line);
        check(strcmp(vault_error_kind(*error), vault_status_name(status)) == 0, "the name of the error", line);
        check(vault_error_message(*error)[0] != '\0', "the text of the error", line);
    }
    vault_error_free(*error);
    *error = NULL;
}
#define EXPECT(status, call) expect((status), (call), &error, __LINE__)

static vault_str text(const char *data)
{
    vault_str made;
    made.data = data;
    made.len = data == NULL ? 0 : strlen(data);
    return made;
}

static vault_context user_secret(const char *tenant)
{
    vault_context context;
    memset(&context, 0, sizeof context);
    context.purpose = text("user-secret");
    context.tenant = text(tenant);
    context.name = text("prod_db");
    return context;
}

static const uint8_t *bytes(const char *data)
{
    return (const uint8_t *)data;
}

static const char *chars(const vault_buf *buf)
{
    return (const char *)vault_buf_data(buf);
}

static char *join(const char *directory, const char *name)
{
    size_t size = strlen(directory) + strlen(name) + 2;
    char *path = (char *)malloc(size);
    CHECK(path != NULL);
    snprintf(path, size, "%s/%s", directory, name);
    return path;
}

static vault_handle *load(vault_config *config)
{
    vault_error *error = NULL;
    vault_handle *vault = NULL;
    EXPECT(VAULT_OK, vault_load(config, &vault, &error));
    vault_config_free(config);
    return vault;
}

static vault_handle *load_key_file(const char *path)
{
    vault_error *error = NULL;
    vault_config *config = NULL;
    EXPECT(VAULT_OK, vault_config_from_key_file(path, strlen(path), &config, &error));
    return load(config);
}

static vault_handle *load_config(const char *path)
{
    vault_error *error = NULL;
    vault_config *config = NULL;
    EXPECT(VAULT_OK, vault_config_from_file(path, strlen(path), NULL, 0, &config, &error));
    return load(config);
}

static void constants(void)
{
    vault_status status;
    CHECK(vault_abi_version() == VAULT_ABI_VERSION);
    CHECK(vault_version()[0] != '\0');
    CHECK(strcmp(vault_status_name(VAULT_OK), "ok") == 0);
    CHECK(strcmp(vault_status_name(VAULT_CONTEXT_MISMATCH), "context-mismatch") == 0);
    CHECK(strcmp(vault_status_name(UINT32_MAX), "unclassified") == 0);
    for (status = VAULT_OK; status <= VAULT_TEMPORARY; status++)
        CHECK(vault_status_exit_code(status) <= 75);
    CHECK(vault_status_exit_code(VAULT_TEMPORARY) == 75);
}

static void tokens(const vault_handle *vault)
{
    vault_context context = user_secret("42"), other = user_secret("43");
    vault_error *error = NULL;
    vault_buf *token = NULL, *secret = NULL, *same = NULL;
    vault_inspection seen;
    char kid[18];
    EXPECT(VAULT_OK, vault_seal(vault, &context, bytes("correct\0horse"), 13, &token, &error));
    CHECK(vault_buf_len(token) == strlen(chars(token)));
    EXPECT(VAULT_OK, vault_open(vault, &context, chars(token), vault_buf_len(token), &secret, &error));
    CHECK(vault_buf_len(secret) == 13 && memcmp(vault_buf_data(secret), "correct\0horse", 14) == 0);
    EXPECT(VAULT_OK, vault_verify(vault, chars(token), vault_buf_len(token), &error));
    EXPECT(VAULT_OK, vault_rewrap(vault, chars(token), vault_buf_len(token), &same, &error));
    CHECK(strcmp(chars(token), chars(same)) == 0);
    EXPECT(VAULT_OK, vault_inspect(chars(token), vault_buf_len(token), &seen, &error));
    EXPECT(VAULT_OK, vault_primary(vault, kid, &error));
    CHECK(strcmp(seen.kid, kid) == 0 && strlen(kid) == 17 && seen.payload == 13 && seen.padded == 0);
    CHECK(seen.sealed_at > 1700000000);
    vault_buf_free(same);
    vault_buf_free(secret);

    /* A hash stands for its context, in both directions, and for no other. */
    uint8_t hash[32], other_hash[32];
    EXPECT(VAULT_OK, vault_context_hash(&context, hash, &error));
    EXPECT(VAULT_OK, vault_context_hash(&other, other_hash, &error));
    EXPECT(VAULT_OK, vault_open_for(vault, hash, chars(token), vault_buf_len(token), &secret, &error));
    CHECK(vault_buf_len(secret) == 13 && memcmp(vault_buf_data(secret), "correct\0horse", 14) == 0);
    vault_buf_free(secret);
    EXPECT(VAULT_CONTEXT_MISMATCH,
           vault_open_for(vault, other_hash, chars(token), vault_buf_len(token), &secret, &error));
    EXPECT(VAULT_OK, vault_seal_for(vault, hash, bytes("s"), 1, &same, &error));
    EXPECT(VAULT_OK, vault_open(vault, &context, chars(same), vault_buf_len(same), &secret, &error));
    CHECK(vault_buf_len(secret) == 1);
    vault_buf_free(secret);
    EXPECT(VAULT_CONTEXT_MISMATCH, vault_open(vault, &other, chars(same), vault_buf_len(same), &secret, &error));
    vault_buf_free(same);

    /* Where a call fails, no result is written. */
    secret = token;
    EXPECT(VAULT_CONTEXT_MISMATCH, vault_open(vault, &other, chars(token), vault_buf_len(token), &secret, &error));
    CHECK(secret == token);
    EXPECT(VAULT_MALFORMED, vault_open(vault, &other, "vs1.", 4, &secret, &error));
    CHECK(vault_open(vault, &other, "vs1.", 4, &secret, NULL) == VAULT_MALFORMED);
    CHECK(vault_open(vault, &other, "vs1.", 4, &secret, &error) == VAULT_MALFORMED);
    CHECK(vault_error_public_status(error) == VAULT_OPEN_FAILED);
    vault_error_free(error);
    error = NULL;
    vault_buf_free(token);

    /* An empty secret is a secret. */
    EXPECT(VAULT_OK, vault_seal(vault, &context, NULL, 0, &token, &error));
    EXPECT(VAULT_OK, vault_open(vault, &context, chars(token), vault_buf_len(token), &secret, &error));
    CHECK(vault_buf_len(secret) == 0 && vault_buf_data(secret)[0] == 0);
    vault_buf_free(secret);
    vault_buf_free(token);
}

static void contexts(const vault_handle *vault)
{
    vault_context context, again;
    vault_pair pairs[2], twice[2];
    vault_error *error = NULL;
    vault_buf *token = NULL, *secret = NULL;
    pairs[0].key = text("region");
    pairs[0].value = text("eu");
    pairs[1].key = text("table");
    pairs[1].value = text("");
    twice[0] = pairs[1];
    twice[1] = pairs[0];

    memset(&context, 0, sizeof context);
    EXPECT(VAULT_USAGE, vault_seal(vault, &context, bytes("s"), 1, &token, &error));
    context.unbound = 1;
    EXPECT(VAULT_OK, vault_seal(vault, &context, bytes("s"), 1, &token, &error));
    vault_buf_free(token);
    context.purpose = text("p");
    EXPECT(VAULT_USAGE, vault_seal(vault, &context, bytes("s"), 1, &token, &error));
    context.unbound = 0;

    context.extra = pairs;
    context.extra_len = 2;
    again = context;
    again.extra = twice;
    EXPECT(VAULT_OK, vault_seal(vault, &context, bytes("s"), 1, &token, &error));
    EXPECT(VAULT_OK, vault_open(vault, &again, chars(token), vault_buf_len(token), &secret, &error));
    vault_buf_free(secret);
    /* Absent differs from empty. */
    again.tenant = text("");
    EXPECT(VAULT_CONTEXT_MISMATCH, vault_open(vault, &again, chars(token), vault_buf_len(token), &secret, &error));
    vault_buf_free(token);

    twice[1].key = text("table");
    EXPECT(VAULT_USAGE, vault_seal(vault, &again, bytes("s"), 1, &token, &error));
    twice[1].key = text(NULL);
    EXPECT(VAULT_USAGE, vault_seal(vault, &again, bytes("s"), 1, &token, &error));
    twice[1].key = text("");
    EXPECT(VAULT_MALFORMED, vault_seal(vault, &again, bytes("s"), 1, &token, &error));
    again.extra_len = 65;
    EXPECT(VAULT_TOO_LARGE, vault_seal(vault, &again, bytes("s"), 1, &token, &error));
    again.extra_len = 0;
    again.tenant = text("\xff");
    EXPECT(VAULT_MALFORMED, vault_seal(vault, &again, bytes("s"), 1, &token, &error));
    again.tenant.len = 4097;
    EXPECT(VAULT_TOO_LARGE, vault_seal(vault, &again, bytes("s"), 1, &token, &error));
}

static void batches(const vault_handle *vault)
{
    vault_context context = user_secret("42"), other = user_secret("43");
    vault_error *error = NULL;
    vault_batch *sealed = NULL, *opened = NULL;
    vault_item items[4];
    size_t at, len;
    const uint8_t *data;
    for (at = 0; at < 4; at++) {
        items[at].context = &context;
        items[at].data = bytes("abcd");
        items[at].len = at;
    }
    items[3].context = NULL;
    EXPECT(VAULT_OK, vault_seal_batch(vault, items, 4, &sealed, &error));
    CHECK(vault_batch_len(sealed) == 4);
    CHECK(vault_batch_status(sealed, 3) == VAULT_USAGE && vault_batch_status(sealed, 4) == VAULT_USAGE);
    CHECK(vault_error_status(vault_batch_error(sealed, 3)) == VAULT_USAGE);
    CHECK(vault_batch_data(sealed, 3, &len) == NULL && len == 0 && vault_batch_data(sealed, 4, NULL) == NULL);
    CHECK(vault_batch_error(sealed, 0) == NULL && vault_batch_error(sealed, 4) == NULL);
    for (at = 0; at < 3; at++) {
        items[at].data = vault_batch_data(sealed, at, &items[at].len);
        CHECK(vault_batch_status(sealed, at) == VAULT_OK && items[at].len > 158);
    }
    items[2].context = &other;
    EXPECT(VAULT_OK, vault_open_batch(vault, items, 3, &opened, &error));
    for (at = 0; at < 2; at++) {
        data = vault_batch_data(opened, at, &len);
        CHECK(len == at && memcmp(data, "abcd", at) == 0);
    }
    CHECK(vault_batch_status(opened, 2) == VAULT_CONTEXT_MISMATCH);
    vault_batch_free(opened);
    vault_batch_free(sealed);
    EXPECT(VAULT_OK, vault_open_batch(vault, NULL, 0, &opened, &error));
    CHECK(vault_batch_len(opened) == 0);
    vault_batch_free(opened);
}

/* Many items, some of them bad. Each item becomes what a call for it alone becomes. */
static void large_batches(const vault_handle *vault)
{
    enum { COUNT = 5003 };
    static vault_item items[COUNT];
    static uint32_t secrets[COUNT];
    vault_context contexts[3];
    vault_error *error = NULL;
    vault_batch *sealed = NULL, *opened = NULL;
    size_t at, len;
    const uint8_t *data;
    contexts[0] = user_secret("42");
    contexts[1] = user_secret("43");
    contexts[2] = user_secret("43");
    contexts[2].tenant.len = 5000; /* never read: too long */
    for (at = 0; at < COUNT; at++) {
        secrets[at] = (uint32_t)(at * 2654435761u);
        items[at].context = at % 101 == 5 ? NULL : &contexts[at % 103 == 7 ? 2 : at / 10 % 2];
        items[at].data = (const uint8_t *)&secrets[at];
        items[at].len = at % 5;
    }
    EXPECT(VAULT_OK, vault_seal_batch(vault, items, COUNT, &sealed, &error));
    CHECK(vault_batch_len(sealed) == COUNT);
    for (at = 0; at < COUNT; at++) {
        vault_buf *alone = NULL;
        vault_status status = vault_seal(vault, items[at].context, items[at].data, items[at].len, &alone, &error);
        data = vault_batch_data(sealed, at, &len);
        CHECK(vault_batch_status(sealed, at) == status && len == (alone == NULL ? 0 : vault_buf_len(alone)));
        CHECK((status == VAULT_OK) == (at % 101 != 5 && at % 103 != 7));
        if (status != VAULT_OK)
            CHECK(strcmp(vault_error_message(vault_batch_error(sealed, at)), vault_error_message(error)) == 0);
        vault_error_free(error);
        error = NULL;
        vault_buf_free(alone);
        items[at].data = data;
        items[at].len = at % 107 == 9 && len > 0 ? len - 1 : len;
        if (at % 109 == 11)
            items[at].context = &contexts[1 - at / 10 % 2];
    }
    EXPECT(VAULT_OK, vault_open_batch(vault, items, COUNT, &opened, &error));
    CHECK(vault_batch_len(opened) == COUNT);
    for (at = 0; at < COUNT; at++) {
        vault_buf *alone = NULL;
        vault_status status =
            vault_open(vault, items[at].context, (const char *)items[at].data, items[at].len, &alone, &error);
        data = vault_batch_data(opened, at, &len);
        CHECK(vault_batch_status(opened, at) == status && len == (alone == NULL ? 0 : vault_buf_len(alone)));
        if (status == VAULT_OK)
            CHECK(len == at % 5 && memcmp(data, &secrets[at], len) == 0);
        else
            CHECK(strcmp(vault_error_message(vault_batch_error(opened, at)), vault_error_message(error)) == 0);
        vault_error_free(error);
        error = NULL;
        vault_buf_free(alone);
    }
    vault_batch_free(opened);
    vault_batch_free(sealed);
}

static void legacy(const char *directory, const vault_handle *vault)
{
    vault_context context = user_secret("42");
    vault_error *error = NULL;
    vault_config *config = NULL;
    vault_handle *one = NULL;
    vault_buf *value = NULL, *secret = NULL;
    char *path = join(directory, "keys/flowfile_1");
    EXPECT(VAULT_OK, vault_legacy_seal(vault, "flowfile", 8, "flowfile-v1", 11, "7", 1, bytes("probe"), 5, &value, &error));
    CHECK(strncmp(chars(value), "$ffsec$1$7$", 11) == 0);
    EXPECT(VAULT_OK, vault_legacy_open(vault, "flowfile", 8, "flowfile-v1", 11, NULL, 0, vault_buf_data(value),
                                        vault_buf_len(value), &secret, &error));
    CHECK(strcmp(chars(secret), "probe") == 0);
    vault_buf_free(secret);

    EXPECT(VAULT_OK, vault_config_from_text_key_file(path, strlen(path), "flowfile-v1", 11, &config, &error));
    one = load(config);
    EXPECT(VAULT_OK, vault_legacy_open(one, NULL, 0, "flowfile-v1", 11, NULL, 0, vault_buf_data(value),
                                        vault_buf_len(value), &secret, &error));
    vault_buf_free(secret);
    EXPECT(VAULT_USAGE, vault_legacy_open(one, "flowfile", 8, "flowfile-v1", 11, NULL, 0, vault_buf_data(value),
                                           vault_buf_len(value), &secret, &error));
    EXPECT(VAULT_UNSUPPORTED, vault_legacy_seal(vault, "flowfile", 8, "rot13", 5, NULL, 0, NULL, 0, &secret, &error));
    EXPECT(VAULT_CONFIG, vault_legacy_seal(vault, "main", 4, "fernet", 6, NULL, 0, NULL, 0, &secret, &error));
    vault_buf_free(value);

    /* It has no master keys; whether a text is a token comes first. */
    EXPECT(VAULT_OK, vault_seal(vault, &context, bytes("probe"), 5, &value, &error));
    EXPECT(VAULT_KEY_MISSING, vault_verify(one, chars(value), vault_buf_len(value), &error));
    EXPECT(VAULT_KEY_MISSING, vault_open(one, &context, chars(value), vault_buf_len(value), &secret, &error));
    EXPECT(VAULT_MALFORMED, vault_verify(one, "", 0, &error));
    vault_free(one);
    vault_buf_free(value);
    free(path);
}

static void secrets(const vault_handle *vault)
{
    vault_error *error = NULL;
    vault_resolved *secret = NULL;
    vault_versions *versions = NULL;
    size_t len;
    EXPECT(VAULT_OK, vault_secret(vault, "DB_PASSWORD", 11, &secret, &error));
    CHECK(strcmp((const char *)vault_resolved_value(secret, &len), "third") == 0 && len == 5);
    CHECK(strcmp(vault_resolved_source_kind(secret), "store") == 0 && vault_resolved_source(secret)[0] != '\0');
    CHECK(vault_resolved_version(secret) == 3 && vault_resolved_notes(secret) == 0);
    CHECK(vault_resolved_note(secret, 0) == NULL);
    vault_resolved_free(secret);
    EXPECT(VAULT_OK, vault_versions_list(vault, "DB_PASSWORD", 11, &versions, &error));
    CHECK(vault_versions_len(versions) == 3 && vault_versions_number(versions, 0) == 3);
    CHECK(vault_versions_created(versions, 2) > 1700000000);
    CHECK(vault_versions_number(versions, 3) == 0 && vault_versions_created(versions, 3) == 0);
    vault_versions_free(versions);
    EXPECT(VAULT_OK, vault_secret(vault, "DB_PASSWORD@previous", 20, &secret, &error));
    CHECK(strcmp((const char *)vault_resolved_value(secret, NULL), "second") == 0);
    vault_resolved_free(secret);
    EXPECT(VAULT_NOT_FOUND, vault_secret(vault, "MISSING", 7, &secret, &error));
    EXPECT(VAULT_MALFORMED, vault_secret(vault, "", 0, &secret, &error));
    EXPECT(VAULT_OK, vault_optional_secret(vault, "OPTIONAL", 8, &secret, &error));
    CHECK(secret == NULL);
}

/* Every pointer NULL, and lengths that no memory has. */
static void misuse(const vault_handle *vault)
{
    static const size_t huge[] = {4097, (size_t)1 << 26, SIZE_MAX / 2, SIZE_MAX - 1, SIZE_MAX};
    vault_context context = user_secret("42");
    vault_error *error = NULL;
    vault_buf *buf = NULL;
    vault_batch *batch = NULL;
    vault_config *config = NULL;
    vault_handle *loaded = NULL;
    vault_resolved *secret = NULL;
    vault_versions *versions = NULL;
    vault_inspection seen;
    char kid[18];
    size_t at;

    EXPECT(VAULT_USAGE, vault_config_from_file(NULL, 0, NULL, 0, &config, &error));
    EXPECT(VAULT_USAGE, vault_config_from_file("x", 1, NULL, 0, NULL, &error));
    EXPECT(VAULT_USAGE, vault_config_from_file(NULL, 1, NULL, 0, &config, &error));
    EXPECT(VAULT_USAGE, vault_config_from_file("a\0b", 3, NULL, 0, &config, &error));
    EXPECT(VAULT_USAGE, vault_config_from_env(NULL, &error));
    EXPECT(VAULT_USAGE, vault_config_from_key_file(NULL, 0, &config, &error));
    EXPECT(VAULT_USAGE, vault_config_from_key_file("x", 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_config_from_text_key_file(NULL, 0, "fernet", 6, &config, &error));
    EXPECT(VAULT_UNSUPPORTED, vault_config_from_text_key_file("x", 1, NULL, 0, &config, &error));
    EXPECT(VAULT_UNSUPPORTED, vault_config_from_text_key_file("x", 1, "vs1", 3, &config, &error));
    EXPECT(VAULT_USAGE, vault_config_set_limit(NULL, 1, &error));
    EXPECT(VAULT_USAGE, vault_config_set_padding(NULL, 1, &error));
    EXPECT(VAULT_USAGE, vault_config_set_preset(NULL, "strict", 6, &error));
    EXPECT(VAULT_USAGE, vault_config_set_environment(NULL, NULL, 0, "/", 1, &error));
    EXPECT(VAULT_USAGE, vault_load(NULL, &loaded, &error));
    EXPECT(VAULT_USAGE, vault_refresh(NULL, &error));
    EXPECT(VAULT_USAGE, vault_primary(NULL, kid, &error));
    EXPECT(VAULT_USAGE, vault_primary(vault, NULL, &error));
    EXPECT(VAULT_USAGE, vault_seal(NULL, &context, bytes("s"), 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_seal(vault, NULL, bytes("s"), 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_seal(vault, &context, NULL, 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_seal(vault, &context, bytes("s"), 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_open(NULL, &context, "t", 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_open(vault, NULL, "t", 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_open(vault, &context, NULL, 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_open(vault, &context, "t", 1, NULL, &error));
    uint8_t hash[32] = {0};
    EXPECT(VAULT_USAGE, vault_context_hash(NULL, hash, &error));
    EXPECT(VAULT_USAGE, vault_context_hash(&context, NULL, &error));
    EXPECT(VAULT_USAGE, vault_seal_for(vault, hash, bytes("s"), 1, &buf, &error)); /* zeros */
    EXPECT(VAULT_USAGE, vault_open_for(vault, hash, "t", 1, &buf, &error));
    EXPECT(VAULT_OK, vault_context_hash(&context, hash, &error));
    EXPECT(VAULT_USAGE, vault_seal_for(NULL, hash, bytes("s"), 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_seal_for(vault, NULL, bytes("s"), 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_seal_for(vault, hash, NULL, 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_seal_for(vault, hash, bytes("s"), 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_open_for(NULL, hash, "t", 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_open_for(vault, NULL, "t", 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_open_for(vault, hash, NULL, 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_open_for(vault, hash, "t", 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_rewrap(NULL, "t", 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_rewrap(vault, NULL, 1, &buf, &error));
    EXPECT(VAULT_USAGE, vault_rewrap(vault, "t", 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_verify(NULL, "t", 1, &error));
    EXPECT(VAULT_USAGE, vault_verify(vault, NULL, 1, &error));
    EXPECT(VAULT_USAGE, vault_inspect(NULL, 1, &seen, &error));
    EXPECT(VAULT_USAGE, vault_inspect("t", 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_seal_batch(NULL, NULL, 0, &batch, &error));
    EXPECT(VAULT_USAGE, vault_seal_batch(vault, NULL, 1, &batch, &error));
    EXPECT(VAULT_USAGE, vault_seal_batch(vault, NULL, 0, NULL, &error));
    EXPECT(VAULT_USAGE, vault_open_batch(NULL, NULL, 0, &batch, &error));
    EXPECT(VAULT_USAGE, vault_open_batch(vault, NULL, 1, &batch, &error));
    EXPECT(VAULT_USAGE, vault_open_batch(vault, NULL, 0, NULL, &error));
    EXPECT(VAULT_USAGE, vault_secret(NULL, "A", 1, &secret, &error));
    EXPECT(VAULT_USAGE, vault_secret(vault, NULL, 1, &secret, &error));
    EXPECT(VAULT_USAGE, vault_secret(vault, "A", 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_optional_secret(NULL, "A", 1, &secret, &error));
    EXPECT(VAULT_USAGE, vault_optional_secret(vault, "A", 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_versions_list(NULL, "A", 1, &versions, &error));
    EXPECT(VAULT_USAGE, vault_versions_list(vault, "A", 1, NULL, &error));
    EXPECT(VAULT_USAGE, vault_legacy_open(NULL, NULL, 0, "fernet", 6, NULL, 0, NULL, 0, &buf, &error));
    EXPECT(VAULT_USAGE, vault_legacy_open(vault, NULL, 0, "fernet", 6, NULL, 0, NULL, 0, &buf, &error));
    EXPECT(VAULT_USAGE, vault_legacy_open(vault, NULL, 0, "fernet", 6, NULL, 0, NULL, 0, NULL, &error));
    EXPECT(VAULT_USAGE, vault_legacy_seal(NULL, NULL, 0, "fernet", 6, NULL, 0, NULL, 0, &buf, &error));
    EXPECT(VAULT_USAGE, vault_legacy_seal(vault, "flowfile", 8, "fernet", 6, NULL, 1, NULL, 0, &buf, &error));
    EXPECT(VAULT_USAGE, vault_legacy_seal(vault, "flowfile", 8, "fernet", 6, NULL, 0, NULL, 1, &buf, &error));

    for (at = 0; at < sizeof huge / sizeof huge[0]; at++) {
        size_t len = huge[at];
        EXPECT(VAULT_TOO_LARGE, vault_config_from_file("x", len, NULL, 0, &config, &error));
        EXPECT(VAULT_TOO_LARGE, vault_config_from_file("x", 1, "x", len, &config, &error));
        EXPECT(VAULT_TOO_LARGE, vault_config_from_key_file("x", len, &config, &error));
        EXPECT(VAULT_TOO_LARGE, vault_config_from_text_key_file("x", 1, "x", len, &config, &error));
        EXPECT(VAULT_TOO_LARGE, vault_secret(vault, "x", len, &secret, &error));
        EXPECT(VAULT_TOO_LARGE, vault_optional_secret(vault, "x", len, &secret, &error));
        EXPECT(VAULT_TOO_LARGE, vault_versions_list(vault, "x", len, &versions, &error));
        EXPECT(VAULT_TOO_LARGE, vault_legacy_open(vault, "x", len, "fernet", 6, NULL, 0, NULL, 0, &buf, &error));
        EXPECT(VAULT_TOO_LARGE, vault_legacy_open(vault, NULL, 0, "fernet", len, NULL, 0, NULL, 0, &buf, &error));
        EXPECT(VAULT_TOO_LARGE, vault_legacy_open(vault, NULL, 0, "fernet", 6, "x", len, NULL, 0, &buf, &error));
        if (at == 0)
            continue;
        EXPECT(VAULT_TOO_LARGE, vault_seal(vault, &context, bytes("x"), len, &buf, &error));
        EXPECT(VAULT_TOO_LARGE, vault_open(vault, &context, "x", len, &buf, &error));
        EXPECT(VAULT_TOO_LARGE, vault_rewrap(vault, "x", len, &buf, &error));
        EXPECT(VAULT_TOO_LARGE, vault_verify(vault, "x", len, &error));
        EXPECT(VAULT_TOO_LARGE, vault_inspect("x", len, &seen, &error));
        EXPECT(VAULT_TOO_LARGE, vault_seal_batch(vault, (const vault_item *)(const void *)&context, len, &batch, &error));
        EXPECT(VAULT_TOO_LARGE, vault_open_batch(vault, (const vault_item *)(const void *)&context, len, &batch, &error));
        EXPECT(VAULT_TOO_LARGE, vault_legacy_open(vault, "flowfile", 8, "fernet", 6, NULL, 0, bytes("x"), len, &buf, &error));
        EXPECT(VAULT_TOO_LARGE, vault_legacy_seal(vault, "flowfile", 8, "fernet", 6, NULL, 0, bytes("x"), len, &buf, &error));
    }
    CHECK(buf == NULL && batch == NULL && config == NULL && loaded == NULL && secret == NULL && versions == NULL);

    vault_buf_free(NULL);
    vault_batch_free(NULL);
    vault_config_free(NULL);
    vault_error_free(NULL);
    vault_free(NULL);
    vault_resolved_free(NULL);
    vault_versions_free(NULL);
    CHECK(vault_buf_data(NULL) == NULL && vault_buf_len(NULL) == 0);
    CHECK(vault_batch_len(NULL) == 0 && vault_batch_status(NULL, 0) == VAULT_USAGE);
    CHECK(vault_batch_data(NULL, 0, NULL) == NULL && vault_batch_error(NULL, 0) == NULL);
    CHECK(vault_error_status(NULL) == VAULT_OK && vault_error_public_status(NULL) == VAULT_OK);
    CHECK(vault_error_kind(NULL) == NULL && vault_error_message(NULL) == NULL && vault_error_hint(NULL) == NULL);
    CHECK(vault_resolved_value(NULL, NULL) == NULL && vault_resolved_source(NULL) == NULL);
    CHECK(vault_resolved_source_kind(NULL) == NULL && vault_resolved_version(NULL) == 0);
    CHECK(vault_resolved_notes(NULL) == 0 && vault_resolved_note(NULL, 0) == NULL);
    CHECK(vault_versions_len(NULL) == 0 && vault_versions_number(NULL, 0) == 0);
    CHECK(vault_versions_created(NULL, 0) == 0);
}

static void options(const char *directory)
{
    vault_context context = user_secret("42");
    vault_error *error = NULL;
    vault_config *config = NULL;
    vault_handle *vault = NULL;
    vault_buf *token = NULL;
    vault_resolved *secret = NULL;
    vault_inspection seen;
    vault_pair variable;
    char *path = join(directory, "vault.toml");
    variable.key = text("FROM_HERE");
    variable.value = text("given");
    EXPECT(VAULT_OK, vault_config_from_file(path, strlen(path), NULL, 0, &config, &error));
    EXPECT(VAULT_OK, vault_config_set_limit(config, 3, &error));
    EXPECT(VAULT_OK, vault_config_set_padding(config, 7, &error));
    EXPECT(VAULT_OK, vault_config_set_environment(config, &variable, 1, "/nowhere", 8, &error));
    EXPECT(VAULT_OK, vault_config_set_preset(config, "strict", 6, &error));
    EXPECT(VAULT_UNSUPPORTED, vault_config_set_preset(config, "lenient", 7, &error));
    vault = load(config);
    EXPECT(VAULT_TOO_LARGE, vault_seal(vault, &context, bytes("four"), 4, &token, &error));
    EXPECT(VAULT_OK, vault_seal(vault, &context, bytes("abc"), 3, &token, &error));
    EXPECT(VAULT_OK, vault_inspect(chars(token), vault_buf_len(token), &seen, &error));
    CHECK(seen.padded == 1 && seen.payload == 32);
    vault_buf_free(token);
    EXPECT(VAULT_OK, vault_secret(vault, "FROM_HERE", 9, &secret, &error));
    CHECK(strcmp(vault_resolved_source_kind(secret), "variable") == 0);
    vault_resolved_free(secret);
    EXPECT(VAULT_OK, vault_refresh(vault, &error));
    EXPECT(VAULT_OK, vault_secret(vault, "FROM_HERE", 9, &secret, &error));
    vault_resolved_free(secret);
    vault_free(vault);
    free(path);
}

#define THREADS 4

static void *use(void *given)
{
    const vault_handle *vault = (const vault_handle *)given;
    vault_context context = user_secret("42");
    vault_error *error = NULL;
    int at;
    for (at = 0; at < 50; at++) {
        vault_buf *token = NULL, *secret = NULL;
        EXPECT(VAULT_OK, vault_seal(vault, &context, bytes("threads"), 7, &token, &error));
        EXPECT(VAULT_OK, vault_open(vault, &context, chars(token), vault_buf_len(token), &secret, &error));
        CHECK(strcmp(chars(secret), "threads") == 0);
        vault_buf_free(secret);
        vault_buf_free(token);
        if (at % 25 == 0)
            EXPECT(VAULT_OK, vault_refresh(vault, &error));
    }
    return NULL;
}

static void threads(vault_handle *vault)
{
    pthread_t running[THREADS];
    int at;
    for (at = 0; at < THREADS; at++)
        CHECK(pthread_create(&running[at], NULL, use, vault) == 0);
    for (at = 0; at < THREADS; at++)
        CHECK(pthread_join(running[at], NULL) == 0);
}

/* The wrapped data key of a fresh token, 64 characters. */
static void wrapped(const vault_handle *vault, char into[64])
{
    vault_context context = user_secret("42");
    vault_error *error = NULL;
    vault_buf *token = NULL;
    EXPECT(VAULT_OK, vault_seal(vault, &context, bytes("the same"), 8, &token, &error));
    memcpy(into, chars(token) + 22, 64);
    vault_buf_free(token);
}

/* A child works at once, finds secrets, and repeats no data key of its parent. */
static void forks(vault_handle *vault)
{
    char ours[64], theirs[64];
    int pipes[2], status;
    pid_t child;
    wrapped(vault, ours); /* randomness that the child inherits */
    CHECK(pipe(pipes) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        wrapped(vault, theirs);
        secrets(vault);
        vault_free(vault); /* the child's own copy */
        _exit(write(pipes[1], theirs, sizeof theirs) == (ssize_t)sizeof theirs ? 0 : 1);
    }
    wrapped(vault, ours);
    CHECK(read(pipes[0], theirs, sizeof theirs) == (ssize_t)sizeof theirs);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(memcmp(ours, theirs, sizeof ours) != 0);
    close(pipes[0]);
    close(pipes[1]);
}

/* Ten calls. */
static void work(const vault_handle *vault)
{
    vault_context context = user_secret("42"), other = user_secret("43");
    vault_error *error = NULL;
    vault_buf *token = NULL, *secret = NULL, *same = NULL, *legacy_value = NULL;
    vault_inspection seen;
    char kid[18];
    EXPECT(VAULT_OK, vault_seal(vault, &context, bytes("correct horse"), 13, &token, &error));
    EXPECT(VAULT_OK, vault_open(vault, &context, chars(token), vault_buf_len(token), &secret, &error));
    EXPECT(VAULT_OK, vault_rewrap(vault, chars(token), vault_buf_len(token), &same, &error));
    EXPECT(VAULT_OK, vault_verify(vault, chars(same), vault_buf_len(same), &error));
    EXPECT(VAULT_OK, vault_inspect(chars(token), vault_buf_len(token), &seen, &error));
    EXPECT(VAULT_CONTEXT_MISMATCH, vault_open(vault, &other, chars(token), vault_buf_len(token), &legacy_value, &error));
    EXPECT(VAULT_MALFORMED, vault_verify(vault, "vs1.x", 5, &error));
    EXPECT(VAULT_USAGE, vault_seal(vault, NULL, NULL, 0, &legacy_value, &error));
    EXPECT(VAULT_OK, vault_primary(vault, kid, &error));
    EXPECT(VAULT_OK, vault_legacy_seal(vault, "flowfile", 8, "flowfile-v1", 11, "7", 1, bytes("x"), 1, &legacy_value, &error));
    vault_buf_free(legacy_value);
    vault_buf_free(same);
    vault_buf_free(secret);
    vault_buf_free(token);
}

int main(int count, char **arguments)
{
    char *path;
    long rounds, at;
    vault_handle *vault;
    CHECK(count == 3);
    rounds = atol(arguments[2]);
    constants();
    path = join(arguments[1], "keys/kek_1");
    vault = load_key_file(path);
    tokens(vault);
    contexts(vault);
    batches(vault);
    large_batches(vault);
    vault_free(vault);
    free(path);

    path = join(arguments[1], "vault.toml");
    vault = load_config(path);
    tokens(vault);
    secrets(vault);
    legacy(arguments[1], vault);
    misuse(vault);
    forks(vault);
    threads(vault);
    for (at = 0; at < rounds; at++)
        work(vault);
    vault_free(vault);
    free(path);
    options(arguments[1]);
    printf("abi: %ld calls in the loop\n", 10 * rounds);
    return 0;
}
