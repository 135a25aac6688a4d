/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a round trip costs at the very least: two processes that send each
 * other so many bytes over a unix socket, and do nothing else.
 */
#ifndef TESTS_BENCH_PING_PONG_H
#define TESTS_BENCH_PING_PONG_H

#include <stddef.h>

typedef struct PingPong PingPong;

/* Starts the other process, which ends when its peer does. */
PingPong *ping_pong_new(size_t ping, size_t pong);
void ping_pong(PingPong *p);
void ping_pong_free(PingPong *p);

#endif /* TESTS_BENCH_PING_PONG_H */
