/*
 * Runs cases of cases.json through the C ABI.
 *
 *   runner < cases > results
 *
 * A case is lines of "path hex", as in "arguments.token 7673312e", and an empty line; so is what
 * came of it. Whoever calls this made the files, and compares. The case's directory is "directory".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vault.h"

static void die(const char *why)
{
    fprintf(stderr, "runner: %s\n", why);
    exit(1);
}

static void *memory(size_t size)
{
    void *made = malloc(size == 0 ? 1 : size);
    if (made == NULL)
        die("out of memory");
    return made;
}

/* One entry of a case; the value ends with a NUL that len does not count. */
struct entry {
    char *path;
    char *value;
    size_t len;
};

static struct entry *entries;
static size_t count, room;

static int digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* Reads a line of any length; NULL at the end. */
static char *read_line(size_t *len)
{
    size_t size = 256;
    char *line = (char *)memory(size);
    int c;
    *len = 0;
    while ((c = getchar()) != EOF && c != '\n') {
        if (*len + 1 == size) {
            char *larger = (char *)realloc(line, size *= 2);
            if (larger == NULL)
                die("out of memory");
            line = larger;
        }
        line[(*len)++] = (char)c;
    }
    if (c == EOF && *len == 0) {
        free(line);
        return NULL;
    }
    line[*len] = '\0';
    return line;
}

/* Reads the next case; 0 at the end. */
static int read_case(void)
{
    char *line;
    size_t len;
    while (count > 0) {
        count--;
        free(entries[count].path);
        free(entries[count].value);
    }
    while ((line = read_line(&len)) != NULL && len > 0) {
        struct entry made;
        char *space = strchr(line, ' ');
        size_t at;
        if (space == NULL)
            die("a line without a value");
        *space++ = '\0';
        made.len = (len - (size_t)(space - line)) / 2;
        made.value = (char *)memory(made.len + 1);
        for (at = 0; at < made.len; at++)
            made.value[at] = (char)(digit(space[2 * at]) << 4 | digit(space[2 * at + 1]));
        made.value[made.len] = '\0';
        made.path = (char *)memory(strlen(line) + 1);
        strcpy(made.path, line);
        free(line);
        if (count == room) {
            struct entry *larger = (struct entry *)realloc(entries, (room = 2 * room + 16) * sizeof *entries);
            if (larger == NULL)
                die("out of memory");
            entries = larger;
        }
        entries[count++] = made;
    }
    if (line == NULL)
        return 0;
    free(line);
    return 1;
}

/* The entry of a path that is put together; NULL if there is none. */
static const struct entry *find(const char *before, const char *after)
{
    size_t at, first = strlen(before);
    for (at = 0; at < count; at++)
        if (strncmp(entries[at].path, before, first) == 0 && strcmp(entries[at].path + first, after) == 0)
            return &entries[at];
    return NULL;
}

static vault_str text(const char *before, const char *after)
{
    const struct entry *found = find(before, after);
    vault_str made;
    made.data = found == NULL ? NULL : found->value;
    made.len = found == NULL ? 0 : found->len;
    return made;
}

static size_t number(const char *before, const char *after)
{
    const struct entry *found = find(before, after);
    return found == NULL ? 0 : (size_t)strtoul(found->value, NULL, 10);
}

static int is_true(const char *before, const char *after)
{
    const struct entry *found = find(before, after);
    return found != NULL && strcmp(found->value, "true") == 0;
}

static vault_str in_directory(vault_str path)
{
    vault_str directory = text("", "directory"), made;
    char *joined = (char *)memory(directory.len + path.len + 2);
    memcpy(joined, directory.data, directory.len);
    joined[directory.len] = '/';
    memcpy(joined + directory.len + 1, path.data, path.len);
    made.len = directory.len + path.len + 1;
    joined[made.len] = '\0';
    made.data = joined;
    return made;
}

static void print(const char *before, const char *path, const void *value, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)value;
    size_t at;
    printf("%s%s ", before, path);
    for (at = 0; at < len; at++)
        printf("%02x", bytes[at]);
    putchar('\n');
}

static void print_text(const char *before, const char *path, const char *value)
{
    print(before, path, value, strlen(value));
}

static void print_number(const char *before, const char *path, uint64_t value)
{
    char digits[24];
    sprintf(digits, "%llu", (unsigned long long)value);
    print_text(before, path, digits);
}

/* Tells of a failure; the error stays the caller's. */
static void print_error(const char *before, const vault_error *error)
{
    print_text(before, "error", vault_error_kind(error));
    print_text(before, "public", vault_status_name(vault_error_public_status(error)));
}

static int failed(vault_status status, vault_error **error)
{
    if (status == VAULT_OK)
        return 0;
    print_error("", *error);
    vault_error_free(*error);
    *error = NULL;
    return 1;
}

/* Pairs of a case, whose number is at "count". */
static vault_pair *read_pairs(const char *at, size_t *len)
{
    vault_pair *made;
    char path[128];
    size_t pair;
    *len = number(at, ".count");
    made = (vault_pair *)memory(*len * sizeof *made);
    for (pair = 0; pair < *len; pair++) {
        sprintf(path, "%s.%lu.", at, (unsigned long)pair);
        made[pair].key = text(path, "key");
        made[pair].value = text(path, "value");
    }
    return made;
}

static vault_context read_context(const char *at)
{
    char path[128];
    vault_context made;
    sprintf(path, "%s.context.", at);
    made.purpose = text(path, "purpose");
    made.tenant = text(path, "tenant");
    made.name = text(path, "name");
    made.unbound = is_true(path, "unbound") ? 1 : 0;
    sprintf(path, "%s.context.extra", at);
    made.extra = read_pairs(path, &made.extra_len);
    return made;
}

static void free_context(vault_context *context)
{
    free((void *)(uintptr_t)context->extra);
}

static vault_status configure(vault_config *config, vault_error **error)
{
    vault_str mounts, directory = {"mounts", 6}, preset = text("vault.", "preset");
    vault_status status = VAULT_OK;
    vault_pair *variables;
    size_t len;
    if (find("vault.", "limit") != NULL)
        status = vault_config_set_limit(config, number("vault.", "limit"), error);
    if (status == VAULT_OK)
        status = vault_config_set_padding(config, is_true("vault.", "padded") ? 1 : 0, error);
    if (status == VAULT_OK && preset.data != NULL)
        status = vault_config_set_preset(config, preset.data, preset.len, error);
    if (status != VAULT_OK)
        return status;
    mounts = in_directory(directory);
    variables = read_pairs("vault.variables", &len);
    status = vault_config_set_environment(config, variables, len, mounts.data, mounts.len, error);
    free(variables);
    free((void *)(uintptr_t)mounts.data);
    return status;
}

/* Loads what the case is about, which may be nothing. */
static vault_status load(vault_handle **vault, vault_error **error)
{
    static const char *const kinds[] = {"config", "key_file", "text_key_file"};
    vault_str profile = text("vault.", "profile"), format = text("vault.", "format"), path;
    vault_config *config = NULL;
    vault_status status;
    size_t kind = 0;
    while (kind < 3 && find("vault.", kinds[kind]) == NULL)
        kind++;
    if (kind == 3)
        return VAULT_OK;
    path = in_directory(text("vault.", kinds[kind]));
    if (kind == 0)
        status = vault_config_from_file(path.data, path.len, profile.data, profile.len, &config, error);
    else if (kind == 1)
        status = vault_config_from_key_file(path.data, path.len, &config, error);
    else
        status = vault_config_from_text_key_file(path.data, path.len, format.data, format.len, &config, error);
    free((void *)(uintptr_t)path.data);
    if (status == VAULT_OK)
        status = configure(config, error);
    if (status == VAULT_OK)
        status = vault_load(config, vault, error);
    vault_config_free(config);
    return status;
}

/* Writes the files that change once the vault is loaded. */
static void change(void)
{
    vault_pair *changed;
    size_t at, len;
    changed = read_pairs("changed", &len);
    for (at = 0; at < len; at++) {
        vault_str path = in_directory(changed[at].key);
        FILE *file = fopen(path.data, "wb");
        if (file == NULL || fwrite(changed[at].value.data, 1, changed[at].value.len, file) != changed[at].value.len ||
            fclose(file) != 0)
            die("cannot write a changed file");
        free((void *)(uintptr_t)path.data);
    }
    free(changed);
}

static void print_inspection(const char *before, const char *token, size_t len)
{
    vault_inspection seen;
    vault_error *error = NULL;
    if (vault_inspect(token, len, &seen, &error) != VAULT_OK) {
        print_error(before, error);
        vault_error_free(error);
        return;
    }
    print_text(before, "kid", seen.kid);
    print_text(before, "padded", seen.padded != 0 ? "true" : "false");
    print_number(before, "payload", seen.payload);
    print_number(before, "sealed_at", seen.sealed_at);
}

/* A token that was just sealed, and what it opens to. */
static void print_sealed(const char *before, const vault_handle *vault, const vault_context *context, const char *token,
                         size_t len)
{
    vault_error *error = NULL;
    vault_buf *secret = NULL;
    print_inspection(before, token, len);
    if (vault_open(vault, context, token, len, &secret, &error) != VAULT_OK) {
        print_error(before, error);
        vault_error_free(error);
        return;
    }
    print(before, "opens", vault_buf_data(secret), vault_buf_len(secret));
    vault_buf_free(secret);
}

static void print_buf(const char *path, vault_buf *buf)
{
    print("", path, vault_buf_data(buf), vault_buf_len(buf));
    vault_buf_free(buf);
}

static void run_batch(const vault_handle *vault, int sealing)
{
    size_t at, len = number("arguments.items", ".count");
    vault_item *items = (vault_item *)memory(len * sizeof *items);
    vault_context *contexts = (vault_context *)memory(len * sizeof *contexts);
    vault_error *error = NULL;
    vault_batch *batch = NULL;
    vault_status status;
    char path[64];
    for (at = 0; at < len; at++) {
        vault_str data;
        sprintf(path, "arguments.items.%lu", (unsigned long)at);
        contexts[at] = read_context(path);
        data = text(path, sealing ? ".secret" : ".token");
        items[at].context = &contexts[at];
        items[at].data = (const uint8_t *)data.data;
        items[at].len = data.len;
    }
    status = sealing ? vault_seal_batch(vault, items, len, &batch, &error)
                     : vault_open_batch(vault, items, len, &batch, &error);
    if (!failed(status, &error)) {
        print_number("items.", "count", vault_batch_len(batch));
        for (at = 0; at < len; at++) {
            size_t size;
            const uint8_t *data = vault_batch_data(batch, at, &size);
            sprintf(path, "items.%lu.", (unsigned long)at);
            if (vault_batch_status(batch, at) != VAULT_OK)
                print_error(path, vault_batch_error(batch, at));
            else if (sealing)
                print_sealed(path, vault, &contexts[at], (const char *)data, size);
            else
                print(path, "value", data, size);
        }
        vault_batch_free(batch);
    }
    for (at = 0; at < len; at++)
        free_context(&contexts[at]);
    free(contexts);
    free(items);
}

static void print_resolved(vault_resolved *secret)
{
    size_t len;
    const uint8_t *value = vault_resolved_value(secret, &len);
    if (secret == NULL) {
        print_text("", "absent", "true");
        return;
    }
    print("", "value", value, len);
    print_text("", "source", vault_resolved_source_kind(secret));
    print_number("", "notes", vault_resolved_notes(secret));
    if (vault_resolved_version(secret) != 0)
        print_number("", "version", vault_resolved_version(secret));
    vault_resolved_free(secret);
}

static void run_legacy(const vault_handle *vault, int sealing)
{
    vault_str keyring = text("arguments.", "keyring"), format = text("arguments.", "format");
    vault_str tenant = text("arguments.", "tenant"), given = text("arguments.", sealing ? "secret" : "value");
    vault_error *error = NULL;
    vault_buf *value = NULL, *secret = NULL;
    vault_status status;
    const uint8_t *data = (const uint8_t *)given.data;
    size_t len = given.len;
    if (sealing) {
        status = vault_legacy_seal(vault, keyring.data, keyring.len, format.data, format.len, tenant.data, tenant.len,
                                    data, len, &value, &error);
        if (failed(status, &error))
            return;
        data = vault_buf_data(value);
        len = vault_buf_len(value);
    }
    status = vault_legacy_open(vault, keyring.data, keyring.len, format.data, format.len, tenant.data, tenant.len, data,
                                len, &secret, &error);
    if (!failed(status, &error))
        print_buf(sealing ? "opens" : "value", secret);
    vault_buf_free(value);
}

static void run(const vault_handle *vault)
{
    const char *call = text("", "call").data;
    vault_str token = text("arguments.", "token"), name = text("arguments.", "name");
    vault_str given = text("arguments.", "secret");
    vault_context context = read_context("arguments");
    vault_error *error = NULL;
    vault_buf *buf = NULL;
    vault_resolved *secret = NULL;
    vault_versions *versions = NULL;
    char kid[18], path[64];
    size_t at;
    if (strcmp(call, "status") == 0) {
        vault_status status = (vault_status)number("arguments.", "status");
        print_text("", "name", vault_status_name(status));
        print_number("", "exit_code", vault_status_exit_code(status));
    } else if (strcmp(call, "load") == 0) {
        if (!failed(vault_primary(vault, kid, &error), &error))
            print_text("", "primary", kid);
    } else if (strcmp(call, "refresh") == 0) {
        if (!failed(vault_refresh(vault, &error), &error) && !failed(vault_primary(vault, kid, &error), &error))
            print_text("", "primary", kid);
    } else if (strcmp(call, "seal") == 0) {
        if (!failed(vault_seal(vault, &context, (const uint8_t *)given.data, given.len, &buf, &error), &error)) {
            print_sealed("", vault, &context, (const char *)vault_buf_data(buf), vault_buf_len(buf));
            vault_buf_free(buf);
        }
    } else if (strcmp(call, "open") == 0) {
        if (!failed(vault_open(vault, &context, token.data, token.len, &buf, &error), &error))
            print_buf("value", buf);
    } else if (strcmp(call, "rewrap") == 0) {
        if (!failed(vault_rewrap(vault, token.data, token.len, &buf, &error), &error))
            print_buf("value", buf);
    } else if (strcmp(call, "verify") == 0) {
        (void)failed(vault_verify(vault, token.data, token.len, &error), &error);
    } else if (strcmp(call, "inspect") == 0) {
        print_inspection("", token.data, token.len);
    } else if (strcmp(call, "seal_batch") == 0 || strcmp(call, "open_batch") == 0) {
        run_batch(vault, strcmp(call, "seal_batch") == 0);
    } else if (strcmp(call, "legacy_seal") == 0 || strcmp(call, "legacy_open") == 0) {
        run_legacy(vault, strcmp(call, "legacy_seal") == 0);
    } else if (strcmp(call, "secret") == 0) {
        if (!failed(vault_secret(vault, name.data, name.len, &secret, &error), &error))
            print_resolved(secret);
    } else if (strcmp(call, "optional_secret") == 0) {
        if (!failed(vault_optional_secret(vault, name.data, name.len, &secret, &error), &error))
            print_resolved(secret);
    } else if (strcmp(call, "versions") == 0) {
        if (!failed(vault_versions_list(vault, name.data, name.len, &versions, &error), &error)) {
            print_number("versions.", "count", vault_versions_len(versions));
            for (at = 0; at < vault_versions_len(versions); at++) {
                sprintf(path, "%lu", (unsigned long)at);
                print_number("versions.", path, vault_versions_number(versions, at));
            }
            vault_versions_free(versions);
        }
    } else {
        die("a call that this runner does not know");
    }
    free_context(&context);
}

int main(void)
{
    while (read_case()) {
        vault_handle *vault = NULL;
        vault_error *error = NULL;
        if (!failed(load(&vault, &error), &error)) {
            change();
            run(vault);
        }
        vault_free(vault);
        putchar('\n');
        fflush(stdout);
    }
    free(entries);
    return 0;
}
