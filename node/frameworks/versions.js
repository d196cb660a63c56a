'use strict';

const { VaultError } = require('../src/errors.js');

/**
 * A secret's current value, and those before it: `older` versions of the store; or where a file or variable
 * delivers the secret, what delivers NAME_PREVIOUS beside it, if anything does.
 */
function values(vault, name, older) {
  const current = vault.secret(name);
  const listed = [{ version: current.version, value: current.exposeText() }];
  if (current.version !== undefined) {
    const versions = vault.versions(name);
    listed[0].created = versions.find((each) => each.version === current.version)?.created;
    for (const { version, created } of versions.filter((each) => each.version < current.version).slice(0, older))
      listed.push({ version, created, value: vault.getSecret(`${name}@${version}`) });
  } else if (older > 0) {
    const previous = optional(vault, `${name}_PREVIOUS`);
    if (previous !== undefined) listed.push({ value: previous });
  }
  return listed;
}

function optional(vault, name) {
  try {
    return vault.getSecret(name);
  } catch (error) {
    if (error instanceof VaultError && error.code === 'not-found') return undefined;
    throw error;
  }
}

module.exports = { values };
