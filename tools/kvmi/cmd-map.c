/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi map: guest memory that is mapped into this VM
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"

#define PAGE_SIZE 4096
#define MAX_MAP (256 * 1024 * 1024)
#define MAX_ADDRESS ((1ULL << 52) - 1)

/* How often --watch looks */
#define WATCH_MS 50

static void show(App *app, Json *json, uint64_t gpa, const uint8_t *bytes,
                 size_t size)
{
    if (app->json) {
        json_object(json, NULL);
        json_hex(json, "gpa", gpa);
        json_uint(json, "size", size);
        json_bytes(json, "data", bytes, size);
        json_object_end(json);
        json_flush(json);
    } else {
        print_hexdump(gpa, bytes, size);
    }
}

/* The guest changes it while we look, so what is shown is a copy. */
static void copy_out(uint8_t *to, const volatile uint8_t *from, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) {
        to[i] = from[i];
    }
}

/* Show it whenever it has changed, until a signal comes or the VM goes. */
static bool watch(App *app, Json *json, uint64_t gpa, const uint8_t *mapped,
                  uint8_t *shown, size_t size, GError **errp)
{
    g_autofree uint8_t *now = g_malloc(size);
    bool connected = true;

    while (connected) {
        KvmiEvent *event = NULL;

        /* We have asked for no events: this is to learn that the VM goes. */
        connected = kvmi_next_event(app->client, WATCH_MS, &event, errp);
        copy_out(now, mapped, size);
        if (memcmp(now, shown, size)) {
            memcpy(shown, now, size);
            show(app, json, gpa, shown, size);
            if (!app_flush(connected ? errp : NULL)) {
                return false;
            }
        }
    }
    return false;
}

static bool run_map(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *hex = NULL;
    gboolean watching = FALSE;
    const GOptionEntry entries[] = {
        { "write", 0, 0, G_OPTION_ARG_STRING, &hex,
          "first write these hexadecimal bytes to it", "HEX" },
        { "watch", 0, 0, G_OPTION_ARG_NONE, &watching,
          "show it again whenever it has changed", NULL },
        { NULL }
    };
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree uint8_t *shown = NULL;
    char *words[] = { NULL, NULL };
    uint64_t gpa, size, offset;
    KvmiMapping *mapping;
    uint8_t *mapped;
    Json json = { 0 };
    bool ok;

    if (!app_parse(app, entries, &argc, &argv, 2, 2, errp) ||
        !parse_number(argv[1], "GPA", MAX_ADDRESS, &gpa, errp) ||
        !parse_number(argv[2], "LENGTH", MAX_MAP, &size, errp)) {
        return false;
    }
    words[0] = hex;
    if (hex && !parse_hex(words, bytes, errp)) {
        return false;
    }
    if (!size || bytes->len > size) {
        return usage_error(errp, "LENGTH: there are %u bytes to write, and "
                           "%" PRIu64 " to map", bytes->len, size);
    }
    if (!app_connect(app, errp)) {
        return false;
    }

    offset = gpa % PAGE_SIZE;
    mapping = kvmi_mapping_new(app->client, gpa - offset,
                               (offset + size + PAGE_SIZE - 1) /
                               PAGE_SIZE * PAGE_SIZE, errp);
    if (!mapping) {
        return false;
    }
    mapped = (uint8_t *)kvmi_mapping_memory(mapping) + offset;
    memcpy(mapped, bytes->data, bytes->len);
    shown = g_malloc(size);
    copy_out(shown, mapped, size);
    show(app, &json, gpa, shown, size);
    ok = app_flush(errp) &&
         (!watching ||
          watch(app, &json, gpa, mapped, shown, size, errp));
    kvmi_mapping_free(mapping);
    return ok;
}

const Subcommand cmd_map = {
    .name = "map",
    .arguments = "GPA LENGTH",
    .summary = "map guest memory",
    .description =
        "Maps LENGTH bytes of guest memory at the guest physical address GPA\n"
        "and shows them.  It works only in a VM on the same host, whose kernel\n"
        "has the module kvmmem: no bytes are copied then, and no messages sent\n"
        "to look at them again.  All of it must be RAM.",
    .run = run_map,
};
