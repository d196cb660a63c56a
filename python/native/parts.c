#define _GNU_SOURCE
#include "parts.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

/* With fewer items, another thread costs more than it gives. */
#define WORTH_A_THREAD 512

typedef struct {
    batch_call *call;
    const vault_handle *vault;
    const vault_item *items;
    size_t count;
    vault_batch *batch;
    vault_error *error;
    pthread_t thread;
    int started;
} part;

static void *run(void *argument)
{
    part *own = argument;
    (void)own->call(own->vault, own->items, own->count, &own->batch, &own->error);
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
    return WORTH_A_THREAD * (most < MOST_PARTS ? most : MOST_PARTS);
}

void parts_run(parts *done, batch_call *call, const vault_handle *vault, const vault_item *items, size_t count)
{
    part each[MOST_PARTS];
    size_t threads = count <= WORTH_A_THREAD ? 1 : (count - 1) / WORTH_A_THREAD + 1;
    sigset_t all;
    sigset_t before;

    done->count = threads;
    done->error = NULL;
    /* Signals are for the threads of the program. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (size_t at = 0; at < threads; at++) {
        size_t first = count / threads * at;
        size_t end = at + 1 == threads ? count : count / threads * (at + 1);
        each[at] = (part){.call = call, .vault = vault, .items = items + first, .count = end - first};
        if (at + 1 < threads) {
            each[at].started = pthread_create(&each[at].thread, NULL, run, &each[at]) == 0;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (size_t at = threads; at-- > 0;) {
        if (each[at].started) {
            pthread_join(each[at].thread, NULL);
        } else {
            run(&each[at]);
        }
        done->batches[at] = each[at].batch;
        if (done->error == NULL) {
            done->error = each[at].error;
        } else {
            vault_error_free(each[at].error);
        }
    }
}

void parts_free(parts *done)
{
    for (size_t at = 0; at < done->count; at++) {
        vault_batch_free(done->batches[at]);
    }
}
