/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GDB itself, measured from within.  It reads its commands from a pipe, as
 * somebody would type them.  Anything unexpected ends the program.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <glib.h>
#include "gdb-program.h"

struct GdbProgram {
    GPid pid;
    FILE *commands;
    FILE *output;
};

static G_GNUC_PRINTF(2, 3)
void command(GdbProgram *gdb, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(gdb->commands, fmt, ap);
    va_end(ap);
    fflush(gdb->commands);
}

static double next_value(GdbProgram *gdb)
{
    g_autofree char *line = NULL;
    size_t size = 0;
    double value;

    while (getline(&line, &size, gdb->output) >= 0) {
        const char *said = strstr(line, "bench: ");

        if (said && sscanf(said, "bench: %lf", &value) == 1) {
            return value;
        }
        if (said) {
            g_error("GDB: %s", said);
        }
    }
    g_error("GDB has ended: what it said is above");
}

GdbProgram *gdb_program_new(const char *script, uint16_t port, uint64_t busy)
{
    char *argv[] = { (char *)"gdb", (char *)"-q", (char *)"-nx",
                     (char *)"-x", (char *)script, NULL };
    GdbProgram *gdb = g_new0(GdbProgram, 1);
    GError *err = NULL;
    int in, out;

    if (!g_spawn_async_with_pipes(NULL, argv, NULL,
                                  G_SPAWN_SEARCH_PATH |
                                  G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                                  &gdb->pid, &in, &out, NULL, &err)) {
        g_error("%s", err->message);
    }
    gdb->commands = fdopen(in, "w");
    gdb->output = fdopen(out, "r");
    command(gdb, "python connect(%u, %#" PRIx64 ")\n", port, busy);
    next_value(gdb);
    return gdb;
}

void gdb_program_free(GdbProgram *gdb)
{
    command(gdb, "disconnect\nquit\n");
    fclose(gdb->commands);
    while (fgetc(gdb->output) != EOF) {
        /* until it has ended */
    }
    fclose(gdb->output);
    g_spawn_close_pid(gdb->pid);
    g_free(gdb);
}

double gdb_program_call(GdbProgram *gdb, const char *function,
                        uint64_t address, uint64_t counter)
{
    command(gdb, "python %s(%#" PRIx64 ", %#" PRIx64 ")\n", function, address,
            counter);
    return next_value(gdb);
}
