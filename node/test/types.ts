// Checked by tsc and never run: what the declarations allow, and what they refuse.
import { betterAuth } from 'better-auth';
import { customType as postgres, pgTable, serial } from 'drizzle-orm/pg-core';
import { customType as sqlite } from 'drizzle-orm/sqlite-core';
import { Context, LegacyKey, Sealer, Secret, Vault, VaultError, inspect, type ErrorCode, type Version } from 'vault-core';
import { getSecret } from 'vault-core/applications/raqeem';
import * as social from 'vault-core/applications/social-publisher';
import { secrets, sessionGrace } from 'vault-core/frameworks/better-auth';
import { sealedText } from 'vault-core/frameworks/drizzle';
import { TestVault } from '../testing/index.js';

type Is<A, B> = [A, B] extends [B, A] ? true : never;
function is<A, B>(_: Is<A, B>): void {}

const vault = Vault.load('vault.toml', { profile: 'staging', preset: 'strict', limit: 4096, variables: process.env });
is<typeof vault, Vault>(true);
is<ReturnType<typeof Sealer.fromKeyFile>, Sealer>(true);
const context = new Context('user-secret', { tenant: '42', extra: { row: '7' } });
const sealer: Sealer = vault;

const token = sealer.seal(context, 'sk-1');
is<typeof token, string>(true);
const opened = sealer.open(Context.none(), new Uint8Array());
opened.fill(0);
const many = sealer.openMany(sealer.sealMany([[context, 'a'], [context, Buffer.from('b')]]).map((each) => [context, each] as const));
is<typeof many, Buffer[]>(true);
for (const each of sealer.openEach([[context, token]])) {
  if (each instanceof VaultError) {
    is<typeof each.code, ErrorCode>(true);
    is<typeof each.item, number | undefined>(true);
  } else {
    each.toString();
  }
}

const url = vault.getSecret('DATABASE_URL');
is<typeof url, string>(true);
const maybe = vault.getSecret('SENTRY_DSN', false);
is<typeof maybe, string | undefined>(true);
is<ReturnType<typeof vault.optionalSecret>, Secret | undefined>(true);
is<ReturnType<typeof vault.versions>, Version[]>(true);
is<ReturnType<typeof inspect>['sealedAt'], number>(true);
const key = LegacyKey.fromKeyFile('key', 'social-v1');
key.open('social-v1', key.seal('social-v1', 'x'), { tenant: '42' }).fill(0);

is<ReturnType<typeof getSecret>, string>(true);
const required = social.getSecret('SUPABASE_URL', true);
is<typeof required, string>(true);
const optional = social.getSecret('SUPABASE_URL');
is<typeof optional, string | undefined>(true);

const auth = betterAuth({ ...secrets(vault, 'BETTER_AUTH_SECRET') });
const grace = sessionGrace(auth, vault, 'BETTER_AUTH_SECRET', { seconds: 60 });
is<ReturnType<ReturnType<typeof grace.handler>>, Promise<Response>>(true);
grace.handler(auth.handler);
const sealed = postgres<{ data: string; driverData: string }>(sealedText(() => vault, context));
const account = pgTable('account', { id: serial('id').primaryKey(), apiKey: sealed('api_key') });
is<typeof account.$inferSelect, { id: number; apiKey: string | null }>(true);
sqlite<{ data: string; driverData: string }>(sealedText(vault, context))('api_key').notNull();

const tested: Vault = TestVault.new({ DATABASE_URL: 'postgresql://db/app' });
tested.getSecret('DATABASE_URL');

// @ts-expect-error an option that nobody knows
new Context('user-secret', { tenent: '42' });
// @ts-expect-error a number is no text
new Context('user-secret', { tenant: 42 });
// @ts-expect-error an object is no context
sealer.seal({ purpose: 'user-secret' }, 'x');
// @ts-expect-error a number is no secret
sealer.seal(context, 7);
// @ts-expect-error vaults are loaded
new Vault();
// @ts-expect-error errors are the library's
new VaultError();
// @ts-expect-error a sealer has no secrets by name
sealer.secret('x');
// @ts-expect-error a secret is no text
'postgres://'.concat(vault.secret('x'));
// @ts-expect-error a context never changes
context.tenant = '43';
// @ts-expect-error no such kind
const code: ErrorCode = 'wrong-key';
// @ts-expect-error may be absent
const text: string = vault.getSecret('SENTRY_DSN', false);
