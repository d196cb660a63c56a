'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { test } = require('node:test');

const { Context, Vault, VaultError } = require('vault-core');
const { TestVault } = require('../testing');

const context = new Context('user-secret', { tenant: '42' });

test('a vault in memory is a vault, and like no other', () => {
  const [one, other] = [TestVault.new({ DB_PASSWORD: 'correct horse' }), TestVault.new()];
  assert.ok(one instanceof Vault);
  assert.equal(one.getSecret('DB_PASSWORD'), 'correct horse');
  assert.equal(one.open(context, one.seal(context, 'x')).toString(), 'x');
  assert.throws(() => other.open(context, one.seal(context, 'x')), (error) => error instanceof VaultError && error.code === 'unknown-key');
  one.refresh();
  assert.equal(one.open(context, one.seal(context, 'x')).toString(), 'x');
});

test('it reads no variable, and leaves no file', () => {
  process.env.VAULT_TEST_SECRET = 'of the process';
  process.env.VAULT_CORE_PROFILE = 'staging';
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'vault-test-'));
  const before = process.env.TMPDIR;
  process.env.TMPDIR = directory;
  assert.equal(TestVault.new().getSecret('VAULT_TEST_SECRET', false), undefined);
  assert.throws(() => TestVault.new({ VAULT_TEST: 7 }), VaultError);
  assert.deepEqual(fs.readdirSync(directory), []);
  if (before === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = before;
  fs.rmdirSync(directory);
});

test('the package itself has no such vault', () => {
  assert.ok(!Object.keys(require('vault-core')).some((name) => /test/i.test(name)));
  assert.throws(() => require('vault-core/testing'));
});
