/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: an event as a line of text, or as JSON
 */

#include "trace-event.h"

const char *access_name(uint8_t access, char buf[4])
{
    buf[0] = access & KVMI_PAGE_ACCESS_R ? 'r' : '-';
    buf[1] = access & KVMI_PAGE_ACCESS_W ? 'w' : '-';
    buf[2] = access & KVMI_PAGE_ACCESS_X ? 'x' : '-';
    buf[3] = 0;
    return buf;
}

static const char *table_name(uint8_t descriptor)
{
    switch (descriptor) {
    case KVMI_DESC_IDTR:
        return "idtr";
    case KVMI_DESC_GDTR:
        return "gdtr";
    case KVMI_DESC_LDTR:
        return "ldtr";
    case KVMI_DESC_TR:
        return "tr";
    default:
        return "?";
    }
}

/* XSETBV: EDX:EAX */
static uint64_t new_xcr0(const KvmiEvent *event)
{
    const struct kvm_regs *regs = &event->common.regs;

    return regs->rdx << 32 | (uint32_t)regs->rax;
}

const char *event_label(const KvmiEvent *event, char buf[16])
{
    switch (event->common.event) {
    case KVMI_EVENT_CR:
        g_snprintf(buf, 16, "cr%u", event->cr.cr);
        return buf;
    case KVMI_EVENT_MSR:
        return msr_label(event->msr.msr, buf);
    default:
        return kvmi_event_name(event->common.event) ?: "?";
    }
}

uint64_t event_value(const KvmiEvent *event)
{
    switch (event->common.event) {
    case KVMI_EVENT_CR:
        return event->cr.new_value;
    case KVMI_EVENT_MSR:
        return event->msr.new_value;
    case KVMI_EVENT_XSETBV:
        return new_xcr0(event);
    case KVMI_EVENT_BREAKPOINT:
        return event->common.sregs.cr3;
    case KVMI_EVENT_TRAP:
        return event->trap.vector;
    default:
        return event->common.regs.rip;
    }
}

const char *event_value_name(uint32_t event, uint64_t index)
{
    switch (event) {
    case KVMI_EVENT_CR:
        return index == 3 ? "address spaces" : "values";
    case KVMI_EVENT_MSR:
    case KVMI_EVENT_XSETBV:
        return "values";
    case KVMI_EVENT_BREAKPOINT:
        return "address spaces";
    case KVMI_EVENT_TRAP:
        return "vectors";
    default:
        return "places";
    }
}

static void show_text(Watch *w, const KvmiEvent *event)
{
    char buf[16];

    watch_put(w, "%-14s ", event_label(event, buf));
    switch (event->common.event) {
    case KVMI_EVENT_CR:
        watch_put(w, "%016" PRIx64 " -> %016" PRIx64,
                  (uint64_t)event->cr.old_value,
                  (uint64_t)event->cr.new_value);
        break;
    case KVMI_EVENT_MSR:
        watch_put(w, "%016" PRIx64 " -> %016" PRIx64,
                  (uint64_t)event->msr.old_value,
                  (uint64_t)event->msr.new_value);
        break;
    case KVMI_EVENT_XSETBV:
        watch_put(w, "xcr0 -> %016" PRIx64, new_xcr0(event));
        break;
    case KVMI_EVENT_BREAKPOINT:
        watch_put(w, "gpa %016" PRIx64 "  cr3 %016" PRIx64,
                  (uint64_t)event->breakpoint.gpa,
                  (uint64_t)event->common.sregs.cr3);
        break;
    case KVMI_EVENT_PF:
        watch_put(w, "%s  gpa %016" PRIx64 "  gva %016" PRIx64,
                  access_name(event->pf.mode, buf), (uint64_t)event->pf.gpa,
                  (uint64_t)event->pf.gva);
        break;
    case KVMI_EVENT_DESCRIPTOR:
        watch_put(w, "%s %s", table_name(event->descriptor.descriptor),
                  event->descriptor.write ? "loaded" : "stored");
        break;
    case KVMI_EVENT_TRAP:
        watch_put(w, "vector %" PRIu32 "  type %" PRIu32 "  error %" PRIx32
                  "  cr2 %016" PRIx64, event->trap.vector, event->trap.type,
                  event->trap.error_code, (uint64_t)event->trap.cr2);
        break;
    default:
        break;
    }
    watch_put(w, "\n");
}

static void show_json(Watch *w, const KvmiEvent *event)
{
    Json *json = &w->json;
    char buf[16];

    switch (event->common.event) {
    case KVMI_EVENT_CR:
        json_uint(json, "cr", event->cr.cr);
        json_hex(json, "old", event->cr.old_value);
        json_hex(json, "new", event->cr.new_value);
        break;
    case KVMI_EVENT_MSR:
        json_string(json, "msr", msr_label(event->msr.msr, buf));
        json_hex(json, "index", event->msr.msr);
        json_hex(json, "old", event->msr.old_value);
        json_hex(json, "new", event->msr.new_value);
        break;
    case KVMI_EVENT_XSETBV:
        json_hex(json, "new", new_xcr0(event));
        break;
    case KVMI_EVENT_BREAKPOINT:
        json_hex(json, "gpa", event->breakpoint.gpa);
        break;
    case KVMI_EVENT_PF:
        json_string(json, "access", access_name(event->pf.mode, buf));
        json_hex(json, "gpa", event->pf.gpa);
        json_hex(json, "gva", event->pf.gva);
        break;
    case KVMI_EVENT_DESCRIPTOR:
        json_string(json, "register",
                    table_name(event->descriptor.descriptor));
        json_bool(json, "write", event->descriptor.write);
        break;
    case KVMI_EVENT_TRAP:
        json_uint(json, "vector", event->trap.vector);
        json_uint(json, "type", event->trap.type);
        json_hex(json, "error-code", event->trap.error_code);
        json_hex(json, "cr2", event->trap.cr2);
        break;
    default:
        break;
    }
    json_object_end(json);
    watch_put_json(w);
}

void show_event(Watch *w, const KvmiEvent *event)
{
    watch_begin_event(w, event);
    (w->app->json ? show_json : show_text)(w, event);
}
