'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, test } = require('node:test');
const { format } = require('node:util');
const { Worker } = require('node:worker_threads');

const { Context, LegacyKey, Sealer, Secret, Vault, VaultError, inspect } = require('vault-core');
const native = require('../build/vault_core.node');

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'vault-test-'));
after(() => fs.rmSync(directory, { recursive: true }));
const key = randomBytes(32).toString('hex');
const keyFile = path.join(directory, 'kek_1');
const manifest = path.join(directory, 'vault.toml');
fs.writeFileSync(keyFile, key);
fs.writeFileSync(
  manifest,
  'version = 1\n[keyring.main]\nsources = ["file:kek_1"]\n[secrets.OPTIONAL]\nrequired = false\n[secrets.BYTES]\ntype = "binary"\n',
);

const sealer = Sealer.fromKeyFile(keyFile);
const context = new Context('user-secret', { tenant: '42', name: 'prod_db' });
const load = (variables) => Vault.load(manifest, { variables, mounts: path.join(directory, 'mounts') });
const fails = (call, code) => assert.throws(call, (error) => error instanceof VaultError && error.code === code);

test('bytes that were transferred are no empty secret', () => {
  for (const make of [(memory) => new Uint8Array(memory), (memory) => Buffer.from(memory), (memory) => new DataView(memory)]) {
    const memory = new ArrayBuffer(8);
    const bytes = make(memory);
    structuredClone(memory, { transfer: [memory] });
    fails(() => sealer.seal(context, bytes), 'usage');
  }
  assert.equal(sealer.open(context, sealer.seal(context, new Uint8Array(0))).length, 0);
});

test('what was sealed opens', () => {
  for (const secret of ['correct horse', '', 'пароль 🔑', Buffer.from([0, 255]), new Uint8Array(5000)]) {
    const opened = sealer.open(context, sealer.seal(context, secret));
    assert.deepEqual(opened, Buffer.from(secret));
  }
});

test('tokens are given as text or as its bytes', () => {
  const token = sealer.seal(context, 'x');
  assert.equal(sealer.open(context, Buffer.from(token)).toString(), 'x');
  assert.deepEqual(inspect(Buffer.from(token)), inspect(token));
  assert.equal(inspect(token).kid, sealer.primary());
  assert.equal(sealer.rewrap(token), token);
  assert.equal(sealer.verify(token), undefined);
});

test('texts of every length and script are taken whole', () => {
  for (let length = 4060; length < 4110; length++) {
    for (const unit of ['a', 'é', '€', '🔑']) {
      const secret = unit.repeat(Math.ceil(length / Buffer.byteLength(unit)));
      assert.equal(sealer.open(context, sealer.seal(context, secret)).toString(), secret);
    }
  }
});

test('half a character is refused, and the sign for one is not', () => {
  for (const half of ['\ud83d', 'a\udd11', '\udd11\ud83d', `\ufffd\ud800`]) {
    fails(() => sealer.seal(context, half), 'usage');
    fails(() => sealer.seal(new Context('user-secret', { tenant: half }), 'x'), 'usage');
  }
  assert.equal(sealer.open(context, sealer.seal(context, '\ufffd')).toString(), '\ufffd');
});

test('results are the callers own', () => {
  const token = sealer.seal(context, 'x');
  const first = sealer.open(context, token);
  first.fill(0);
  assert.equal(sealer.open(context, token).toString(), 'x');
  const [one, two] = sealer.openMany([[context, token], [context, token]]);
  one.fill(0);
  assert.equal(two.toString(), 'x');
});

test('a batch gives what single calls give, in their order', () => {
  const items = Array.from({ length: 300 }, (_, at) => [new Context('user-secret', { tenant: `${at >> 1}` }), `${at}`]);
  items.splice(150, 0, items[149]);
  const tokens = sealer.sealMany(items);
  tokens.forEach((token, at) => assert.equal(sealer.open(items[at][0], token).toString(), items[at][1]));
  const opened = sealer.openMany(new Map(items.map(([each], at) => [each, tokens[at]])));
  assert.ok(opened.length > 299);
  assert.deepEqual(sealer.sealMany([]), []);
});

test('one context for a whole batch', () => {
  const tokens = sealer.sealMany(Array.from({ length: 1000 }, (_, at) => [context, `${at}`]));
  const opened = sealer.openMany(tokens.map((token) => [context, token]));
  assert.deepEqual(opened.map(Number), [...opened.keys()]);
});

test('a context of null is refused, and is not that of the item before', () => {
  for (const wrong of [null, 42, Buffer.from('user-secret')]) {
    fails(() => new Context(wrong), 'usage');
    fails(() => new Context('user-secret', { tenant: wrong }), 'usage');
    fails(() => sealer.sealMany([[context, 'x'], [new Context(wrong, { tenant: '43' }), 'y']]), 'usage');
  }
});

test('a batch tells which item failed', () => {
  const items = Array.from({ length: 200 }, () => [context, sealer.seal(context, 'x')]);
  items[170] = [context, 'vs1.x'];
  assert.throws(() => sealer.openMany(items), (error) => error.code === 'malformed' && error.item === 170);
  const each = sealer.openEach(items);
  assert.ok(each[170] instanceof VaultError);
  assert.equal(each.filter(Buffer.isBuffer).length, 199);
});

test('every kind of error has its code, and nothing of the secret', () => {
  const token = sealer.seal(context, 'correct horse');
  const other = new Context('user-secret', { tenant: '43', name: 'prod_db' });
  assert.throws(
    () => sealer.open(other, token),
    (error) => {
      assert.equal(error.name, 'VaultError');
      assert.deepEqual([error.code, error.publicCode, error.status, error.exitCode], ['context-mismatch', 'open-failed', 11, 11]);
      assert.match(error.stack, /^VaultError: /);
      assert.ok(!format('%o %s', error, error.stack).includes(token.slice(30)));
      return true;
    },
  );
  const altered = token.slice(0, -8) + (token.at(-8) === 'A' ? 'B' : 'A') + token.slice(-7);
  fails(() => sealer.open(context, altered), 'corrupt');
  fails(() => sealer.open(context, 'nonsense'), 'malformed');
  fails(() => sealer.open(context, Buffer.from([255])), 'malformed');
  fails(() => Sealer.fromKeyFile(keyFile, { limit: 3 }).seal(context, 'four'), 'too-large');
  fails(() => Sealer.fromKeyFile(path.join(directory, 'none')), 'io');
  fails(() => Sealer.fromKeyFile(manifest), 'key-malformed');
  fails(() => load({}).secret('NOBODY'), 'not-found');
});

test('the types list every kind', () => {
  const types = fs.readFileSync(require.resolve('vault-core').replace('.js', '.d.ts'), 'utf8');
  const listed = [...types.split('VaultError extends')[0].matchAll(/^ {2}\| '([a-z-]+)'/gm)].map(([, code]) => code);
  assert.equal(listed.length, 27);
  assert.deepEqual(listed, listed.map((_, at) => native.status(at + 1)[0]));
});

test('wrong arguments are refused, and say what they should be', () => {
  const token = sealer.seal(context, 'x');
  const misused = [
    () => sealer.seal(),
    () => sealer.seal({ purpose: 'user-secret' }, 'x'),
    () => sealer.seal(null, 'x'),
    () => sealer.seal(context),
    () => sealer.seal(context, 7),
    () => sealer.seal(context, null),
    () => sealer.seal(context, ['x']),
    () => sealer.seal(new Context(), 'x'),
    () => sealer.seal(new Context(7), 'x'),
    () => sealer.seal(new Context('p', { tenant: 7 }), 'x'),
    () => sealer.seal(new Context('p', { tenant: null }), 'x'),
    () => sealer.seal(new Context('p', { extra: { a: 7 } }), 'x'),
    () => new Context('p', { tenent: '42' }),
    () => sealer.open(context, undefined),
    () => sealer.sealMany([[context, 'x'], [null, 'y']]),
    () => sealer.sealMany([[context, 'x'], [{}, 'y']]),
    () => sealer.sealMany([['x']]),
    () => sealer.openMany([[context]]),
    () => inspect(),
    () => inspect(7),
    () => Sealer.fromKeyFile(),
    () => Sealer.fromKeyFile(keyFile, { limits: 3 }),
    () => Sealer.fromKeyFile(keyFile, { limit: -1 }),
    () => Sealer.fromKeyFile(keyFile, { limit: '3' }),
    () => Sealer.fromKeyFile(keyFile, { padded: 1 }),
    () => Vault.load(undefined, { profile: 'p' }),
    () => Vault.load(manifest, { profiles: 'p' }),
    () => Vault.load(manifest, { variables: { A: 7 } }),
    () => new Sealer(),
    () => new Vault(),
    () => new LegacyKey(),
    () => new Secret(),
    () => load({}).secret(),
    () => load({}).sealLegacy('main'),
  ];
  for (const call of misused) fails(call, 'usage');
  assert.equal(sealer.open(context, token).toString(), 'x');
});

test('paths are taken as they are', () => {
  fails(() => Sealer.fromKeyFile(`${keyFile}\0x`), 'usage');
});

test('contexts', () => {
  const full = new Context('p', { tenant: 't', name: 'n', extra: { b: '2', a: '1' } });
  assert.deepEqual([full.purpose, full.tenant, full.name, full.extra, full.unbound], ['p', 't', 'n', { a: '1', b: '2' }, false]);
  const token = sealer.seal(full, 'x');
  assert.equal(sealer.open(new Context('p', { name: 'n', tenant: 't', extra: { a: '1', b: '2' } }), token).toString(), 'x');
  fails(() => sealer.open(new Context('p', { tenant: 't', name: 'n', extra: {} }), token), 'context-mismatch');
  fails(() => sealer.open(new Context('p', { tenant: 't', name: 'n', extra: { a: '1', b: '' } }), token), 'context-mismatch');
  const loose = sealer.seal(Context.none(), 'x');
  assert.equal(sealer.open(Context.none(), loose).toString(), 'x');
  assert.match(format('%o', full), /Context .*purpose: 'p'/s);
  assert.throws(() => {
    full.purpose = 'q';
  }, TypeError);
});

test('secrets by name', () => {
  const vault = load({ DB_PASSWORD: 'correct horse', OPTIONAL: '' });
  const secret = vault.secret('DB_PASSWORD');
  assert.equal(secret.exposeText(), 'correct horse');
  assert.deepEqual([secret.sourceKind, secret.version, secret.notes], ['variable', undefined, []]);
  assert.ok(secret.source.includes('DB_PASSWORD'));
  assert.equal(vault.optionalSecret('OPTIONAL'), undefined);
  assert.equal(vault.getSecret('DB_PASSWORD'), 'correct horse');
  assert.equal(vault.getSecret('OPTIONAL', false), undefined);
  assert.equal(vault.getSecret('NOBODY', false), undefined);
  fails(() => vault.getSecret('NOBODY'), 'not-found');
  fails(() => vault.getSecret('not a name', false), 'malformed');
  fails(() => load({ A_FILE: path.join(directory, 'none') }).getSecret('A', false), 'io');
  const empty = path.join(directory, 'empty');
  fs.writeFileSync(empty, '\n');
  fails(() => load({ A_FILE: empty }).getSecret('A', false), 'config');
  const bytes = path.join(directory, 'bytes');
  fs.writeFileSync(bytes, Buffer.from([255, 0]));
  const binary = load({ BYTES_FILE: bytes }).secret('BYTES');
  assert.deepEqual(binary.exposeSecret(), Buffer.from([255, 0]));
  fails(() => binary.exposeText(), 'malformed');
  binary.exposeSecret().fill(0);
  assert.deepEqual(binary.exposeSecret(), Buffer.alloc(2));
});

test('a refresh takes a new key', () => {
  const rotated = path.join(directory, 'rotated');
  fs.writeFileSync(rotated, key);
  const own = Sealer.fromKeyFile(rotated);
  const before = own.primary();
  fs.writeFileSync(rotated, randomBytes(32).toString('hex'));
  own.refresh();
  assert.notEqual(own.primary(), before);
  fs.rmSync(rotated);
  fails(() => own.refresh(), 'io');
  own.seal(context, 'still works');
});

test('nothing of a vault or a secret is shown', () => {
  const vault = load({ DB_PASSWORD: 'correct horse' });
  const secret = vault.secret('DB_PASSWORD');
  for (const object of [vault, sealer, secret]) {
    for (const shown of [format('%o', object), format('', object), JSON.stringify({ object }), JSON.stringify(Object.assign({}, object))])
      assert.ok(!/correct|horse/.test(shown) && !shown.includes(key.slice(0, 8)), shown);
  }
  assert.equal(format('%o', vault), 'Vault [redacted]');
  assert.ok(!format('%s %s', vault, sealer).includes(key.slice(0, 8)));
  fails(() => `${secret}`, 'usage');
  fails(() => secret + '', 'usage');
});

test('modules of both kinds give the same', async () => {
  const imported = await import('vault-core');
  assert.equal(imported.Vault, Vault);
  assert.deepEqual(Object.keys(require('vault-core')).sort(), Object.keys(imported).filter((name) => /^[A-Z]|^inspect$/.test(name) && name !== 'module.exports').sort());
});

test('worker threads load their own, and end', async () => {
  const token = sealer.seal(context, 'x');
  const program = `
    const { parentPort, workerData } = require('node:worker_threads');
    const { Context, Sealer } = require('vault-core');
    const sealer = Sealer.fromKeyFile(workerData.keyFile);
    const context = new Context('user-secret', { tenant: '42', name: 'prod_db' });
    for (let at = 0; at < 2000; at++) sealer.open(context, sealer.seal(context, workerData.token));
    let code;
    try { sealer.open(context, 'x'); } catch (error) { code = error.code; }
    parentPort.postMessage([sealer.open(context, workerData.token).toString(), code]);`;
  const answers = Array.from({ length: 4 }, () => new Promise((resolve, reject) => {
    const worker = new Worker(program, { eval: true, workerData: { keyFile, token } });
    let answer;
    worker.on('message', (message) => (answer = message)).on('error', reject).on('exit', () => resolve(answer));
  }));
  for (const answer of await Promise.all(answers)) assert.deepEqual(answer, ['x', 'malformed']);
  assert.equal(sealer.open(context, token).toString(), 'x');
});

test('a process ends by itself', () => {
  const program = `
    const { Context, Sealer } = require('vault-core');
    const sealer = Sealer.fromKeyFile(process.argv[1]);
    globalThis.kept = sealer.seal(Context.none(), 'x');`;
  execFileSync(process.execPath, ['-e', program, keyFile], { cwd: __dirname, timeout: 60_000 });
});

test('memory stays flat over 10^6 calls', () => {
  const program = `
    const { Context, Sealer } = require('vault-core');
    const sealer = Sealer.fromKeyFile(process.argv[1]);
    const context = new Context('user-secret', { tenant: '42', name: 'prod_db', extra: { a: 'b' } });
    const long = 'x'.repeat(5000);
    const round = (calls) => {
      for (let at = 0; at < calls; at += 5) {
        const token = sealer.seal(context, 'correct horse');
        sealer.open(context, token);
        try { sealer.open(Context.none(), token); } catch {}
        sealer.openMany(sealer.sealMany([[context, 'a'], [context, 'b']]).map((each) => [context, each]));
        if (at % 5000 === 0) { sealer.seal(context, long); Sealer.fromKeyFile(process.argv[1]); }
      }
      gc();
      return process.memoryUsage.rss();
    };
    round(300_000);
    const before = round(100_000), after = round(1_000_000);
    console.log(before, after);
    if (after > before + 8 * 2 ** 20) process.exit(1);`;
  execFileSync(process.execPath, ['--expose-gc', '--max-semi-space-size=2', '-e', program, keyFile], { cwd: __dirname, stdio: 'pipe', timeout: 600_000 });
});
