/*
 * What the library frees was wiped: this program takes the place of free() and looks.
 *
 *   wiped DIRECTORY
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vault.h"

#define WATCHED 8

/* glibc's own, which the definition below hides. */
void __libc_free(void *block);

static volatile const unsigned char *watched[WATCHED];
static size_t sizes[WATCHED];
static int freed, dirty;

void free(void *block)
{
    size_t at, byte;
    for (at = 0; block != NULL && at < WATCHED; at++) {
        if (watched[at] != block)
            continue;
        for (byte = 0; byte < sizes[at]; byte++)
            dirty |= watched[at][byte];
        watched[at] = NULL;
        freed++;
    }
    __libc_free(block);
}

static void watch(size_t at, const uint8_t *data, size_t len)
{
    int something = 0;
    size_t byte;
    for (byte = 0; byte < len; byte++)
        something |= data[byte];
    if (len == 0 || something == 0) {
        fprintf(stderr, "nothing to watch at %lu\n", (unsigned long)at);
        exit(1);
    }
    watched[at] = data;
    sizes[at] = len;
}

static void must(vault_status status)
{
    if (status != VAULT_OK) {
        fprintf(stderr, "%s\n", vault_status_name(status));
        exit(1);
    }
}

int main(int count, char **arguments)
{
    char path[4096];
    vault_config *config = NULL;
    vault_handle *vault = NULL;
    vault_buf *token = NULL, *secret = NULL, *value = NULL;
    vault_resolved *resolved = NULL;
    vault_batch *batch = NULL;
    vault_context context;
    vault_item item;
    const uint8_t *data;
    size_t len;
    if (count != 2)
        return 2;
    memset(&context, 0, sizeof context);
    context.unbound = 1;
    sprintf(path, "%.4000s/vault.toml", arguments[1]);
    must(vault_config_from_file(path, strlen(path), NULL, 0, &config, NULL));
    must(vault_load(config, &vault, NULL));
    must(vault_seal(vault, &context, (const uint8_t *)"correct horse", 13, &token, NULL));
    must(vault_open(vault, &context, (const char *)vault_buf_data(token), vault_buf_len(token), &secret, NULL));
    must(vault_secret(vault, "DB_PASSWORD", 11, &resolved, NULL));
    must(vault_legacy_seal(vault, "flowfile", 8, "fernet", 6, NULL, 0, (const uint8_t *)"probe", 5, &value, NULL));
    item.context = &context;
    item.data = vault_buf_data(token);
    item.len = vault_buf_len(token);
    must(vault_open_batch(vault, &item, 1, &batch, NULL));
    watch(0, vault_buf_data(token), vault_buf_len(token));
    watch(1, vault_buf_data(secret), vault_buf_len(secret));
    data = vault_resolved_value(resolved, &len);
    watch(2, data, len);
    data = vault_batch_data(batch, 0, &len);
    watch(3, data, len);
    watch(4, vault_buf_data(value), vault_buf_len(value));
    vault_buf_free(token);
    vault_buf_free(secret);
    vault_buf_free(value);
    vault_resolved_free(resolved);
    vault_batch_free(batch);
    vault_free(vault);
    vault_config_free(config);
    if (freed != 5 || dirty != 0) {
        fprintf(stderr, "%d of 5 blocks were seen freed, %s\n", freed, dirty != 0 ? "not wiped" : "wiped");
        return 1;
    }
    return 0;
}
