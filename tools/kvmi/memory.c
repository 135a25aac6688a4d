/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: guest memory of any size, many requests in flight
 */

#include <string.h>
#include "internals.h"

/*
 * Requests in flight for kvmi_read_memory() and kvmi_write_memory().  More
 * does not make it faster, and the requests, or the data to write, should fit
 * into the socket's buffer.
 */
#define READS_IN_FLIGHT 128
#define WRITES_IN_FLIGHT 16

struct KvmiRead {
    uint64_t gpa;
    uint64_t stride;
    size_t size;                /* of each request */
    size_t count;
    uint8_t *present;
    KvmiRequest *requests[];
};

/*
 * Wait for all requests from @first on and forget them: after an error,
 * nothing may write into the caller's memory any more.
 */
static void read_cancel(KvmiClient *c, KvmiRead *read, size_t first,
                        size_t end)
{
    size_t i;

    for (i = first; i < end; i++) {
        int ignored;

        kvmi_request_finish(c, read->requests[i], 0, NULL, &ignored, NULL);
    }
    g_free(read);
}

static KvmiRead *read_start(KvmiClient *c, uint64_t gpa, uint64_t stride,
                            size_t size, size_t count, void *buf,
                            size_t buf_stride, uint8_t *present,
                            GError **errp)
{
    KvmiRead *read = g_malloc(sizeof(*read) +
                              count * sizeof(read->requests[0]));
    size_t i;

    read->gpa = gpa;
    read->stride = stride;
    read->size = size;
    read->count = count;
    read->present = present;
    for (i = 0; i < count; i++) {
        struct kvmi_read_physical msg = {
            .gpa = gpa + i * stride,
            .size = size,
        };

        read->requests[i] = kvmi_submit(c, KVMI_READ_PHYSICAL,
                                        &msg, sizeof(msg),
                                        (uint8_t *)buf + i * buf_stride, size,
                                        i + 1 < count, errp);
        if (!read->requests[i]) {
            read_cancel(c, read, 0, i);
            return NULL;
        }
    }
    return read;
}

static bool read_finish(KvmiClient *c, KvmiRead *read, GError **errp)
{
    size_t i;

    for (i = 0; i < read->count; i++) {
        GError *local = NULL;
        int err = 0;

        if (kvmi_request_finish(c, read->requests[i], read->size, NULL, &err,
                                &local)) {
            if (err && err != KVM_EINVAL) {
                kvmi_set_engine_error(&local, KVMI_READ_PHYSICAL, err);
            }
        }
        if (local) {
            g_propagate_prefixed_error(errp, local,
                                       "reading %zu bytes at 0x%" PRIx64 ": ",
                                       read->size,
                                       read->gpa + i * read->stride);
            read_cancel(c, read, i + 1, read->count);
            return false;
        }
        read->present[i] = !err;
    }
    g_free(read);
    return true;
}

KvmiRead *kvmi_read_start(KvmiClient *c, uint64_t gpa, size_t npages,
                          void *buf, uint8_t *present, GError **errp)
{
    return read_start(c, gpa, KVMI_PAGE_SIZE, KVMI_PAGE_SIZE, npages,
                      buf, KVMI_PAGE_SIZE, present, errp);
}

bool kvmi_read_finish(KvmiClient *c, KvmiRead *read, GError **errp)
{
    return read_finish(c, read, errp);
}

bool kvmi_probe(KvmiClient *c, uint64_t gpa, uint64_t stride, size_t count,
                uint8_t *present, GError **errp)
{
    g_autofree uint8_t *bytes = g_malloc(count);
    KvmiRead *read = read_start(c, gpa, stride, 1, count, bytes, 1, present,
                                errp);

    return read && read_finish(c, read, errp);
}

/* What is left of @size at @gpa in its page, and in one message. */
static size_t piece(uint64_t gpa, size_t size, size_t max)
{
    size_t in_page = KVMI_PAGE_SIZE - gpa % KVMI_PAGE_SIZE;

    return MIN(MIN(size, in_page), max);
}

static bool finish_piece(KvmiClient *c, KvmiRequest *req, uint64_t gpa,
                         size_t n, size_t reply_min, const char *what,
                         GError **errp)
{
    if (!kvmi_request_finish(c, req, reply_min, NULL, NULL, errp)) {
        g_prefix_error(errp, "%s %zu bytes at 0x%" PRIx64 ": ", what, n, gpa);
        return false;
    }
    return true;
}

typedef struct Piece {
    KvmiRequest *request;
    uint64_t gpa;
    size_t n;
} Piece;

static KvmiRequest *submit_read(KvmiClient *c, uint64_t gpa, uint8_t *buf,
                                size_t n, bool more, GError **errp)
{
    struct kvmi_read_physical msg = { .gpa = gpa, .size = n };

    return kvmi_submit(c, KVMI_READ_PHYSICAL, &msg, sizeof(msg), buf, n, more,
                       errp);
}

static KvmiRequest *submit_write(KvmiClient *c, uint64_t gpa, uint8_t *buf,
                                 size_t n, bool more, GError **errp)
{
    union {
        struct kvmi_write_physical msg;
        uint8_t bytes[KVMI_MSG_SIZE];
    } u;

    u.msg.gpa = gpa;
    u.msg.size = n;
    memcpy(u.msg.data, buf, n);
    return kvmi_submit(c, KVMI_WRITE_PHYSICAL, &u, sizeof(u.msg) + n, NULL, 0,
                       more, errp);
}

/*
 * Go through memory in pieces, with up to @depth of them in flight.  After an
 * error the rest is waited for: replies go to the caller's memory.
 */
static bool in_pieces(KvmiClient *c, uint64_t gpa, uint8_t *buf, size_t size,
                      size_t max, size_t depth, bool is_write, GError **errp)
{
    g_autofree Piece *ring = g_new(Piece, depth);
    const char *what = is_write ? "writing" : "reading";
    size_t head = 0, tail = 0;
    bool ok = true;

    while ((ok && size) || head != tail) {
        while (ok && size && head - tail < depth) {
            Piece *p = &ring[head % depth];
            bool more;

            p->gpa = gpa;
            p->n = piece(gpa, size, max);
            more = size > p->n && head + 1 - tail < depth;
            p->request = (is_write ? submit_write : submit_read)
                         (c, gpa, buf, p->n, more, errp);
            if (!p->request) {
                ok = false;
                break;
            }
            gpa += p->n;
            buf += p->n;
            size -= p->n;
            head++;
        }
        if (head != tail) {
            Piece *p = &ring[tail++ % depth];

            if (!finish_piece(c, p->request, p->gpa, p->n,
                              is_write ? 0 : p->n, what,
                              ok ? errp : NULL)) {
                ok = false;
            }
        }
    }
    return ok;
}

bool kvmi_read_memory(KvmiClient *c, uint64_t gpa, void *buf, size_t size,
                      GError **errp)
{
    return in_pieces(c, gpa, buf, size, KVMI_PAGE_SIZE, READS_IN_FLIGHT,
                     false, errp);
}

bool kvmi_write_memory(KvmiClient *c, uint64_t gpa, const void *buf,
                       size_t size, GError **errp)
{
    return in_pieces(c, gpa, (uint8_t *)buf, size,
                     KVMI_MSG_SIZE - sizeof(struct kvmi_write_physical),
                     WRITES_IN_FLIGHT, true, errp);
}
