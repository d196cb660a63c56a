'use strict';

// Seal and open from Node beside node:crypto doing the same two layers, in one run:
//
//     node benches/node/compare.js
//
// Prints nanoseconds for each call, single and in a batch of 10,000, and the ratios; then what loading
// costs in time and memory beside node:zlib, and the size of the package. Rounds of all subjects take
// turns, and the figures are medians, because machines are noisy. ROUNDS is 25 unless it is given.

const { execFileSync } = require('node:child_process');
const { createCipheriv, createDecipheriv, randomBytes } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const packaged = path.resolve(__dirname, '../../node');
const { Context, Sealer } = require(packaged);

const ROUNDS = Number(process.env.ROUNDS ?? 25);
const CALLS = 1000;
const BATCH = 10_000;
const BATCHES = /batch$|10,000 calls$/;
const MASTER = randomBytes(32);

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'vault-bench-'));
const keyFile = path.join(directory, 'kek');
fs.writeFileSync(keyFile, randomBytes(32).toString('hex'));
console.log(`Node ${process.version}, ${os.cpus()[0].model}, load ${os.loadavg()[0].toFixed(1)}`);
const sealer = Sealer.fromKeyFile(keyFile);
for (const size of [64, 1024]) calls(randomBytes(size));
loading();
fs.rmSync(directory, { recursive: true });
const [packed] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: packaged, stdio: 'pipe' }));
console.log(`\npackage: ${(packed.size / 1e6).toFixed(2)} MB packed, ${(packed.unpackedSize / 1e6).toFixed(2)} MB installed`);

function calls(secret) {
  const context = new Context('user-secret', { tenant: '42', name: 'prod_db' });
  const token = sealer.seal(context, secret);
  const bound = Buffer.from('user-secret\x0042\x00prod_db');
  const layered = sealLayers(bound, secret);
  const secrets = Array.from({ length: BATCH }, (_, at) => [new Context('user-secret', { tenant: `${at}`, name: 'prod_db' }), secret]);
  const tokens = sealer.sealMany(secrets).map((each, at) => [secrets[at][0], each]);
  const subjects = {
    'vault seal': () => sealer.seal(context, secret),
    'vault seal, new context': () => sealer.seal(new Context('user-secret', { tenant: '42', name: 'prod_db' }), secret),
    'vault seal, 10,000 calls': () => secrets.map(([bound, bytes]) => sealer.seal(bound, bytes)),
    'vault seal, batch': () => sealer.sealMany(secrets),
    'node:crypto seal': () => sealLayers(bound, secret),
    'vault open': () => sealer.open(context, token),
    'vault open, 10,000 calls': () => tokens.map(([bound, sealed]) => sealer.open(bound, sealed)),
    'vault open, batch': () => sealer.openMany(tokens),
    'node:crypto open': () => openLayers(bound, layered),
  };
  const times = Object.fromEntries(Object.keys(subjects).map((name) => [name, []]));
  for (let round = -2; round < ROUNDS; round++) {
    for (const [name, call] of Object.entries(subjects)) {
      const repeats = BATCHES.test(name) ? 1 : CALLS;
      const start = process.hrtime.bigint();
      for (let at = 0; at < repeats; at++) call();
      const taken = Number(process.hrtime.bigint() - start);
      if (round >= 0) times[name].push(taken / (BATCHES.test(name) ? BATCH : CALLS));
    }
  }
  const median = (name) => times[name].sort((a, b) => a - b)[ROUNDS >> 1];
  console.log(`\n${secret.length} bytes`);
  for (const name of Object.keys(subjects)) console.log(`  ${name.padEnd(26)}${median(name).toFixed(0).padStart(8)} ns`);
  for (const verb of ['seal', 'open']) {
    const own = median(`vault ${verb}`);
    const ratio = (median(`node:crypto ${verb}`) / own).toFixed(2);
    const batched = (median(`vault ${verb}, batch`) / median(`vault ${verb}, 10,000 calls`)).toFixed(2);
    console.log(`  ${verb}: ${ratio} times as fast as node:crypto, batch ${batched} of its calls one by one`);
  }
}

/** A fresh data key seals the secret, and a master key the data key; the result is text. */
function sealLayers(bound, secret) {
  const key = randomBytes(32);
  const [inner, outer] = [encrypt(key, bound, secret), encrypt(MASTER, bound, key)];
  return `${outer.toString('base64url')}.${inner.toString('base64url')}`;
}

function openLayers(bound, token) {
  const [outer, inner] = token.split('.').map((part) => Buffer.from(part, 'base64url'));
  return decrypt(decrypt(MASTER, bound, outer), bound, inner);
}

function encrypt(key, bound, plain) {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(bound);
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function decrypt(key, bound, sealed) {
  const cipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12)).setAAD(bound);
  cipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([cipher.update(sealed.subarray(12, -16)), cipher.final()]);
}

function loading() {
  console.log('\nloading');
  for (const name of ['node:zlib', packaged]) {
    const program = `
      const before = process.memoryUsage.rss(), start = process.hrtime.bigint();
      require(process.argv[1]);
      console.log(Number(process.hrtime.bigint() - start) / 1e6, (process.memoryUsage.rss() - before) / 1e6);`;
    const runs = Array.from({ length: 7 }, () => execFileSync(process.execPath, ['-e', program, name]).toString().split(' ').map(Number));
    const [time, memory] = [0, 1].map((at) => runs.map((run) => run[at]).sort((a, b) => a - b)[3]);
    console.log(`  ${path.basename(name).padEnd(26)}${time.toFixed(1).padStart(8)} ms${memory.toFixed(1).padStart(8)} MB`);
  }
}

