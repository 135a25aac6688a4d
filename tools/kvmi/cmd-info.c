/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi info: who the VM is and what may be done with it
 */

#include <stdio.h>
#include <string.h>
#include "cmd.h"

typedef const char *NameFunc(unsigned id);

/* Whether a bit is to be listed: one that is set, or a known one that isn't. */
static bool listed(uint32_t mask, NameFunc *name, unsigned bit, bool set)
{
    bool is_set = mask & (1u << bit);

    return set ? is_set : !is_set && name(bit);
}

static void print_names(const char *title, uint32_t mask, NameFunc *name,
                        bool set)
{
    int column = printf("%-12s", title);
    unsigned bit;

    for (bit = 0; bit < 32; bit++) {
        if (listed(mask, name, bit, set)) {
            g_autofree char *number = g_strdup_printf("bit-%u", bit);
            g_autofree char *word = g_strdup_printf(" %s",
                                                    name(bit) ?: number);

            if (column + strlen(word) > 79) {
                column = printf("\n%-12s", "") - 1;
            }
            column += printf("%s", word);
        }
    }
    if (column == 12) {
        printf(" none");
    }
    printf("\n");
}

static void json_names(Json *json, const char *key, uint32_t mask,
                       NameFunc *name)
{
    unsigned bit;

    json_array(json, key);
    for (bit = 0; bit < 32; bit++) {
        if (listed(mask, name, bit, true)) {
            g_autofree char *number = g_strdup_printf("bit-%u", bit);

            json_string(json, NULL, name(bit) ?: number);
        }
    }
    json_array_end(json);
}

char *format_uuid(const uint8_t u[16])
{
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                           "%02x%02x%02x%02x%02x%02x",
                           u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7],
                           u[8], u[9], u[10], u[11], u[12], u[13], u[14],
                           u[15]);
}

static char *format_time(int64_t seconds)
{
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(seconds);

    return t ? g_date_time_format(t, "%Y-%m-%d %H:%M:%S UTC")
             : g_strdup("unknown");
}

static void print_human(const KvmiVMInfo *vm,
                        const struct kvmi_get_version_reply *version,
                        const struct kvmi_get_guest_info_reply *guest)
{
    g_autofree char *uuid = format_uuid(vm->uuid);
    g_autofree char *started = format_time(vm->start_time);
    int64_t age = g_get_real_time() / G_USEC_PER_SEC - vm->start_time;

    printf("%-12s %s\n", "VM", *vm->name ? vm->name : "(no name)");
    printf("%-12s %s\n", "UUID", uuid);
    printf("%-12s %s (%" PRId64 " s ago)\n", "started", started, age);
    printf("%-12s version %" PRIu32 ", handshake of %" PRIu32 " bytes\n",
           "KVMI", version->version, vm->struct_size);
    printf("%-12s %" PRIu32 "\n", "vCPUs", guest->vcpu_count);
    if (guest->tsc_speed) {
        printf("%-12s %.3f MHz\n", "TSC", guest->tsc_speed / 1e6);
    } else {
        printf("%-12s unknown\n", "TSC");
    }
    print_names("commands", version->commands, kvmi_command_name, true);
    print_names("  without", version->commands, kvmi_command_name, false);
    print_names("events", version->events, kvmi_event_name, true);
    print_names("  without", version->events, kvmi_event_name, false);
}

static void print_json(const KvmiVMInfo *vm,
                       const struct kvmi_get_version_reply *version,
                       const struct kvmi_get_guest_info_reply *guest)
{
    g_autofree char *uuid = format_uuid(vm->uuid);
    Json json = { 0 };

    json_object(&json, NULL);
    json_string(&json, "name", vm->name);
    json_string(&json, "uuid", uuid);
    json_int(&json, "start-time", vm->start_time);
    json_uint(&json, "handshake-size", vm->struct_size);
    json_uint(&json, "version", version->version);
    json_uint(&json, "vcpus", guest->vcpu_count);
    json_uint(&json, "tsc-hz", guest->tsc_speed);
    json_names(&json, "commands", version->commands, kvmi_command_name);
    json_names(&json, "events", version->events, kvmi_event_name);
    json_object_end(&json);
    json_flush(&json);
}

static bool run_info(App *app, int argc, char **argv, GError **errp)
{
    struct kvmi_get_version_reply version;
    struct kvmi_get_guest_info_reply guest;

    if (!app_parse(app, NULL, &argc, &argv, 0, 0, errp) ||
        !app_connect(app, errp) ||
        !kvmi_get_version(app->client, &version, errp) ||
        !kvmi_get_guest_info(app->client, &guest, errp)) {
        return false;
    }
    (app->json ? print_json : print_human)(kvmi_client_vm(app->client),
                                           &version, &guest);
    return true;
}

const Subcommand cmd_info = {
    .name = "info",
    .summary = "who the VM is, and what may be done with it",
    .description =
        "Shows what the VM said in the handshake (name, UUID, start time),\n"
        "the protocol's version, the number of vCPUs, and which commands and\n"
        "events this VM's engine implements and its manager allows.",
    .run = run_info,
};
