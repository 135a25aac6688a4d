/*
 * Virtual machine introspection, QEMU's engine: who reads the tool's messages
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/epoll.h>
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "session.h"

/* Many small commands, or several of the largest, in one read. */
#define RECEIVE_SIZE (16 * KVMI_MSG_SIZE)

QEMU_BUILD_BUG_ON(RECEIVE_SIZE < sizeof(struct kvmi_msg_hdr) + KVMI_MSG_SIZE);

static int set_turn(IntrospectionSession *s, int op, uint32_t events)
{
    struct epoll_event event = { .events = events };

    return epoll_ctl(s->receiver.turn, op, s->fd, &event);
}

bool receiver_init(IntrospectionSession *s, Error **errp)
{
    Receiver *r = &s->receiver;

    qemu_sem_init(&r->reader, 1);
    r->buf = g_malloc(RECEIVE_SIZE);
    r->turn = epoll_create1(EPOLL_CLOEXEC);
    if (r->turn < 0 || set_turn(s, EPOLL_CTL_ADD, EPOLLIN) < 0) {
        error_setg_errno(errp, errno, "cannot poll the tool's socket");
        return false;
    }
    return true;
}

void receiver_cleanup(IntrospectionSession *s)
{
    Receiver *r = &s->receiver;

    if (r->turn >= 0) {
        close(r->turn);
    }
    g_free(r->buf);
    error_free(r->broken);
    qemu_sem_destroy(&r->reader);
}

/*
 * Wait until nothing is left to write and, if @readable, until there is
 * something to read.
 */
static bool wait_for_tool(IntrospectionSession *s, bool readable, Error **errp)
{
    struct pollfd fds[] = {
        { },
        { .fd = event_notifier_get_fd(&s->out_notifier), .events = POLLIN },
    };

    for (;;) {
        bool reading = false;

        fds[0] = (struct pollfd) { .fd = s->fd, .events = POLLOUT };
        if (session_flush(s)) {
            if (!readable || qatomic_read(&s->receiver.handed_on)) {
                return true;
            }
            reading = true;
            fds[0] = (struct pollfd) {
                .fd = s->receiver.turn,
                .events = POLLIN,
            };
        }
        if (RETRY_ON_EINTR(poll(fds, ARRAY_SIZE(fds), -1)) < 0) {
            error_setg_errno(errp, errno, "cannot wait for the tool");
            return false;
        }
        if (fds[1].revents) {
            event_notifier_test_and_clear(&s->out_notifier);
        }
        if (reading && fds[0].revents) {
            return true;
        }
        if (fds[0].revents & (POLLERR | POLLHUP)) {
            error_setg(errp, "the tool has closed the connection");
            return false;
        }
    }
}

/* False when the connection is over. */
static bool read_socket(IntrospectionSession *s)
{
    Receiver *r = &s->receiver;
    ssize_t n;

    r->len -= r->pos;
    memmove(r->buf, r->buf + r->pos, r->len);
    r->pos = 0;
    n = RETRY_ON_EINTR(recv(s->fd, r->buf + r->len, RECEIVE_SIZE - r->len,
                            MSG_DONTWAIT));
    if (n > 0) {
        r->len += n;
    }
    return n > 0 || (n < 0 && errno == EAGAIN);
}

/* Whether there is a complete message, or one that is too large. */
static bool have_message(const Receiver *r, struct kvmi_msg_hdr *hdr)
{
    size_t left = r->len - r->pos;

    if (left < sizeof(*hdr)) {
        return false;
    }
    memcpy(hdr, r->buf + r->pos, sizeof(*hdr));
    return hdr->size > KVMI_MSG_SIZE || left >= sizeof(*hdr) + hdr->size;
}

/* False, and @broken, when the tool broke the protocol. */
static bool act_on_message(IntrospectionSession *s,
                           const struct kvmi_msg_hdr *hdr)
{
    Receiver *r = &s->receiver;

    if (!session_dispatch(s, hdr, r->buf + r->pos + sizeof(*hdr),
                          &r->broken)) {
        warn_report("introspection: the tool broke the protocol and is "
                    "disconnected: %s", error_get_pretty(r->broken));
        return false;
    }
    r->pos += sizeof(*hdr) + hdr->size;
    return true;
}

/* False when the connection is over. */
static bool act_on_all(IntrospectionSession *s, Error **errp)
{
    Receiver *r = &s->receiver;
    struct kvmi_msg_hdr hdr;
    bool ok = !r->broken;

    while (ok && have_message(r, &hdr)) {
        ok = act_on_message(s, &hdr);
        if (ok && !wait_for_tool(s, false, errp)) {
            return false;
        }
    }
    error_propagate(errp, g_steal_pointer(&r->broken));
    return ok;
}

static bool try_to_read(Receiver *r)
{
    return qemu_sem_timedwait(&r->reader, 0) == 0;
}

/*
 * Become the reader, unless a vCPU is: the session's thread has to write what
 * the socket did not take, and must not wait for that vCPU.  Where the tool is
 * gone there is nothing to write, and the vCPU notices and ends its turn.
 */
static bool become_reader(IntrospectionSession *s)
{
    struct pollfd hangup = { .fd = s->fd };

    if (try_to_read(&s->receiver)) {
        return true;
    }
    if (RETRY_ON_EINTR(poll(&hangup, 1, 0)) > 0) {
        qemu_sem_wait(&s->receiver.reader);
        return true;
    }
    return false;
}

void receiver_run(IntrospectionSession *s, Error **errp)
{
    Receiver *r = &s->receiver;
    bool ok = true;

    while (ok && wait_for_tool(s, true, errp)) {
        if (!become_reader(s)) {
            /* A vCPU was quicker, or is just about to leave. */
            continue;
        }
        if (!read_socket(s)) {
            error_setg(errp, "the tool has closed the connection");
            ok = false;
        }
        ok = ok && act_on_all(s, errp);
        qatomic_set(&r->handed_on, !ok);
        qemu_sem_post(&r->reader);
    }
}

bool receiver_begin_turn(IntrospectionSession *s)
{
    Receiver *r = &s->receiver;

    if (!try_to_read(r)) {
        return false;
    }
    if (r->handed_on) {
        qemu_sem_post(&r->reader);
        return false;
    }
    /* The session's thread sleeps on, but for a hang-up. */
    set_turn(s, EPOLL_CTL_MOD, 0);
    return true;
}

static void hand_on(IntrospectionSession *s)
{
    qatomic_set(&s->receiver.handed_on, true);
    event_notifier_set(&s->out_notifier);
}

/* False when the session's thread has to do it. */
static bool act_on_vcpu(IntrospectionSession *s, const struct kvmi_msg_hdr *hdr)
{
    return !session_command_waits(hdr->id) && !qatomic_read(&s->out->len) &&
           act_on_message(s, hdr);
}

bool receiver_take_turn(IntrospectionSession *s, ReceiverKick *kick)
{
    struct pollfd fds[] = {
        { .fd = s->fd, .events = POLLIN },
        { .fd = event_notifier_get_fd(&kick->notifier), .events = POLLIN },
    };
    struct kvmi_msg_hdr hdr;
    bool ok = true;

    while (ok && !qatomic_read(&kick->kicked)) {
        if (have_message(&s->receiver, &hdr)) {
            ok = act_on_vcpu(s, &hdr);
        } else {
            ok = RETRY_ON_EINTR(poll(fds, ARRAY_SIZE(fds), -1)) > 0;
            if (ok && fds[1].revents) {
                event_notifier_test_and_clear(&kick->notifier);
                return true;
            }
            ok = ok && read_socket(s);
        }
    }
    if (!ok) {
        hand_on(s);
    }
    return ok;
}

void receiver_end_turn(IntrospectionSession *s)
{
    struct kvmi_msg_hdr hdr;

    if (have_message(&s->receiver, &hdr)) {
        hand_on(s);
    }
    /* In this order: nobody else's turn may have begun. */
    set_turn(s, EPOLL_CTL_MOD, EPOLLIN);
    qemu_sem_post(&s->receiver.reader);
}
