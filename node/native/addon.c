/*
 * vault.h for JavaScript, through Node-API: one function for each call of the C ABI, and no logic of
 * its own. src/vault.js gives them their shape and their documentation.
 */
#include <stdint.h>
#include <stdlib.h>

#include "parts.h"
#include "values.h"

static void free_handle(napi_env env, void *vault, void *hint);

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

    if (begin_call(&call, env, info, 9, given) && text_of(&call, given[0], "origin", &origin)
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
    end_call(&call);
    return made;
}

/* refresh(handle) */
static napi_value refresh(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[1];
    vault_handle *vault;
    vault_error *error = NULL;

    if (begin_call(&call, env, info, 1, given) && (vault = handle_of(&call, given[0])) != NULL
        && vault_refresh(vault, &error) != VAULT_OK)
        fail(env, error);
    end_call(&call);
    return NULL;
}

/* following(handle): [looked, failure] */
static napi_value following(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[1], made = NULL;
    vault_handle *vault;
    uint64_t looked;
    vault_buf *failure = NULL;
    vault_error *error = NULL;

    if (begin_call(&call, env, info, 1, given) && (vault = handle_of(&call, given[0])) != NULL) {
        if (vault_following(vault, &looked, &failure, &error) == VAULT_OK) {
            napi_create_array_with_length(env, 2, &made);
            napi_set_element(env, made, 0, number_of(env, (double)looked));
            if (failure != NULL)
                napi_set_element(env, made, 1, terminated(env, (const char *)vault_buf_data(failure)));
            vault_buf_free(failure);
        } else
            fail(env, error);
    }
    end_call(&call);
    return made;
}

/* primary(handle) */
static napi_value primary(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[1], made = NULL;
    vault_handle *vault;
    char kid[18];
    vault_error *error = NULL;

    if (begin_call(&call, env, info, 1, given) && (vault = handle_of(&call, given[0])) != NULL)
        made = vault_primary(vault, kid, &error) == VAULT_OK ? terminated(env, kid) : fail(env, error);
    end_call(&call);
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

    if (begin_call(&call, env, info, FIELDS + 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && context_of(&call, given + 1, &context) && bytes_of(&call, given[FIELDS + 1], "secret", &secret)) {
        if (vault_seal(vault, &context, (const uint8_t *)secret.data, secret.len, &token, &error) == VAULT_OK)
            made = string_of(env, vault_buf_data(token), vault_buf_len(token));
        else
            fail(env, error);
        vault_buf_free(token);
    }
    end_call(&call);
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

    if (begin_call(&call, env, info, FIELDS + 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && context_of(&call, given + 1, &context) && bytes_of(&call, given[FIELDS + 1], "token", &token)) {
        if (vault_open(vault, &context, token.data, token.len, &secret, &error) == VAULT_OK)
            made = buffer_of(env, vault_buf_data(secret), vault_buf_len(secret));
        else
            fail(env, error);
        vault_buf_free(secret);
    }
    end_call(&call);
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

    if (begin_call(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && bytes_of(&call, given[1], "token", &token)) {
        if (vault_rewrap(vault, token.data, token.len, &rewrapped, &error) == VAULT_OK)
            made = string_of(env, vault_buf_data(rewrapped), vault_buf_len(rewrapped));
        else
            fail(env, error);
        vault_buf_free(rewrapped);
    }
    end_call(&call);
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

    if (begin_call(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
        && bytes_of(&call, given[1], "token", &token)
        && vault_verify(vault, token.data, token.len, &error) != VAULT_OK)
        fail(env, error);
    end_call(&call);
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

    if (begin_call(&call, env, info, 1, given) && bytes_of(&call, given[0], "token", &token)) {
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
    end_call(&call);
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

    if (begin_call(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
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
    end_call(&call);
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

/* What both legacy calls share: (handle, keyring, format, tenant, bytes) */
static napi_value legacy(napi_env env, napi_callback_info info, const char *what,
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

    if (begin_call(&call, env, info, 5, given) && (vault = handle_of(&call, given[0])) != NULL
        && optional_text(&call, given[1], "keyring", &keyring) && text_of(&call, given[2], "format", &format)
        && optional_text(&call, given[3], "tenant", &tenant) && bytes_of(&call, given[4], what, &bytes)) {
        if (run(vault, keyring.data, keyring.len, format.data, format.len, tenant.data, tenant.len,
                (const uint8_t *)bytes.data, bytes.len, &came, &error) == VAULT_OK)
            made = value_of(env, vault_buf_data(came), vault_buf_len(came));
        else
            fail(env, error);
        vault_buf_free(came);
    }
    end_call(&call);
    return made;
}

/* legacySeal(handle, keyring, format, tenant, secret) */
static napi_value legacy_seal(napi_env env, napi_callback_info info)
{
    return legacy(env, info, "secret", vault_legacy_seal, string_of);
}

/* legacyOpen(handle, keyring, format, tenant, value) */
static napi_value legacy_open(napi_env env, napi_callback_info info)
{
    return legacy(env, info, "value", vault_legacy_open, buffer_of);
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

    if (begin_call(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
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
    end_call(&call);
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

    if (begin_call(&call, env, info, 2, given) && (vault = handle_of(&call, given[0])) != NULL
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
    end_call(&call);
    return made;
}

/* status(number): [name, exitCode] */
static napi_value status(napi_env env, napi_callback_info info)
{
    struct call call;
    napi_value given[1], made = NULL;
    uint32_t number = 0;

    if (begin_call(&call, env, info, 1, given) && napi_get_value_uint32(env, given[0], &number) == napi_ok) {
        napi_create_array_with_length(env, 2, &made);
        napi_set_element(env, made, 0, terminated(env, vault_status_name(number)));
        napi_set_element(env, made, 1, number_of(env, vault_status_exit_code(number)));
    }
    end_call(&call);
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
        {"following", following},      {"legacyOpen", legacy_open}, {"legacySeal", legacy_seal}, {"inspect", inspect},
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

static void free_handle(napi_env env, void *vault, void *hint)
{
    (void)env;
    (void)hint;
    vault_free(vault);
}
