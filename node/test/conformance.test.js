'use strict';

// The cases of tests/conformance that every language runs.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');

const { Context, LegacyKey, Sealer, Vault, VaultError, inspect } = require('vault-core');
const native = require('../build/vault_core.node');

const LIST = path.resolve(__dirname, '../../tests/conformance');
const cases = JSON.parse(fs.readFileSync(path.join(LIST, 'cases.json'), 'utf8')).cases.filter(
  (one) => !('node' in (one.except ?? {})),
);

test('there are cases', () => assert.ok(cases.length >= 560));

for (const one of cases) {
  test(one.name, () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'vault-conformance-'));
    try {
      if (one.given) fs.cpSync(path.join(LIST, 'fixtures', one.given), directory, { recursive: true });
      write(one.files ?? {}, directory);
      const came = attempt(() => run(one, directory));
      compare(came, resolve(one.expect, directory));
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });
}

function run(one, directory) {
  const loaded = load(one.vault ?? {}, directory);
  write(one.changed ?? {}, directory);
  const given = resolve(one.arguments ?? {}, directory);
  switch (one.call) {
    case 'load':
      return { primary: loaded.primary() };
    case 'refresh':
      loaded.refresh();
      return { primary: loaded.primary() };
    case 'status': {
      const [name, exit_code] = native.status(given.status);
      return { name, exit_code };
    }
    case 'inspect':
      return inspected(given.token);
    case 'seal':
      return sealed(loaded, context(given), loaded.seal(context(given), given.secret));
    case 'open':
      return { value: loaded.open(context(given), given.token) };
    case 'rewrap':
      return { value: loaded.rewrap(given.token) };
    case 'verify':
      loaded.verify(given.token);
      return {};
    case 'seal_batch': {
      const tokens = loaded.sealEach(given.items.map((item) => [context(item), item.secret]));
      return { items: tokens.map((token, at) => attempt(() => sealed(loaded, context(given.items[at]), thrown(token)))) };
    }
    case 'open_batch': {
      const secrets = loaded.openEach(given.items.map((item) => [context(item), item.token]));
      return { items: secrets.map((secret) => attempt(() => ({ value: thrown(secret) }))) };
    }
    // Only a Vault has these methods; what is beneath the others refuses.
    case 'secret':
      return found(Vault.prototype.secret.call(loaded, `${given.name}`));
    case 'optional_secret':
      return found(Vault.prototype.optionalSecret.call(loaded, `${given.name}`));
    case 'versions':
      return { versions: Vault.prototype.versions.call(loaded, `${given.name}`).map(({ version }) => `${version}`) };
    case 'legacy_seal': {
      const value = legacy('sealLegacy', loaded, given, given.secret);
      return { opens: legacy('openLegacy', loaded, given, value) };
    }
    case 'legacy_open':
      return { value: legacy('openLegacy', loaded, given, given.value) };
    default:
      throw new Error(`no such call: ${one.call}`);
  }
}

function load({ config, key_file, text_key_file, format, variables = {}, ...options }, directory) {
  if (config !== undefined)
    return Vault.load(path.join(directory, config), {
      ...options,
      variables: Object.fromEntries(Object.entries(resolve(variables, directory)).map(([name, value]) => [name, `${value}`])),
      mounts: path.join(directory, 'mounts'),
    });
  if (key_file !== undefined) return Sealer.fromKeyFile(path.join(directory, key_file), options);
  if (text_key_file !== undefined) return LegacyKey.fromKeyFile(path.join(directory, text_key_file), format);
  return undefined;
}

function legacy(method, loaded, { keyring, format, tenant }, bytes) {
  const options = { tenant: tenant && `${tenant}` };
  return Vault.prototype[method].call(loaded, keyring && `${keyring}`, `${format}`, bytes, options);
}

function context({ context: { purpose, tenant, name, extra = [], unbound } }) {
  if (unbound) return Context.none();
  return new Context(purpose && `${purpose}`, {
    tenant: tenant && `${tenant}`,
    name: name && `${name}`,
    extra: Object.fromEntries(extra.map(({ key, value }) => [`${key}`, `${value}`])),
  });
}

function sealed(sealer, context, token) {
  return { ...inspected(token), opens: sealer.open(context, token) };
}

function inspected(token) {
  const { kid, sealedAt, payload, padded } = inspect(token);
  return { kid, sealed_at: sealedAt, payload, padded };
}

function found(secret) {
  if (secret === undefined) return { absent: true };
  const { sourceKind, notes, version } = secret;
  return { value: secret.exposeSecret(), source: sourceKind, notes: notes.length, version };
}

function attempt(call) {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    return { error: error.code, public: error.publicCode };
  }
}

function thrown(result) {
  if (result instanceof VaultError) throw result;
  return result;
}

/** What is expected must have come; what else came does not matter, but an error does. */
function compare(came, expected) {
  if (Array.isArray(expected)) {
    assert.equal(came.length, expected.length);
    expected.forEach((each, at) => compare(came[at], each));
  } else if (expected !== null && typeof expected === 'object' && !Buffer.isBuffer(expected)) {
    for (const [name, value] of Object.entries(expected)) compare(came[name], value);
    assert.equal(came.error, expected.error && `${expected.error}`);
  } else {
    assert.deepEqual(Buffer.isBuffer(expected) ? Buffer.from(came ?? 'nothing') : came, expected);
  }
}

function write(files, directory) {
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(directory, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, resolve(content, directory));
  }
}

/** The same with every text in it as its bytes. */
function resolve(value, directory) {
  if (typeof value === 'string') return Buffer.from(value.replaceAll('{dir}', directory));
  if (Array.isArray(value)) return value.map((each) => resolve(each, directory));
  if (value === null || typeof value !== 'object') return value;
  if ('hex' in value) return Buffer.from(value.hex, 'hex');
  if ('repeat' in value) return Buffer.from(value.repeat.repeat(value.times));
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, resolve(each, directory)]));
}
