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
  const listed = secrets(vault, name);
  const versions = vault.versions(name);
  assert.ok(versions.length >= 2);
  assert.deepEqual(listed.map(({ version }) => version), versions.slice(0, 2).map(({ version }) => version));
  assert.deepEqual(listed.map(({ value }) => value), [vault.getSecret(name), vault.getSecret(`${name}@previous`)]);
  assert.equal(secrets(vault, name, 0).length, 1);
  assert.equal(secrets(vault, name, 99).length, versions.length);
  assert.deepEqual(secrets(vault, 'FROM_ENV'), [{ version: 0, value: 'a secret of 32 characters, or so' }]);
  assert.throws(() => secrets(vault, 'NOBODY'), VaultError);

  // What an older version encrypted is readable with the list of today, and new data names today's version.
  const long = ({ version, value }) => ({ version, value: value.padEnd(40, '-0123456789abcdef') });
  const [now, before] = listed.map(long);
  const logger = { disabled: true };
  const old = await betterAuth({ secrets: [before], logger }).$context;
  const today = await betterAuth({ secrets: [now, before], logger }).$context;
  const encrypted = await symmetricEncrypt({ key: old.secretConfig, data: 'correct horse' });
  assert.equal(await symmetricDecrypt({ key: today.secretConfig, data: encrypted }), 'correct horse');
  assert.ok((await symmetricEncrypt({ key: today.secretConfig, data: 'x' })).startsWith(`$ba$${now.version}$`));
});

// A secret of several versions in tests/conformance/fixtures/stores.
const STORED = 'DB_PASSWORD';
