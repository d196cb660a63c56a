/**
 * Drizzle: columns that hold tokens, and members of rows that hold secrets. PostgreSQL, MySQL, SQLite
 * and the others each have a `customType`.
 *
 * ```ts
 * import { customType, pgTable, serial } from 'drizzle-orm/pg-core';
 *
 * const context = new Context('user-secret', { name: 'account.api_key' });
 * const sealed = customType<{ data: string; driverData: string }>(sealedText(() => vault, context));
 * const account = pgTable('account', { id: serial('id').primaryKey(), apiKey: sealed('api_key') });
 * ```
 *
 * Every value of such a column has one context, so a token may be moved from row to row. Where the
 * context needs the row, as its owner, keep a column of text and call `vault.seal` and `vault.open`.
 * Every seal gives another token, so a column cannot be searched: `eq` finds nothing. Drizzle's logger
 * and errors show a statement's parameters, which are tokens.
 */
import type { Context, Sealer } from '../index.js';

/**
 * What a `customType` takes, for secrets that are text. NULL stays NULL. A function gives the sealer
 * when it is first needed, so that tools can read a schema without a key.
 *
 * Statements throw as {@link Sealer.seal} and {@link Sealer.open}.
 */
export function sealedText(
  sealer: Sealer | (() => Sealer),
  context: Context,
): {
  dataType(): string;
  toDriver(secret: string): string;
  fromDriver(token: string): string;
};
