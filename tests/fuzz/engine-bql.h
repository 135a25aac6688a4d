/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A BQL for tests of QEMU's engine without QEMU
 *
 * It is asked for, and only asked for, by who does not have it.  RCU's thread
 * is one of those: it frees with the BQL held.
 */
#ifndef TESTS_FUZZ_ENGINE_BQL_H
#define TESTS_FUZZ_ENGINE_BQL_H

#include <pthread.h>

/* Lets go of the BQL until @cond is signalled. */
void bql_wait(pthread_cond_t *cond);

#endif
