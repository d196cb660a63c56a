/* A batch in several threads, for the packages of other languages. */
#ifndef PARTS_H
#define PARTS_H

#include "vault.h"

typedef vault_status batch_call(const vault_handle *, const vault_item *, size_t, vault_batch **, vault_error **);

/* Most items that are given at once, and most parts of them. */
#define MOST_ITEMS 4096
#define MOST_PARTS 64

/* What became of items: parts in the order of the items. */
typedef struct {
    size_t count;
    vault_batch *batches[MOST_PARTS];
    vault_error *error; /* why not every part is there, or NULL */
} parts;

/* How many items to give parts_run at once: as many as its threads do best, which are no more than the
 * processors of the process. */
size_t parts_items(void);

/* Makes the call for at most parts_items() items, in threads that are gone when this returns. What it
 * gives is to be freed. */
void parts_run(parts *done, batch_call *call, const vault_handle *vault, const vault_item *items, size_t count);

void parts_free(parts *done);

#endif
