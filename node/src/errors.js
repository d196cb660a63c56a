'use strict';

const native = require('../build/vault_core.node');

class VaultError extends Error {
  constructor(status, publicStatus, message, hint) {
    super(message);
    const [code, exitCode] = native.status(status);
    this.code = code;
    this.publicCode = publicStatus === status ? code : native.status(publicStatus)[0];
    this.status = status;
    this.exitCode = exitCode;
    if (hint !== undefined) this.hint = hint;
  }

  get name() {
    return 'VaultError';
  }
}

native.onError((status, publicStatus, message, hint) => new VaultError(status, publicStatus, message, hint));

/** The error of a call that breaks a rule. */
function usage(message) {
  return new VaultError(USAGE, USAGE, message);
}

// VAULT_USAGE of vault.h.
const USAGE = 2;

module.exports = { VaultError, usage };
