/* Vaults, sealers and keys of legacy formats. */
#include "native.h"

typedef struct {
    PyObject_HEAD
    vault_handle *vault;
} Handle;

static void handle_dealloc(Handle *self)
{
    vault_free(self->vault);
    free_object((PyObject *)self);
}

/* How a Handle is made. The texts of a configuration are read by the library when they are given. */
typedef struct {
    vault_str origin, path, profile, format, preset, mounts;
    Py_ssize_t limit; /* negative: as it is without one */
    int padded;
} configuration;

static vault_status configure(const configuration *given, vault_config **config, vault_error **error)
{
    vault_status status;
    switch (given->origin.data[0]) {
    case 'k':
        status = vault_config_from_key_file(given->path.data, given->path.len, config, error);
        break;
    case 't':
        status = vault_config_from_text_key_file(given->path.data, given->path.len, given->format.data,
                                                 given->format.len, config, error);
        break;
    case 'e':
        status = vault_config_from_env(config, error);
        break;
    default:
        status = vault_config_from_file(given->path.data, given->path.len, given->profile.data, given->profile.len,
                                        config, error);
    }
    if (status == VAULT_OK && given->limit >= 0) {
        status = vault_config_set_limit(*config, (size_t)given->limit, error);
    }
    if (status == VAULT_OK && given->padded) {
        status = vault_config_set_padding(*config, 1, error);
    }
    if (status == VAULT_OK && given->preset.data != NULL) {
        status = vault_config_set_preset(*config, given->preset.data, given->preset.len, error);
    }
    return status;
}

/* Handle(origin, path, profile, format, limit, padded, preset, variables, mounts): origin is
 * "environment", "file", "key-file" or "text-key-file"; variables a tuple of tuples. */
static PyObject *handle_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *origin, *path, *profile, *format, *preset, *variables, *mounts;
    configuration given = {0};
    if (!PyArg_ParseTuple(args, "UOOOnpOOO", &origin, &path, &profile, &format, &given.limit, &given.padded, &preset,
                          &variables, &mounts) ||
        !optional_text(origin, &given.origin) || !optional_text(path, &given.path) ||
        !optional_text(profile, &given.profile) || !optional_text(format, &given.format) ||
        !optional_text(preset, &given.preset) || !optional_text(mounts, &given.mounts)) {
        return NULL;
    }
    vault_config *config = NULL;
    vault_error *error = NULL;
    vault_status status = configure(&given, &config, &error);
    if (status == VAULT_OK && variables != Py_None) {
        size_t count = 0;
        vault_pair *pairs = pairs_of(variables, &count);
        if (pairs == NULL) {
            vault_config_free(config);
            return NULL;
        }
        status = vault_config_set_environment(config, pairs, count, given.mounts.data, given.mounts.len, &error);
        PyMem_Free(pairs);
    }
    vault_handle *vault = NULL;
    if (status == VAULT_OK) {
        Py_BEGIN_ALLOW_THREADS
        status = vault_load(config, &vault, &error);
        Py_END_ALLOW_THREADS
    }
    vault_config_free(config);
    if (status != VAULT_OK) {
        return raise_error(error);
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Handle *self = (Handle *)allocate(type, 0);
    if (self == NULL) {
        vault_free(vault);
        return NULL;
    }
    self->vault = vault;
    return (PyObject *)self;
}

static PyObject *handle_seal(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    const uint8_t *context;
    input secret;
    if (wrong_count("seal", count, 2) || (context = context_hash_of(args[0])) == NULL || !input_bytes(args[1], &secret)) {
        return NULL;
    }
    vault_buf *token = NULL;
    vault_error *error = NULL;
    vault_status status;
    if (worth_releasing(&secret)) {
        Py_BEGIN_ALLOW_THREADS
        status = vault_seal_for(self->vault, context, secret.data, secret.len, &token, &error);
        Py_END_ALLOW_THREADS
    } else {
        status = vault_seal_for(self->vault, context, secret.data, secret.len, &token, &error);
    }
    input_done(&secret);
    return status == VAULT_OK ? text_from(token) : raise_error(error);
}

static PyObject *handle_open(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    const uint8_t *context;
    input token;
    if (wrong_count("open", count, 2) || (context = context_hash_of(args[0])) == NULL ||
        !input_text_or_bytes(args[1], &token)) {
        return NULL;
    }
    vault_buf *secret = NULL;
    vault_error *error = NULL;
    vault_status status;
    if (worth_releasing(&token)) {
        Py_BEGIN_ALLOW_THREADS
        status = vault_open_for(self->vault, context, (const char *)token.data, token.len, &secret, &error);
        Py_END_ALLOW_THREADS
    } else {
        status = vault_open_for(self->vault, context, (const char *)token.data, token.len, &secret, &error);
    }
    input_done(&token);
    return status == VAULT_OK ? bytes_from(secret) : raise_error(error);
}

static PyObject *handle_rewrap(Handle *self, PyObject *argument)
{
    input token;
    if (!input_text_or_bytes(argument, &token)) {
        return NULL;
    }
    vault_buf *rewrapped = NULL;
    vault_error *error = NULL;
    vault_status status;
    if (worth_releasing(&token)) {
        Py_BEGIN_ALLOW_THREADS
        status = vault_rewrap(self->vault, (const char *)token.data, token.len, &rewrapped, &error);
        Py_END_ALLOW_THREADS
    } else {
        status = vault_rewrap(self->vault, (const char *)token.data, token.len, &rewrapped, &error);
    }
    input_done(&token);
    return status == VAULT_OK ? text_from(rewrapped) : raise_error(error);
}

static PyObject *handle_verify(Handle *self, PyObject *argument)
{
    input token;
    if (!input_text_or_bytes(argument, &token)) {
        return NULL;
    }
    vault_error *error = NULL;
    vault_status status;
    if (worth_releasing(&token)) {
        Py_BEGIN_ALLOW_THREADS
        status = vault_verify(self->vault, (const char *)token.data, token.len, &error);
        Py_END_ALLOW_THREADS
    } else {
        status = vault_verify(self->vault, (const char *)token.data, token.len, &error);
    }
    input_done(&token);
    return status == VAULT_OK ? Py_NewRef(Py_None) : raise_error(error);
}

static PyObject *handle_primary(Handle *self, PyObject *Py_UNUSED(ignored))
{
    char kid[18];
    vault_error *error = NULL;
    vault_status status = vault_primary(self->vault, kid, &error);
    return status == VAULT_OK ? PyUnicode_FromString(kid) : raise_error(error);
}

static PyObject *handle_refresh(Handle *self, PyObject *Py_UNUSED(ignored))
{
    vault_error *error = NULL;
    vault_status status;
    Py_BEGIN_ALLOW_THREADS
    status = vault_refresh(self->vault, &error);
    Py_END_ALLOW_THREADS
    return status == VAULT_OK ? Py_NewRef(Py_None) : raise_error(error);
}

static PyObject *handle_following(Handle *self, PyObject *Py_UNUSED(ignored))
{
    uint64_t looked;
    vault_buf *failure = NULL;
    vault_error *error = NULL;
    if (vault_following(self->vault, &looked, &failure, &error) != VAULT_OK) {
        return raise_error(error);
    }
    PyObject *text = failure == NULL ? Py_NewRef(Py_None) : text_from(failure);
    return text == NULL ? NULL : Py_BuildValue("(KN)", (unsigned long long)looked, text);
}

static PyObject *handle_seal_batch(Handle *self, PyObject *items)
{
    return batch_of(self->vault, items, vault_seal_batch, 0);
}

static PyObject *handle_open_batch(Handle *self, PyObject *items)
{
    return batch_of(self->vault, items, vault_open_batch, 1);
}

typedef vault_status legacy_call(const vault_handle *, const char *, size_t, const char *, size_t, const char *,
                                  size_t, const uint8_t *, size_t, vault_buf **, vault_error **);

/* keyring or None, format, tenant or None, and the value */
static vault_buf *legacy(Handle *self, PyObject *const *args, Py_ssize_t count, legacy_call *call)
{
    vault_str keyring;
    vault_str format;
    vault_str tenant;
    input value;
    if (wrong_count("legacy", count, 4) || !optional_text(args[0], &keyring) || !optional_text(args[1], &format) ||
        !optional_text(args[2], &tenant) ||
        !(call == vault_legacy_open ? input_text_or_bytes(args[3], &value) : input_bytes(args[3], &value))) {
        return NULL;
    }
    vault_buf *result = NULL;
    vault_error *error = NULL;
    vault_status status;
    if (value.viewed) {
        status = call(self->vault, keyring.data, keyring.len, format.data, format.len, tenant.data, tenant.len,
                      value.data, value.len, &result, &error);
    } else {
        /* A key derivation at first use takes some tens of milliseconds. */
        Py_BEGIN_ALLOW_THREADS
        status = call(self->vault, keyring.data, keyring.len, format.data, format.len, tenant.data, tenant.len,
                      value.data, value.len, &result, &error);
        Py_END_ALLOW_THREADS
    }
    input_done(&value);
    if (status != VAULT_OK) {
        raise_error(error);
    }
    return result;
}

static PyObject *handle_legacy_open(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    vault_buf *secret = legacy(self, args, count, vault_legacy_open);
    return secret == NULL ? NULL : bytes_from(secret);
}

static PyObject *handle_legacy_seal(Handle *self, PyObject *const *args, Py_ssize_t count)
{
    vault_buf *value = legacy(self, args, count, vault_legacy_seal);
    return value == NULL ? NULL : text_from(value);
}

typedef vault_status secret_call(const vault_handle *, const char *, size_t, vault_resolved **, vault_error **);

static PyObject *find_secret(Handle *self, PyObject *argument, secret_call *call)
{
    vault_str name;
    if (!optional_text(argument, &name)) {
        return NULL;
    }
    vault_resolved *resolved = NULL;
    vault_error *error = NULL;
    vault_status status;
    Py_BEGIN_ALLOW_THREADS
    status = call(self->vault, name.data, name.len, &resolved, &error);
    Py_END_ALLOW_THREADS
    return status == VAULT_OK ? secret_from(resolved) : raise_error(error);
}

static PyObject *handle_secret(Handle *self, PyObject *name)
{
    return find_secret(self, name, vault_secret);
}

static PyObject *handle_optional_secret(Handle *self, PyObject *name)
{
    return find_secret(self, name, vault_optional_secret);
}

static PyObject *handle_versions(Handle *self, PyObject *argument)
{
    vault_str name;
    if (!optional_text(argument, &name)) {
        return NULL;
    }
    vault_versions *versions = NULL;
    vault_error *error = NULL;
    vault_status status;
    Py_BEGIN_ALLOW_THREADS
    status = vault_versions_list(self->vault, name.data, name.len, &versions, &error);
    Py_END_ALLOW_THREADS
    if (status != VAULT_OK) {
        return raise_error(error);
    }
    Py_ssize_t count = (Py_ssize_t)vault_versions_len(versions);
    PyObject *list = PyList_New(count);
    for (Py_ssize_t at = 0; list != NULL && at < count; at++) {
        PyObject *pair = Py_BuildValue("KK", (unsigned long long)vault_versions_number(versions, (size_t)at),
                                       (unsigned long long)vault_versions_created(versions, (size_t)at));
        if (pair == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SetItem(list, at, pair);
        }
    }
    vault_versions_free(versions);
    return list;
}

#define FAST(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef handle_methods[] = {
    {"seal", FAST(handle_seal), METH_FASTCALL,
     "seal($self, context, secret, /)\n--\n\n"
     "Seals a secret (any object of bytes, at most `limit` of them) for a context under the primary\n"
     "key, and gives a token: a text to keep, of 159 characters and 4/3 of the secret's length.\n\n"
     "Raises TooLargeError, UsageError for an empty context, CannotSealError, KeyMissingError."},
    {"open", FAST(handle_open), METH_FASTCALL,
     "open($self, context, token, /)\n--\n\n"
     "The secret that was sealed for an equal context. The token is text, or the ASCII bytes of it.\n\n"
     "Raises TooLargeError, UnsupportedError or MalformedError for what is no token;\n"
     "UnknownKeyError, KeyUnavailableError, KeyDisabledError or KeyDestroyedError by its key;\n"
     "CorruptError if any byte was altered; ContextMismatchError if it belongs elsewhere. Tell\n"
     "remote callers the exception's `public_code` only."},
    {"rewrap", FAST(handle_rewrap), METH_O,
     "rewrap($self, token, /)\n--\n\n"
     "The same secret under the primary key. A token that is under it already is verified and given\n"
     "as it is. Needs no context.\n\n"
     "Raises as `open`, without ContextMismatchError, and CannotSealError."},
    {"verify", FAST(handle_verify), METH_O,
     "verify($self, token, /)\n--\n\n"
     "Checks that the whole token is authentic and its payload opens. The context is not checked:\n"
     "only `open` does.\n\n"
     "Raises as `open`, without ContextMismatchError."},
    {"primary", FAST(handle_primary), METH_NOARGS,
     "primary($self, /)\n--\n\n"
     "The id of the key that new tokens name, 17 characters.\n\n"
     "Raises CannotSealError if that key is weak or published, KeyMissingError."},
    {"refresh", FAST(handle_refresh), METH_NOARGS,
     "refresh($self, /)\n--\n\n"
     "Reads keys and their states again, whether they seem to have changed or not. Where that fails,\n"
     "everything stays as it was. Changes are followed without it.\n\n"
     "Raises as loading did, and RefusedError for states that are older than the loaded ones."},
    {"_following", FAST(handle_following), METH_NOARGS, NULL},
    {"_seal_batch", FAST(handle_seal_batch), METH_O, NULL},
    {"_open_batch", FAST(handle_open_batch), METH_O, NULL},
    {"_legacy_open", FAST(handle_legacy_open), METH_FASTCALL, NULL},
    {"_legacy_seal", FAST(handle_legacy_seal), METH_FASTCALL, NULL},
    {"_secret", FAST(handle_secret), METH_O, NULL},
    {"_optional_secret", FAST(handle_optional_secret), METH_O, NULL},
    {"_versions", FAST(handle_versions), METH_O, NULL},
    {"__reduce__", refuse_pickling, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_new, handle_new},
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_methods, handle_methods},
    {0, NULL},
};

PyType_Spec handle_spec = {
    "vault_core._native.Handle", sizeof(Handle), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, handle_slots,
};
