/* The memory and the arguments of a call, and what it gives back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "values.h"

bool begin_call(struct call *call, napi_env env, napi_callback_info info, size_t wanted, napi_value *arguments)
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

void end_call(struct call *call)
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
char *reserve(struct call *call, size_t size)
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

bool text_of(struct call *call, napi_value value, const char *what, vault_str *text)
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

bool optional_text(struct call *call, napi_value value, const char *what, vault_str *text)
{
    napi_valuetype type;
    text->data = NULL;
    text->len = 0;
    return napi_typeof(call->env, value, &type) == napi_ok
           && (type == napi_undefined || text_of(call, value, what, text));
}

/* Whether a view's memory was given away, as `structuredClone(buffer, { transfer })` and messages do: it
   looks like an empty one. */
static bool is_detached(napi_env env, napi_value view)
{
    napi_value memory;
    bool detached = false;
    size_t len, offset;
    void *data;
    napi_typedarray_type type;
    if (napi_get_typedarray_info(env, view, &type, &len, &data, &memory, &offset) != napi_ok
        && napi_get_dataview_info(env, view, &len, &data, &memory, &offset) != napi_ok)
        return false;
    return napi_is_detached_arraybuffer(env, memory, &detached) == napi_ok && detached;
}

bool bytes_of(struct call *call, napi_value value, const char *what, vault_str *bytes)
{
    bool is_buffer = false;
    napi_valuetype type;
    if (napi_is_buffer(call->env, value, &is_buffer) == napi_ok && is_buffer) {
        if (napi_get_buffer_info(call->env, value, (void **)&bytes->data, &bytes->len) != napi_ok)
            return false;
        if (bytes->len == 0 && is_detached(call->env, value)) {
            misuse(call->env, what, "is detached: its bytes were transferred to somebody else");
            return false;
        }
        return true;
    }
    if (napi_typeof(call->env, value, &type) == napi_ok && type == napi_string)
        return text_of(call, value, what, bytes);
    misuse(call->env, what, "must be a Uint8Array or a string");
    return false;
}

bool context_of(struct call *call, const napi_value *fields, vault_context *context)
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
bool pairs_of(struct call *call, napi_value flat, const char *what, vault_pair **pairs, size_t *len)
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

vault_handle *handle_of(struct call *call, napi_value value)
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

napi_value error_of(napi_env env, const vault_error *error)
{
    return create_error(env, vault_error_status(error), vault_error_public_status(error), vault_error_message(error),
                        vault_error_hint(error));
}

/* Throws an error and frees it. */
napi_value fail(napi_env env, vault_error *error)
{
    napi_value made = error_of(env, error);
    vault_error_free(error);
    if (made != NULL)
        napi_throw(env, made);
    return NULL;
}

void misuse(napi_env env, const char *what, const char *rule)
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
napi_value string_of(napi_env env, const void *data, size_t len)
{
    napi_value made = NULL;
    napi_create_string_latin1(env, data, len, &made);
    return made;
}

napi_value terminated(napi_env env, const char *text)
{
    napi_value made = NULL;
    napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &made);
    return made;
}

napi_value buffer_of(napi_env env, const void *data, size_t len)
{
    napi_value made = NULL;
    napi_create_buffer_copy(env, len, data, NULL, &made);
    return made;
}

napi_value number_of(napi_env env, double number)
{
    napi_value made = NULL;
    napi_create_double(env, number, &made);
    return made;
}
