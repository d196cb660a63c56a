'use strict';

// What the application has before: its own token-crypto, and what it wrote in hex until 2026.

const { createCipheriv, createDecipheriv, createHash, randomBytes, scryptSync } = require('node:crypto');

const text = () => process.env.ENCRYPTION_KEY;
const key = () => scryptSync(text(), 'salt', 32);

function encryptToken(token) {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key(), iv);
  const sealed = Buffer.concat([cipher.update(token, 'utf8'), cipher.final()]);
  return `v1:${iv.toString('hex')}:${cipher.getAuthTag().toString('hex')}:${sealed.toString('hex')}`;
}

function decryptToken(value) {
  if (!value.startsWith('v1:')) return value;
  const [, iv, tag, sealed] = value.split(':').map((each) => Buffer.from(each, 'hex'));
  const decipher = createDecipheriv('aes-256-gcm', key(), iv).setAuthTag(tag);
  return Buffer.concat([decipher.update(sealed), decipher.final()]).toString();
}

/** As `createCipher`, which Node no longer has. */
function inHex(token) {
  let made = Buffer.alloc(0);
  let last = Buffer.alloc(0);
  while (made.length < 48) {
    last = createHash('md5').update(last).update(text()).digest();
    made = Buffer.concat([made, last]);
  }
  const cipher = createCipheriv('aes-256-cbc', made.subarray(0, 32), made.subarray(32));
  return cipher.update(token, 'utf8', 'hex') + cipher.final('hex');
}

module.exports = { decryptToken, encryptToken, inHex };
