/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tool that does much at once, and may be killed at any moment
 *
 * Usage: load-tool SOCKET SEED
 *
 * It traces CR3, steps through the page faults of a hot page, changes the
 * access of random pages and pauses the VM, and checks that no event comes
 * twice, and none from a vCPU that waits.  SIGTERM ends it in order: then
 * everything is given back, and answered.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kvmi-client.h"

#define MAX_VCPUS 8
#define RAM_PAGES (256u << 20 >> 12)
#define RANDOM_PAGES 24
#define HOT_US 50000            /* so long is a page hot, or a page random */

typedef struct Load {
    KvmiClient *client;
    KvmiCancel cancel;
    GRand *rand;
    unsigned vcpus;
    bool waiting[MAX_VCPUS];    /* for a reply */
    GHashTable *seqs;           /* set: of all events */
    uint64_t hot;               /* gpa of a page, 0: none */
    gint64 hot_until;
    uint64_t pages[RANDOM_PAGES];
    unsigned next_page;

    uint64_t events[KVMI_NUM_EVENTS];
    uint64_t replies;
    uint64_t steps;
    uint64_t pauses_due;        /* events to come, of the pauses so far */
} Load;

static KvmiCancel *end;

static void on_term(int signum)
{
    kvmi_cancel(end);
}

static void G_GNUC_NORETURN G_GNUC_PRINTF(1, 2) die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "load-tool: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

/* A vCPU waits with one event, and each event has a number of its own. */
static void check_event(Load *l, const KvmiEvent *event)
{
    unsigned vcpu = event->common.vcpu;

    if (event->common.event >= KVMI_NUM_EVENTS || vcpu >= l->vcpus) {
        die("event %u of vCPU %u", event->common.event, vcpu);
    }
    if (!g_hash_table_add(l->seqs, GUINT_TO_POINTER(event->seq))) {
        die("event %u came twice", event->seq);
    }
    if (l->waiting[vcpu]) {
        die("vCPU %u has sent an event while it waits", vcpu);
    }
    l->waiting[vcpu] = true;
    l->events[event->common.event]++;
}

static bool answer(KvmiClient *client, const KvmiEvent *event, void *opaque,
                   GError **errp)
{
    Load *l = opaque;
    struct kvmi_event_pf_reply reply = { 0 };

    check_event(l, event);
    /* Before it is sent: the next one may come at once. */
    l->waiting[event->common.vcpu] = false;
    l->replies++;
    switch (event->common.event) {
    case KVMI_EVENT_PF:
        if (event->pf.gpa / KVMI_PAGE_SIZE == l->hot / KVMI_PAGE_SIZE ||
            g_rand_boolean(l->rand)) {
            reply.singlestep = 1;
            l->steps++;
            return kvmi_event_reply(client, event, KVMI_EVENT_ACTION_RETRY,
                                    &reply, sizeof(reply), errp);
        }
        return kvmi_event_continue(client, event, errp);
    case KVMI_EVENT_PAUSE_VCPU:
        l->pauses_due--;
        break;
    }
    return kvmi_event_continue(client, event, errp);
}

/* The page that a vCPU executes just now, or of its stack */
static bool heat(Load *l, GError **errp)
{
    static const uint8_t closed[] = {
        KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W, KVMI_PAGE_ACCESS_R, 0,
        KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X,
    };
    unsigned vcpu = g_rand_int_range(l->rand, 0, l->vcpus);
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    uint32_t mode;
    GError *err = NULL;

    if (l->hot && !kvmi_set_access(l->client, l->hot, 1,
                                   KVMI_PAGE_ACCESS_ALL, errp)) {
        return false;
    }
    l->hot = 0;
    if (!kvmi_get_registers(l->client, vcpu, NULL, 0, &mode, &regs, &sregs,
                            NULL, errp)) {
        return false;
    }
    if (!kvmi_translate(l->client, &sregs,
                        g_rand_boolean(l->rand) ? regs.rip : regs.rsp,
                        &l->hot, &err)) {
        /* The guest has gone on, or was at its beginning. */
        if (g_error_matches(err, KVMI_ERROR, KVMI_ERROR_NOT_MAPPED)) {
            g_error_free(err);
            return true;
        }
        g_propagate_error(errp, err);
        return false;
    }
    return kvmi_set_access(l->client, l->hot, 1,
                           closed[g_rand_int_range(l->rand, 0,
                                                   G_N_ELEMENTS(closed))],
                           errp);
}

/* A random access for a random page, and all of it for an earlier one */
static bool change_random_page(Load *l, GError **errp)
{
    uint64_t *page = &l->pages[l->next_page++ % RANDOM_PAGES];

    if (*page && !kvmi_set_access(l->client, *page, 1, KVMI_PAGE_ACCESS_ALL,
                                  errp)) {
        return false;
    }
    /* From 1 MiB on it is RAM. */
    *page = (uint64_t)g_rand_int_range(l->rand, 256, RAM_PAGES) *
            KVMI_PAGE_SIZE;
    return kvmi_set_access(l->client, *page, 1, g_rand_int_range(l->rand, 0, 8),
                           errp);
}

static bool pause_all(Load *l, GError **errp)
{
    uint32_t vcpus;

    if (!kvmi_pause_all_vcpus(l->client, &vcpus, errp)) {
        return false;
    }
    if (vcpus != l->vcpus) {
        die("%u vCPUs have paused, of %u", vcpus, l->vcpus);
    }
    l->pauses_due += vcpus;
    return true;
}

static bool act(Load *l, GError **errp)
{
    if (g_get_monotonic_time() >= l->hot_until) {
        l->hot_until = g_get_monotonic_time() + HOT_US;
        return heat(l, errp) && change_random_page(l, errp);
    }
    switch (g_rand_int_range(l->rand, 0, 400)) {
    case 0:
        return pause_all(l, errp);
    case 1 ... 10:
        return change_random_page(l, errp);
    default:
        return true;
    }
}

static bool hook(Load *l, GError **errp)
{
    struct kvmi_get_guest_info_reply info;
    unsigned vcpu;

    if (!kvmi_get_guest_info(l->client, &info, errp)) {
        return false;
    }
    l->vcpus = info.vcpu_count;
    if (l->vcpus > MAX_VCPUS) {
        die("%u vCPUs are too many", l->vcpus);
    }
    for (vcpu = 0; vcpu < l->vcpus; vcpu++) {
        if (!kvmi_control_cr(l->client, vcpu, 3, true, errp) ||
            !kvmi_control_events(l->client, vcpu, KVMI_EVENT_CR_FLAG |
                                 KVMI_EVENT_PF_FLAG, errp)) {
            return false;
        }
    }
    return true;
}

static void report(const Load *l, const char *what)
{
    printf("%s: cr %" PRIu64 " pf %" PRIu64 " pause %" PRIu64 " replies %"
           PRIu64 " steps %" PRIu64 "\n", what, l->events[KVMI_EVENT_CR],
           l->events[KVMI_EVENT_PF], l->events[KVMI_EVENT_PAUSE_VCPU],
           l->replies, l->steps);
    fflush(stdout);
}

static bool run(Load *l, GError **errp)
{
    gint64 next_report = 0;

    if (!hook(l, errp)) {
        return false;
    }
    for (;;) {
        KvmiEvent *event;
        bool ok;

        if (g_get_monotonic_time() >= next_report) {
            next_report = g_get_monotonic_time() + 100000;
            report(l, "load");
        }
        if (!act(l, errp) || !kvmi_next_event(l->client, 1, &event, errp)) {
            return false;
        }
        if (event) {
            ok = answer(l->client, event, l, errp);
            kvmi_event_free(event);
            if (!ok) {
                return false;
            }
        }
    }
}

/* Nothing is left behind, and nobody waits. */
static void leave(Load *l)
{
    GError *err = NULL;
    KvmiEvent *event;
    uint64_t events = 0;
    unsigned i;

    kvmi_cancel_reset(&l->cancel);
    if (!kvmi_client_unhook(l->client, answer, l, &err)) {
        die("%s", err->message);
    }
    while (l->pauses_due) {
        if (!kvmi_next_event(l->client, 10000, &event, &err)) {
            die("%s", err->message);
        }
        if (!event) {
            die("%" PRIu64 " vCPUs have not paused", l->pauses_due);
        }
        answer(l->client, event, l, NULL);
        kvmi_event_free(event);
    }
    for (i = 0; i < KVMI_NUM_EVENTS; i++) {
        events += l->events[i];
    }
    if (events != l->replies) {
        die("%" PRIu64 " events and %" PRIu64 " replies", events, l->replies);
    }
    report(l, "done");
}

int main(int argc, char **argv)
{
    static Load load;
    KvmiConfig config = { .reply_timeout_ms = 30000, .cancel = &load.cancel };
    GError *err = NULL;
    KvmiListener *listener;

    if (argc != 3) {
        die("usage: load-tool SOCKET SEED");
    }
    end = &load.cancel;
    signal(SIGTERM, on_term);
    load.seqs = g_hash_table_new(NULL, NULL);
    load.rand = g_rand_new_with_seed(strtoul(argv[2], NULL, 10));
    listener = kvmi_listener_new(argv[1], &err);
    load.client = listener ? kvmi_listener_accept(listener, &config, 60000,
                                                  &err) : NULL;
    if (!load.client) {
        die("%s", err->message);
    }
    if (run(&load, &err) ||
        !g_error_matches(err, KVMI_ERROR, KVMI_ERROR_CANCELLED)) {
        die("%s", err->message);
    }
    g_error_free(err);
    leave(&load);
    kvmi_client_free(load.client);
    kvmi_listener_free(listener);
    g_hash_table_unref(load.seqs);
    g_rand_free(load.rand);
    return 0;
}
