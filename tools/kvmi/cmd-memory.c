/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi read, kvmi write: guest memory by its physical address
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"

#define MAX_READ (256 * 1024 * 1024)
#define MAX_ADDRESS ((1ULL << 52) - 1)

/* read */

static bool run_read(App *app, int argc, char **argv, GError **errp)
{
    gboolean raw = FALSE;
    const GOptionEntry entries[] = {
        { "raw", 0, 0, G_OPTION_ARG_NONE, &raw,
          "write the bytes as they are", NULL },
        { NULL }
    };
    g_autofree uint8_t *buf = NULL;
    uint64_t gpa, size;
    Json json = { 0 };

    if (!app_parse(app, entries, &argc, &argv, 2, 2, errp) ||
        !parse_number(argv[1], "GPA", MAX_ADDRESS, &gpa, errp) ||
        !parse_number(argv[2], "LENGTH", MAX_READ, &size, errp)) {
        return false;
    }
    if (!size) {
        return usage_error(errp, "LENGTH: 0 bytes are nothing to read");
    }
    if (!app_connect(app, errp)) {
        return false;
    }

    buf = g_malloc(size);
    if (!kvmi_read_memory(app->client, gpa, buf, size, errp)) {
        return false;
    }
    if (raw) {
        fwrite(buf, 1, size, stdout);
    } else if (app->json) {
        json_object(&json, NULL);
        json_hex(&json, "gpa", gpa);
        json_uint(&json, "size", size);
        json_bytes(&json, "data", buf, size);
        json_object_end(&json);
        json_flush(&json);
    } else {
        print_hexdump(gpa, buf, size);
    }
    return true;
}

const Subcommand cmd_read = {
    .name = "read",
    .arguments = "GPA LENGTH",
    .summary = "read guest memory",
    .description =
        "Reads LENGTH bytes of guest memory at the guest physical address\n"
        "GPA and shows them.  All of it must be RAM or ROM.",
    .run = run_read,
};

/* write */

static bool get_bytes(const char *file, const char *string, char **hex,
                      GByteArray *out, GError **errp)
{
    if (!!file + !!string + !!*hex != 1) {
        return usage_error(errp, "give what to write once: as hexadecimal "
                           "bytes, with --string, or with --file");
    }
    if (file) {
        g_autofree char *contents = NULL;
        gsize len;

        if (!g_file_get_contents(file, &contents, &len, errp)) {
            return false;
        }
        g_byte_array_append(out, (uint8_t *)contents, len);
    } else if (string) {
        g_byte_array_append(out, (const uint8_t *)string, strlen(string));
    } else if (!parse_hex(hex, out, errp)) {
        return false;
    }
    if (!out->len) {
        return usage_error(errp, "there is nothing to write");
    }
    return true;
}

static bool run_write(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *file = NULL;
    g_autofree char *string = NULL;
    const GOptionEntry entries[] = {
        { "file", 0, 0, G_OPTION_ARG_FILENAME, &file,
          "write what is in FILE", "FILE" },
        { "string", 0, 0, G_OPTION_ARG_STRING, &string,
          "write TEXT, without a NUL at its end", "TEXT" },
        { NULL }
    };
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    Json json = { 0 };
    uint64_t gpa;

    if (!app_parse(app, entries, &argc, &argv, 1, INT_MAX, errp) ||
        !parse_number(argv[1], "GPA", MAX_ADDRESS, &gpa, errp) ||
        !get_bytes(file, string, argv + 2, bytes, errp) ||
        !app_connect(app, errp) ||
        !kvmi_write_memory(app->client, gpa, bytes->data, bytes->len, errp)) {
        return false;
    }
    if (app->json) {
        json_object(&json, NULL);
        json_hex(&json, "gpa", gpa);
        json_uint(&json, "size", bytes->len);
        json_object_end(&json);
        json_flush(&json);
    } else if (!app->quiet) {
        printf("%u bytes written at 0x%" PRIx64 "\n", bytes->len, gpa);
    }
    return true;
}

const Subcommand cmd_write = {
    .name = "write",
    .arguments = "GPA [HEX...]",
    .summary = "write guest memory",
    .description =
        "Writes bytes into guest memory at the guest physical address GPA:\n"
        "hexadecimal ones from the command line (de ad be ef, or deadbeef),\n"
        "a string, or a file.  All of it must go to RAM.",
    .run = run_write,
};
