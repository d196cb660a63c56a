'use strict';

function secrets(vault, name, older = 1) {
  const current = vault.secret(name);
  const version = current.version ?? 0;
  const listed = [{ version, value: current.exposeText() }];
  if (version > 0)
    for (const { version: number } of vault.versions(name).filter((each) => each.version < version).slice(0, older))
      listed.push({ version: number, value: vault.getSecret(`${name}@${number}`) });
  return listed;
}

module.exports = { secrets };
