/*
 * vault_core._native: the C ABI of vault.h as Python objects.
 *
 * What is called for every secret is complete here. What is called seldom is given its names,
 * defaults and documentation by the Python files of the package. Only the limited API of Python
 * 3.11 is used, so that one build serves every later release.
 *
 * The GIL is released around calls that may take long: whatever reads files or stores, derives keys
 * or handles many bytes. It is held around single short values, where releasing costs more than it
 * gives, and around values that another thread could change meanwhile, as in a bytearray.
 */
#ifndef NATIVE_H
#define NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

#include "parts.h"
#include "vault.h"

/* Types: what PyType_FromSpec gave, kept as long as the process. */
extern PyTypeObject *context_type;
extern PyTypeObject *secret_type;
extern PyType_Spec context_spec;
extern PyType_Spec handle_spec;
extern PyType_Spec secret_spec;

/* Errors: the classes, and what is kept in them, are in errors.py. */
PyObject *exception_of(vault_status status, vault_status public_status, const char *message, const char *hint);
PyObject *exception_from(const vault_error *error);
/* Takes the exception over; NULL is one that could not be made. */
void raise_exception(PyObject *exception);
/* Raises and frees an error. Gives NULL. */
PyObject *raise_error(vault_error *error);

/* Input. Functions that give int give 0 where they set an exception. */

/* Bytes of an argument, for as long as the argument lives and input_done was not called. */
typedef struct {
    const uint8_t *data;
    size_t len;
    Py_buffer view;
    int viewed;
} input;

int input_bytes(PyObject *object, input *in);
int input_text_or_bytes(PyObject *object, input *in);
void input_done(input *in);
/* Whether other threads may run: the value is large, and none of them can change it. */
int worth_releasing(const input *in);
/* A text that may be None. */
int optional_text(PyObject *object, vault_str *text);
/* Pairs of a tuple of tuples of texts, which must outlive them. NULL with an exception set. */
vault_pair *pairs_of(PyObject *tuple, size_t *len);
/* The context that an argument is, or NULL with an exception set. */
const vault_context *context_of(PyObject *object);
/* The hash of the context that an argument is, or NULL with an exception set. */
const uint8_t *context_hash_of(PyObject *object);
/* Whether there are too few or too many arguments, and sets an exception then. */
int wrong_count(const char *name, Py_ssize_t given, Py_ssize_t expected);

/* Output. What is given by the library is freed. */

PyObject *bytes_from(vault_buf *buf);
PyObject *text_from(vault_buf *buf);
/* None for NULL. */
PyObject *secret_from(vault_resolved *resolved);
/* What became of each item of an iterable of tuples (context, value), which are tokens or secrets. */
PyObject *batch_of(const vault_handle *vault, PyObject *iterable, batch_call *call, int tokens);

/* Objects */

PyObject *refuse_pickling(PyObject *self, PyObject *ignored);
/* What is left of an object when its own parts are freed. */
void free_object(PyObject *self);

#endif
