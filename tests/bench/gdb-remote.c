/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * As much of GDB's remote protocol as it takes to measure QEMU's gdbstub, over
 * TCP and with the packets that GDB 13 sends ("set debug remote 1").  Anything
 * unexpected ends the program.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <glib.h>
#include "gdb-remote.h"

#define PACKET_SIZE (2 * GDB_MAX_READ + 64)

struct GdbRemote {
    int fd;
    size_t pos;                 /* of what was received and not looked at */
    size_t len;
    char rx[PACKET_SIZE];
    char packet[PACKET_SIZE];   /* the last answer, terminated */
};

static void transmit(GdbRemote *gdb, const char *data, size_t size)
{
    if (send(gdb->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size) {
        g_error("cannot write to the gdbstub: %s", g_strerror(errno));
    }
}

static char next_char(GdbRemote *gdb)
{
    if (gdb->pos == gdb->len) {
        ssize_t n = recv(gdb->fd, gdb->rx, sizeof(gdb->rx), 0);

        if (n <= 0) {
            g_error("the gdbstub is gone: %s",
                    n ? g_strerror(errno) : "end of file");
        }
        gdb->pos = 0;
        gdb->len = n;
    }
    return gdb->rx[gdb->pos++];
}

static void get_packet(GdbRemote *gdb)
{
    size_t n = 0;
    char c;

    while (next_char(gdb) != '$') {
        /* the acknowledgement of our own packet */
    }
    while ((c = next_char(gdb)) != '#') {
        if (n + 1 == sizeof(gdb->packet)) {
            g_error("the gdbstub sent a packet that is too long");
        }
        gdb->packet[n++] = c;
    }
    gdb->packet[n] = 0;
    next_char(gdb);
    next_char(gdb);
    transmit(gdb, "+", 1);
}

static void put_packet(GdbRemote *gdb, const char *data)
{
    g_autofree char *packet = NULL;
    uint8_t sum = 0;
    const char *p;

    for (p = data; *p; p++) {
        sum += *p;
    }
    packet = g_strdup_printf("$%s#%02x", data, sum);
    transmit(gdb, packet, strlen(packet));
}

static void expect_ok(GdbRemote *gdb)
{
    get_packet(gdb);
    if (strcmp(gdb->packet, "OK")) {
        g_error("the gdbstub answered '%s' instead of OK", gdb->packet);
    }
}

void gdb_read(GdbRemote *gdb, uint64_t address, void *buf, size_t size)
{
    char command[64];
    size_t i;

    g_assert(size <= GDB_MAX_READ);
    snprintf(command, sizeof(command), "m%" PRIx64 ",%zx", address, size);
    put_packet(gdb, command);
    get_packet(gdb);
    if (strlen(gdb->packet) != 2 * size) {
        g_error("the gdbstub answered '%.16s' to '%s'", gdb->packet, command);
    }
    for (i = 0; i < size; i++) {
        ((uint8_t *)buf)[i] = g_ascii_xdigit_value(gdb->packet[2 * i]) << 4 |
                              g_ascii_xdigit_value(gdb->packet[2 * i + 1]);
    }
}

void gdb_write(GdbRemote *gdb, uint64_t address, const void *buf, size_t size)
{
    g_autoptr(GString) command = g_string_new(NULL);
    size_t i;

    g_string_printf(command, "M%" PRIx64 ",%zx:", address, size);
    for (i = 0; i < size; i++) {
        g_string_append_printf(command, "%02x", ((const uint8_t *)buf)[i]);
    }
    put_packet(gdb, command->str);
    expect_ok(gdb);
}

/* @kind: 0 a breakpoint, 2 a watchpoint for writes */
static void put_point(GdbRemote *gdb, char what, int kind, uint64_t address,
                      int size)
{
    g_autofree char *command = g_strdup_printf("%c%d,%" PRIx64 ",%d", what,
                                               kind, address, size);

    put_packet(gdb, command);
    expect_ok(gdb);
}

void gdb_set_breakpoint(GdbRemote *gdb, uint64_t address)
{
    put_point(gdb, 'Z', 0, address, 1);
}

void gdb_remove_breakpoint(GdbRemote *gdb, uint64_t address)
{
    put_point(gdb, 'z', 0, address, 1);
}

void gdb_set_watchpoint(GdbRemote *gdb, uint64_t address)
{
    put_point(gdb, 'Z', 2, address, 8);
}

void gdb_remove_watchpoint(GdbRemote *gdb, uint64_t address)
{
    put_point(gdb, 'z', 2, address, 8);
}

void gdb_get_registers(GdbRemote *gdb)
{
    put_packet(gdb, "g");
    get_packet(gdb);
    if (strlen(gdb->packet) < 2 * 16 * sizeof(uint64_t)) {
        g_error("the gdbstub answered '%.16s' to 'g'", gdb->packet);
    }
}

void gdb_list_threads(GdbRemote *gdb)
{
    put_packet(gdb, "qfThreadInfo");
    while (get_packet(gdb), gdb->packet[0] == 'm') {
        put_packet(gdb, "qsThreadInfo");
    }
    if (strcmp(gdb->packet, "l")) {
        g_error("the gdbstub's list of threads has '%.16s'", gdb->packet);
    }
}

void gdb_continue(GdbRemote *gdb)
{
    put_packet(gdb, "vCont;c:p1.-1");
}

void gdb_wait_stop(GdbRemote *gdb)
{
    get_packet(gdb);
    if (gdb->packet[0] != 'T' && gdb->packet[0] != 'S') {
        g_error("the gdbstub answered '%s' instead of how the guest stopped",
                gdb->packet);
    }
}

void gdb_interrupt(GdbRemote *gdb)
{
    transmit(gdb, "\003", 1);
    gdb_wait_stop(gdb);
}

void gdb_step(GdbRemote *gdb)
{
    put_packet(gdb, "vCont;s:p1.1");
    gdb_wait_stop(gdb);
}

GdbRemote *gdb_connect(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    GdbRemote *gdb = g_new0(GdbRemote, 1);
    int on = 1;

    gdb->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (gdb->fd < 0 || connect(gdb->fd, (struct sockaddr *)&address,
                               sizeof(address)) < 0 ||
        setsockopt(gdb->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
        g_error("cannot connect to the gdbstub at port %u: %s", port,
                g_strerror(errno));
    }
    put_packet(gdb, "qSupported:multiprocess+;vContSupported+");
    get_packet(gdb);
    put_packet(gdb, "?");
    gdb_wait_stop(gdb);
    return gdb;
}

void gdb_free(GdbRemote *gdb)
{
    close(gdb->fd);
    g_free(gdb);
}
