/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi cpuid: the processor as the guest sees it
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"

/* No processor has more subleaves than this. */
#define MAX_SUBLEAVES 64

typedef struct Cpuid {
    App *app;
    uint16_t vcpu;
    char brand[49];
    Json json;
} Cpuid;

/* False without an error: there is no such leaf. */
static bool get_leaf(Cpuid *c, uint32_t function, uint32_t index,
                     struct kvmi_get_cpuid_reply *leaf, GError **errp)
{
    GError *local = NULL;

    if (kvmi_get_cpuid(c->app->client, c->vcpu, function, index, leaf,
                       &local)) {
        return true;
    }
    if (g_error_matches(local, KVMI_ENGINE_ERROR, KVM_ENOENT)) {
        g_error_free(local);
    } else {
        g_propagate_error(errp, local);
    }
    return false;
}

static void show_leaf(Cpuid *c, uint32_t function, uint32_t index,
                      const struct kvmi_get_cpuid_reply *leaf)
{
    Json *json = &c->json;

    if (c->app->json) {
        json_object(json, NULL);
        json_hex(json, "function", function);
        json_uint(json, "index", index);
        json_hex(json, "eax", leaf->eax);
        json_hex(json, "ebx", leaf->ebx);
        json_hex(json, "ecx", leaf->ecx);
        json_hex(json, "edx", leaf->edx);
        json_object_end(json);
    } else {
        printf("%08" PRIx32 " %2" PRIx32 "  eax %08" PRIx32 "  ebx %08" PRIx32
               "  ecx %08" PRIx32 "  edx %08" PRIx32, function, index,
               leaf->eax, leaf->ebx, leaf->ecx, leaf->edx);
        switch (function) {
        case 0:
        case 0x80000000:
            printf("  %.4s%.4s%.4s", (const char *)&leaf->ebx,
                   (const char *)&leaf->edx, (const char *)&leaf->ecx);
            break;
        case 0x40000000:
            printf("  %.4s%.4s%.4s", (const char *)&leaf->ebx,
                   (const char *)&leaf->ecx, (const char *)&leaf->edx);
            break;
        }
        printf("\n");
    }
    if (function >= 0x80000002 && function <= 0x80000004) {
        memcpy(c->brand + (function - 0x80000002) * 16, leaf, 16);
    }
}

static bool has_subleaves(uint32_t function)
{
    switch (function) {
    case 0x4:
    case 0x7:
    case 0xb:
    case 0xd:
    case 0xf:
    case 0x10:
    case 0x12:
    case 0x14:
    case 0x17:
    case 0x18:
    case 0x1d:
    case 0x1e:
    case 0x1f:
    case 0x20:
    case 0x8000001d:
        return true;
    default:
        return false;
    }
}

/* After which subleaf there is nothing more: as the manuals say. */
static uint32_t last_subleaf(uint32_t function,
                             const struct kvmi_get_cpuid_reply *first)
{
    switch (function) {
    case 0x7:
    case 0x14:
    case 0x17:
    case 0x18:
    case 0x1d:
    case 0x20:
        return MIN(first->eax, MAX_SUBLEAVES - 1);
    default:
        return MAX_SUBLEAVES - 1;
    }
}

/* Is this subleaf only there to say that there is no more? */
static bool is_end(uint32_t function, uint32_t index,
                   const struct kvmi_get_cpuid_reply *leaf)
{
    switch (function) {
    case 0x4:
    case 0x8000001d:
        return !(leaf->eax & 0x1f);
    case 0xb:
    case 0x1f:
        return !(leaf->ecx & 0xff00);
    default:
        return false;
    }
}

static bool show_function(Cpuid *c, uint32_t function, GError **errp)
{
    struct kvmi_get_cpuid_reply leaf = { 0 };
    GError *local = NULL;
    uint32_t index, last = 0;

    for (index = 0; index <= last; index++) {
        if (!get_leaf(c, function, index, &leaf, &local)) {
            if (local) {
                g_propagate_error(errp, local);
                return false;
            }
            if (function == 0xd) {
                continue;               /* has gaps */
            }
            break;
        }
        if (index == 0 && has_subleaves(function)) {
            last = last_subleaf(function, &leaf);
        }
        if (index && is_end(function, index, &leaf)) {
            break;
        }
        if (index && function == 0xd &&
            !(leaf.eax | leaf.ebx | leaf.ecx | leaf.edx)) {
            continue;
        }
        if (index && !(leaf.eax | leaf.ebx | leaf.ecx | leaf.edx)) {
            break;
        }
        show_leaf(c, function, index, &leaf);
    }
    return true;
}

static bool show_range(Cpuid *c, uint32_t base, GError **errp)
{
    struct kvmi_get_cpuid_reply leaf;
    GError *local = NULL;
    uint32_t function, last;

    if (!get_leaf(c, base, 0, &leaf, &local)) {
        if (local) {
            g_propagate_error(errp, local);
        }
        return !local;
    }
    last = leaf.eax;
    if (last < base || last - base > 0xff) {
        last = base;
    }
    for (function = base; function <= last; function++) {
        if (!show_function(c, function, errp)) {
            return false;
        }
    }
    return true;
}

static bool show_all(Cpuid *c, GError **errp)
{
    return show_range(c, 0, errp) && show_range(c, 0x40000000, errp) &&
           show_range(c, 0x80000000, errp);
}

static bool show_one(Cpuid *c, uint32_t function, uint32_t index,
                     GError **errp)
{
    struct kvmi_get_cpuid_reply leaf;

    if (!kvmi_get_cpuid(c->app->client, c->vcpu, function, index, &leaf,
                        errp)) {
        return false;
    }
    show_leaf(c, function, index, &leaf);
    return true;
}

static bool run_cpuid(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *vcpu_text = NULL;
    const GOptionEntry entries[] = {
        { "vcpu", 0, 0, G_OPTION_ARG_STRING, &vcpu_text,
          "which vCPU (default: 0)", "N" },
        { NULL }
    };
    Cpuid c = { .app = app };
    uint64_t function = 0, index = 0;
    int vcpu;
    bool ok;

    if (!app_parse(app, entries, &argc, &argv, 0, 2, errp) ||
        !parse_vcpu(vcpu_text, 0, &vcpu, errp) ||
        (argc > 1 && !parse_number(argv[1], "FUNCTION", UINT32_MAX, &function,
                                   errp)) ||
        (argc > 2 && !parse_number(argv[2], "INDEX", UINT32_MAX, &index,
                                   errp)) ||
        !app_connect(app, errp)) {
        return false;
    }
    c.vcpu = vcpu;

    if (app->json) {
        json_object(&c.json, NULL);
        json_uint(&c.json, "vcpu", vcpu);
        json_array(&c.json, "leaves");
    }
    ok = argc > 1 ? show_one(&c, function, index, errp) : show_all(&c, errp);
    if (!ok) {
        json_clear(&c.json);
        return false;
    }
    if (app->json) {
        json_array_end(&c.json);
        json_string(&c.json, "brand", g_strstrip(c.brand));
        json_object_end(&c.json);
        json_flush(&c.json);
    } else if (*c.brand) {
        printf("%s\n", g_strstrip(c.brand));
    }
    return true;
}

const Subcommand cmd_cpuid = {
    .name = "cpuid",
    .arguments = "[FUNCTION [INDEX]]",
    .summary = "CPUID as the guest sees it",
    .description =
        "Shows a CPUID leaf as this vCPU's guest sees it, or all of them.",
    .run = run_cpuid,
};
