'use strict';

const { createHash, createHmac, timingSafeEqual } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const path = require('node:path');

const { failure, usage } = require('../src/errors.js');
const { values } = require('./versions.js');

function secrets(vault, name, older = 1) {
  refuseWithoutSecrets();
  const found = values(vault, name, older);
  const listed = new Map();
  // The first is what is written, and comes from the value alone: every process has the same number for it.
  for (const { value } of found) if (!listed.has(digest(value))) listed.set(digest(value), value);
  // What was written under a number of the store, or under none.
  for (const { version, value } of found) if (version !== undefined && !listed.has(version)) listed.set(version, value);
  const secret = found.at(-1).value;
  if (!listed.has(0)) listed.set(0, secret);
  return { secret, secrets: [...listed].map(([version, value]) => ({ version, value })) };
}

function sessionGrace(auth, vault, name, { seconds }) {
  if (!Number.isFinite(seconds) || seconds < 0) throw usage('the grace must be a number of seconds');
  const [current, previous] = values(vault, name, 1);
  const started = Date.now() / 1000;
  const until = (current.created ?? started) + seconds;
  const accepts = () => previous !== undefined && previous.value !== current.value && Date.now() / 1000 < until;

  /** The header with what the version before signed under the current one, and what changed. */
  function resign(header) {
    const changed = [];
    if (typeof header !== 'string' || !accepts()) return { header, changed };
    const cookies = header.split(';').map((each) => {
      const [, spaces, cookie, written] = /^(\s*)([^=]*)=(.*)$/s.exec(each) ?? [];
      const resigned = written && signedAnew(written.trim(), previous.value, current.value);
      if (!resigned) return each;
      changed.push({ name: cookie.trim(), value: resigned });
      return `${spaces}${cookie}=${resigned}`;
    });
    return { header: changed.length > 0 ? cookies.join(';') : header, changed };
  }

  /** The session's cookie for the browser, with the attributes that Better Auth gives it. */
  async function setCookies(changed) {
    const { sessionToken, dontRememberToken } = (await auth.$context).authCookies;
    const forgets = changed.some((each) => each.name === dontRememberToken.name);
    return changed.flatMap(({ name: cookie, value }) => {
      const known = [sessionToken, dontRememberToken].find((each) => each.name === cookie);
      if (known === undefined) return [];
      const { maxAge, path: at = '/', domain, sameSite, secure, httpOnly, partitioned } = known.attributes ?? known.options;
      const parts = [`${cookie}=${value}`];
      if (maxAge !== undefined && !forgets) parts.push(`Max-Age=${Math.floor(maxAge)}`);
      if (domain) parts.push(`Domain=${domain}`);
      parts.push(`Path=${at}`);
      if (httpOnly) parts.push('HttpOnly');
      if (secure) parts.push('Secure');
      if (sameSite) parts.push(`SameSite=${sameSite[0].toUpperCase()}${sameSite.slice(1)}`);
      if (partitioned) parts.push('Partitioned');
      return [parts.join('; ')];
    });
  }

  return {
    middleware(request, response, next) {
      const { header, changed } = resign(request.headers.cookie);
      if (changed.length === 0) return next();
      request.headers.cookie = header;
      setCookies(changed).then((cookies) => {
        for (const cookie of cookies) response.appendHeader('Set-Cookie', cookie);
        next();
      }, next);
    },
    handler(handle) {
      return async (request, ...others) => {
        const { header, changed } = resign(request.headers.get('cookie'));
        if (changed.length === 0) return handle(request, ...others);
        const headers = new Headers(request.headers);
        headers.set('cookie', header);
        const response = await handle(new Request(request, { headers }), ...others);
        const answered = new Response(response.body, response);
        // What Better Auth set itself comes last, and holds.
        const own = answered.headers.getSetCookie();
        answered.headers.delete('set-cookie');
        for (const cookie of [...(await setCookies(changed)), ...own]) answered.headers.append('set-cookie', cookie);
        return answered;
      };
    },
  };
}

/** A cookie's value with a new signature where the old one is right; otherwise nothing. */
function signedAnew(written, before, now) {
  let value;
  try {
    value = decodeURIComponent(written);
  } catch {
    return undefined;
  }
  const dot = value.lastIndexOf('.');
  const given = Buffer.from(value.slice(dot + 1), 'base64');
  const sign = (key) => createHmac('sha256', key).update(value.slice(0, dot)).digest();
  if (dot < 1 || given.length !== 32 || !timingSafeEqual(given, sign(before))) return undefined;
  return encodeURIComponent(`${value.slice(0, dot)}.${sign(now).toString('base64')}`);
}

/** A version's number from its value, never one that a store counts up to. */
function digest(value) {
  return 2 ** 30 + (createHash('sha256').update('vault-core/better-auth\0').update(value).digest().readUInt32BE() >>> 2);
}

/** Releases before 1.5 know no `secrets`, and would sign with a default that everybody knows. */
function refuseWithoutSecrets() {
  for (const from of [path.join(process.cwd(), 'package.json'), require.main?.filename, __filename]) {
    const version = from && installed(from);
    if (!version) continue;
    const [major, minor] = version.split('.').map(Number);
    if (major > 1 || (major === 1 && minor >= 5)) return;
    throw failure(
      'config',
      `Better Auth ${version} has no \`secrets\`: install 1.5 or newer, or give it \`secret: vault.getSecret(…)\``,
    );
  }
}

/** The version of the Better Auth that a module there gets. */
function installed(from) {
  let entry;
  try {
    entry = createRequire(from).resolve('better-auth');
  } catch {
    return undefined;
  }
  for (let directory = path.dirname(entry); directory !== path.dirname(directory); directory = path.dirname(directory)) {
    try {
      const { name, version } = JSON.parse(readFileSync(path.join(directory, 'package.json'), 'utf8'));
      if (name === 'better-auth') return version;
    } catch {
      continue;
    }
  }
  return undefined;
}

module.exports = { secrets, sessionGrace };
