/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much of GDB's remote protocol as it takes to measure QEMU's gdbstub.
 */
#ifndef TESTS_BENCH_GDB_REMOTE_H
#define TESTS_BENCH_GDB_REMOTE_H

#include <stddef.h>
#include <stdint.h>

/* QEMU's gdbstub does not answer with more at once. */
#define GDB_MAX_READ 2048

typedef struct GdbRemote GdbRemote;

/* To @port of this host.  Connecting stops the guest. */
GdbRemote *gdb_connect(uint16_t port);
void gdb_free(GdbRemote *gdb);

void gdb_read(GdbRemote *gdb, uint64_t address, void *buf, size_t size);
void gdb_write(GdbRemote *gdb, uint64_t address, const void *buf, size_t size);
void gdb_set_breakpoint(GdbRemote *gdb, uint64_t address);
void gdb_remove_breakpoint(GdbRemote *gdb, uint64_t address);

/* On writes to the 8 bytes at @address. */
void gdb_set_watchpoint(GdbRemote *gdb, uint64_t address);
void gdb_remove_watchpoint(GdbRemote *gdb, uint64_t address);

/* All of them, to be thrown away. */
void gdb_get_registers(GdbRemote *gdb);

/* The same. */
void gdb_list_threads(GdbRemote *gdb);

/* The guest goes on; it is not waited for. */
void gdb_continue(GdbRemote *gdb);
/* Interrupt the guest that goes on. */
void gdb_interrupt(GdbRemote *gdb);
/* One instruction. */
void gdb_step(GdbRemote *gdb);
/* Until the guest that goes on has stopped by itself. */
void gdb_wait_stop(GdbRemote *gdb);

#endif /* TESTS_BENCH_GDB_REMOTE_H */
