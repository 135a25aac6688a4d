/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi protect: who writes to this memory, and, if wanted, nobody does
 */

#include <stdio.h>
#include "insn.h"
#include "watch.h"

#define MAX_ADDRESS ((1ULL << 52) - 1)
#define MAX_LENGTH (1ULL << 30)
/* Of the summary for people */
#define MAX_WRITERS 20

/* An instruction in an address space */
typedef struct Writer {
    uint64_t rip;
    uint64_t cr3;
    uint64_t count;
    uint64_t vcpus;             /* 1 << number; 63 and above share one */
    uint64_t lowest;            /* gpas */
    uint64_t highest;
} Writer;

typedef struct Protect {
    Watch watch;                /* the first */
    uint64_t gpa;
    uint64_t length;
    bool deny;
    bool summary_only;
    GHashTable *writers;        /* set of Writer */
    uint64_t beside;            /* writes to these pages, but not the range */
} Protect;

static guint writer_hash(gconstpointer opaque)
{
    const Writer *writer = opaque;
    gint64 key = writer->rip ^ writer->cr3 << 20;

    return g_int64_hash(&key);
}

static gboolean writer_equal(gconstpointer a, gconstpointer b)
{
    const Writer *x = a, *y = b;

    return x->rip == y->rip && x->cr3 == y->cr3;
}

/* Switching on */

static bool hook_vcpu(Watch *w, uint16_t vcpu, GError **errp)
{
    return kvmi_control_events(w->app->client, vcpu, KVMI_EVENT_PF_FLAG, errp);
}

static bool hook(Watch *w, GError **errp)
{
    Protect *p = (Protect *)w;
    uint64_t first = p->gpa - p->gpa % KVMI_PAGE_SIZE;
    size_t npages = (p->gpa + p->length - first + KVMI_PAGE_SIZE - 1) /
                    KVMI_PAGE_SIZE;
    uint32_t offered;
    unsigned vcpu;

    if (!watch_check_events(w, KVMI_EVENT_PF_FLAG, &offered, errp) ||
        !watch_vm_events(w, KVMI_KNOWN_VM_EVENTS, offered, errp)) {
        return false;
    }
    for (vcpu = w->first; vcpu < w->end; vcpu++) {
        if (!hook_vcpu(w, vcpu, errp)) {
            return false;
        }
    }
    return kvmi_set_access(w->app->client, first, npages,
                           KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X, errp);
}

/* Events */

/*
 * Whether it writes to the range.  What begins before, in the same page, may
 * reach into it: that takes the instruction.
 */
static bool in_range(Protect *p, const KvmiEvent *event, const Insn *insn)
{
    uint64_t gpa = event->pf.gpa;

    if (gpa >= p->gpa) {
        return gpa - p->gpa < p->length;
    }
    return insn->write_size > p->gpa - gpa;
}

static void note_write(Protect *p, const KvmiEvent *event)
{
    uint64_t gpa = event->pf.gpa;
    Writer key = {
        .rip = event->common.regs.rip,
        .cr3 = event->common.sregs.cr3,
    };
    Writer *writer = g_hash_table_lookup(p->writers, &key);

    if (!writer) {
        writer = g_new(Writer, 1);
        *writer = key;
        writer->lowest = writer->highest = gpa;
        g_hash_table_add(p->writers, writer);
    }
    writer->count++;
    writer->vcpus |= 1ULL << MIN(event->common.vcpu, 63);
    writer->lowest = MIN(writer->lowest, gpa);
    writer->highest = MAX(writer->highest, gpa);
    p->watch.events++;
}

static void show_write(Protect *p, const KvmiEvent *event)
{
    Watch *w = &p->watch;

    if (p->summary_only) {
        return;
    }
    watch_begin_event(w, event);
    if (w->app->json) {
        json_hex(&w->json, "gpa", event->pf.gpa);
        json_hex(&w->json, "gva", event->pf.gva);
        json_bool(&w->json, "denied", p->deny);
        json_object_end(&w->json);
        watch_put_json(w);
    } else {
        watch_put(w, "cr3 %016" PRIx64 "  gpa %016" PRIx64 "  gva %016" PRIx64
                  "%s\n", (uint64_t)event->common.sregs.cr3,
                  (uint64_t)event->pf.gpa, (uint64_t)event->pf.gva,
                  p->deny ? "  denied" : "");
    }
}

static bool deny(Protect *p, const KvmiEvent *event, const Insn *insn,
                 GError **errp)
{
    struct kvmi_event_pf_reply reply = { 0 };
    struct kvm_regs regs = event->common.regs;

    insn_skip(insn, &regs);
    return kvmi_set_registers(p->watch.app->client, event->common.vcpu, &regs,
                              errp) &&
           watch_reply(&p->watch, event, KVMI_EVENT_ACTION_RETRY, &reply,
                       sizeof(reply), errp);
}

static bool handle_write(Protect *p, const KvmiEvent *event, GError **errp)
{
    bool unsure = event->pf.gpa < p->gpa && insn_available();
    Insn insn = { 0 };

    if ((p->deny || unsure) &&
        !insn_read(p->watch.app->client, &event->common, &insn, errp)) {
        return false;
    }
    if (!in_range(p, event, &insn)) {
        p->beside++;
        return watch_continue(&p->watch, event, errp);
    }
    if (!(p->deny ? deny(p, event, &insn, errp)
                  : watch_continue(&p->watch, event, errp))) {
        return false;
    }
    note_write(p, event);
    show_write(p, event);
    return true;
}

static bool handle(Watch *w, const KvmiEvent *event, GError **errp)
{
    if (event->common.event == KVMI_EVENT_PF &&
        (event->pf.mode & KVMI_PAGE_ACCESS_W)) {
        return handle_write((Protect *)w, event, errp);
    }
    w->unhook_asked |= event->common.event == KVMI_EVENT_UNHOOK;
    return (event->common.event != KVMI_EVENT_CREATE_VCPU ||
            hook_vcpu(w, event->common.vcpu, errp)) &&
           watch_continue(w, event, errp);
}

/* The summary */

static gint by_count(gconstpointer a, gconstpointer b)
{
    const Writer *x = *(Writer *const *)a, *y = *(Writer *const *)b;

    return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

static GPtrArray *sorted_writers(Protect *p)
{
    GPtrArray *writers = g_ptr_array_new();
    GHashTableIter iter;
    gpointer writer;

    g_hash_table_iter_init(&iter, p->writers);
    while (g_hash_table_iter_next(&iter, &writer, NULL)) {
        g_ptr_array_add(writers, writer);
    }
    g_ptr_array_sort(writers, by_count);
    return writers;
}

static void print_summary(Protect *p, GPtrArray *writers, double seconds)
{
    Watch *w = &p->watch;
    unsigned i;

    watch_put(w, "%" PRIu64 " writes %sin %.1f s, by %u instructions; %" PRIu64
              " beside the range%s\n", w->events, p->deny ? "denied " : "",
              seconds, writers->len, p->beside,
              w->unhook_asked ? "; the VM asked to be released" : "");
    for (i = 0; i < MIN(writers->len, MAX_WRITERS); i++) {
        const Writer *writer = g_ptr_array_index(writers, i);

        watch_put(w, "  %10" PRIu64 "  rip %016" PRIx64 "  cr3 %016" PRIx64
                  "  gpa %" PRIx64 "-%" PRIx64 "\n", writer->count,
                  writer->rip, writer->cr3, writer->lowest, writer->highest);
    }
    if (writers->len > MAX_WRITERS) {
        watch_put(w, "  and %u more, see --json\n",
                  writers->len - MAX_WRITERS);
    }
}

static void json_summary(Protect *p, GPtrArray *writers, double seconds)
{
    Json *json = &p->watch.json;
    unsigned i, vcpu;

    json_object(json, NULL);
    json_object(json, "summary");
    json_double(json, "seconds", seconds, 3);
    json_uint(json, "events", p->watch.events);
    json_uint(json, "beside", p->beside);
    json_bool(json, "denied", p->deny);
    json_bool(json, "unhook-asked", p->watch.unhook_asked);
    json_array(json, "writers");
    for (i = 0; i < writers->len; i++) {
        const Writer *writer = g_ptr_array_index(writers, i);

        json_object(json, NULL);
        json_hex(json, "rip", writer->rip);
        json_hex(json, "cr3", writer->cr3);
        json_uint(json, "events", writer->count);
        json_hex(json, "lowest-gpa", writer->lowest);
        json_hex(json, "highest-gpa", writer->highest);
        json_array(json, "vcpus");
        for (vcpu = 0; vcpu < 64; vcpu++) {
            if (writer->vcpus & 1ULL << vcpu) {
                json_uint(json, NULL, vcpu);
            }
        }
        json_array_end(json);
        json_object_end(json);
    }
    json_array_end(json);
    json_object_end(json);
    json_object_end(json);
    watch_put_json(&p->watch);
}

static void summary(Watch *w, double seconds)
{
    Protect *p = (Protect *)w;
    g_autoptr(GPtrArray) writers = sorted_writers(p);

    (w->app->json ? json_summary : print_summary)(p, writers, seconds);
}

/* The command line */

static bool protect(Protect *p, const WatchOptions *o, char **argv,
                    GError **errp)
{
    Watch *w = &p->watch;

    if (!parse_number(argv[1], "GPA", MAX_ADDRESS, &p->gpa, errp) ||
        !parse_number(argv[2], "LENGTH", MAX_LENGTH, &p->length, errp) ||
        !watch_check_options(o, errp)) {
        return false;
    }
    if (!p->length) {
        return usage_error(errp, "LENGTH: 0 bytes are nothing to protect");
    }
    if (p->deny && !insn_available()) {
        return local_error(errp, "--deny takes the library Capstone, to know "
                           "the length of an instruction, and this kvmi was "
                           "built without it: install libcapstone-dev, and "
                           "configure with --enable-capstone");
    }
    p->summary_only = o->summary;
    return app_connect(w->app, errp) &&
           app_vcpus(w->app, -1, &w->first, &w->end, errp) &&
           watch_run(w, o, errp);
}

static bool run_protect(App *app, int argc, char **argv, GError **errp)
{
    WatchOptions o = { 0 };
    gboolean deny_writes = FALSE;
    const GOptionEntry entries[] = {
        { "deny", 0, 0, G_OPTION_ARG_NONE, &deny_writes,
          "leave out the instructions that write there", NULL },
        WATCH_OPTIONS(o),
        { NULL }
    };
    Protect p = {
        .watch = {
            .app = app,
            .what = "protecting memory of",
            .hook = hook,
            .handle = handle,
            .summary = summary,
        },
    };
    bool ok;

    p.writers = g_hash_table_new_full(writer_hash, writer_equal, g_free, NULL);
    ok = app_parse(app, entries, &argc, &argv, 2, 2, errp);
    p.deny = deny_writes;
    ok = ok && protect(&p, &o, argv, errp);
    g_hash_table_unref(p.writers);
    return ok;
}

const Subcommand cmd_protect = {
    .name = "protect",
    .arguments = "GPA LENGTH",
    .summary = "who writes to this memory; nobody, with --deny",
    .description =
        "Takes the guest's right to write from a range of its memory, and\n"
        "shows each write there is: which vCPU, which instruction in which\n"
        "address space, where; and at the end, how often.  The write happens,\n"
        "or with --deny is left out.  Ctrl-C gives the right back.",
    .run = run_protect,
};
