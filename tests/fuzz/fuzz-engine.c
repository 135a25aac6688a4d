/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: all that QEMU's engine parses of a tool's bytes
 *
 * An input is three bytes of a WorldPlan, and then what the tool sends: its
 * answer to the handshake, and its messages.
 */
#include "qemu/osdep.h"
#include <linux/kvmi.h>
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "kvmi/accel/introspection/handshake.h"
#include "fuzz-engine-world.h"

/* What a socket takes at once */
#define MAX_STREAM (64 * KiB)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    module_call_init(MODULE_INIT_QOM);
    g_assert_nonnull(world_engine);
    return 0;
}

/*
 * As connection.c does it: what comes behind the answer is not touched.
 * Returns how many bytes the answer had, or 0.
 */
static size_t handshake(const uint8_t *data, size_t size, size_t piece)
{
    IntrospectionAnswer answer = { };
    uint32_t missing;
    size_t pos = 0;

    while ((missing = introspection_answer_missing(&answer))) {
        size_t n = MIN(missing, size - pos);
        Error *err = NULL;

        n = piece ? MIN(n, piece) : n;
        if (!n) {
            return 0;
        }
        if (!introspection_answer_feed(&answer, data + pos, n, &err)) {
            g_assert_nonnull(err);
            error_free(err);
            return 0;
        }
        g_assert_null(err);
        pos += n;
    }
    g_assert_cmpuint(pos, >=, sizeof(uint32_t));
    g_assert_cmpuint(pos, <=, INTROSPECTION_ANSWER_MAX);
    return pos;
}

static gint64 *key_new(const struct kvmi_msg_hdr *hdr)
{
    gint64 *key = g_new(gint64, 1);

    *key = (uint64_t)hdr->id << 32 | hdr->seq;
    return key;
}

/* How often each command was sent: a reply is allowed for each. */
static GHashTable *commands_in(const uint8_t *data, size_t size)
{
    GHashTable *table = g_hash_table_new_full(g_int64_hash, g_int64_equal,
                                              g_free, NULL);
    struct kvmi_msg_hdr hdr;

    while (size >= sizeof(hdr)) {
        gint64 *key;
        size_t n;

        memcpy(&hdr, data, sizeof(hdr));
        n = sizeof(hdr) + hdr.size;
        if (n > size) {
            break;
        }
        if (hdr.id != KVMI_EVENT_REPLY) {
            key = key_new(&hdr);
            n = GPOINTER_TO_SIZE(g_hash_table_lookup(table, key)) + 1;
            g_hash_table_insert(table, key, GSIZE_TO_POINTER(n));
        }
        data += sizeof(hdr) + hdr.size;
        size -= sizeof(hdr) + hdr.size;
    }
    return table;
}

static void check_reply(GHashTable *commands, const struct kvmi_msg_hdr *hdr,
                        const void *data)
{
    g_autofree gint64 *key = key_new(hdr);
    struct kvmi_error_code code;
    size_t left = GPOINTER_TO_SIZE(g_hash_table_lookup(commands, key));

    g_assert_cmpuint(left, >, 0);
    g_hash_table_insert(commands, g_steal_pointer(&key),
                        GSIZE_TO_POINTER(left - 1));
    g_assert_cmpuint(hdr->size, >=, sizeof(code));
    memcpy(&code, data, sizeof(code));
    g_assert_cmpint(code.err, <=, 0);
    g_assert_cmpuint(code.padding, ==, 0);
    if (code.err) {
        g_assert_cmpuint(hdr->size, ==, sizeof(code));
    }
}

static void check_event(const struct kvmi_msg_hdr *hdr, const void *data,
                        uint32_t *last_seq)
{
    struct kvmi_event event;

    g_assert_cmpuint(hdr->size, >=, sizeof(event));
    memcpy(&event, data, sizeof(event));
    g_assert_cmpuint(event.event, <, KVMI_NUM_EVENTS);
    g_assert_cmpuint(hdr->seq, >, *last_seq);
    *last_seq = hdr->seq;
}

/* The engine says whole messages, a reply for a command and no more. */
static void check_output(const uint8_t *stream, size_t size)
{
    g_autoptr(GHashTable) commands = commands_in(stream, size);
    GByteArray *output = world_output();
    const uint8_t *data = output->data;
    size_t left = output->len;
    uint32_t last_seq = 0;
    struct kvmi_msg_hdr hdr;

    while (left >= sizeof(hdr)) {
        memcpy(&hdr, data, sizeof(hdr));
        if (left < sizeof(hdr) + hdr.size) {
            break;                      /* it was closed while it said it */
        }
        if (hdr.id == KVMI_EVENT && hdr.size >= sizeof(struct kvmi_event)) {
            check_event(&hdr, data + sizeof(hdr), &last_seq);
        } else {
            check_reply(commands, &hdr, data + sizeof(hdr));
        }
        data += sizeof(hdr) + hdr.size;
        left -= sizeof(hdr) + hdr.size;
    }
}

static void session_closed(void *opaque, IntrospectionSession *session,
                           const char *reason)
{
    g_assert_nonnull(reason);
}

static void run(const WorldPlan *plan, const uint8_t *stream, size_t size)
{
    IntrospectionHookParams params = {
        .commands = world_engine->commands,
        .events = world_engine->events,
        .closed = session_closed,
    };

    if (plan->lazy == 0xfe) {
        /* a manager that allows nothing */
        params.commands = KVMI_GET_VERSION_FLAG | KVMI_EVENT_FLAG |
                          KVMI_EVENT_REPLY_FLAG;
        params.events = 0;
    }
    params.fd = world_begin(plan, stream, size);
    bql_lock();
    g_assert_nonnull(world_engine->hook(&params, &error_abort));
    bql_unlock();
    check_output(stream, size);
    world_end();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    WorldPlan plan;
    size_t n;

    if (size < sizeof(plan)) {
        return 0;
    }
    memcpy(&plan, data, sizeof(plan));
    data += sizeof(plan);
    size -= sizeof(plan);

    n = handshake(data, size, plan.piece);
    if (n && size - n <= MAX_STREAM) {
        run(&plan, data + n, size - n);
    }
    return 0;
}
