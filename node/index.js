'use strict';

const { VaultError } = require('./src/errors.js');
const { Context, ForeignKey, Sealer, Secret, Vault, inspect } = require('./src/vault.js');

module.exports = { Context, ForeignKey, Sealer, Secret, Vault, VaultError, inspect };
