/*
 * libvault_testing: everything of libvault, and a vault in memory for the tests of programs that use
 * it. Link a test with this library in the place of libvault, and never what is delivered.
 */

#ifndef VAULT_TESTING_H
#define VAULT_TESTING_H

#include "vault.h"

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// A vault in memory: one fresh key, and these secrets by name. It reads no file and no variable,
// and what it sealed opens nowhere else. vault_free frees it.
//
// Fails with VAULT_CANNOT_SEAL if the operating system gives no randomness, VAULT_USAGE,
// VAULT_MALFORMED or VAULT_TOO_LARGE.
VAULT_MUST_USE
vault_status vault_testing_vault(const vault_pair *secrets,
                                 size_t secrets_len,
                                 vault_handle **vault,
                                 vault_error **error);

// Fails as a call does that meets a bug of the library: with VAULT_UNCLASSIFIED, after a panic that
// does not unwind into the caller. For tests of what a program does then.
VAULT_MUST_USE
vault_status vault_testing_panic(vault_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* VAULT_TESTING_H */
