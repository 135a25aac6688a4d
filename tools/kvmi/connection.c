/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: messages over a connection
 *
 * There is no reader thread.  Of the threads that wait for a reply or an
 * event, one reads the socket, and gives everybody else what it finds for
 * them; the others sleep.  When the reader has what it came for, one of the
 * others takes its place.  A thread that is alone goes straight from send()
 * to recv().
 */

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "internals.h"

#define RX_SIZE (256 * 1024)
#define TX_SIZE (16 * 1024)
#define MAX_MESSAGE (sizeof(struct kvmi_msg_hdr) + UINT16_MAX)

struct KvmiRequest {
    KvmiRequest *next;          /* in pending, or among the spare ones */
    KvmiRequest *prev;          /* in pending */
    uint32_t seq;
    uint16_t id;
    bool done;
    bool abandoned;             /* nobody wants the reply any more */
    int32_t err;
    void *reply;
    size_t reply_size;
    size_t reply_len;
};

struct KvmiClient {
    int fd;
    KvmiVMInfo vm;
    KvmiCancel *cancel;
    gint reply_timeout_ms;      /* atomic */

    /*
     * Protects what is sent.  Taken before @lock where both are needed, and
     * held while a message is written, so that messages stay whole.
     */
    GMutex tx_lock;
    gint tx_len;                /* atomic: read without the lock too */
    uint8_t tx[TX_SIZE];

    GMutex lock;                /* protects all that follows */
    GCond cond;                 /* replies, events, or the reader has gone */
    unsigned waiters;           /* on cond */
    GError *broken;             /* why the connection is of no use any more */
    bool heard;                 /* anything, since the handshake */
    uint32_t next_seq;
    KvmiRequest *pending_head;
    KvmiRequest *pending_tail;
    KvmiRequest *spare;
    GQueue events;              /* of KvmiEvent */
    GArray *vcpus_with_events;  /* of uint16_t */
    bool vm_events;
    GHashTable *restricted;     /* set of uint64_t: gpas of pages */

    /*
     * Whoever has set @reading may read into the free part of @rx without
     * the lock.
     */
    bool reading;
    size_t rx_start;
    size_t rx_end;
    uint8_t *rx;
};

/* Connection states */

static void break_connection(KvmiClient *c, KvmiError code,
                             const char *fmt, ...) G_GNUC_PRINTF(3, 4);

/* Called with @lock held. */
static void break_connection(KvmiClient *c, KvmiError code,
                             const char *fmt, ...)
{
    va_list ap;

    if (c->broken) {
        return;
    }
    va_start(ap, fmt);
    c->broken = g_error_new_valist(KVMI_ERROR, code, fmt, ap);
    va_end(ap);
    shutdown(c->fd, SHUT_RDWR);
    g_cond_broadcast(&c->cond);
}

static void break_disconnected(KvmiClient *c, int err)
{
    const char *reason = err ? g_strerror(err) : "end of file";

    if (c->heard) {
        break_connection(c, KVMI_ERROR_DISCONNECTED,
                         "VM '%s' is gone: it closed the connection (%s)",
                         c->vm.name, reason);
    } else {
        break_connection(c, KVMI_ERROR_DISCONNECTED,
                         "VM '%s' closed the connection right after the "
                         "handshake (%s): its QEMU says why",
                         c->vm.name, reason);
    }
}

/* Called with @lock held. */
static bool check_broken(KvmiClient *c, GError **errp)
{
    if (c->broken) {
        if (errp) {
            *errp = g_error_copy(c->broken);
        }
        return false;
    }
    return true;
}

/* Called with @lock held: may a call go on waiting? */
static bool check_usable(KvmiClient *c, GError **errp)
{
    if (!check_broken(c, errp)) {
        return false;
    }
    if (kvmi_is_cancelled(c->cancel)) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_CANCELLED, "interrupted");
        return false;
    }
    return true;
}

/* Receiving.  All with @lock held except where noted. */

static void pending_remove(KvmiClient *c, KvmiRequest *req)
{
    if (req->prev) {
        req->prev->next = req->next;
    } else {
        c->pending_head = req->next;
    }
    if (req->next) {
        req->next->prev = req->prev;
    } else {
        c->pending_tail = req->prev;
    }
}

static void pending_append(KvmiClient *c, KvmiRequest *req)
{
    req->next = NULL;
    req->prev = c->pending_tail;
    if (c->pending_tail) {
        c->pending_tail->next = req;
    } else {
        c->pending_head = req;
    }
    c->pending_tail = req;
}

static KvmiRequest *request_new(KvmiClient *c)
{
    KvmiRequest *req = c->spare;

    if (req) {
        c->spare = req->next;
        memset(req, 0, sizeof(*req));
        return req;
    }
    return g_new0(KvmiRequest, 1);
}

static void request_free(KvmiClient *c, KvmiRequest *req)
{
    req->next = c->spare;
    c->spare = req;
}

static void handle_reply(KvmiClient *c, const struct kvmi_msg_hdr *hdr,
                         const uint8_t *data)
{
    struct kvmi_error_code ec;
    KvmiRequest *req;

    for (req = c->pending_head; req; req = req->next) {
        if (req->seq == hdr->seq) {
            break;
        }
    }
    if (!req || req->id != hdr->id) {
        break_connection(c, KVMI_ERROR_PROTOCOL,
                         "VM '%s' sent a message %u with seq %u that answers "
                         "no command", c->vm.name, hdr->id, hdr->seq);
        return;
    }
    if (hdr->size < sizeof(ec)) {
        break_connection(c, KVMI_ERROR_PROTOCOL,
                         "VM '%s' sent a reply of %u bytes to %s, "
                         "too short for an error code", c->vm.name,
                         hdr->size, kvmi_command_name(hdr->id) ?: "a command");
        return;
    }
    memcpy(&ec, data, sizeof(ec));
    if (ec.err > 0) {
        break_connection(c, KVMI_ERROR_PROTOCOL,
                         "VM '%s' sent a positive error code, %d",
                         c->vm.name, ec.err);
        return;
    }

    pending_remove(c, req);
    if (req->abandoned) {
        request_free(c, req);
        return;
    }
    req->err = ec.err;
    req->reply_len = hdr->size - sizeof(ec);
    if (!req->err && req->reply_size) {
        memcpy(req->reply, data + sizeof(ec),
               MIN(req->reply_len, req->reply_size));
    }
    req->done = true;
}

static size_t event_own_size(uint32_t event)
{
    switch (event) {
    case KVMI_EVENT_CR:
        return sizeof(struct kvmi_event_cr);
    case KVMI_EVENT_MSR:
        return sizeof(struct kvmi_event_msr);
    case KVMI_EVENT_BREAKPOINT:
        return sizeof(struct kvmi_event_breakpoint);
    case KVMI_EVENT_PF:
        return sizeof(struct kvmi_event_pf);
    case KVMI_EVENT_TRAP:
        return sizeof(struct kvmi_event_trap);
    case KVMI_EVENT_DESCRIPTOR:
        return sizeof(struct kvmi_event_descriptor);
    default:
        return 0;
    }
}

static void handle_event(KvmiClient *c, const struct kvmi_msg_hdr *hdr,
                         const uint8_t *data)
{
    KvmiEvent *event;
    size_t own = 0;

    event = g_new0(KvmiEvent, 1);
    event->seq = hdr->seq;
    if (hdr->size >= sizeof(event->common)) {
        memcpy(&event->common, data, sizeof(event->common));
        own = event_own_size(event->common.event);
    }
    if (hdr->size < sizeof(event->common) + own) {
        break_connection(c, KVMI_ERROR_PROTOCOL,
                         "VM '%s' sent an event of %u bytes, %zu expected",
                         c->vm.name, hdr->size, sizeof(event->common) + own);
        g_free(event);
        return;
    }
    memcpy(&event->cr, data + sizeof(event->common), own);
    g_queue_push_tail(&c->events, event);
}

/* Work through the whole messages in the buffer. */
static void handle_messages(KvmiClient *c)
{
    struct kvmi_msg_hdr hdr;

    while (!c->broken && c->rx_end - c->rx_start >= sizeof(hdr)) {
        const uint8_t *p = c->rx + c->rx_start;

        memcpy(&hdr, p, sizeof(hdr));
        if (c->rx_end - c->rx_start < sizeof(hdr) + hdr.size) {
            break;
        }
        c->heard = true;
        if (hdr.id == KVMI_EVENT) {
            handle_event(c, &hdr, p + sizeof(hdr));
        } else {
            handle_reply(c, &hdr, p + sizeof(hdr));
        }
        c->rx_start += sizeof(hdr) + hdr.size;
    }

    if (c->rx_start == c->rx_end) {
        c->rx_start = c->rx_end = 0;
    } else if (RX_SIZE - c->rx_end < MAX_MESSAGE) {
        memmove(c->rx, c->rx + c->rx_start, c->rx_end - c->rx_start);
        c->rx_end -= c->rx_start;
        c->rx_start = 0;
    }
}

/*
 * Read once, waiting for something to come until a slice of the time is over
 * or a signal arrives.  Called without @lock, by the thread that has set
 * @reading.
 */
static ssize_t read_socket(KvmiClient *c, gint64 deadline)
{
    void *buf = c->rx + c->rx_end;
    size_t size = RX_SIZE - c->rx_end;
    int slice = kvmi_deadline_slice_ms(deadline);

    if (slice < KVMI_CANCEL_LATENCY_MS) {
        struct pollfd pfd = { .fd = c->fd, .events = POLLIN };

        if (poll(&pfd, 1, slice) <= 0) {
            errno = EAGAIN;
            return -1;
        }
        return recv(c->fd, buf, size, MSG_DONTWAIT);
    }
    return recv(c->fd, buf, size, 0);   /* SO_RCVTIMEO is a slice */
}

/* Called with @lock held, which is dropped meanwhile. */
static void read_messages(KvmiClient *c, gint64 deadline)
{
    ssize_t n;
    int err;

    c->reading = true;
    g_mutex_unlock(&c->lock);
    n = read_socket(c, deadline);
    err = errno;
    g_mutex_lock(&c->lock);
    c->reading = false;

    if (n > 0) {
        c->rx_end += n;
        handle_messages(c);
    } else if (n == 0) {
        break_disconnected(c, 0);
    } else if (err != EAGAIN && err != EWOULDBLOCK && err != EINTR) {
        break_disconnected(c, err);
    }
    if (c->waiters) {
        g_cond_broadcast(&c->cond);
    }
}

/* Called with @lock held: let something happen. */
static bool wait_some(KvmiClient *c, gint64 deadline, GError **errp)
{
    int slice = kvmi_deadline_slice_ms(deadline);

    if (!check_usable(c, errp)) {
        return false;
    }
    if (!c->reading) {
        read_messages(c, deadline);
    } else {
        c->waiters++;
        g_cond_wait_until(&c->cond, &c->lock,
                          g_get_monotonic_time() + slice * 1000);
        c->waiters--;
    }
    return true;
}

/* Sending */

/*
 * The socket takes no more.  The VM may be waiting for us to read: read, or
 * leave it to the thread that reads already.  Called with @tx_lock held.
 */
static bool wait_writable(KvmiClient *c, GError **errp)
{
    struct pollfd pfd = { .fd = c->fd, .events = POLLOUT };
    bool ok;

    g_mutex_lock(&c->lock);
    ok = check_usable(c, errp);
    if (ok && c->reading) {
        g_mutex_unlock(&c->lock);
        poll(&pfd, 1, KVMI_CANCEL_LATENCY_MS);
        g_mutex_lock(&c->lock);
    } else if (ok) {
        pfd.events |= POLLIN;
        c->reading = true;      /* nobody else is to take what we wait for */
        g_mutex_unlock(&c->lock);
        poll(&pfd, 1, KVMI_CANCEL_LATENCY_MS);
        g_mutex_lock(&c->lock);
        read_messages(c, 0);
    }
    g_mutex_unlock(&c->lock);
    return ok;
}

/*
 * Write what is in @tx.  A message that was written in part cannot be taken
 * back: then the connection is broken.  Called with @tx_lock held.
 */
static bool flush_locked(KvmiClient *c, GError **errp)
{
    int sent = 0;
    GError *local = NULL;

    while (sent < c->tx_len) {
        ssize_t n = send(c->fd, c->tx + sent, c->tx_len - sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0) {
            sent += n;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_writable(c, &local)) {
                break;
            }
        } else if (errno != EINTR) {
            int err = errno;

            g_mutex_lock(&c->lock);
            break_disconnected(c, err == EPIPE ? 0 : err);
            check_broken(c, &local);
            g_mutex_unlock(&c->lock);
            break;
        }
    }

    if (local) {
        g_mutex_lock(&c->lock);
        break_connection(c, KVMI_ERROR_DISCONNECTED,
                         "the connection to VM '%s' was given up while "
                         "sending", c->vm.name);
        g_mutex_unlock(&c->lock);
        g_propagate_error(errp, local);
    }
    g_atomic_int_set(&c->tx_len, 0);
    return !local;
}

static bool flush(KvmiClient *c, GError **errp)
{
    bool ok = true;

    if (g_atomic_int_get(&c->tx_len)) {
        g_mutex_lock(&c->tx_lock);
        ok = flush_locked(c, errp);
        g_mutex_unlock(&c->tx_lock);
    }
    return ok;
}

static bool put_message(KvmiClient *c, uint16_t id, uint32_t seq,
                        const void *msg, size_t size, bool more,
                        GError **errp)
{
    struct kvmi_msg_hdr hdr = { .id = id, .size = size, .seq = seq };
    bool ok = true;

    g_mutex_lock(&c->tx_lock);
    if (c->tx_len + sizeof(hdr) + size > TX_SIZE) {
        ok = flush_locked(c, errp);
    }
    if (ok) {
        uint8_t *p = c->tx + c->tx_len;

        memcpy(p, &hdr, sizeof(hdr));
        if (size) {
            memcpy(p + sizeof(hdr), msg, size);
        }
        g_atomic_int_set(&c->tx_len, c->tx_len + sizeof(hdr) + size);
        if (!more) {
            ok = flush_locked(c, errp);
        }
    }
    g_mutex_unlock(&c->tx_lock);
    return ok;
}

static bool check_size(size_t size, GError **errp)
{
    if (size > KVMI_MSG_SIZE) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_ARGUMENT,
                    "a message of %zu bytes is too long: %d at most",
                    size, KVMI_MSG_SIZE);
        return false;
    }
    return true;
}

bool kvmi_send(KvmiClient *c, uint16_t id, uint32_t seq,
               const void *msg, size_t size, GError **errp)
{
    return check_size(size, errp) &&
           put_message(c, id, seq, msg, size, false, errp);
}

/* Requests */

KvmiRequest *kvmi_submit(KvmiClient *c, uint16_t id, const void *msg,
                         size_t size, void *reply, size_t reply_size,
                         bool more, GError **errp)
{
    KvmiRequest *req;
    uint32_t seq;

    if (!check_size(size, errp)) {
        return NULL;
    }
    g_mutex_lock(&c->lock);
    if (!check_broken(c, errp)) {
        g_mutex_unlock(&c->lock);
        return NULL;
    }
    req = request_new(c);
    req->seq = seq = c->next_seq++;
    req->id = id;
    req->reply = reply;
    req->reply_size = reply_size;
    pending_append(c, req);
    g_mutex_unlock(&c->lock);

    if (!put_message(c, id, seq, msg, size, more, errp)) {
        /* The reply may have come, or may never come. */
        g_mutex_lock(&c->lock);
        if (!req->done) {
            pending_remove(c, req);
        }
        request_free(c, req);
        g_mutex_unlock(&c->lock);
        return NULL;
    }
    return req;
}

bool kvmi_request_finish(KvmiClient *c, KvmiRequest *req, size_t reply_min,
                         size_t *reply_len, int *engine_err, GError **errp)
{
    int timeout_ms = g_atomic_int_get(&c->reply_timeout_ms);
    gint64 deadline = timeout_ms > 0 ? kvmi_deadline(timeout_ms) : -1;
    uint16_t id = req->id;
    bool ok = flush(c, errp);
    size_t len = 0;
    int err = 0;

    g_mutex_lock(&c->lock);
    while (ok && !req->done) {
        ok = wait_some(c, deadline, errp);
        if (ok && !req->done && !c->broken && deadline >= 0 &&
            g_get_monotonic_time() >= deadline) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_TIMEOUT,
                        "VM '%s' has not answered %s for %g s: is it paused?",
                        c->vm.name, kvmi_command_name(id) ?: "a command",
                        timeout_ms / 1000.0);
            ok = false;
        }
    }
    if (req->done) {
        err = -req->err;
        len = req->reply_len;
        request_free(c, req);
    } else {
        req->abandoned = true;
    }
    g_mutex_unlock(&c->lock);
    if (!ok) {
        return false;
    }

    if (reply_len) {
        *reply_len = len;
    }
    if (engine_err) {
        *engine_err = err;
    }
    if (err) {
        if (!engine_err) {
            kvmi_set_engine_error(errp, id, err);
        }
        return engine_err != NULL;
    }
    if (len < reply_min) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_PROTOCOL,
                    "VM '%s' answered %s with %zu bytes, %zu expected",
                    c->vm.name, kvmi_command_name(id) ?: "a command",
                    len, reply_min);
        return false;
    }
    return true;
}

bool kvmi_wait_all(KvmiClient *c, GError **errp)
{
    int timeout_ms = g_atomic_int_get(&c->reply_timeout_ms);
    gint64 deadline = timeout_ms > 0 ? kvmi_deadline(timeout_ms) : -1;
    bool ok = flush(c, errp);

    g_mutex_lock(&c->lock);
    while (ok && c->pending_head) {
        ok = wait_some(c, deadline, errp);
        if (ok && c->pending_head && !c->broken && deadline >= 0 &&
            g_get_monotonic_time() >= deadline) {
            g_set_error(errp, KVMI_ERROR, KVMI_ERROR_TIMEOUT,
                        "VM '%s' has not answered %s for %g s: is it paused?",
                        c->vm.name,
                        kvmi_command_name(c->pending_head->id) ?: "a command",
                        timeout_ms / 1000.0);
            ok = false;
        }
    }
    ok = ok && check_broken(c, errp);
    g_mutex_unlock(&c->lock);
    return ok;
}

bool kvmi_call(KvmiClient *c, uint16_t id, const void *msg, size_t size,
               void *reply, size_t reply_size, GError **errp)
{
    KvmiRequest *req = kvmi_submit(c, id, msg, size, reply, reply_size, false,
                                   errp);

    return req && kvmi_request_finish(c, req, reply_size, NULL, NULL, errp);
}

/* Events */

bool kvmi_next_event(KvmiClient *c, int timeout_ms, KvmiEvent **event,
                     GError **errp)
{
    gint64 deadline = kvmi_deadline(timeout_ms);
    bool ok = flush(c, errp);

    *event = NULL;
    g_mutex_lock(&c->lock);
    for (;;) {
        ok = ok && check_broken(c, errp);
        if (!ok) {
            break;
        }
        *event = g_queue_pop_head(&c->events);
        if (*event) {
            break;
        }
        ok = wait_some(c, deadline, errp);
        if (ok && g_queue_is_empty(&c->events) && !c->broken &&
            deadline >= 0 && g_get_monotonic_time() >= deadline) {
            break;
        }
    }
    g_mutex_unlock(&c->lock);
    return ok;
}

void kvmi_client_note_events(KvmiClient *c, uint16_t vcpu, uint32_t events)
{
    unsigned i;

    g_mutex_lock(&c->lock);
    for (i = 0; i < c->vcpus_with_events->len; i++) {
        if (g_array_index(c->vcpus_with_events, uint16_t, i) == vcpu) {
            g_array_remove_index_fast(c->vcpus_with_events, i);
            break;
        }
    }
    if (events) {
        g_array_append_val(c->vcpus_with_events, vcpu);
    }
    g_mutex_unlock(&c->lock);
}

void kvmi_client_note_vm_events(KvmiClient *c, uint32_t events)
{
    g_mutex_lock(&c->lock);
    c->vm_events = events;
    g_mutex_unlock(&c->lock);
}

GArray *kvmi_client_vcpus_with_events(KvmiClient *c)
{
    GArray *vcpus;

    g_mutex_lock(&c->lock);
    vcpus = g_array_copy(c->vcpus_with_events);
    g_mutex_unlock(&c->lock);
    return vcpus;
}

bool kvmi_client_has_vm_events(KvmiClient *c)
{
    bool vm_events;

    g_mutex_lock(&c->lock);
    vm_events = c->vm_events;
    g_mutex_unlock(&c->lock);
    return vm_events;
}

void kvmi_client_note_access(KvmiClient *c,
                             const struct kvmi_page_access_entry *entries,
                             unsigned count)
{
    unsigned i;

    g_mutex_lock(&c->lock);
    for (i = 0; i < count; i++) {
        uint64_t gpa = entries[i].gpa - entries[i].gpa % KVMI_PAGE_SIZE;

        if (entries[i].access == KVMI_PAGE_ACCESS_ALL) {
            g_hash_table_remove(c->restricted, &gpa);
        } else {
            uint64_t *key = g_new(uint64_t, 1);

            *key = gpa;
            g_hash_table_add(c->restricted, key);
        }
    }
    g_mutex_unlock(&c->lock);
}

static gint compare_gpas(gconstpointer a, gconstpointer b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

GArray *kvmi_client_restricted_pages(KvmiClient *c)
{
    GArray *gpas = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    GHashTableIter iter;
    gpointer gpa;

    g_mutex_lock(&c->lock);
    g_hash_table_iter_init(&iter, c->restricted);
    while (g_hash_table_iter_next(&iter, &gpa, NULL)) {
        g_array_append_vals(gpas, gpa, 1);
    }
    g_mutex_unlock(&c->lock);
    g_array_sort(gpas, compare_gpas);
    return gpas;
}

/* Beginning and end */

KvmiClient *kvmi_client_new_from_fd(int fd, const KvmiConfig *config,
                                    GError **errp)
{
    struct timeval slice = { .tv_usec = KVMI_CANCEL_LATENCY_MS * 1000 };
    KvmiVMInfo vm = { 0 };
    KvmiClient *c;

    if (!kvmi_handshake(fd, config, &vm, errp)) {
        close(fd);
        return NULL;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice)) < 0) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_SOCKET,
                    "cannot set the socket's timeout: %s", g_strerror(errno));
        close(fd);
        return NULL;
    }

    c = g_new0(KvmiClient, 1);
    c->fd = fd;
    c->vm = vm;
    if (config) {
        c->cancel = config->cancel;
        c->reply_timeout_ms = config->reply_timeout_ms;
    }
    g_mutex_init(&c->tx_lock);
    g_mutex_init(&c->lock);
    g_cond_init(&c->cond);
    g_queue_init(&c->events);
    c->vcpus_with_events = g_array_new(FALSE, FALSE, sizeof(uint16_t));
    c->restricted = g_hash_table_new_full(g_int64_hash, g_int64_equal,
                                          g_free, NULL);
    c->rx = g_malloc(RX_SIZE);
    c->next_seq = 1;
    return c;
}

void kvmi_client_free(KvmiClient *c)
{
    KvmiRequest *req;

    if (!c) {
        return;
    }
    shutdown(c->fd, SHUT_RDWR);
    close(c->fd);
    while ((req = c->pending_head)) {
        c->pending_head = req->next;
        g_free(req);
    }
    while ((req = c->spare)) {
        c->spare = req->next;
        g_free(req);
    }
    g_queue_clear_full(&c->events, g_free);
    g_array_free(c->vcpus_with_events, TRUE);
    g_hash_table_unref(c->restricted);
    g_clear_error(&c->broken);
    g_cond_clear(&c->cond);
    g_mutex_clear(&c->lock);
    g_mutex_clear(&c->tx_lock);
    g_free(c->rx);
    g_free(c);
}

const KvmiVMInfo *kvmi_client_vm(const KvmiClient *c)
{
    return &c->vm;
}

int kvmi_client_fd(const KvmiClient *c)
{
    return c->fd;
}

bool kvmi_client_is_idle(KvmiClient *c)
{
    bool idle;

    g_mutex_lock(&c->lock);
    idle = !c->pending_head && c->rx_start == c->rx_end &&
           g_queue_is_empty(&c->events);
    g_mutex_unlock(&c->lock);
    return idle;
}

void kvmi_client_set_reply_timeout(KvmiClient *c, int timeout_ms)
{
    g_atomic_int_set(&c->reply_timeout_ms, timeout_ms);
}
