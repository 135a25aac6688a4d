/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GDB itself, measured from within: what people use today.
 */
#ifndef TESTS_BENCH_GDB_PROGRAM_H
#define TESTS_BENCH_GDB_PROGRAM_H

#include <stdint.h>

typedef struct GdbProgram GdbProgram;

/*
 * Start GDB with our @script, and connect it to the gdbstub at @port of this
 * host.  @busy: the address of a counter that another vCPU makes go up.
 */
GdbProgram *gdb_program_new(const char *script, uint16_t port, uint64_t busy);

/* The guest stays stopped. */
void gdb_program_free(GdbProgram *gdb);

/* Call a function of the script's.  Returns the microseconds that it says. */
double gdb_program_call(GdbProgram *gdb, const char *function,
                        uint64_t address, uint64_t counter);

#endif /* TESTS_BENCH_GDB_PROGRAM_H */
