'use strict';

const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

// The package beside this one in the checkout, which applications have installed from there as well.
const { Vault } = require('..');

class TestVault extends Vault {
  static new(secrets = {}) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'vault-core-testing-'));
    try {
      fs.writeFileSync(path.join(directory, 'key'), randomBytes(32).toString('hex'), { mode: 0o600 });
      const manifest = path.join(directory, 'vault.toml');
      // With a profile of its own, that of the process is not asked for.
      fs.writeFileSync(manifest, 'version = 1\n[keyring.main]\nsources = ["file:key"]\n[profiles.testing]\n');
      return TestVault.load(manifest, { profile: 'testing', variables: secrets, mounts: directory });
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  }

  refresh() {}
}

module.exports = { TestVault };
