'use strict';

// A server in the shape of raqeem-backend: Express, Better Auth, Drizzle, PostgreSQL. BETTER_AUTH names the release.

const { betterAuth } = require(process.env.BETTER_AUTH);
const { drizzleAdapter } = require(`${process.env.BETTER_AUTH}/adapters/drizzle`);
const { fromNodeHeaders, toNodeHandler } = require(`${process.env.BETTER_AUTH}/node`);
const { drizzle } = require('drizzle-orm/node-postgres');
const { boolean, pgTable, text, timestamp } = require('drizzle-orm/pg-core');
const express = require('express');
const { Pool } = require('pg');
const { Vault } = require('vault-core');
const { getBetterAuthSecret, getDatabaseUrl } = require('vault-core/applications/raqeem');
const { secrets, sessionGrace } = require('vault-core/frameworks/better-auth');

const stamps = { createdAt: timestamp('created_at').notNull(), updatedAt: timestamp('updated_at').notNull() };
const schema = {
  user: pgTable('users', {
    id: text('id').primaryKey(),
    name: text('name').notNull(),
    email: text('email').notNull().unique(),
    emailVerified: boolean('email_verified').notNull(),
    image: text('image'),
    ...stamps,
  }),
  session: pgTable('sessions', {
    id: text('id').primaryKey(),
    expiresAt: timestamp('expires_at').notNull(),
    token: text('token').notNull().unique(),
    ipAddress: text('ip_address'),
    userAgent: text('user_agent'),
    userId: text('user_id').notNull(),
    ...stamps,
  }),
  account: pgTable('account', {
    id: text('id').primaryKey(),
    accountId: text('account_id').notNull(),
    providerId: text('provider_id').notNull(),
    userId: text('user_id').notNull(),
    accessToken: text('access_token'),
    refreshToken: text('refresh_token'),
    idToken: text('id_token'),
    accessTokenExpiresAt: timestamp('access_token_expires_at'),
    refreshTokenExpiresAt: timestamp('refresh_token_expires_at'),
    scope: text('scope'),
    password: text('password'),
    ...stamps,
  }),
  verification: pgTable('verifications', {
    id: text('id').primaryKey(),
    identifier: text('identifier').notNull(),
    value: text('value').notNull(),
    expiresAt: timestamp('expires_at').notNull(),
    ...stamps,
  }),
};

const vault = Vault.load();
// Releases before 1.5 have one secret.
const signing =
  process.env.BETTER_AUTH === 'better-auth' ? secrets(vault, 'BETTER_AUTH_SECRET') : { secret: getBetterAuthSecret() };
const pool = new Pool({ connectionString: getDatabaseUrl(), max: 4 });
const auth = betterAuth({
  ...signing,
  baseURL: `http://127.0.0.1:${process.env.PORT}`,
  database: drizzleAdapter(drizzle(pool, { schema }), { provider: 'pg', schema }),
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
});

const app = express();
if (process.env.GRACE) app.use(sessionGrace(auth, vault, 'BETTER_AUTH_SECRET', { seconds: Number(process.env.GRACE) }).middleware);
app.all('/api/auth/*path', toNodeHandler(auth));
app.get('/me', async (request, response) => {
  const found = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
  if (found === null) response.status(401).json({});
  else response.json({ email: found.user.email });
});
app.get('/health', async (_, response) => {
  await pool.query('SELECT 1');
  response.json({ ok: true });
});
app.listen(process.env.PORT, '127.0.0.1');
