'use strict';

const path = require('node:path');

const { failure, usage } = require('../src/errors.js');
const { Context, Vault, text } = require('../src/vault.js');

class SocialPublisher {
  #vault;
  #keyring;
  #writes;

  constructor(vault, keyring = 'social-publisher', writes = 'social-v1') {
    if (!['social-v1', 'vs1'].includes(writes)) throw usage('what is written is "social-v1" or "vs1"');
    this.#vault = vault;
    this.#keyring = keyring;
    this.#writes = writes;
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
    if (this.#writes === 'vs1') return this.#vault.seal(CONTEXT, token);
    return this.#vault.sealLegacy(this.#keyring, 'social-v1', token);
  }

  decryptToken(encryptedToken) {
    const value = `${encryptedToken}`;
    if (TELEGRAM.test(value)) return value;
    if (value.startsWith('vs1.')) return text(this.#vault.open(CONTEXT, value));
    const format = value.startsWith('v1:') ? 'social-v1' : 'social-cbc-legacy';
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
  const writes = process.env.VAULT_CORE_WRITES || undefined;
  return new SocialPublisher(Vault.load(declared, { preset: 'social-publisher' }), undefined, writes);
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

// As the `context` of its columns in vault.toml: the functions are not told of which row a token is.
const CONTEXT = new Context('channel-token');
// A bot's token, which the application stores as it is. No sealed value looks so.
const TELEGRAM = /^[0-9]{5,16}:[A-Za-z0-9_-]{30,64}$/;
const REQUIRED = ['SUPABASE_URL', 'SUPABASE_ANON_KEY', 'SUPABASE_SERVICE_ROLE_KEY', 'ENCRYPTION_KEY'];

module.exports = { SocialPublisher, decryptToken, encryptToken, getSecret, validateSecrets };
