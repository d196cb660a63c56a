'use strict';

// The snippets of README.md and docs/INTEGRATION.md, as they stand there.

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');

const root = path.resolve(__dirname, '../..');
// Inside the package, where its own name and those of the frameworks are found.
const directory = path.join(__dirname, '../build/documents');
fs.rmSync(directory, { recursive: true, force: true });
fs.mkdirSync(path.join(directory, 'keys'), { recursive: true });
fs.writeFileSync(path.join(directory, 'keys/vault_kek_1'), randomBytes(32).toString('hex'));
const environment = { PATH: process.env.PATH, DATABASE_URL: 'postgresql://app:x@db:5432/app' };

function blocks(document, heading, language) {
  const text = fs.readFileSync(path.join(root, document), 'utf8');
  const level = heading.split(' ')[0];
  const section = text.split(`\n${heading}\n`)[1].split(new RegExp(`\n#{1,${level.length}} `))[0];
  return [...section.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'gms'))].map(([, block]) => block);
}

function run(name, block, variables, ...given) {
  const file = path.join(directory, name);
  fs.writeFileSync(file, block);
  return execFileSync(process.execPath, [file, ...given], { cwd: directory, env: { ...environment, ...variables }, encoding: 'utf8' });
}

test('README.md', () => {
  const [block, ...others] = blocks('README.md', '### In Node', 'js');
  assert.equal(others.length, 0);
  assert.equal(run('readme.cjs', block, {}, 'keys/vault_kek_1'), 'correct horse\n');
});

test('docs/INTEGRATION.md', () => {
  fs.writeFileSync(path.join(directory, 'vault.toml'), blocks('docs/INTEGRATION.md', '## Node', 'toml')[0]);
  const found = blocks('docs/INTEGRATION.md', '## Node', 'js');
  assert.equal(found.length, 7);
  for (const [at, block] of found.entries()) {
    const variables = block.includes('sessionGrace(')
      ? { BETTER_AUTH_SECRET: randomBytes(32).toString('base64') }
      : {};
    run(`integration-${at}.mjs`, block, variables);
  }
});
