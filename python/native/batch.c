/* Many secrets or tokens in one call. */
#include "native.h"

/* What an item became: a text, bytes, or an exception. */
static PyObject *batch_result(const vault_batch *batch, size_t at, int texts)
{
    size_t len = 0;
    const char *data = (const char *)vault_batch_data(batch, at, &len);
    if (data == NULL) {
        return exception_from(vault_batch_error(batch, at));
    }
    return texts ? PyUnicode_FromStringAndSize(data, (Py_ssize_t)len) : PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
}

/* Puts what became of items into their places in a list. */
static int batch_store(const parts *done, PyObject *list, Py_ssize_t first, int texts)
{
    for (size_t part = 0; part < done->count; part++) {
        const vault_batch *batch = done->batches[part];
        for (size_t at = 0; at < vault_batch_len(batch); at++) {
            PyObject *became = batch_result(batch, at, texts);
            if (became == NULL || PyList_SetItem(list, first++, became) < 0) {
                return 0;
            }
        }
    }
    return 1;
}

/* Reads an item, a tuple of a context and a value. */
static int batch_item(PyObject *pair, vault_item *item, input *in, int tokens)
{
    if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "an item is not a tuple of a Context and a value");
        return 0;
    }
    PyObject *value = PyTuple_GetItem(pair, 1);
    item->context = context_of(PyTuple_GetItem(pair, 0));
    if (item->context == NULL || !(tokens ? input_text_or_bytes(value, in) : input_bytes(value, in))) {
        return 0;
    }
    item->data = in->data;
    item->len = in->len;
    return 1;
}

/* Does some items of a tuple; `items` and `inputs` have room for them. */
static int batch_some(const vault_handle *vault, PyObject *pairs, Py_ssize_t first, Py_ssize_t count, batch_call *call,
                      int tokens, vault_item *items, input *inputs, PyObject *list)
{
    Py_ssize_t ready = 0;
    int changeable = 0;
    while (ready < count && batch_item(PyTuple_GetItem(pairs, first + ready), &items[ready], &inputs[ready], tokens)) {
        changeable |= inputs[ready++].viewed;
    }
    int good = ready == count;
    if (good) {
        parts done;
        if (changeable) {
            parts_run(&done, call, vault, items, (size_t)count);
        } else {
            Py_BEGIN_ALLOW_THREADS
            parts_run(&done, call, vault, items, (size_t)count);
            Py_END_ALLOW_THREADS
        }
        if (done.error != NULL) {
            raise_error(done.error);
        }
        good = done.error == NULL && batch_store(&done, list, first, !tokens);
        parts_free(&done);
    }
    while (ready > 0) {
        input_done(&inputs[--ready]);
    }
    return good;
}

PyObject *batch_of(const vault_handle *vault, PyObject *iterable, batch_call *call, int tokens)
{
    PyObject *pairs = PySequence_Tuple(iterable);
    if (pairs == NULL) {
        return NULL;
    }
    Py_ssize_t count = PyTuple_Size(pairs);
    /* Some at a time: their memory is used again while it is still near. */
    Py_ssize_t most = (Py_ssize_t)parts_items();
    PyObject *list = PyList_New(count);
    vault_item *items = PyMem_Malloc((size_t)most * sizeof *items);
    input *inputs = PyMem_Malloc((size_t)most * sizeof *inputs);
    if (list != NULL && (items == NULL || inputs == NULL)) {
        PyErr_NoMemory();
        Py_CLEAR(list);
    }
    for (Py_ssize_t first = 0; list != NULL && first < count; first += most) {
        Py_ssize_t some = count - first < most ? count - first : most;
        if (!batch_some(vault, pairs, first, some, call, tokens, items, inputs, list)) {
            Py_CLEAR(list);
        }
    }
    PyMem_Free(inputs);
    PyMem_Free(items);
    Py_DECREF(pairs);
    return list;
}
