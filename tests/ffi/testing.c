/* A vault in memory, and a panic that does not leave the library. */
#include <stdio.h>
#include <string.h>

#include "vault_testing.h"

#define CHECK(condition)                                                    \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "testing.c:%d: %s\n", __LINE__, #condition);    \
            return 1;                                                       \
        }                                                                   \
    } while (0)

int main(void)
{
    vault_pair secret;
    vault_context context;
    vault_handle *vault = NULL, *other = NULL;
    vault_resolved *found = NULL;
    vault_buf *token = NULL, *opened = NULL;
    vault_error *error = NULL;
    int round;

    secret.key.data = "DB_PASSWORD";
    secret.key.len = 11;
    secret.value.data = "correct horse";
    secret.value.len = 13;
    memset(&context, 0, sizeof context);
    context.purpose.data = "user-secret";
    context.purpose.len = 11;

    CHECK(vault_testing_vault(&secret, 1, &vault, &error) == VAULT_OK);
    CHECK(vault_secret(vault, "DB_PASSWORD", 11, &found, &error) == VAULT_OK);
    CHECK(strcmp((const char *)vault_resolved_value(found, NULL), "correct horse") == 0);
    vault_resolved_free(found);
    found = NULL;
    CHECK(vault_secret(vault, "DB_PASSWORD@1", 13, &found, NULL) == VAULT_NOT_FOUND);
    CHECK(vault_secret(vault, "OTHER", 5, &found, NULL) == VAULT_NOT_FOUND);
    CHECK(vault_optional_secret(vault, "OTHER", 5, &found, NULL) == VAULT_NOT_FOUND);
    CHECK(vault_refresh(vault, &error) == VAULT_OK);
    CHECK(vault_seal(vault, &context, (const uint8_t *)"sk-1", 4, &token, &error) == VAULT_OK);
    CHECK(vault_open(vault, &context, (const char *)vault_buf_data(token), vault_buf_len(token), &opened, &error) == VAULT_OK);
    CHECK(strcmp((const char *)vault_buf_data(opened), "sk-1") == 0);
    vault_buf_free(opened);
    opened = NULL;

    /* Another one has another key. */
    CHECK(vault_testing_vault(NULL, 0, &other, &error) == VAULT_OK);
    CHECK(vault_open(other, &context, (const char *)vault_buf_data(token), vault_buf_len(token), &opened, NULL) ==
          VAULT_UNKNOWN_KEY);
    secret.key.len = 0;
    CHECK(vault_testing_vault(&secret, 1, &other, NULL) == VAULT_MALFORMED);
    CHECK(vault_testing_vault(NULL, 1, &other, NULL) == VAULT_USAGE);
    CHECK(vault_testing_vault(NULL, 0, NULL, NULL) == VAULT_USAGE);

    for (round = 0; round < 10; round++) {
        CHECK(vault_testing_panic(&error) == VAULT_UNCLASSIFIED);
        CHECK(vault_error_status(error) == VAULT_UNCLASSIFIED && vault_error_message(error)[0] != '\0');
        vault_error_free(error);
        error = NULL;
        CHECK(vault_testing_panic(NULL) == VAULT_UNCLASSIFIED);
    }
    CHECK(vault_verify(vault, (const char *)vault_buf_data(token), vault_buf_len(token), &error) == VAULT_OK);
    vault_buf_free(token);
    vault_free(vault);
    vault_free(other);
    printf("testing: a vault in memory, 20 panics\n");
    return 0;
}
