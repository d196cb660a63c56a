/*
 * What passes between JavaScript and vault.h.
 *
 * A handle is an External; texts are strings of JavaScript, absent where undefined; bytes are any view
 * of an ArrayBuffer, and where a secret or a token is wanted also a string, taken as UTF-8. Results
 * are strings and Buffers of their own. What is copied on the way is wiped.
 */
#ifndef VAULT_CORE_VALUES_H
#define VAULT_CORE_VALUES_H
#define NAPI_VERSION 8
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>

#include "vault.h"

/* How many fields a context has as arguments: purpose, tenant, name, extra, unbound. */
#define FIELDS 5

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

bool begin_call(struct call *call, napi_env env, napi_callback_info info, size_t wanted, napi_value *arguments);
void end_call(struct call *call);
char *reserve(struct call *call, size_t size);
bool text_of(struct call *call, napi_value value, const char *what, vault_str *text);
bool optional_text(struct call *call, napi_value value, const char *what, vault_str *text);
bool bytes_of(struct call *call, napi_value value, const char *what, vault_str *bytes);
bool context_of(struct call *call, const napi_value *fields, vault_context *context);
bool pairs_of(struct call *call, napi_value flat, const char *what, vault_pair **pairs, size_t *len);
vault_handle *handle_of(struct call *call, napi_value value);
napi_value error_of(napi_env env, const vault_error *error);
napi_value fail(napi_env env, vault_error *error);
void misuse(napi_env env, const char *what, const char *rule);
napi_value string_of(napi_env env, const void *data, size_t len);
napi_value terminated(napi_env env, const char *text);
napi_value buffer_of(napi_env env, const void *data, size_t len);
napi_value number_of(napi_env env, double number);

#endif
