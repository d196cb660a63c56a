'use strict';

// Builds build/vault_core.node: native/*.c, vault-ffi/native/parts.c and libvault in one file that needs no other
// library.
// Runs when the package is installed. Where that file is and the sources of the library are not, as
// in a packed package, there is nothing to do. Cargo's own options go into CARGO_BUILD_FLAGS.

const { execFileSync } = require('node:child_process');
const { existsSync, mkdirSync, renameSync } = require('node:fs');
const path = require('node:path');

const project = path.resolve(__dirname, '..');
const sources = ['addon.c', 'values.c'].map((name) => path.join(__dirname, 'native', name));
const made = path.join(__dirname, 'build/vault_core.node');

if (existsSync(sources[0])) {
  build();
} else if (!existsSync(made)) {
  throw new Error('vault-core was packed without its library: run npm pack in a checkout after npm install');
}

function build() {
  const flags = (process.env.CARGO_BUILD_FLAGS ?? '').split(' ').filter(Boolean);
  run('cargo', ['build', '-p', 'vault-ffi', '--release', '--locked', ...flags], project);
  const library = path.resolve(project, process.env.CARGO_TARGET_DIR ?? 'target', 'release/libvault_ffi.a');
  mkdirSync(path.dirname(made), { recursive: true });
  // Only the module's own entries are visible: another copy of the library in the process does not
  // meet this one.
  const link =
    process.platform === 'darwin'
      ? ['-bundle', '-undefined', 'dynamic_lookup', '-Wl,-dead_strip', '-framework', 'Security', '-liconv']
      : ['-shared', '-Wl,--exclude-libs,ALL', '-Wl,--gc-sections', '-Wl,-s', '-lpthread', '-ldl', '-lm'];
  const between = `${made}.${process.pid}`;
  run(process.env.CC ?? 'cc', [
    ...['-std=c11', '-O2', '-fPIC', '-fvisibility=hidden', '-Wall', '-Wextra', '-Werror'],
    ...['-I', headers(), ...['include', 'native'].flatMap((name) => ['-I', path.join(project, 'vault-ffi', name)])],
    ...[...sources, path.join(project, 'vault-ffi/native/parts.c'), library, ...link, '-o', between],
  ]);
  renameSync(between, made);
}

/** Those that this package was developed with, or else those that came with Node. */
function headers() {
  const own = path.join(__dirname, 'node_modules/node-api-headers/include');
  const nodes = path.resolve(process.execPath, '../../include/node');
  const found = [own, nodes].find((directory) => existsSync(path.join(directory, 'node_api.h')));
  if (found === undefined)
    throw new Error(`no node_api.h in ${nodes}: run npm install in ${__dirname} first, which fetches it`);
  return found;
}

function run(program, given, cwd) {
  execFileSync(program, given, { cwd, stdio: ['ignore', 'inherit', 'inherit'] });
}
