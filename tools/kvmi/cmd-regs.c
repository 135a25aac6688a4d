/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi regs: the registers of vCPUs
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"

typedef struct Flag {
    unsigned bit;
    const char *name;
} Flag;

static const Flag cr0_flags[] = {
    { 0, "PE" }, { 1, "MP" }, { 2, "EM" }, { 3, "TS" }, { 4, "ET" },
    { 5, "NE" }, { 16, "WP" }, { 18, "AM" }, { 29, "NW" }, { 30, "CD" },
    { 31, "PG" }, { 0, NULL }
};

static const Flag cr4_flags[] = {
    { 0, "VME" }, { 1, "PVI" }, { 2, "TSD" }, { 3, "DE" }, { 4, "PSE" },
    { 5, "PAE" }, { 6, "MCE" }, { 7, "PGE" }, { 8, "PCE" }, { 9, "OSFXSR" },
    { 10, "OSXMMEXCPT" }, { 11, "UMIP" }, { 12, "LA57" }, { 13, "VMXE" },
    { 14, "SMXE" }, { 16, "FSGSBASE" }, { 17, "PCIDE" }, { 18, "OSXSAVE" },
    { 20, "SMEP" }, { 21, "SMAP" }, { 22, "PKE" }, { 23, "CET" },
    { 24, "PKS" }, { 0, NULL }
};

static const Flag efer_flags[] = {
    { 0, "SCE" }, { 8, "LME" }, { 10, "LMA" }, { 11, "NX" }, { 12, "SVME" },
    { 13, "LMSLE" }, { 14, "FFXSR" }, { 0, NULL }
};

static const Flag rflags_flags[] = {
    { 0, "CF" }, { 2, "PF" }, { 4, "AF" }, { 6, "ZF" }, { 7, "SF" },
    { 8, "TF" }, { 9, "IF" }, { 10, "DF" }, { 11, "OF" }, { 14, "NT" },
    { 16, "RF" }, { 17, "VM" }, { 18, "AC" }, { 19, "VIF" }, { 20, "VIP" },
    { 21, "ID" }, { 0, NULL }
};

static void print_flags(const char *name, uint64_t value, const Flag *flags)
{
    printf("%-6s %016" PRIx64, name, value);
    for (; flags->name; flags++) {
        if (value & (1ULL << flags->bit)) {
            printf(" %s", flags->name);
        }
    }
    printf("\n");
}

static void print_segment(const char *name, const struct kvm_segment *seg)
{
    printf("%-6s %04x base %016" PRIx64 " limit %08" PRIx32 " type %2u "
           "s%u dpl%u p%u avl%u l%u db%u g%u%s\n",
           name, seg->selector, (uint64_t)seg->base, (uint32_t)seg->limit,
           seg->type, seg->s, seg->dpl, seg->present, seg->avl, seg->l,
           seg->db, seg->g, seg->unusable ? " unusable" : "");
}

static void print_table(const char *name, const struct kvm_dtable *table)
{
    printf("%-6s      base %016" PRIx64 " limit %08x\n",
           name, (uint64_t)table->base, table->limit);
}

const char *mode_name(uint32_t mode)
{
    switch (mode) {
    case 2:
        return "16-bit";
    case 4:
        return "32-bit";
    case 8:
        return "64-bit";
    default:
        return "unknown mode";
    }
}

void print_registers(const struct kvm_regs *regs,
                     const struct kvm_sregs *sregs)
{
    struct kvm_regs values = *regs;
    unsigned i;

    for (i = 0; i < KVMI_NUM_REGS - 1; i++) {
        printf("%-6s %016" PRIx64 "%s", kvmi_reg_name(i),
               *kvmi_reg(&values, i),
               i % 3 == 2 || i == KVMI_NUM_REGS - 2 ? "\n" : "  ");
    }
    print_flags("rflags", regs->rflags, rflags_flags);
    print_flags("cr0", sregs->cr0, cr0_flags);
    printf("%-6s %016" PRIx64 "\n", "cr2", (uint64_t)sregs->cr2);
    printf("%-6s %016" PRIx64 "\n", "cr3", (uint64_t)sregs->cr3);
    print_flags("cr4", sregs->cr4, cr4_flags);
    printf("%-6s %016" PRIx64 "\n", "cr8", (uint64_t)sregs->cr8);
    print_flags("efer", sregs->efer, efer_flags);
    printf("%-6s %016" PRIx64 "\n", "apic", (uint64_t)sregs->apic_base);
    print_segment("cs", &sregs->cs);
    print_segment("ss", &sregs->ss);
    print_segment("ds", &sregs->ds);
    print_segment("es", &sregs->es);
    print_segment("fs", &sregs->fs);
    print_segment("gs", &sregs->gs);
    print_segment("tr", &sregs->tr);
    print_segment("ldt", &sregs->ldt);
    print_table("gdt", &sregs->gdt);
    print_table("idt", &sregs->idt);
}

static void json_segment(Json *json, const char *name,
                         const struct kvm_segment *seg)
{
    json_object(json, name);
    json_uint(json, "selector", seg->selector);
    json_hex(json, "base", seg->base);
    json_hex(json, "limit", seg->limit);
    json_uint(json, "type", seg->type);
    json_uint(json, "s", seg->s);
    json_uint(json, "dpl", seg->dpl);
    json_uint(json, "present", seg->present);
    json_uint(json, "avl", seg->avl);
    json_uint(json, "l", seg->l);
    json_uint(json, "db", seg->db);
    json_uint(json, "g", seg->g);
    json_bool(json, "unusable", seg->unusable);
    json_object_end(json);
}

static void json_table(Json *json, const char *name,
                       const struct kvm_dtable *table)
{
    json_object(json, name);
    json_hex(json, "base", table->base);
    json_hex(json, "limit", table->limit);
    json_object_end(json);
}

void json_registers(Json *json, const struct kvm_regs *regs,
                    const struct kvm_sregs *sregs)
{
    struct kvm_regs values = *regs;
    unsigned i;

    json_object(json, "regs");
    for (i = 0; i < KVMI_NUM_REGS; i++) {
        json_hex(json, kvmi_reg_name(i), *kvmi_reg(&values, i));
    }
    json_object_end(json);

    json_object(json, "sregs");
    json_hex(json, "cr0", sregs->cr0);
    json_hex(json, "cr2", sregs->cr2);
    json_hex(json, "cr3", sregs->cr3);
    json_hex(json, "cr4", sregs->cr4);
    json_hex(json, "cr8", sregs->cr8);
    json_hex(json, "efer", sregs->efer);
    json_hex(json, "apic_base", sregs->apic_base);
    json_segment(json, "cs", &sregs->cs);
    json_segment(json, "ss", &sregs->ss);
    json_segment(json, "ds", &sregs->ds);
    json_segment(json, "es", &sregs->es);
    json_segment(json, "fs", &sregs->fs);
    json_segment(json, "gs", &sregs->gs);
    json_segment(json, "tr", &sregs->tr);
    json_segment(json, "ldt", &sregs->ldt);
    json_table(json, "gdt", &sregs->gdt);
    json_table(json, "idt", &sregs->idt);
    json_object_end(json);
}

static bool show_vcpu(App *app, uint16_t vcpu, const uint32_t *msrs,
                      unsigned nmsrs, Json *json, GError **errp)
{
    g_autofree uint64_t *values = g_new(uint64_t, nmsrs);
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    uint32_t mode;
    char buf[16];
    unsigned i;

    if (!kvmi_get_registers(app->client, vcpu, msrs, nmsrs, &mode, &regs,
                            &sregs, values, errp)) {
        return false;
    }
    if (app->json) {
        json_object(json, NULL);
        json_uint(json, "vcpu", vcpu);
        json_uint(json, "mode", mode);
        json_registers(json, &regs, &sregs);
        json_object(json, "msrs");
        for (i = 0; i < nmsrs; i++) {
            json_hex(json, msr_label(msrs[i], buf), values[i]);
        }
        json_object_end(json);
        json_object_end(json);
    } else {
        printf("vCPU %u, %s\n", vcpu, mode_name(mode));
        print_registers(&regs, &sregs);
        for (i = 0; i < nmsrs; i++) {
            printf("%-6s %016" PRIx64 "\n", msr_label(msrs[i], buf),
                   values[i]);
        }
    }
    return true;
}

static bool run_regs(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *vcpu_text = NULL;
    g_auto(GStrv) msr_texts = NULL;
    const GOptionEntry entries[] = {
        { "vcpu", 0, 0, G_OPTION_ARG_STRING, &vcpu_text,
          "only this vCPU", "N" },
        { "msr", 0, 0, G_OPTION_ARG_STRING_ARRAY, &msr_texts,
          "this MSR too; may be repeated", "NAME|INDEX" },
        { NULL }
    };
    uint32_t msrs[KVMI_MAX_MSRS];
    unsigned nmsrs = 0;
    unsigned first, end, i;
    Json json = { 0 };
    int vcpu;

    if (!app_parse(app, entries, &argc, &argv, 0, 0, errp) ||
        !parse_vcpu(vcpu_text, -1, &vcpu, errp)) {
        return false;
    }
    for (; msr_texts && msr_texts[nmsrs]; nmsrs++) {
        if (nmsrs == G_N_ELEMENTS(msrs)) {
            return usage_error(errp, "too many --msr");
        }
        if (!parse_msr(msr_texts[nmsrs], &msrs[nmsrs], errp)) {
            return false;
        }
    }
    if (!app_connect(app, errp) ||
        !app_vcpus(app, vcpu, &first, &end, errp)) {
        return false;
    }

    if (app->json) {
        json_array(&json, NULL);
    }
    for (i = first; i < end; i++) {
        if (i > first && !app->json) {
            printf("\n");
        }
        if (!show_vcpu(app, i, msrs, nmsrs, &json, errp)) {
            json_clear(&json);
            return false;
        }
    }
    if (app->json) {
        json_array_end(&json);
        json_flush(&json);
    }
    return true;
}

const Subcommand cmd_regs = {
    .name = "regs",
    .summary = "the registers of vCPUs, and MSRs",
    .description =
        "Shows the general, special and, with --msr, model specific\n"
        "registers of all vCPUs, or of one.  The vCPUs go on running.",
    .run = run_regs,
};
