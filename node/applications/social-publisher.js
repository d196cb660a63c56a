'use strict';

const path = require('node:path');

const { failure } = require('../src/errors.js');
const { Vault, text } = require('../src/vault.js');

class SocialPublisher {
  #vault;
  #keyring;

  constructor(vault, keyring = 'social-publisher') {
    this.#vault = vault;
    this.#keyring = keyring;
  }

  getSecret(name, required = false) {
    const value = this.#vault.getSecret(name, required);
    if (value === '') throw failure('config', notConfigured(name));
    return value;
  }

  validateSecrets() {
    const missing = REQUIRED.filter((name) => {
      try {
        this.getSecret(name, true);
        return false;
      } catch (error) {
        if (error.message !== notConfigured(name)) throw error;
        return true;
      }
    });
    if (missing.length > 0)
      throw failure(
        'not-found',
        `Missing required secrets: ${missing.join(', ')}\nPlease configure these using Docker secrets or environment variables.`,
      );
  }

  encryptToken(token) {
    return this.#vault.sealLegacy(this.#keyring, 'social-v1', token);
  }

  decryptToken(encryptedToken) {
    const format = `${encryptedToken}`.startsWith('v1:') ? 'social-v1' : 'social-cbc-legacy';
    return text(this.#vault.openLegacy(this.#keyring, format, encryptedToken));
  }
}

function getSecret(name, required) {
  return load('secrets.toml').getSecret(name, required);
}

function validateSecrets() {
  load('secrets.toml').validateSecrets();
}

function encryptToken(token) {
  return keyed().encryptToken(token);
}

function decryptToken(encryptedToken) {
  return keyed().decryptToken(encryptedToken);
}

function load(otherwise) {
  const declared = process.env.VAULT_CORE_CONFIG || path.join(__dirname, otherwise);
  return new SocialPublisher(Vault.load(declared, { preset: 'social-publisher' }));
}

let loaded;

/** Loaded once, because deriving a key takes some tens of milliseconds. */
function keyed() {
  loaded ??= load('social-publisher.toml');
  return loaded;
}

/** What the application says, and the preset for it. */
function notConfigured(name) {
  return `Required secret '${name}' is not configured`;
}

const REQUIRED = ['SUPABASE_URL', 'SUPABASE_ANON_KEY', 'SUPABASE_SERVICE_ROLE_KEY', 'ENCRYPTION_KEY'];

module.exports = { SocialPublisher, decryptToken, encryptToken, getSecret, validateSecrets };
