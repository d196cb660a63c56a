/**
 * A vault in memory, for the tests of programs that use vault-core.
 *
 * Its key is made when it is and gone when it is, so that nothing that it sealed can be opened by
 * anything else, ever. It reads no variable and no file of others. A package of its own, installed
 * from the checkout that vault-core is installed from, keeps it out of what is delivered: name it under
 * `devDependencies`.
 *
 * ```js
 * const vault = TestVault.new({ DB_PASSWORD: 'correct horse' });
 * vault.getSecret('DB_PASSWORD'); // 'correct horse'
 * ```
 */
import { Vault } from '../index.js';

/** A vault in memory: one fresh key, and the secrets that it is given. */
export class TestVault extends Vault {
  /** A vault with these secrets by name, as if variables of their names were set. */
  static new(secrets?: Record<string, string>): TestVault;
  /** Nothing: its key never changes. */
  refresh(): void;
}
