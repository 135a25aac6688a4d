/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A BQL for tests of QEMU's engine without QEMU
 */
#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "engine-bql.h"

/* Not QEMU's mutexes, which know the BQL. */
static pthread_mutex_t bql = PTHREAD_MUTEX_INITIALIZER;
static __thread bool bql_mine;

bool bql_locked(void)
{
    return bql_mine;
}

void bql_lock_impl(const char *file, int line)
{
    g_assert(!bql_mine);
    pthread_mutex_lock(&bql);
    bql_mine = true;
}

void bql_unlock(void)
{
    g_assert(bql_mine);
    bql_mine = false;
    pthread_mutex_unlock(&bql);
}

void bql_wait(pthread_cond_t *cond)
{
    g_assert(bql_mine);
    bql_mine = false;
    pthread_cond_wait(cond, &bql);
    bql_mine = true;
}
