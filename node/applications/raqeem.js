'use strict';

const path = require('node:path');

const { failure } = require('../src/errors.js');
const { Vault } = require('../src/vault.js');

function getSecret(envVar, envFileVar) {
  const file = `${envVar}_FILE`;
  const variables = envFileVar == null ? undefined : { ...process.env, [file]: process.env[envFileVar] };
  const declared = process.env.VAULT_CORE_CONFIG || path.join(__dirname, 'secrets.toml');
  try {
    const value = Vault.load(declared, { preset: 'raqeem', variables }).getSecret(envVar);
    if (value === '') throw failure('config', `Secret is empty: ${envVar} or ${file}`);
    return value;
  } catch (error) {
    if (envFileVar != null) error.message = error.message.replaceAll(file, envFileVar);
    throw error;
  }
}

function getDatabaseUrl() {
  return getSecret('DATABASE_URL');
}

function getBetterAuthSecret() {
  return getSecret('BETTER_AUTH_SECRET');
}

module.exports = { getBetterAuthSecret, getDatabaseUrl, getSecret };
