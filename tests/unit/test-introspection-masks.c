/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands and events: the bits of the ABI and the names of the schema.
 */
#include "qemu/osdep.h"
#include <linux/kvmi.h>
#include "qapi/qapi-types-introspection.h"
#include "qapi/util.h"
#include "kvmi/accel/introspection/masks.h"

#define ALWAYS_ALLOWED (KVMI_GET_VERSION_FLAG | KVMI_EVENT_FLAG | \
                        KVMI_EVENT_REPLY_FLAG)

/* Names as a user types them, beside the numbers that tools send. */
static const struct {
    const char *name;
    int bit;
} commands[] = {
    { "get-version", 1 }, { "get-guest-info", 3 }, { "get-registers", 6 },
    { "set-registers", 7 }, { "get-page-access", 10 },
    { "set-page-access", 11 }, { "inject-exception", 12 },
    { "read-physical", 13 }, { "write-physical", 14 },
    { "get-map-token", 15 }, { "control-events", 17 }, { "control-cr", 18 },
    { "control-msr", 19 }, { "event", 23 }, { "event-reply", 24 },
    { "get-cpuid", 25 }, { "get-xsave", 26 }, { "pause-all-vcpus", 27 },
    { "control-vm-events", 28 },
}, events[] = {
    { "unhook", 0 }, { "cr", 1 }, { "msr", 2 }, { "xsetbv", 3 },
    { "breakpoint", 4 }, { "hypercall", 5 }, { "pf", 6 }, { "trap", 7 },
    { "descriptor", 8 }, { "create-vcpu", 9 }, { "pause-vcpu", 10 },
};

static IntrospectionCommand command_named(const char *name)
{
    int value = qapi_enum_parse(&IntrospectionCommand_lookup, name, -1, NULL);

    g_assert_cmpint(value, >=, 0);
    return value;
}

static IntrospectionEvent event_named(const char *name)
{
    int value = qapi_enum_parse(&IntrospectionEvent_lookup, name, -1, NULL);

    g_assert_cmpint(value, >=, 0);
    return value;
}

static void test_each_command(void)
{
    g_assert_cmpuint(ARRAY_SIZE(commands), ==, INTROSPECTION_COMMAND__MAX);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        IntrospectionCommandList list = {
            .value = command_named(commands[i].name),
        };
        g_autoptr(IntrospectionCommandList) back = NULL;
        uint32_t bit = 1u << commands[i].bit;

        g_assert_cmphex(introspection_commands_to_mask(&list), ==,
                        ALWAYS_ALLOWED | bit);
        back = introspection_commands_from_mask(bit);
        g_assert_nonnull(back);
        g_assert_cmpstr(IntrospectionCommand_str(back->value), ==,
                        commands[i].name);
        g_assert_null(back->next);
    }
}

static void test_each_event(void)
{
    g_assert_cmpuint(ARRAY_SIZE(events), ==, INTROSPECTION_EVENT__MAX);
    for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
        IntrospectionEventList list = {
            .value = event_named(events[i].name),
        };
        g_autoptr(IntrospectionEventList) back = NULL;
        uint32_t bit = 1u << events[i].bit;

        g_assert_cmphex(introspection_events_to_mask(&list), ==, bit);
        back = introspection_events_from_mask(bit);
        g_assert_nonnull(back);
        g_assert_cmpstr(IntrospectionEvent_str(back->value), ==,
                        events[i].name);
        g_assert_null(back->next);
        g_assert_cmpint(introspection_event_from_id(events[i].bit), ==,
                        list.value);
    }
}

static void test_none(void)
{
    g_assert_cmphex(introspection_commands_to_mask(NULL), ==,
                    ALWAYS_ALLOWED);
    g_assert_cmphex(introspection_events_to_mask(NULL), ==, 0);
    g_assert_null(introspection_commands_from_mask(0));
    g_assert_null(introspection_events_from_mask(0));
}

/* All of them, in the order of the bits, and nothing for bits unknown. */
static void test_all(void)
{
    g_autoptr(IntrospectionCommandList) command_list =
        introspection_commands_from_mask(UINT32_MAX);
    g_autoptr(IntrospectionEventList) event_list =
        introspection_events_from_mask(UINT32_MAX);
    IntrospectionCommandList *c = command_list;
    IntrospectionEventList *e = event_list;

    for (size_t i = 0; i < ARRAY_SIZE(commands); i++, c = c->next) {
        g_assert_nonnull(c);
        g_assert_cmpstr(IntrospectionCommand_str(c->value), ==,
                        commands[i].name);
    }
    g_assert_null(c);
    for (size_t i = 0; i < ARRAY_SIZE(events); i++, e = e->next) {
        g_assert_nonnull(e);
        g_assert_cmpstr(IntrospectionEvent_str(e->value), ==,
                        events[i].name);
    }
    g_assert_null(e);

    g_assert_cmphex(introspection_commands_to_mask(command_list), ==,
                    KVMI_KNOWN_COMMANDS);
    g_assert_cmphex(introspection_events_to_mask(event_list), ==,
                    KVMI_KNOWN_EVENTS);
}

static void test_repeated(void)
{
    IntrospectionEventList second = { .value = event_named("cr") };
    IntrospectionEventList first = {
        .next = &second, .value = event_named("cr"),
    };

    g_assert_cmphex(introspection_events_to_mask(&first), ==,
                    KVMI_EVENT_CR_FLAG);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/introspection/masks/each-command", test_each_command);
    g_test_add_func("/introspection/masks/each-event", test_each_event);
    g_test_add_func("/introspection/masks/none", test_none);
    g_test_add_func("/introspection/masks/all", test_all);
    g_test_add_func("/introspection/masks/repeated", test_repeated);
    return g_test_run();
}
