/* Secrets that were found by name. */
#include "native.h"

PyTypeObject *secret_type;

typedef struct {
    PyObject_HEAD
    vault_resolved *resolved;
} Secret;

static void secret_dealloc(Secret *self)
{
    vault_resolved_free(self->resolved);
    free_object((PyObject *)self);
}

static PyObject *secret_expose(Secret *self, PyObject *Py_UNUSED(ignored))
{
    size_t len = 0;
    const uint8_t *value = vault_resolved_value(self->resolved, &len);
    return PyBytes_FromStringAndSize((const char *)value, (Py_ssize_t)len);
}

static PyObject *secret_expose_text(Secret *self, PyObject *Py_UNUSED(ignored))
{
    size_t len = 0;
    const uint8_t *value = vault_resolved_value(self->resolved, &len);
    PyObject *text = PyUnicode_DecodeUTF8((const char *)value, (Py_ssize_t)len, NULL);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeError)) {
        /* Python's own exception would hold the secret. */
        PyErr_Clear();
        raise_exception(exception_of(VAULT_MALFORMED, VAULT_MALFORMED, "secret is not UTF-8 text", "use expose_secret()"));
    }
    return text;
}

static PyObject *secret_source(Secret *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(vault_resolved_source(self->resolved));
}

static PyObject *secret_source_kind(Secret *self, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(vault_resolved_source_kind(self->resolved));
}

static PyObject *secret_version(Secret *self, void *Py_UNUSED(closure))
{
    uint64_t version = vault_resolved_version(self->resolved);
    return version == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(version);
}

static PyObject *secret_notes(Secret *self, void *Py_UNUSED(closure))
{
    Py_ssize_t count = (Py_ssize_t)vault_resolved_notes(self->resolved);
    PyObject *notes = PyTuple_New(count);
    for (Py_ssize_t at = 0; notes != NULL && at < count; at++) {
        PyObject *note = PyUnicode_FromString(vault_resolved_note(self->resolved, (size_t)at));
        if (note == NULL) {
            Py_CLEAR(notes);
        } else {
            PyTuple_SetItem(notes, at, note);
        }
    }
    return notes;
}

static PyObject *secret_repr(Secret *self)
{
    return PyUnicode_FromFormat("Secret([redacted] from %s)", vault_resolved_source(self->resolved));
}

static PyMethodDef secret_methods[] = {
    {"expose_secret", (PyCFunction)(void (*)(void))secret_expose, METH_NOARGS,
     "expose_secret()\n--\n\n"
     "The bytes. Python keeps them until nothing refers to them, and does not wipe them."},
    {"expose_text", (PyCFunction)(void (*)(void))secret_expose_text, METH_NOARGS,
     "expose_text()\n--\n\n"
     "The secret as text. Raises MalformedError if it is not UTF-8."},
    {"__reduce__", refuse_pickling, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef secret_getters[] = {
    {"source", (getter)secret_source, NULL, "Where it was found, for people.", NULL},
    {"source_kind", (getter)secret_source_kind, NULL,
     "The stable name of such a source: \"composed\", \"credential\", \"declared\", \"default\", "
     "\"environment-file\", \"mount\", \"named\", \"os-keyring\", \"store\" or \"variable\".",
     NULL},
    {"version", (getter)secret_version, NULL, "Its version in the store, from 1; None for other sources.", NULL},
    {"notes", (getter)secret_notes, NULL, "Notes on it for people, as on a default that was used.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot secret_slots[] = {
    {Py_tp_doc, "A secret that was found by its name. It shows itself only by `expose_secret` and\n"
                "`expose_text`, cannot be copied or pickled, and is wiped when nothing refers to it."},
    {Py_tp_dealloc, secret_dealloc},
    {Py_tp_repr, secret_repr},
    {Py_tp_methods, secret_methods},
    {Py_tp_getset, secret_getters},
    {0, NULL},
};

PyType_Spec secret_spec = {
    "vault_core.Secret", sizeof(Secret), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, secret_slots,
};

PyObject *secret_from(vault_resolved *resolved)
{
    if (resolved == NULL) {
        return Py_NewRef(Py_None);
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(secret_type, Py_tp_alloc);
    Secret *secret = (Secret *)allocate(secret_type, 0);
    if (secret == NULL) {
        vault_resolved_free(resolved);
        return NULL;
    }
    secret->resolved = resolved;
    return (PyObject *)secret;
}
