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

/** An error of this package's own. */
function failure(code, message) {
  return new VaultError(STATUS[code], STATUS[code], message);
}

/** A rule of a call was broken. */
function usage(message) {
  return failure('usage', message);
}

// As in vault.h.
const STATUS = { usage: 2, 'not-found': 6, malformed: 7, config: 15 };

module.exports = { VaultError, failure, usage };
