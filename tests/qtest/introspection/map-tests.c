/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * GET_MAP_TOKEN.  What becomes of tokens takes a guest that has one: that is tested
 * in tests/kernel/, and by the kernel's own selftest.
 */
#include "qemu/osdep.h"

#include "tests.h"
#include "tool.h"

#define MAX_TOKENS 64

static int get_token(TestVM *vm, struct kvmi_get_map_token_reply *reply)
{
    return tool_call(vm->tool, KVMI_GET_MAP_TOKEN, NULL, 0, reply,
                     sizeof(*reply));
}

static void test_tokens(TestVM *vm)
{
    struct kvmi_get_map_token_reply tokens[MAX_TOKENS + 1];

    for (int i = 0; i < MAX_TOKENS; i++) {
        g_assert_cmpint(get_token(vm, &tokens[i]), ==, 0);
        /* random: no part of one is in another */
        for (int j = 0; j < i; j++) {
            for (int k = 0; k < 4; k++) {
                g_assert_cmphex(tokens[i].token.token[k], !=,
                                tokens[j].token.token[k]);
            }
        }
    }
    g_assert_cmpint(get_token(vm, &tokens[MAX_TOKENS]), ==, -KVM_EAGAIN);

    /* they die with the connection */
    tool_close(vm->tool);
    vm_rehook(vm);
    g_assert_cmpint(get_token(vm, &tokens[MAX_TOKENS]), ==, 0);
}

static void test_disallowed(TestVM *vm)
{
    struct kvmi_get_map_token_reply reply;

    g_assert_cmpint(get_token(vm, &reply), ==, -KVM_EACCES);
}

static const TestCase cases[] = {
    { "map-token/tokens", test_tokens, NEEDS_MAPPING },
    { "map-token/disallowed", test_disallowed, NEEDS_MAPPING,
      .object = "commands.0=get-registers" },
};

void introspection_add_map_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
