/*
 * vault.h for JavaScript, through Node-API: one function for each call of the C ABI, and no logic of
 * its own. src/vault.js gives them their shape and their documentation.
 *
 * A handle is an External; texts are strings of JavaScript, absent where undefined; bytes are any view
 * of an ArrayBuffer, and where a secret or a token is wanted also a string, taken as UTF-8. Results
 * are strings and Buffers of their own. What is copied on the way is wiped.
 */
#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"
#include "vault.h"

/* Memory that lives as long as a call: the first bytes on its stack, more as needed. Wiped. */
struct chunk {
    struct chunk *before;
    char *room;
    size_t size, used;
};

struct call {
    napi_env env;
    struct chunk *last;
    struct chunk first;
    _Alignas(16) char room[4096];
};

static bool begin(struct call *call, napi_env env, napi_callback_info info, size_t wanted, napi_value *arguments);
static void end(struct call *call);
static char *reserve(struct call *call, size_t size);
static bool text_of(struct call *call, napi_value value, const char *what, vault_str *text);
static bool optional_text(struct call *call, napi_value value, const char *what, vault_str *text);
static bool bytes_of(struct call *call, napi_value value, const char *what, vault_str *bytes);
static bool context_of(struct call *call, const napi_value *fields, vault_context *context);
static bool pairs_of(struct call *call, napi_value flat, const char *what, vault_pair **pairs, size_t *len);
static vault_handle *handle_of(struct call *call, napi_value value);
static napi_value error_of(napi_env env, const vault_error *error);
static napi_value fail(napi_env env, vault_error *error);
static void misuse(napi_env env, const char *what, const char *rule);
static napi_value string_of(napi_env env, const void *data, size_t len);
static napi_value terminated(napi_env env, const char *text);
static napi_value buffer_of(napi_env env, const void *data, size_t len);
static napi_value number_of(napi_env env, double number);
static void free_handle(napi_env env, void *vault, void *hint);

/* How many fields a context has as arguments: purpose, tenant, name, extra, unbound. */
#define FIELDS 5

/* load(origin, path, profile, format, limit, padded, preset, variables, mounts) */
static napi_value load(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[9], made = NULL;
    vault_str origin, path, profile, format, preset, mounts;
    vault_pair *variables = NULL;
    size_t variables_len = 0;
    double limit;
    bool padded;
    vault_config *config = NULL;
    vault_handle *vault = NULL;
    vault_error *error = NULL;
    vault_status status;

    if (begin(&call, env, info, 9, given) && text_of(&call, given[0], "origin", &origin)
        && optional_text(&call, given[1], "path", &path) && optional_text(&call, given[2], "profile", &profile)
        && optional_text(&call, given[3], "format", &format)
        && napi_get_value_double(env, given[4], &limit) == napi_ok
        && napi_get_value_bool(env, given[5], &padded) == napi_ok
        && optional_text(&call, given[6], "preset", &preset)
        && pairs_of(&call, given[7], "variables", &variables, &variables_len)
        && optional_text(&call, given[8], "mounts", &mounts)) {
        switch (origin.data[0]) {
        case 'f': /* file */
            status = vault_config_from_file(path.data, path.len, profile.data, profile.len, &config, &error);
            break;
        case 'k': /* key file */
            status = vault_config_from_key_file(path.data, path.len, &config, &error);
            break;
        case 't': /* text key file */
            status = vault_config_from_text_key_file(path.data, path.len, format.data, format.len, &config, &error);
            break;
        default: /* environment */
            status = vault_config_from_env(&config, &error);
        }
        if (status == VAULT_OK && limit >= 0)
            status = vault_config_set_limit(config, limit < (double)SIZE_MAX ? (size_t)limit : SIZE_MAX, &error);
        if (status == VAULT_OK && padded)
            status = vault_config_set_padding(config, 1, &error);
        if (status == VAULT_OK && preset.data != NULL)
            status = vault_config_set_preset(config, preset.data, preset.len, &error);
        if (status == VAULT_OK && variables != NULL)
            status = vault_config_set_environment(config, variables, variables_len, mounts.data, mounts.len, &error);
        if (status == VAULT_OK)
            status = vault_load(config, &vault, &error);
        vault_config_free(config);
        if (status != VAULT_OK)
            fail(env, error);
        else if (napi_create_external(env, vault, free_handle, NULL, &made) != napi_ok)
            vault_free(vault);
    }
    end(&call);
    return made;
}

/* refresh(handle) */
static napi_value refresh(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[1];
    vault_handle *vault;
    vault_error *error = NULL;

    if (begin(&call, env, info, 1, given) && (vault = handle_of(&call, given[0])) != NULL
        && vault_refresh(vault, &error) != VAULT_OK)
        fail(env, error);
    end(&call);
    return NULL;
}

/* primary(handle) */
static napi_value primary(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[1], made = NULL;
    vault_handle *vault;
    char kid[18];
    vault_error *error = NULL;

    if (begin(&call, env, info, 1, given) && (vault = handle_of(&call, given[0])) != NULL)
        made = vault_primary(vault, kid, &error) == VAULT_OK ? terminated(env, kid) : fail(env, error);
    end(&call);
    return made;
}

/* seal(handle, purpose, tenant, name, extra, unbound, secret) */
static napi_value seal(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[FIELDS + 2], made = NULL;
    vault_handle *vault;
    vault_context context;
    vault_str secret;
    vault_buf *token = NULL;
    vault_error *error = NULL;

    if (begin(&call, env, info, FIELDS + 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && context_of(&call, given + 1, &context) && bytes_of(&call, given[FIELDS + 1], "secret", &secret)) {
        if (vault_seal(vault, &context, (const uint8_t *)secret.data, secret.len, &token, &error) == VAULT_OK)
            made = string_of(env, vault_buf_data(token), vault_buf_len(token));
        else
            fail(env, error);
        vault_buf_free(token);
    }
    end(&call);
    return made;
}

/* open(handle, purpose, tenant, name, extra, unbound, token) */
static napi_value open(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[FIELDS + 2], made = NULL;
    vault_handle *vault;
    vault_context context;
    vault_str token;
    vault_buf *secret = NULL;
    vault_error *error = NULL;

    if (begin(&call, env, info, FIELDS + 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && context_of(&call, given + 1, &context) && bytes_of(&call, given[FIELDS + 1], "token", &token)) {
        if (vault_open(vault, &context, token.data, token.len, &secret, &error) == VAULT_OK)
            made = buffer_of(env, vault_buf_data(secret), vault_buf_len(secret));
        else
            fail(env, error);
        vault_buf_free(secret);
    }
    end(&call);
    return made;
}

/* rewrap(handle, token) */
static napi_value rewrap(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[2], made = NULL;
    vault_handle *vault;
    vault_str token;
    vault_buf *rewrapped = NULL;
    vault_error *error = NULL;

    if (begin(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && bytes_of(&call, given[1], "token", &token)) {
        if (vault_rewrap(vault, token.data, token.len, &rewrapped, &error) == VAULT_OK)
            made = string_of(env, vault_buf_data(rewrapped), vault_buf_len(rewrapped));
        else
            fail(env, error);
        vault_buf_free(rewrapped);
    }
    end(&call);
    return made;
}

/* verify(handle, token) */
static napi_value verify(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[2];
    vault_handle *vault;
    vault_str token;
    vault_error *error = NULL;

    if (begin(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && bytes_of(&call, given[1], "token", &token)
        && vault_verify(vault, token.data, token.len, &error) != VAULT_OK)
        fail(env, error);
    end(&call);
    return NULL;
}

/* inspect(token): [kid, sealedAt, payload, padded] */
static napi_value inspect(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[1], made = NULL, padded;
    vault_str token;
    vault_inspection seen;
    vault_error *error = NULL;

    if (begin(&call, env, info, 1, given) && bytes_of(&call, given[0], "token", &token)) {
        if (vault_inspect(token.data, token.len, &seen, &error) == VAULT_OK) {
            napi_create_array_with_length(env, 4, &made);
            napi_set_element(env, made, 0, terminated(env, seen.kid));
            napi_set_element(env, made, 1, number_of(env, (double)seen.sealed_at));
            napi_set_element(env, made, 2, number_of(env, (double)seen.payload));
            napi_get_boolean(env, seen.padded != 0, &padded);
            napi_set_element(env, made, 3, padded);
        } else
            fail(env, error);
    }
    end(&call);
    return made;
}

static void results(napi_env env, const parts *came, napi_value list,
                    napi_value (*value_of)(napi_env, const void *, size_t))
{
    uint32_t item = 0;
    size_t part, at;
    for (part = 0; part < came->count; part++)
        for (at = 0; at < vault_batch_len(came->batches[part]); at++) {
            napi_handle_scope scope;
            const vault_error *failed = vault_batch_error(came->batches[part], at);
            size_t bytes;
            const uint8_t *data = vault_batch_data(came->batches[part], at, &bytes);
            napi_open_handle_scope(env, &scope);
            napi_set_element(env, list, item++,
                             failed == NULL ? value_of(env, data, bytes) : error_of(env, failed));
            napi_close_handle_scope(env, scope);
        }
}

/*
 * What both batches share, for at most batchItems items. The list is flat: for each item the fields of
 * its context and its bytes; a purpose of null stands for the context of the item before it.
 */
static napi_value batch(napi_env env, napi_callback_info info, const char *what, batch_call *run,
                        napi_value (*value_of)(napi_env, const void *, size_t))
{
    struct call call;
    napi_value given[2], made = NULL;
    vault_handle *vault;
    uint32_t flat = 0;
    parts came = {.count = 0};
    bool read = true;

    if (begin(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && napi_get_array_length(env, given[1], &flat) == napi_ok) {
        size_t len = flat / (FIELDS + 1) < MOST_ITEMS ? flat / (FIELDS + 1) : MOST_ITEMS, at;
        vault_item *items = (vault_item *)reserve(&call, len * sizeof *items);
        vault_context *contexts = (vault_context *)reserve(&call, len * sizeof *contexts), *context = NULL;
        for (at = 0; at < len && read; at++) {
            napi_handle_scope scope;
            napi_value fields[FIELDS + 1];
            vault_str bytes;
            napi_valuetype type;
            uint32_t field = (uint32_t)(at * (FIELDS + 1));
            napi_open_handle_scope(env, &scope);
            napi_get_element(env, given[1], field, &fields[0]);
            napi_get_element(env, given[1], field + FIELDS, &fields[FIELDS]);
            napi_typeof(env, fields[0], &type);
            if (type != napi_null || context == NULL) {
                uint32_t next;
                for (next = 1; next < FIELDS; next++)
                    napi_get_element(env, given[1], field + next, &fields[next]);
                context = &contexts[at];
                read = context_of(&call, fields, context);
            }
            if (read && (read = bytes_of(&call, fields[FIELDS], what, &bytes))) {
                items[at].context = context;
                items[at].data = (const uint8_t *)bytes.data;
                items[at].len = bytes.len;
            }
            napi_close_handle_scope(env, scope);
        }
        if (read)
            parts_run(&came, run, vault, items, len);
        if (came.error != NULL)
            fail(env, came.error);
        else if (read && napi_create_array_with_length(env, len, &made) == napi_ok)
            results(env, &came, made, value_of);
        parts_free(&came);
    }
    end(&call);
    return made;
}

/* sealBatch(handle, flat) */
static napi_value seal_batch(napi_env env, napi_callback_info info)
{
    return batch(env, info, "secret", vault_seal_batch, string_of);
}

/* openBatch(handle, flat) */
static napi_value open_batch(napi_env env, napi_callback_info info)
{
    return batch(env, info, "token", vault_open_batch, buffer_of);
}

/* What both foreign calls share: (handle, keyring, format, tenant, bytes) */
static napi_value foreign(napi_env env, napi_callback_info info, const char *what,
                          vault_status (*run)(const vault_handle *, const char *, size_t, const char *, size_t,
                                              const char *, size_t, const uint8_t *, size_t, vault_buf **,
                                              vault_error **),
                          napi_value (*value_of)(napi_env, const void *, size_t))
{
    struct call call;
    napi_value given[5], made = NULL;
    vault_handle *vault;
    vault_str keyring, format, tenant, bytes;
    vault_buf *came = NULL;
    vault_error *error = NULL;

    if (begin(&call, env, info, 5, given) && (vault = handle_of(&call, given[0])) != NULL
        && optional_text(&call, given[1], "keyring", &keyring) && text_of(&call, given[2], "format", &format)
        && optional_text(&call, given[3], "tenant", &tenant) && bytes_of(&call, given[4], what, &bytes)) {
        if (run(vault, keyring.data, keyring.len, format.data, format.len, tenant.data, tenant.len,
                (const uint8_t *)bytes.data, bytes.len, &came, &error) == VAULT_OK)
            made = value_of(env, vault_buf_data(came), vault_buf_len(came));
        else
            fail(env, error);
        vault_buf_free(came);
    }
    end(&call);
    return made;
}

/* foreignSeal(handle, keyring, format, tenant, secret) */
static napi_value foreign_seal(napi_env env, napi_callback_info info)
{
    return foreign(env, info, "secret", vault_foreign_seal, string_of);
}

/* foreignOpen(handle, keyring, format, tenant, value) */
static napi_value foreign_open(napi_env env, napi_callback_info info)
{
    return foreign(env, info, "value", vault_foreign_open, buffer_of);
}

/* What both calls by name share: [value, source, kind, version, notes], or undefined. */
static napi_value resolved(napi_env env, napi_callback_info info,
                           vault_status (*run)(const vault_handle *, const char *, size_t, vault_resolved **,
                                               vault_error **))
{
    struct call call;
    napi_value given[2], made = NULL, notes;
    vault_handle *vault;
    vault_str name;
    vault_resolved *found = NULL;
    vault_error *error = NULL;

    if (begin(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && text_of(&call, given[1], "name", &name)) {
        if (run(vault, name.data, name.len, &found, &error) != VAULT_OK)
            fail(env, error);
        else if (found != NULL) {
            size_t len, note;
            const uint8_t *value = vault_resolved_value(found, &len);
            napi_create_array_with_length(env, 5, &made);
            napi_set_element(env, made, 0, buffer_of(env, value, len));
            napi_set_element(env, made, 1, terminated(env, vault_resolved_source(found)));
            napi_set_element(env, made, 2, terminated(env, vault_resolved_source_kind(found)));
            napi_set_element(env, made, 3, number_of(env, (double)vault_resolved_version(found)));
            napi_create_array(env, &notes);
            for (note = 0; note < vault_resolved_notes(found); note++)
                napi_set_element(env, notes, (uint32_t)note, terminated(env, vault_resolved_note(found, note)));
            napi_set_element(env, made, 4, notes);
        }
        vault_resolved_free(found);
    }
    end(&call);
    return made;
}

/* secret(handle, name) */
static napi_value secret(napi_env env, napi_callback_info info)
{
    return resolved(env, info, vault_secret);
}

/* optionalSecret(handle, name) */
static napi_value optional_secret(napi_env env, napi_callback_info info)
{
    return resolved(env, info, vault_optional_secret);
}

/* versions(handle, name): numbers and times in turn */
static napi_value versions(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[2], made = NULL;
    vault_handle *vault;
    vault_str name;
    vault_versions *found = NULL;
    vault_error *error = NULL;

    if (begin(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && text_of(&call, given[1], "name", &name)) {
        if (vault_versions_list(vault, name.data, name.len, &found, &error) == VAULT_OK) {
            size_t at;
            napi_create_array(env, &made);
            for (at = 0; at < vault_versions_len(found); at++) {
                napi_set_element(env, made, (uint32_t)(2 * at),
                                 number_of(env, (double)vault_versions_number(found, at)));
                napi_set_element(env, made, (uint32_t)(2 * at + 1),
                                 number_of(env, (double)vault_versions_created(found, at)));
            }
        } else
            fail(env, error);
        vault_versions_free(found);
    }
    end(&call);
    return made;
}

/* status(number): [name, exitCode] */
static napi_value status(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[1], made = NULL;
    uint32_t number = 0;

    if (begin(&call, env, info, 1, given) && napi_get_value_uint32(env, given[0], &number) == napi_ok) {
        napi_create_array_with_length(env, 2, &made);
        napi_set_element(env, made, 0, terminated(env, vault_status_name(number)));
        napi_set_element(env, made, 1, number_of(env, vault_status_exit_code(number)));
    }
    end(&call);
    return made;
}

/* onError(create): what makes errors from (status, publicStatus, message, hint) */
static napi_value on_error(napi_env env, napi_callback_info info)
{
    size_t count = 1;
    napi_value create;
    napi_ref kept;
    if (napi_get_cb_info(env, info, &count, &create, NULL, NULL) == napi_ok
        && napi_create_reference(env, create, 1, &kept) == napi_ok)
        napi_set_instance_data(env, kept, NULL, NULL);
    return NULL;
}

NAPI_MODULE_INIT()
{
    static const struct {
        const char *name;
        napi_callback call;
    } functions[] = {
        {"foreignOpen", foreign_open}, {"foreignSeal", foreign_seal}, {"inspect", inspect},
        {"load", load},                {"onError", on_error},         {"open", open},
        {"openBatch", open_batch},     {"optionalSecret", optional_secret},
        {"primary", primary},          {"refresh", refresh},          {"rewrap", rewrap},
        {"seal", seal},                {"sealBatch", seal_batch},     {"secret", secret},
        {"status", status},            {"verify", verify},            {"versions", versions},
    };
    size_t at;
    if (vault_abi_version() != VAULT_ABI_VERSION) {
        napi_throw_error(env, NULL, "libvault has another ABI than its header");
        return NULL;
    }
    for (at = 0; at < sizeof functions / sizeof *functions; at++) {
        napi_value function;
        if (napi_create_function(env, functions[at].name, NAPI_AUTO_LENGTH, functions[at].call, NULL, &function)
                != napi_ok
            || napi_set_named_property(env, exports, functions[at].name, function) != napi_ok)
            return NULL;
    }
    napi_set_named_property(env, exports, "version", terminated(env, vault_version()));
    napi_set_named_property(env, exports, "batchItems", number_of(env, (double)parts_items()));
    return exports;
}

static bool begin(struct call *call, napi_env env, napi_callback_info info, size_t wanted, napi_value *arguments)
{
    size_t count = wanted;
    call->env = env;
    call->last = &call->first;
    call->first.before = NULL;
    call->first.room = call->room;
    call->first.size = sizeof call->room;
    call->first.used = 0;
    return napi_get_cb_info(env, info, &count, arguments, NULL, NULL) == napi_ok;
}

static void end(struct call *call)
{
    struct chunk *chunk = call->last;
    while (chunk != NULL) {
        struct chunk *before = chunk->before;
        memset(chunk->room, 0, chunk->used);
        /* Somebody might look, so the wipe of memory that is about to go stays. */
        __asm__ volatile("" : : "r"(chunk->room) : "memory");
        if (chunk != &call->first)
            free(chunk);
        chunk = before;
    }
}

/* Aligned for everything that is kept here; ends the process where there is no memory, as Node does. */
static char *reserve(struct call *call, size_t size)
{
    struct chunk *last = call->last;
    char *reserved;
    size = (size + 15) & ~(size_t)15;
    if (size > last->size - last->used) {
        size_t room = size > 65536 ? size : 65536;
        last = malloc(sizeof *last + room);
        if (last == NULL)
            abort();
        last->before = call->last;
        last->room = (char *)(last + 1);
        last->size = room;
        last->used = 0;
        call->last = last;
    }
    reserved = last->room + last->used;
    last->used += size;
    return reserved;
}

/* Whether U+FFFD came from the text itself, and not from half a character. */
static bool well_formed(struct call *call, napi_value value)
{
    size_t len = 0, at;
    char16_t *units;
    napi_get_value_string_utf16(call->env, value, NULL, 0, &len);
    units = (char16_t *)reserve(call, (len + 1) * sizeof *units);
    napi_get_value_string_utf16(call->env, value, units, len + 1, &len);
    for (at = 0; at < len; at++) {
        if (units[at] >= 0xD800 && units[at] < 0xDC00 && at + 1 < len && units[at + 1] >= 0xDC00
            && units[at + 1] < 0xE000)
            at++;
        else if (units[at] >= 0xD800 && units[at] < 0xE000)
            return false;
    }
    return true;
}

static bool text_of(struct call *call, napi_value value, const char *what, vault_str *text)
{
    struct chunk *last = call->last;
    size_t room = last->size - last->used, len = 0;
    char *data = last->room + last->used;
    const char *suspect;
    if (napi_get_value_string_utf8(call->env, value, data, room, &len) != napi_ok) {
        misuse(call->env, what, "must be a string");
        return false;
    }
    if (room < len + 5) { /* perhaps cut off, before a character that had no room */
        last->used = last->size; /* to be wiped */
        napi_get_value_string_utf8(call->env, value, NULL, 0, &len);
        data = reserve(call, len + 1);
        napi_get_value_string_utf8(call->env, value, data, len + 1, &len);
    } else
        reserve(call, len + 1);
    for (suspect = data; (suspect = memchr(suspect, 0xEF, len - (size_t)(suspect - data))) != NULL; suspect++)
        if (memcmp(suspect, "\xEF\xBF\xBD", 3) == 0) {
            if (well_formed(call, value))
                break;
            misuse(call->env, what, "has half a character: a surrogate without its other half");
            return false;
        }
    text->data = data;
    text->len = len;
    return true;
}

static bool optional_text(struct call *call, napi_value value, const char *what, vault_str *text)
{
    napi_valuetype type;
    text->data = NULL;
    text->len = 0;
    return napi_typeof(call->env, value, &type) == napi_ok
           && (type == napi_undefined || text_of(call, value, what, text));
}

static bool bytes_of(struct call *call, napi_value value, const char *what, vault_str *bytes)
{
    bool is_buffer = false;
    napi_valuetype type;
    if (napi_is_buffer(call->env, value, &is_buffer) == napi_ok && is_buffer)
        return napi_get_buffer_info(call->env, value, (void **)&bytes->data, &bytes->len) == napi_ok;
    if (napi_typeof(call->env, value, &type) == napi_ok && type == napi_string)
        return text_of(call, value, what, bytes);
    misuse(call->env, what, "must be a Uint8Array or a string");
    return false;
}

static bool context_of(struct call *call, const napi_value *fields, vault_context *context)
{
    vault_pair *extra;
    bool unbound = false;
    if (!optional_text(call, fields[0], "purpose", &context->purpose)
        || !optional_text(call, fields[1], "tenant", &context->tenant)
        || !optional_text(call, fields[2], "name", &context->name)
        || !pairs_of(call, fields[3], "extra", &extra, &context->extra_len)
        || napi_get_value_bool(call->env, fields[4], &unbound) != napi_ok)
        return false;
    context->extra = extra;
    context->unbound = unbound;
    return true;
}

/* Keys and values in turn. */
static bool pairs_of(struct call *call, napi_value flat, const char *what, vault_pair **pairs, size_t *len)
{
    napi_valuetype type;
    uint32_t count, at;
    *pairs = NULL;
    *len = 0;
    if (napi_typeof(call->env, flat, &type) == napi_ok && type == napi_undefined)
        return true;
    if (napi_get_array_length(call->env, flat, &count) != napi_ok)
        return false;
    *len = count / 2;
    /* One more, so that none is not NULL. */
    *pairs = (vault_pair *)reserve(call, (*len + 1) * sizeof **pairs);
    for (at = 0; at < count; at++) {
        napi_value each;
        vault_pair *pair = &(*pairs)[at / 2];
        if (napi_get_element(call->env, flat, at, &each) != napi_ok
            || !text_of(call, each, what, at % 2 == 0 ? &pair->key : &pair->value))
            return false;
    }
    return true;
}

static vault_handle *handle_of(struct call *call, napi_value value)
{
    void *vault = NULL;
    if (napi_get_value_external(call->env, value, &vault) != napi_ok)
        misuse(call->env, "handle", "must come from load");
    return vault;
}

/* An error of src/errors.js. */
static napi_value create_error(napi_env env, vault_status number, vault_status public_number, const char *message,
                               const char *hint)
{
    napi_value made = NULL, create, receiver, arguments[4];
    void *kept;
    if (napi_get_instance_data(env, &kept) != napi_ok || napi_get_reference_value(env, kept, &create) != napi_ok
        || napi_get_undefined(env, &receiver) != napi_ok)
        return NULL;
    arguments[0] = number_of(env, number);
    arguments[1] = number_of(env, public_number);
    arguments[2] = terminated(env, message);
    arguments[3] = hint == NULL ? receiver : terminated(env, hint);
    napi_call_function(env, receiver, create, 4, arguments, &made);
    return made;
}

static napi_value error_of(napi_env env, const vault_error *error)
{
    return create_error(env, vault_error_status(error), vault_error_public_status(error), vault_error_message(error),
                        vault_error_hint(error));
}

/* Throws an error and frees it. */
static napi_value fail(napi_env env, vault_error *error)
{
    napi_value made = error_of(env, error);
    vault_error_free(error);
    if (made != NULL)
        napi_throw(env, made);
    return NULL;
}

static void misuse(napi_env env, const char *what, const char *rule)
{
    char message[128] = "the ";
    napi_value made;
    strncat(message, what, 32);
    strcat(message, " ");
    strncat(message, rule, 80);
    made = create_error(env, VAULT_USAGE, VAULT_USAGE, message, NULL);
    if (made != NULL)
        napi_throw(env, made);
}

/* For tokens and other texts that are ASCII. */
static napi_value string_of(napi_env env, const void *data, size_t len)
{
    napi_value made = NULL;
    napi_create_string_latin1(env, data, len, &made);
    return made;
}

static napi_value terminated(napi_env env, const char *text)
{
    napi_value made = NULL;
    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &made);
    return made;
}

static napi_value buffer_of(napi_env env, const void *data, size_t len)
{
    napi_value made = NULL;
    napi_create_buffer_copy(env, len, data, NULL, &made);
    return made;
}

static napi_value number_of(napi_env env, double number)
{
    napi_value made = NULL;
    napi_create_double(env, number, &made);
    return made;
}

static void free_handle(napi_env env, void *vault, void *hint)
{
    (void)env;
    (void)hint;
    vault_free(vault);
}
