'use strict';

const { inspect: format } = require('node:util');

const native = require('../build/vault_core.node');
const { VaultError, failure, usage } = require('./errors.js');

class Context {
  #purpose;
  #tenant;
  #name;
  #extra;
  #unbound = false;

  constructor(purpose, options) {
    this.#purpose = optionalText('purpose', purpose);
    if (options !== undefined) {
      refuseUnknown(options, 'tenant', 'name', 'extra');
      this.#tenant = optionalText('tenant', options.tenant);
      this.#name = optionalText('name', options.name);
      if (options.extra !== undefined) this.#extra = pairs(options.extra);
    }
  }

  static none() {
    const context = new Context();
    context.#unbound = true;
    return context;
  }

  get purpose() {
    return this.#purpose;
  }

  get tenant() {
    return this.#tenant;
  }

  get name() {
    return this.#name;
  }

  get extra() {
    const extra = {};
    for (let at = 0; at < (this.#extra?.length ?? 0); at += 2) extra[this.#extra[at]] = this.#extra[at + 1];
    return extra;
  }

  get unbound() {
    return this.#unbound;
  }

  static _own(context) {
    if (typeof context !== 'object' || context === null || !(#unbound in context))
      throw usage('the context must be a Context');
  }

  /** Calls a function of the addon with a context and bytes. */
  static _call(run, handle, context, bytes) {
    own(context);
    return run(handle, context.#purpose, context.#tenant, context.#name, context.#extra, context.#unbound, bytes);
  }

  /**
   * Calls a batch function of the addon with some items at a time, so that a batch of any size needs
   * little memory beside its results. It takes one list, flat; a context of null is that of the item
   * before.
   */
  static _callBatch(run, handle, items) {
    const results = [];
    let flat = [];
    let before;
    let size = 0;
    for (const [context, bytes] of items) {
      if (context === before) {
        flat.push(null, null, null, null, null, bytes);
      } else {
        own(context);
        flat.push(context.#purpose, context.#tenant, context.#name, context.#extra, context.#unbound, bytes);
        before = context;
      }
      size += bytes?.length ?? 0;
      if (flat.length === AT_A_TIME || size > SIZE_AT_A_TIME) {
        for (const result of run(handle, flat)) results.push(result);
        flat = [];
        before = undefined;
        size = 0;
      }
    }
    for (const result of run(handle, flat)) results.push(result);
    return results;
  }

  [format.custom](_depth, options) {
    if (this.#unbound) return 'Context.none()';
    const { purpose, tenant, name, extra } = this;
    return `Context ${format({ purpose, tenant, name, extra }, options)}`;
  }
}
const { _call: call, _callBatch: callBatch, _own: own } = Context;
delete Context._call;
delete Context._callBatch;
delete Context._own;

class Secret {
  #value;
  #source;
  #sourceKind;
  #version;
  #notes;

  constructor(made, found) {
    if (made !== MADE) throw usage('a Secret is made by secret()');
    [this.#value, this.#source, this.#sourceKind, this.#version, this.#notes] = found;
  }

  exposeSecret() {
    return this.#value;
  }

  exposeText() {
    return text(this.#value);
  }

  get source() {
    return this.#source;
  }

  get sourceKind() {
    return this.#sourceKind;
  }

  get version() {
    return this.#version === 0 ? undefined : this.#version;
  }

  get notes() {
    return this.#notes;
  }

  [Symbol.toPrimitive]() {
    throw usage('a Secret is no text: exposeText() gives it');
  }

  toJSON() {
    return '[redacted]';
  }

  [format.custom]() {
    return 'Secret [redacted]';
  }
}

/** What a loaded vault is in the addon; freed with the object. */
class Handle {
  #handle;

  constructor(made, handle) {
    if (made !== MADE) throw usage(`a ${new.target.name} is made by its static methods`);
    this.#handle = handle;
  }

  static _of(object) {
    return object.#handle;
  }

  [format.custom]() {
    return `${this.constructor.name} [redacted]`;
  }
}
const { _of: handle } = Handle;
delete Handle._of;

class Sealer extends Handle {
  static fromKeyFile(path, options = {}) {
    refuseUnknown(options, 'limit', 'padded');
    return new Sealer(MADE, load('key-file', { path, ...options }));
  }

  seal(context, secret) {
    return call(native.seal, handle(this), context, secret);
  }

  open(context, token) {
    return call(native.open, handle(this), context, token);
  }

  sealMany(items) {
    return all(this.sealEach(items));
  }

  sealEach(items) {
    return callBatch(native.sealBatch, handle(this), items);
  }

  openMany(items) {
    return all(this.openEach(items));
  }

  openEach(items) {
    return callBatch(native.openBatch, handle(this), items);
  }

  rewrap(token) {
    return native.rewrap(handle(this), token);
  }

  verify(token) {
    native.verify(handle(this), token);
  }

  primary() {
    return native.primary(handle(this));
  }

  refresh() {
    native.refresh(handle(this));
  }

  following() {
    const [looked, failure] = native.following(handle(this));
    return { looked, failure };
  }
}

class Vault extends Sealer {
  static load(path, options = {}) {
    refuseUnknown(options, 'profile', 'preset', 'limit', 'padded', 'variables', 'mounts');
    if (path === undefined && options.profile !== undefined)
      throw usage('a profile needs a path: without one, VAULT_CORE_PROFILE names it');
    return new this(MADE, load(path === undefined ? 'environment' : 'file', { path, ...options }));
  }

  secret(name) {
    return new Secret(MADE, native.secret(handle(this), name));
  }

  optionalSecret(name) {
    const found = native.optionalSecret(handle(this), name);
    return found && new Secret(MADE, found);
  }

  getSecret(name, required = true) {
    try {
      return this.secret(name).exposeText();
    } catch (error) {
      if (!required && error instanceof VaultError && error.code === 'not-found') return undefined;
      throw error;
    }
  }

  versions(name) {
    const flat = native.versions(handle(this), name);
    const versions = [];
    for (let at = 0; at < flat.length; at += 2) versions.push({ version: flat[at], created: flat[at + 1] });
    return versions;
  }

  sealLegacy(keyring, format, secret, options = {}) {
    refuseUnknown(options, 'tenant');
    return native.legacySeal(handle(this), keyring, format, options.tenant, secret);
  }

  openLegacy(keyring, format, value, options = {}) {
    refuseUnknown(options, 'tenant');
    return native.legacyOpen(handle(this), keyring, format, options.tenant, value);
  }
}

class LegacyKey extends Handle {
  static fromKeyFile(path, format) {
    return new LegacyKey(MADE, load('text-key-file', { path, format }));
  }

  seal(format, secret, options = {}) {
    refuseUnknown(options, 'tenant');
    return native.legacySeal(handle(this), undefined, format, options.tenant, secret);
  }

  open(format, value, options = {}) {
    refuseUnknown(options, 'tenant');
    return native.legacyOpen(handle(this), undefined, format, options.tenant, value);
  }
}

function inspect(token) {
  const [kid, sealedAt, payload, padded] = native.inspect(token);
  return { kid, sealedAt, payload, padded };
}

/** UTF-8 as a string; refuses other bytes, where Buffer's own methods would replace them. */
function text(bytes) {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw failure('malformed', 'malformed secret: it is not UTF-8 text');
  }
}

function load(origin, { path, profile, format, limit, padded = false, preset, variables, mounts }) {
  if (limit !== undefined && !(Number.isInteger(limit) && limit >= 0)) throw usage('the limit must be a number of bytes');
  if (typeof padded !== 'boolean') throw usage('padded must be true or false');
  const found = variables === undefined && mounts !== undefined ? process.env : variables;
  const given = found && pairs(found);
  return native.load(origin, path, profile, format, limit ?? -1, padded, preset, given, mounts ?? MOUNTS);
}

function all(results) {
  for (let item = 0; item < results.length; item++) {
    const result = results[item];
    if (result instanceof VaultError) {
      result.item = item;
      throw result;
    }
  }
  return results;
}

/** Names and values in turn. What is undefined is left out, as in process.env of the types. */
function pairs(object) {
  return Object.entries(object).filter(([, value]) => value !== undefined).flat();
}

/** What is null in a row of a database is no absent text: nothing may be bound to less than was meant. */
function optionalText(what, value) {
  if (value !== undefined && typeof value !== 'string') throw usage(`the ${what} must be a string`);
  return value;
}

function refuseUnknown(options, ...known) {
  for (const option in options)
    if (!known.includes(option)) throw usage(`unknown option ${format(option)}; known are ${known.join(', ')}`);
}

// Items of a context's five fields and bytes: as many as the threads of a batch do best.
const AT_A_TIME = native.batchItems * 6;
const SIZE_AT_A_TIME = 4 << 20;
const MADE = Symbol('made');
const MOUNTS = '/run/secrets';
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

module.exports = { Context, LegacyKey, Sealer, Secret, Vault, inspect, text };
