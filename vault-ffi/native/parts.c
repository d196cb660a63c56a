#define _GNU_SOURCE
#include "parts.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

/* Threads take a part after the other, so that one that is slow holds nobody up. */
#define ITEMS_OF_A_PART (MOST_ITEMS / MOST_PARTS)

/* With fewer parts for each thread, another thread costs more than it gives. */
#define PARTS_OF_A_THREAD 8

#define MOST_THREADS (MOST_PARTS / PARTS_OF_A_THREAD)

typedef struct {
    batch_call *call;
    const vault_handle *vault;
    const vault_item *items;
    size_t count;
    parts *done;
    vault_error *errors[MOST_PARTS];
    atomic_size_t next;
} work;

static void *run(void *argument)
{
    work *all = argument;
    for (size_t part; (part = atomic_fetch_add(&all->next, 1)) < all->done->count;) {
        size_t first = part * ITEMS_OF_A_PART;
        size_t count = all->count - first < ITEMS_OF_A_PART ? all->count - first : ITEMS_OF_A_PART;
        vault_status status =
            all->call(all->vault, all->items + first, count, &all->done->batches[part], &all->errors[part]);
        (void)status; /* the error tells as much */
    }
    return NULL;
}

static size_t processors(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (size_t)CPU_COUNT(&set);
    }
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : (size_t)online;
}

size_t parts_items(void)
{
    size_t most = processors();
    return ITEMS_OF_A_PART * PARTS_OF_A_THREAD * (most < MOST_THREADS ? most : MOST_THREADS);
}

void parts_run(parts *done, batch_call *call, const vault_handle *vault, const vault_item *items, size_t count)
{
    work all = {.call = call, .vault = vault, .items = items, .count = count, .done = done};
    pthread_t others[MOST_THREADS];
    size_t started = 0;

    *done = (parts){.count = (count + ITEMS_OF_A_PART - 1) / ITEMS_OF_A_PART};
    size_t wanted = done->count / PARTS_OF_A_THREAD;
    if (wanted > 1) {
        sigset_t every;
        sigset_t before;
        /* Signals are for the threads of the program. */
        sigfillset(&every);
        pthread_sigmask(SIG_SETMASK, &every, &before);
        while (started + 1 < wanted && pthread_create(&others[started], NULL, run, &all) == 0) {
            started++;
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    run(&all);
    while (started > 0) {
        pthread_join(others[--started], NULL);
    }
    for (size_t part = 0; part < done->count; part++) {
        if (done->error == NULL) {
            done->error = all.errors[part];
        } else {
            vault_error_free(all.errors[part]);
        }
    }
}

void parts_free(parts *done)
{
    for (size_t part = 0; part < done->count; part++) {
        vault_batch_free(done->batches[part]);
    }
}
