/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi xsave: floating point and vector registers
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"

/* Offsets in the image: Intel SDM volume 1, chapter 13. */
#define FCW 0
#define FSW 2
#define FTW 4
#define FOP 6
#define FIP 8
#define FDP 16
#define MXCSR 24
#define MXCSR_MASK 28
#define ST0 32
#define XMM0 160
#define XSTATE_BV 512
#define XCOMP_BV 520
#define YMMH0 576

#define XSTATE_X87 (1 << 0)
#define XSTATE_SSE (1 << 1)
#define XSTATE_AVX (1 << 2)

static const char *const components[] = {
    "x87", "sse", "avx", "bndregs", "bndcsr", "opmask", "zmm-hi256",
    "hi16-zmm", "pt", "pkru", "pasid", "cet-u", "cet-s", "hdc", "uintr",
    "lbr", "hwp", "xtilecfg", "xtiledata",
};

static uint64_t field(const uint8_t *image, size_t offset, size_t size)
{
    uint64_t value = 0;

    memcpy(&value, image + offset, size);
    return value;
}

/* Registers are numbers: the most significant byte comes first. */
static void format_register(const uint8_t *bytes, size_t size, char *out)
{
    size_t i;

    for (i = 0; i < size; i++) {
        sprintf(out + i * 2, "%02x", bytes[size - 1 - i]);
    }
}

static const struct {
    const char *name;
    size_t offset, size;
} control[] = {
    { "fcw", FCW, 2 },
    { "fsw", FSW, 2 },
    { "ftw", FTW, 1 },
    { "fop", FOP, 2 },
    { "fip", FIP, 8 },
    { "fdp", FDP, 8 },
    { "mxcsr", MXCSR, 4 },
    { "mxcsr-mask", MXCSR_MASK, 4 },
    { "xstate-bv", XSTATE_BV, 8 },
    { "xcomp-bv", XCOMP_BV, 8 },
};

static bool has_avx(const uint8_t *image)
{
    return field(image, XSTATE_BV, 8) & XSTATE_AVX;
}

/* The 128 or 256 bits of one vector register. */
static const char *format_vector(const uint8_t *image, unsigned nr,
                                 char out[65])
{
    char *p = out;

    if (has_avx(image)) {
        format_register(image + YMMH0 + nr * 16, 16, p);
        p += 32;
    }
    format_register(image + XMM0 + nr * 16, 16, p);
    return out;
}

static void print_human(const uint8_t *image)
{
    uint64_t present = field(image, XSTATE_BV, 8);
    char text[65];
    unsigned i;

    printf("%-11s", "in use");
    for (i = 0; i < G_N_ELEMENTS(components); i++) {
        if (present & (1ULL << i)) {
            printf(" %s", components[i]);
        }
    }
    printf("\n");
    for (i = 0; i < G_N_ELEMENTS(control); i++) {
        printf("%-11s %0*" PRIx64 "\n", control[i].name,
               (int)control[i].size * 2,
               field(image, control[i].offset, control[i].size));
    }
    for (i = 0; i < 8; i++) {
        format_register(image + ST0 + i * 16, 10, text);
        printf("st%-9u %s\n", i, text);
    }
    for (i = 0; i < 16; i++) {
        printf("%s%-8u %s\n", has_avx(image) ? "ymm" : "xmm", i,
               format_vector(image, i, text));
    }
}

static void print_json(const uint8_t *image, size_t size, unsigned vcpu)
{
    uint64_t present = field(image, XSTATE_BV, 8);
    Json json = { 0 };
    char text[65];
    unsigned i;

    json_object(&json, NULL);
    json_uint(&json, "vcpu", vcpu);
    json_array(&json, "in-use");
    for (i = 0; i < G_N_ELEMENTS(components); i++) {
        if (present & (1ULL << i)) {
            json_string(&json, NULL, components[i]);
        }
    }
    json_array_end(&json);
    for (i = 0; i < G_N_ELEMENTS(control); i++) {
        json_hex(&json, control[i].name,
                 field(image, control[i].offset, control[i].size));
    }
    json_array(&json, "st");
    for (i = 0; i < 8; i++) {
        format_register(image + ST0 + i * 16, 10, text);
        json_string(&json, NULL, text);
    }
    json_array_end(&json);
    json_array(&json, has_avx(image) ? "ymm" : "xmm");
    for (i = 0; i < 16; i++) {
        json_string(&json, NULL, format_vector(image, i, text));
    }
    json_array_end(&json);
    json_bytes(&json, "image", image, size);
    json_object_end(&json);
    json_flush(&json);
}

static bool run_xsave(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *vcpu_text = NULL;
    gboolean raw = FALSE;
    const GOptionEntry entries[] = {
        { "vcpu", 0, 0, G_OPTION_ARG_STRING, &vcpu_text,
          "which vCPU (default: 0)", "N" },
        { "raw", 0, 0, G_OPTION_ARG_NONE, &raw,
          "write the 4096 bytes of the image as they are", NULL },
        { NULL }
    };
    struct kvm_xsave xsave;
    const uint8_t *image = (const uint8_t *)xsave.region;
    int vcpu;

    if (!app_parse(app, entries, &argc, &argv, 0, 0, errp) ||
        !parse_vcpu(vcpu_text, 0, &vcpu, errp) ||
        !app_connect(app, errp) ||
        !kvmi_get_xsave(app->client, vcpu, &xsave, errp)) {
        return false;
    }
    if (raw) {
        fwrite(image, 1, sizeof(xsave.region), stdout);
    } else if (app->json) {
        print_json(image, sizeof(xsave.region), vcpu);
    } else {
        printf("vCPU %d\n", vcpu);
        print_human(image);
    }
    return true;
}

const Subcommand cmd_xsave = {
    .name = "xsave",
    .summary = "floating point and vector registers",
    .description =
        "Shows the x87, SSE and AVX registers of a vCPU from its XSAVE\n"
        "image.",
    .run = run_xsave,
};
