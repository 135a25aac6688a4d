/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A main loop for tests of QEMU's engine without QEMU: its bottom halves
 */
#include "qemu/osdep.h"
#include "block/aio.h"
#include "qemu/main-loop.h"
#include "engine-bh.h"

typedef struct BottomHalf {
    QEMUBHFunc *cb;
    void *opaque;
} BottomHalf;

/* Not GLib's locks, which ThreadSanitizer does not know. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t scheduled = PTHREAD_COND_INITIALIZER;
static GQueue bottom_halves = G_QUEUE_INIT;     /* under lock */

/* What the linker puts in the place of the functions of these names */

AioContext *__wrap_qemu_get_aio_context(void);
void __wrap_aio_bh_schedule_oneshot_full(AioContext *ctx, QEMUBHFunc *cb,
                                         void *opaque, const char *name);

AioContext *__wrap_qemu_get_aio_context(void)
{
    return NULL;
}

void __wrap_aio_bh_schedule_oneshot_full(AioContext *ctx, QEMUBHFunc *cb,
                                         void *opaque, const char *name)
{
    BottomHalf *bh = g_new(BottomHalf, 1);

    *bh = (BottomHalf) { cb, opaque };
    pthread_mutex_lock(&lock);
    g_queue_push_tail(&bottom_halves, bh);
    pthread_cond_signal(&scheduled);
    pthread_mutex_unlock(&lock);
}

static bool run(bool wait)
{
    g_autofree BottomHalf *bh = NULL;

    pthread_mutex_lock(&lock);
    while (!(bh = g_queue_pop_head(&bottom_halves)) && wait) {
        pthread_cond_wait(&scheduled, &lock);
    }
    pthread_mutex_unlock(&lock);
    if (!bh) {
        return false;
    }
    bql_lock();
    bh->cb(bh->opaque);
    bql_unlock();
    return true;
}

bool bh_run(void)
{
    return run(false);
}

void bh_wait(void)
{
    run(true);
}
