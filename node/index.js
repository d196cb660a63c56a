'use strict';

const { VaultError } = require('./src/errors.js');
const { Context, LegacyKey, Sealer, Secret, Vault, inspect } = require('./src/vault.js');

module.exports = { Context, LegacyKey, Sealer, Secret, Vault, VaultError, inspect };
