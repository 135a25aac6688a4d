/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a round trip costs at the very least.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib.h>
#include "ping-pong.h"

struct PingPong {
    int fd;
    pid_t child;
    size_t ping;
    size_t pong;
    uint8_t *buf;
};

/* False at the end of the stream. */
static bool receive(int fd, uint8_t *buf, size_t size)
{
    while (size) {
        ssize_t n = recv(fd, buf, size, 0);

        if (n <= 0) {
            return false;
        }
        buf += n;
        size -= n;
    }
    return true;
}

static bool transmit(int fd, const uint8_t *buf, size_t size)
{
    return send(fd, buf, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void answer(const PingPong *p, int fd)
{
    while (receive(fd, p->buf, p->ping) && transmit(fd, p->buf, p->pong)) {
        /* until the peer has gone */
    }
}

PingPong *ping_pong_new(size_t ping, size_t pong)
{
    PingPong *p = g_new0(PingPong, 1);
    int fds[2];

    p->ping = ping;
    p->pong = pong;
    p->buf = g_malloc0(MAX(ping, pong));
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) {
        g_error("socketpair: %s", g_strerror(errno));
    }
    p->child = fork();
    switch (p->child) {
    case -1:
        g_error("fork: %s", g_strerror(errno));
    case 0:
        close(fds[0]);
        answer(p, fds[1]);
        _exit(0);
    }
    close(fds[1]);
    p->fd = fds[0];
    return p;
}

void ping_pong(PingPong *p)
{
    if (!transmit(p->fd, p->buf, p->ping) ||
        !receive(p->fd, p->buf, p->pong)) {
        g_error("ping-pong: the other process is gone");
    }
}

void ping_pong_free(PingPong *p)
{
    /* other children have our end of the socket, too */
    shutdown(p->fd, SHUT_RDWR);
    close(p->fd);
    waitpid(p->child, NULL, 0);
    g_free(p->buf);
    g_free(p);
}
