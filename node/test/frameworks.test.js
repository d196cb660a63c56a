'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, test } = require('node:test');

const { PGlite } = require('@electric-sql/pglite');
const { betterAuth } = require('better-auth');
const { symmetricDecrypt, symmetricEncrypt } = require('better-auth/crypto');
const { eq } = require('drizzle-orm');
const { customType, pgTable, serial, text } = require('drizzle-orm/pg-core');
const { drizzle } = require('drizzle-orm/pglite');
const { Context, Vault, VaultError, inspect } = require('vault-core');
const { secrets } = require('vault-core/frameworks/better-auth');
const { sealedText } = require('vault-core/frameworks/drizzle');

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'vault-frameworks-'));
after(() => fs.rmSync(directory, { recursive: true }));
fs.cpSync(path.resolve(__dirname, '../../tests/conformance/fixtures/stores'), directory, { recursive: true });
const vault = Vault.load(path.join(directory, 'vault.toml'), { variables: { FROM_ENV: 'a secret of 32 characters, or so' } });

test('drizzle: a column of tokens', async () => {
  const context = new Context('user-secret', { name: 'account.api_key' });
  const sealed = customType(sealedText(() => vault, context));
  const account = pgTable('account', { id: serial('id').primaryKey(), apiKey: sealed('api_key') });
  const plain = pgTable('account', { id: serial('id').primaryKey(), apiKey: text('api_key') });
  const client = new PGlite();
  const db = drizzle(client);
  try {
    await client.exec('CREATE TABLE account (id serial PRIMARY KEY, api_key text)');
    await db.insert(account).values([{ apiKey: 'sk-1' }, { apiKey: null }, { apiKey: '' }, { apiKey: 'ключ' }]);
    assert.deepEqual((await db.select().from(account)).map((row) => row.apiKey), ['sk-1', null, '', 'ключ']);
    const [stored] = await db.select().from(plain);
    assert.equal(inspect(stored.apiKey).kid, vault.primary());
    assert.equal(vault.open(context, stored.apiKey).toString(), 'sk-1');
    await db.update(account).set({ apiKey: 'sk-2' }).where(eq(account.id, 1));
    assert.deepEqual(await db.select().from(account).where(eq(account.id, 1)), [{ id: 1, apiKey: 'sk-2' }]);
    const broken = (error) => [error, error.cause].some((each) => each instanceof VaultError && each.code === 'malformed');
    await db.insert(plain).values({ apiKey: 'in clear' });
    await assert.rejects(async () => db.select().from(account), broken);
  } finally {
    await client.close();
  }
});

test('better-auth: secrets from the versions of the store', async () => {
  const name = STORED;
  const versions = vault.versions(name);
  assert.ok(versions.length >= 2);
  const values = (given) => [...new Set(given.secrets.map(({ value }) => value))];
  const given = secrets(vault, name);
  assert.deepEqual(values(given), [vault.getSecret(name), vault.getSecret(`${name}@previous`)]);
  assert.equal(given.secret, vault.getSecret(`${name}@previous`));
  assert.equal(values(secrets(vault, name, 0)).length, 1);
  assert.equal(values(secrets(vault, name, 99)).length, versions.length);
  assert.throws(() => secrets(vault, 'NOBODY'), VaultError);
  // What was written under a number of the store is read.
  for (const { version } of versions.slice(0, 2))
    assert.equal(given.secrets.find((each) => each.version === version).value, vault.getSecret(`${name}@${version}`));
});

test('better-auth: what one version encrypted is read with the next, however both are delivered', async () => {
  const [first, second, third] = ['1', '2', '3'].map((each) => `a secret of 32 characters, or so ${each}`);
  const declared = path.join(directory, 'delivered.toml');
  fs.writeFileSync(declared, 'version = 1\n');
  const delivered = (AUTH, AUTH_PREVIOUS) => secrets(Vault.load(declared, { variables: { AUTH, AUTH_PREVIOUS } }), 'AUTH');
  const config = async (options) => (await betterAuth({ ...options, logger: { disabled: true } }).$context).secretConfig;
  const before = await config(delivered(first));
  const encrypted = await symmetricEncrypt({ key: before, data: 'correct horse' });
  assert.match(encrypted, /^\$ba\$[0-9]{10}\$/);
  const read = async (options, data) => symmetricDecrypt({ key: await config(options), data });
  assert.equal(await read(delivered(second, first), encrypted), 'correct horse');
  await assert.rejects(read(delivered(third, second), encrypted));
  // What was encrypted before Better Auth had `secrets`, and under the number 0 of a file.
  const unnumbered = await symmetricEncrypt({ key: first, data: 'battery staple' });
  const numbered = await symmetricEncrypt({ key: await config({ secrets: [{ version: 0, value: first }] }), data: 'staple' });
  assert.equal(await read(delivered(second, first), unnumbered), 'battery staple');
  assert.equal(await read(delivered(second, first), numbered), 'staple');
  assert.notEqual(await symmetricEncrypt({ key: await config(delivered(second, first)), data: 'x' }).then((value) => value.split('$')[2]), encrypted.split('$')[2]);
});

test('better-auth: a release without secrets is refused', () => {
  const application = path.join(directory, 'application');
  const old = path.join(application, 'node_modules/better-auth');
  fs.mkdirSync(old, { recursive: true });
  fs.writeFileSync(path.join(old, 'package.json'), '{ "name": "better-auth", "version": "1.4.18", "main": "index.js" }');
  fs.writeFileSync(path.join(old, 'index.js'), '');
  const before = process.cwd();
  process.chdir(application);
  try {
    const refused = (error) => error instanceof VaultError && error.code === 'config' && error.message.includes('1.4.18');
    assert.throws(() => secrets(vault, STORED), refused);
    fs.writeFileSync(path.join(old, 'package.json'), '{ "name": "better-auth", "version": "1.5.0", "main": "index.js" }');
    assert.ok(secrets(vault, STORED).secret);
  } finally {
    process.chdir(before);
  }
});

// A secret of several versions in tests/conformance/fixtures/stores.
const STORED = 'DB_PASSWORD';
