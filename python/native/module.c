/* The module. */
#include "native.h"

static PyObject *native_inspect(PyObject *Py_UNUSED(module), PyObject *argument)
{
    input token;
    if (!input_text_or_bytes(argument, &token)) {
        return NULL;
    }
    vault_inspection seen;
    vault_error *error = NULL;
    vault_status status = vault_inspect((const char *)token.data, token.len, &seen, &error);
    input_done(&token);
    if (status != VAULT_OK) {
        return raise_error(error);
    }
    return Py_BuildValue("sKKN", seen.kid, (unsigned long long)seen.sealed_at, (unsigned long long)seen.payload,
                         PyBool_FromLong((long)seen.padded));
}

static PyObject *native_status(PyObject *Py_UNUSED(module), PyObject *argument)
{
    unsigned long status = PyLong_AsUnsignedLong(argument);
    if (status == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    return Py_BuildValue("sI", vault_status_name((vault_status)status), vault_status_exit_code((vault_status)status));
}

static PyMethodDef native_functions[] = {
    {"inspect", native_inspect, METH_O, NULL},
    {"status", native_status, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef native = {
    PyModuleDef_HEAD_INIT, "vault_core._native", NULL, -1, native_functions, NULL, NULL, NULL, NULL,
};

/* Adds a type, and gives a reference that is kept as long as the process. */
static PyTypeObject *add_type(PyObject *module, const char *name, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type == NULL || PyModule_AddObjectRef(module, name, type) < 0) {
        Py_XDECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

PyMODINIT_FUNC PyInit__native(void)
{
    if (vault_abi_version() != VAULT_ABI_VERSION) {
        return PyErr_Format(PyExc_ImportError, "built for ABI %u of libvault, and found %u", VAULT_ABI_VERSION,
                            vault_abi_version());
    }
    PyObject *module = PyModule_Create(&native);
    if (module == NULL) {
        return NULL;
    }
    context_type = add_type(module, "Context", &context_spec);
    secret_type = add_type(module, "Secret", &secret_spec);
    if (context_type == NULL || secret_type == NULL || add_type(module, "Handle", &handle_spec) == NULL ||
        PyModule_AddStringConstant(module, "version", vault_version()) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
