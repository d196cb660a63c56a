/* Contexts. */
#include "native.h"

PyTypeObject *context_type;

typedef struct {
    PyObject_HEAD
    /* Keep the texts alive: purpose, tenant, name, and a tuple of pairs, which nobody can change. */
    PyObject *purpose;
    PyObject *tenant;
    PyObject *name;
    PyObject *extra;
    vault_pair *pairs;
    vault_context context;
    /* Written at the first use that needs it. */
    uint8_t hash[32];
    int hashed;
} Context;

static void context_dealloc(Context *self)
{
    Py_XDECREF(self->purpose);
    Py_XDECREF(self->tenant);
    Py_XDECREF(self->name);
    Py_XDECREF(self->extra);
    PyMem_Free(self->pairs);
    free_object((PyObject *)self);
}

/* Context(purpose, tenant, name, pairs, unbound), with pairs a tuple of tuples, or None. */
static PyObject *context_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *purpose = NULL;
    PyObject *tenant = NULL;
    PyObject *name = NULL;
    PyObject *extra = NULL;
    int unbound = 0;
    if (!PyArg_ParseTuple(args, "OOOOp", &purpose, &tenant, &name, &extra, &unbound)) {
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Context *self = (Context *)allocate(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->purpose = Py_NewRef(purpose);
    self->tenant = Py_NewRef(tenant);
    self->name = Py_NewRef(name);
    self->extra = Py_NewRef(extra);
    vault_context *context = &self->context;
    if (!optional_text(purpose, &context->purpose) || !optional_text(tenant, &context->tenant) ||
        !optional_text(name, &context->name)) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    if (extra != Py_None) {
        self->pairs = pairs_of(extra, &context->extra_len);
        if (self->pairs == NULL) {
            Py_DECREF((PyObject *)self);
            return NULL;
        }
        context->extra = self->pairs;
    }
    context->unbound = (uint32_t)unbound;
    return (PyObject *)self;
}

const vault_context *context_of(PyObject *object)
{
    if (!PyObject_TypeCheck(object, context_type)) {
        PyErr_Format(PyExc_TypeError, "expected a Context, not %R", (PyObject *)Py_TYPE(object));
        return NULL;
    }
    return &((Context *)object)->context;
}

const uint8_t *context_hash_of(PyObject *object)
{
    const vault_context *context = context_of(object);
    if (context == NULL) {
        return NULL;
    }
    Context *self = (Context *)object;
    if (!self->hashed) {
        vault_error *error = NULL;
        if (vault_context_hash(context, self->hash, &error) != VAULT_OK) {
            raise_error(error);
            return NULL;
        }
        self->hashed = 1;
    }
    return self->hash;
}

static PyMemberDef context_members[] = {
    {"purpose", T_OBJECT, offsetof(Context, purpose), READONLY, "What kind of secret it is, or None."},
    {"tenant", T_OBJECT, offsetof(Context, tenant), READONLY, "Whose secret it is, or None."},
    {"name", T_OBJECT, offsetof(Context, name), READONLY, "Which secret it is, or None."},
    {"_pairs", T_OBJECT, offsetof(Context, extra), READONLY, NULL},
    {"_unbound", T_UINT, offsetof(Context, context) + offsetof(vault_context, unbound), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot context_slots[] = {
    {Py_tp_new, context_new},
    {Py_tp_dealloc, context_dealloc},
    {Py_tp_members, context_members},
    {0, NULL},
};

PyType_Spec context_spec = {
    "vault_core._native.Context", sizeof(Context), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, context_slots,
};
