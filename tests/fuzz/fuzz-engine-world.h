/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU's engine finds around it when it is fuzzed: two vCPUs, RAM and a
 * tool, all in one thread
 */
#ifndef TESTS_FUZZ_FUZZ_ENGINE_WORLD_H
#define TESTS_FUZZ_FUZZ_ENGINE_WORLD_H

#include "introspection/engine.h"

/* How one input is gone through; so that it always goes the same way. */
typedef struct WorldPlan {
    uint8_t piece;          /* receive so many bytes at a time; 0: all */
    uint8_t lazy;           /* bit N: vCPUs do no work at poll N, N + 8, ... */
    uint8_t unhook_at;      /* QEMU ends the session at this poll; 0: never */
} WorldPlan;

extern IntrospectionEngine *world_engine;

/*
 * Begin a world.  @size bytes of @stream are what the tool has sent, all at
 * once, before it closed its end.  Where QEMU ends the session, it asks for that
 * at half of the polls.  Returns the engine's end of the socket.
 */
int world_begin(const WorldPlan *plan, const void *stream, size_t size);

/*
 * Let everything that is under way come to its end.  Aborts where something
 * of the session is left.
 */
void world_end(void);

/* What the engine has sent up to now. */
GByteArray *world_output(void);

#endif
