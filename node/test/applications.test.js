'use strict';

// The drop-ins against what the applications themselves gave.

const assert = require('node:assert/strict');
const { createHmac } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, test } = require('node:test');

const { VaultError, Vault } = require('vault-core');
const raqeem = require('vault-core/applications/raqeem');
const { SocialPublisher, ...social } = require('vault-core/applications/social-publisher');

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'vault-applications-'));
after(() => fs.rmSync(directory, { recursive: true }));
const vectors = (app) => JSON.parse(fs.readFileSync(path.resolve(__dirname, `../../tests/vectors/apps/${app}.json`), 'utf8'));
const declared = path.join(__dirname, '../applications/social-publisher.toml');
const secrets = path.join(__dirname, '../applications/secrets.toml');
const fails = (call, code, message) =>
  assert.throws(call, (error) => error instanceof VaultError && error.code === code && (!message || error.message === message));

/** Sets variables for one call. */
function within(variables, call) {
  const before = { ...process.env };
  try {
    for (const [name, value] of Object.entries(variables)) process.env[name] = value;
    return call();
  } finally {
    for (const name of Object.keys(variables)) delete process.env[name];
    Object.assign(process.env, before);
  }
}

/** The variables of a row, and its file. */
function variables(row) {
  if (row.file_hex === undefined)
    return Object.fromEntries(Object.entries(row.env).map(([name, value]) => [name, value.replace('$DIR', directory)]));
  const file = path.join(directory, 'file');
  fs.writeFileSync(file, Buffer.from(row.file_hex, 'hex'));
  return { X_FILE: file, X: row.X };
}

test('raqeem: getSecret', () => {
  let rows = 0;
  for (const row of vectors('raqeem').getSecret.filter((each) => each.call === undefined)) {
    rows++;
    within(variables(row), () => {
      if (row.error) return fails(() => raqeem.getSecret('X'), 'io', row.error);
      const expected = row.result ?? Buffer.from(row.result_utf8_hex, 'hex').toString();
      if (expected === '') fails(() => raqeem.getSecret('X'), 'config', 'Secret is empty: X or X_FILE');
      else assert.equal(raqeem.getSecret('X'), expected);
    });
  }
  assert.equal(rows, 11);
});

test('raqeem: a file that another variable names', () => {
  const file = path.join(directory, 'other');
  fs.writeFileSync(file, 'value\n');
  assert.equal(within({ OTHER: file }, () => raqeem.getSecret('X', 'OTHER')), 'value');
  within({ OTHER: directory }, () => fails(() => raqeem.getSecret('X', 'OTHER'), 'io', 'Failed to read secret from file: OTHER'));
  fails(() => raqeem.getSecret('X', 'OTHER'), 'not-found', 'Secret not found: X or OTHER');
});

test('raqeem: what is missing, and what signs cookies', () => {
  const { getDatabaseUrl_missing_error, getBetterAuthSecret_missing_error, better_auth_session_cookie } = vectors('raqeem');
  fails(raqeem.getDatabaseUrl, 'not-found', getDatabaseUrl_missing_error);
  fails(raqeem.getBetterAuthSecret, 'not-found', getBetterAuthSecret_missing_error);
  assert.equal(better_auth_session_cookie.vectors.length, 2);
  for (const { secret_file_content, session_token, hmac_sha256_base64 } of better_auth_session_cookie.vectors) {
    const file = path.join(directory, 'better_auth_secret');
    fs.writeFileSync(file, secret_file_content);
    const secret = within({ BETTER_AUTH_SECRET_FILE: file }, raqeem.getBetterAuthSecret);
    assert.equal(createHmac('sha256', secret).update(session_token).digest('base64'), hmac_sha256_base64);
  }
});

test('social-publisher: getSecret', () => {
  const rows = vectors('social-publisher').getSecret;
  assert.equal(rows.length, 17);
  for (const row of rows) {
    within(variables(row), () => {
      const publisher = new SocialPublisher(Vault.load(secrets, { preset: 'social-publisher' }));
      const none = "Required secret 'X' is not configured";
      if (row.result === '') return fails(() => publisher.getSecret('X'), 'config', none);
      assert.equal(publisher.getSecret('X'), row.result === '<undefined>' ? undefined : row.result);
      if (row.result === '<undefined>') fails(() => publisher.getSecret('X', true), 'not-found', none);
    });
  }
});

test('social-publisher: tokens', () => {
  const { v1, legacy_cbc } = vectors('social-publisher');
  assert.deepEqual([v1.length, legacy_cbc.length], [16, 16]);
  for (const { key_case, encryption_key, plaintext, token } of [...v1, ...legacy_cbc]) {
    const publisher = within({ ENCRYPTION_KEY: encryption_key }, () => new SocialPublisher(Vault.load(declared)));
    if (key_case === 'with_trailing_newline') fails(() => publisher.decryptToken(token), 'corrupt');
    else assert.equal(publisher.decryptToken(token), plaintext);
  }
});

test('social-publisher: what it writes, and what it refuses', () => {
  const { encryption_key, plaintext, token } = vectors('social-publisher').v1.find((each) => each.key_case === 'openssl_base64_32');
  const key = require('node:crypto').randomBytes(32).toString('base64');
  within({ ENCRYPTION_KEY: key, SUPABASE_URL: '' }, () => {
    assert.equal(social.decryptToken(social.encryptToken('EAAG-токен')), 'EAAG-токен');
    assert.match(social.encryptToken('x'), /^v1:[0-9a-f]{24}:[0-9a-f]{32}:[0-9a-f]{2}$/);
    assert.notEqual(social.encryptToken('x'), social.encryptToken('x'));
    fails(() => social.decryptToken(token), 'corrupt');
    for (const value of ['', undefined, null, 'plain', 'deadbeef', `V1${token.slice(2)}`, `${token}:`, `${token}\n`])
      assert.throws(() => social.decryptToken(value), VaultError, `${value}`);
    for (const value of [undefined, null, 7]) fails(() => social.encryptToken(value), 'usage');
    assert.equal(social.getSecret('ENCRYPTION_KEY', true), key);
    fails(
      social.validateSecrets,
      'not-found',
      'Missing required secrets: SUPABASE_URL, SUPABASE_ANON_KEY, SUPABASE_SERVICE_ROLE_KEY\nPlease configure these using Docker secrets or environment variables.',
    );
  });
  const publisher = within({ ENCRYPTION_KEY: encryption_key }, () => new SocialPublisher(Vault.load(declared)));
  assert.equal(publisher.decryptToken(token), plaintext);
  const [iv, tag, text] = token.split(':').slice(1);
  for (const length of [8, 24]) assert.throws(() => publisher.decryptToken(`v1:${iv}:${tag.slice(0, length)}:${text}`), VaultError);
  const keyless = () => new SocialPublisher(Vault.load(declared)).encryptToken('x');
  assert.throws(keyless, VaultError);
});

test('social-publisher: tokens of the vault, beside what was written before', () => {
  const { v1, legacy_cbc } = vectors('social-publisher');
  const { encryption_key, plaintext, token } = v1.find((each) => each.key_case === 'openssl_base64_32');
  const hex = legacy_cbc.find((each) => each.encryption_key === encryption_key);
  const place = path.join(directory, 'social');
  fs.mkdirSync(place);
  fs.writeFileSync(path.join(place, 'kek'), require('node:crypto').randomBytes(32).toString('hex'));
  const toml = `${fs.readFileSync(declared, 'utf8')}\n[keyring.main]\nsources = ["file:kek"]\n`;
  fs.writeFileSync(path.join(place, 'vault.toml'), toml);
  const vault = within({ ENCRYPTION_KEY: encryption_key }, () => Vault.load(path.join(place, 'vault.toml')));
  const publisher = new SocialPublisher(vault, undefined, 'vs1');
  const sealed = publisher.encryptToken('EAAG-токен');
  assert.match(sealed, /^vs1\./);
  for (const each of [publisher, new SocialPublisher(vault)]) {
    assert.equal(each.decryptToken(sealed), 'EAAG-токен');
    assert.equal(each.decryptToken(token), plaintext);
    assert.equal(each.decryptToken(hex.token), hex.plaintext);
    assert.equal(each.decryptToken(BOT), BOT);
  }
  for (const value of [`${BOT}:`, BOT.slice(10), ` ${BOT}`, `v1:${BOT}`, 'vs1.x', 'plain']) assert.throws(() => publisher.decryptToken(value), VaultError);
  fails(() => new SocialPublisher(vault, undefined, 'vs2'), 'usage');
});

// In the form of the token of a Telegram bot.
const BOT = '123456789:AAExampleExampleExampleExampleExamp';
