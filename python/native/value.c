/* Errors, arguments and results. */
#include "native.h"

/* From how many bytes on the GIL is released. */
#define LARGE ((size_t)16 * 1024)

PyObject *exception_of(vault_status status, vault_status public_status, const char *message, const char *hint)
{
    PyObject *errors = PyImport_ImportModule("vault_core.errors");
    if (errors == NULL) {
        return NULL;
    }
    PyObject *exception = PyObject_CallMethod(errors, "from_status", "IIzz", status, public_status, message, hint);
    Py_DECREF(errors);
    return exception;
}

PyObject *exception_from(const vault_error *error)
{
    return exception_of(vault_error_status(error), vault_error_public_status(error), vault_error_message(error),
                        vault_error_hint(error));
}

void raise_exception(PyObject *exception)
{
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
}

PyObject *raise_error(vault_error *error)
{
    raise_exception(exception_from(error));
    vault_error_free(error);
    return NULL;
}

/* A text's UTF-8, which the text itself keeps. Python's own exception would hold the whole text. */
static const char *utf8(PyObject *text, size_t *len)
{
    Py_ssize_t count = 0;
    const char *data = PyUnicode_AsUTF8AndSize(text, &count);
    if (data == NULL && PyErr_ExceptionMatches(PyExc_UnicodeError)) {
        PyErr_Clear();
        raise_exception(exception_of(VAULT_MALFORMED, VAULT_MALFORMED, "text cannot be written as UTF-8", NULL));
    }
    *len = (size_t)count;
    return data;
}

int input_bytes(PyObject *object, input *in)
{
    in->viewed = 0;
    if (PyBytes_Check(object)) {
        char *data = NULL;
        Py_ssize_t len = 0;
        if (PyBytes_AsStringAndSize(object, &data, &len) < 0) {
            return 0;
        }
        in->data = (const uint8_t *)data;
        in->len = (size_t)len;
        return 1;
    }
    if (PyObject_GetBuffer(object, &in->view, PyBUF_SIMPLE) < 0) {
        return 0;
    }
    in->viewed = 1;
    in->data = in->view.buf;
    in->len = (size_t)in->view.len;
    return 1;
}

int input_text_or_bytes(PyObject *object, input *in)
{
    if (PyUnicode_Check(object)) {
        in->viewed = 0;
        in->data = (const uint8_t *)utf8(object, &in->len);
        return in->data != NULL;
    }
    return input_bytes(object, in);
}

void input_done(input *in)
{
    if (in->viewed) {
        PyBuffer_Release(&in->view);
    }
}

int worth_releasing(const input *in)
{
    return in->len >= LARGE && !in->viewed;
}

int optional_text(PyObject *object, vault_str *text)
{
    text->data = NULL;
    text->len = 0;
    if (object == Py_None) {
        return 1;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "expected str or None, not %R", (PyObject *)Py_TYPE(object));
        return 0;
    }
    text->data = utf8(object, &text->len);
    return text->data != NULL;
}

vault_pair *pairs_of(PyObject *tuple, size_t *len)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 0) {
        return NULL;
    }
    vault_pair *pairs = PyMem_Calloc((size_t)count + 1, sizeof *pairs);
    if (pairs == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *key = NULL;
        PyObject *value = NULL;
        if (!PyArg_ParseTuple(PyTuple_GetItem(tuple, at), "UU", &key, &value) || !optional_text(key, &pairs[at].key) ||
            !optional_text(value, &pairs[at].value)) {
            PyMem_Free(pairs);
            return NULL;
        }
    }
    *len = (size_t)count;
    return pairs;
}

PyObject *bytes_from(vault_buf *buf)
{
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)vault_buf_data(buf), (Py_ssize_t)vault_buf_len(buf));
    vault_buf_free(buf);
    return bytes;
}

PyObject *text_from(vault_buf *buf)
{
    PyObject *text = PyUnicode_FromStringAndSize((const char *)vault_buf_data(buf), (Py_ssize_t)vault_buf_len(buf));
    vault_buf_free(buf);
    return text;
}

void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

PyObject *refuse_pickling(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyErr_Format(PyExc_TypeError, "%R refuses to be copied and pickled", (PyObject *)Py_TYPE(self));
}

int wrong_count(const char *name, Py_ssize_t given, Py_ssize_t expected)
{
    if (given != expected) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", name, expected, given);
    }
    return given != expected;
}
