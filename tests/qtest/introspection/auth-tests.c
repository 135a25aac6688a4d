/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: QEMU and the tool prove that they know a key.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qobject/qdict.h"
#include "tests.h"

#define KEY                 "open sesame"
#define SECRET              "-object secret,id=key0,data=open\\ sesame"

#define AUTH_COOKIE         1
#define AUTH_HMAC           2

/* Behind the hello that QEMU always sends. */
#define METHODS_OFFSET      HELLO_SIZE
#define NONCE_OFFSET        (HELLO_SIZE + 8)
#define AUTH_HELLO_SIZE     (HELLO_SIZE + 40)

/* Behind the answer that tools always send. */
#define METHOD_OFFSET       ANSWER_SIZE
#define TOOL_NONCE_OFFSET   (ANSWER_SIZE + 4)
#define TOOL_MAC_OFFSET     (ANSWER_SIZE + 36)
#define AUTH_ANSWER_SIZE    (ANSWER_SIZE + 68)

#define MAC_SIZE            32
#define PROOF_SIZE          36

typedef struct Dialog {
    uint8_t hello[AUTH_HELLO_SIZE];
    size_t hello_size;
    uint8_t answer[AUTH_ANSWER_SIZE + 100];
    size_t answer_size;
    uint8_t proof[PROOF_SIZE];
} Dialog;

static void compute_mac(const Dialog *d, const char *name, const char *key,
                        uint8_t mac[MAC_SIZE])
{
    g_autoptr(GHmac) hmac = g_hmac_new(G_CHECKSUM_SHA256,
                                       (const guchar *)key, strlen(key));
    char label[16] = { 0 };
    gsize size = MAC_SIZE;

    strcpy(label, name);
    g_hmac_update(hmac, (guchar *)label, sizeof(label));
    g_hmac_update(hmac, d->hello, d->hello_size);
    g_hmac_update(hmac, d->answer, d->answer_size);
    g_hmac_get_digest(hmac, mac, &size);
}

static void set_mac(Dialog *d, const char *key)
{
    uint8_t mac[MAC_SIZE];

    memset(d->answer + TOOL_MAC_OFFSET, 0, MAC_SIZE);
    compute_mac(d, "KVMI tool", key, mac);
    memcpy(d->answer + TOOL_MAC_OFFSET, mac, MAC_SIZE);
}

static void prepare_hmac(Dialog *d, const char *key)
{
    memset(d->answer, 0, sizeof(d->answer));
    d->answer_size = AUTH_ANSWER_SIZE;
    stl_he_p(d->answer, d->answer_size);
    stl_he_p(d->answer + METHOD_OFFSET, AUTH_HMAC);
    memset(d->answer + TOOL_NONCE_OFFSET, 0x5a, 32);
    set_mac(d, key);
}

static void set_cookie(Dialog *d, const char *key)
{
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA1);
    gsize size = 20;

    g_checksum_update(checksum, (const guchar *)key, strlen(key));
    g_checksum_get_digest(checksum, d->answer + 4, &size);
}

static void prepare_cookie(Dialog *d, const char *key)
{
    memset(d->answer, 0, sizeof(d->answer));
    d->answer_size = ANSWER_SIZE;
    stl_he_p(d->answer, d->answer_size);
    set_cookie(d, key);
}

static void start(TestVM *vm, const char *auth, const char *more)
{
    g_autofree char *object = g_strdup_printf("key=key0%s%s",
                                              auth ? ",auth=" : "",
                                              auth ?: "");
    g_autofree char *secret = g_strdup_printf(SECRET " %s", more ?: "");

    vm_start(vm, object, secret);
}

/* The connection, and QEMU's hello of @size bytes. */
static void meet(TestVM *vm, Dialog *d, size_t size)
{
    tool_accept(vm->tool);
    d->hello_size = size;
    tool_receive_bytes(vm->tool, d->hello, size);
    g_assert_cmpuint(ldl_he_p(d->hello), ==, size);
}

static void answer(TestVM *vm, const Dialog *d)
{
    tool_send_bytes(vm->tool, d->answer, d->answer_size);
}

static void expect_refused(TestVM *vm)
{
    tool_expect_eof(vm->tool);
}

static void expect_auth(TestVM *vm, const char *auth)
{
    QDict *info = vm_query_introspection(vm);

    g_assert_cmpstr(qdict_get_try_str(info, "auth"), ==, auth);
    qobject_unref(info);
}

static void expect_hooked(TestVM *vm, const char *auth)
{
    struct kvmi_get_version_reply version;

    tool_get_version(vm->tool, &version);
    expect_auth(vm, auth);
}

/* QEMU proves that it knows the key, too. */
static void expect_proof(TestVM *vm, Dialog *d)
{
    uint8_t mac[MAC_SIZE];

    tool_receive_bytes(vm->tool, d->proof, PROOF_SIZE);
    g_assert_cmpuint(ldl_he_p(d->proof), ==, PROOF_SIZE);
    compute_mac(d, "KVMI VM", KEY, mac);
    g_assert_cmpmem(d->proof + 4, MAC_SIZE, mac, MAC_SIZE);
}

static void hook_with_hmac(TestVM *vm, Dialog *d)
{
    meet(vm, d, AUTH_HELLO_SIZE);
    prepare_hmac(d, KEY);
    answer(vm, d);
    expect_proof(vm, d);
    expect_hooked(vm, "hmac");
}

static void test_hmac(TestVM *vm)
{
    Dialog d;

    start(vm, NULL, NULL);
    hook_with_hmac(vm, &d);
    g_assert_cmpuint(ldl_he_p(d.hello + METHODS_OFFSET), ==, AUTH_HMAC);
    g_assert_cmpuint(ldl_he_p(d.hello + METHODS_OFFSET + 4), ==, 0);
}

/* What comes behind the known part is covered by the proofs. */
static void test_hmac_longer(TestVM *vm)
{
    Dialog d;

    start(vm, "hmac", NULL);
    meet(vm, &d, AUTH_HELLO_SIZE);
    prepare_hmac(&d, KEY);
    d.answer_size += 100;
    stl_he_p(d.answer, d.answer_size);
    memset(d.answer + AUTH_ANSWER_SIZE, 0xee, 100);
    set_mac(&d, KEY);
    d.answer[d.answer_size - 1] ^= 1;
    answer(vm, &d);
    expect_refused(vm);

    meet(vm, &d, AUTH_HELLO_SIZE);
    set_mac(&d, KEY);
    answer(vm, &d);
    expect_proof(vm, &d);
    expect_hooked(vm, "hmac");
}

/* To tools that only know the cookie, everything is as it always was. */
static void test_cookie(TestVM *vm)
{
    Dialog d;

    start(vm, "cookie", NULL);
    meet(vm, &d, HELLO_SIZE);
    prepare_cookie(&d, KEY);
    answer(vm, &d);
    expect_hooked(vm, "cookie");
}

static void test_any(TestVM *vm)
{
    Dialog d;

    start(vm, "any", NULL);
    hook_with_hmac(vm, &d);
    g_assert_cmpuint(ldl_he_p(d.hello + METHODS_OFFSET), ==,
                     AUTH_COOKIE | AUTH_HMAC);
    tool_close(vm->tool);

    meet(vm, &d, AUTH_HELLO_SIZE);
    prepare_cookie(&d, KEY);
    answer(vm, &d);
    expect_hooked(vm, "cookie");
}

static void test_wrong_key(TestVM *vm)
{
    static const char *const keys[] = {
        "open sesam", "open sesame ", "Open sesame", "x",
    };
    Dialog d;

    start(vm, "any", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        meet(vm, &d, AUTH_HELLO_SIZE);
        prepare_hmac(&d, keys[i]);
        answer(vm, &d);
        expect_refused(vm);
        meet(vm, &d, AUTH_HELLO_SIZE);
        prepare_cookie(&d, keys[i]);
        answer(vm, &d);
        expect_refused(vm);
    }
    hook_with_hmac(vm, &d);
}

static void test_wrong_cookie(TestVM *vm)
{
    Dialog d;

    start(vm, "cookie", NULL);
    for (size_t i = 0; i < 20; i++) {
        meet(vm, &d, HELLO_SIZE);
        prepare_cookie(&d, KEY);
        d.answer[4 + i] ^= 0x80;
        answer(vm, &d);
        expect_refused(vm);
    }
}

static void expect_no_key_refused(TestVM *vm, const char *auth, size_t size)
{
    Dialog d;

    start(vm, auth, NULL);
    /* zeros for a cookie */
    meet(vm, &d, size);
    tool_answer_hello(vm->tool);
    expect_refused(vm);
    /* not even that */
    meet(vm, &d, size);
    memset(d.answer, 0, sizeof(d.answer));
    d.answer_size = 4;
    stl_he_p(d.answer, 4);
    answer(vm, &d);
    expect_refused(vm);
}

static void test_no_key_hmac(TestVM *vm)
{
    expect_no_key_refused(vm, "hmac", AUTH_HELLO_SIZE);
}

static void test_no_key_cookie(TestVM *vm)
{
    expect_no_key_refused(vm, "cookie", HELLO_SIZE);
}

static void test_no_key_any(TestVM *vm)
{
    expect_no_key_refused(vm, "any", AUTH_HELLO_SIZE);
}

/* What was good for one connection is not for the next. */
static void test_replay(TestVM *vm)
{
    Dialog first, second;

    start(vm, NULL, NULL);
    hook_with_hmac(vm, &first);
    tool_close(vm->tool);
    meet(vm, &second, AUTH_HELLO_SIZE);
    g_assert_false(memcmp(first.hello + NONCE_OFFSET,
                          second.hello + NONCE_OFFSET, 32) == 0);
    answer(vm, &first);
    expect_refused(vm);
    hook_with_hmac(vm, &second);
}

/* QEMU's own proof, sent back to it, proves nothing. */
static void test_reflection(TestVM *vm)
{
    Dialog d;

    start(vm, NULL, NULL);
    hook_with_hmac(vm, &d);
    tool_close(vm->tool);
    meet(vm, &d, AUTH_HELLO_SIZE);
    memset(d.answer + TOOL_MAC_OFFSET, 0, MAC_SIZE);
    compute_mac(&d, "KVMI VM", KEY, d.answer + TOOL_MAC_OFFSET);
    answer(vm, &d);
    expect_refused(vm);
}

/* A bit of the answer is changed on its way. */
static void test_changed(TestVM *vm)
{
    Dialog d;

    start(vm, NULL, NULL);
    for (size_t i = 4; i < AUTH_ANSWER_SIZE; i += 7) {
        meet(vm, &d, AUTH_HELLO_SIZE);
        prepare_hmac(&d, KEY);
        d.answer[i] ^= 1;
        answer(vm, &d);
        expect_refused(vm);
    }
}

static void test_downgrade(TestVM *vm)
{
    Dialog d;

    start(vm, "hmac", NULL);
    meet(vm, &d, AUTH_HELLO_SIZE);
    prepare_cookie(&d, KEY);
    answer(vm, &d);
    expect_refused(vm);

    /* a right cookie makes no wrong proof good */
    meet(vm, &d, AUTH_HELLO_SIZE);
    prepare_hmac(&d, "wrong");
    set_cookie(&d, KEY);
    answer(vm, &d);
    expect_refused(vm);

    for (uint32_t method = 3; method < 7; method++) {
        meet(vm, &d, AUTH_HELLO_SIZE);
        prepare_hmac(&d, KEY);
        stl_he_p(d.answer + METHOD_OFFSET, method);
        set_mac(&d, KEY);
        answer(vm, &d);
        expect_refused(vm);
    }
    hook_with_hmac(vm, &d);
}

static void test_downgrade_any(TestVM *vm)
{
    Dialog d;

    start(vm, "any", NULL);
    meet(vm, &d, AUTH_HELLO_SIZE);
    prepare_hmac(&d, "wrong");
    set_cookie(&d, KEY);
    answer(vm, &d);
    expect_refused(vm);
}

static void test_hmac_to_cookie(TestVM *vm)
{
    Dialog d;

    start(vm, "cookie", NULL);
    meet(vm, &d, HELLO_SIZE);
    prepare_hmac(&d, KEY);
    set_cookie(&d, KEY);
    set_mac(&d, KEY);
    answer(vm, &d);
    expect_refused(vm);
}

/* In pieces, as everything else. */
static void test_pieces(TestVM *vm)
{
    Dialog d;

    start(vm, NULL, NULL);
    meet(vm, &d, AUTH_HELLO_SIZE);
    prepare_hmac(&d, KEY);
    tool_send_bytes_slowly(vm->tool, d.answer, d.answer_size);
    expect_proof(vm, &d);
    expect_hooked(vm, "hmac");
}

/* Said once, with who it was; the guest goes on. */
static void test_said(TestVM *vm)
{
    g_autofree char *more = g_strdup_printf("2>%s", vm->log);
    g_autofree char *pid = g_strdup_printf("process %d, user %d", getpid(),
                                           getuid());
    g_autofree char *log = NULL;
    Dialog d;
    QDict *event;
    const char *reason = NULL;

    start(vm, NULL, more);
    for (int i = 0; i < 3; i++) {
        meet(vm, &d, AUTH_HELLO_SIZE);
        prepare_hmac(&d, "wrong");
        answer(vm, &d);
        expect_refused(vm);
        if (vm->engine->runs) {
            vm_guest_wait_up(vm, 0);
            vm_guest_wait_counting(vm, 0);
        }
    }
    log = vm_read_log(vm);
    g_test_message("%s", log);
    g_assert_nonnull(strstr(log, "was refused"));
    g_assert_null(strstr(strstr(log, "was refused") + 1, "was refused"));
    g_assert_nonnull(strstr(log, vm->socket));
    g_assert_nonnull(strstr(log, pid));
    g_assert_null(strstr(log, "has no key"));

    do {
        event = qtest_qmp_eventwait_ref(vm->qts, "INTROSPECTION_STATE_CHANGE");
        reason = qdict_get_try_str(qdict_get_qdict(event, "data"), "reason");
        if (reason) {
            g_assert_nonnull(strstr(reason, "refused"));
        }
        qobject_unref(event);
    } while (!reason);
}

/* The back-off is the chardev's. */
static void test_back_off(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,reconnect-ms=400",
                                               vm->socket);
    Dialog d;
    int64_t begin;

    vm->tool = tool_listen(vm->socket);
    vm_start_with(vm, chardev, "key=key0", SECRET);
    meet(vm, &d, AUTH_HELLO_SIZE);
    prepare_hmac(&d, "wrong");
    begin = g_get_monotonic_time();
    answer(vm, &d);
    expect_refused(vm);
    hook_with_hmac(vm, &d);
    g_assert_cmpint(g_get_monotonic_time() - begin, >=, 300 * 1000);
}

static void test_no_key_warning(TestVM *vm)
{
    g_autofree char *more = g_strdup_printf("2>%s", vm->log);
    g_autofree char *log = NULL;

    vm_start_hooked(vm, "", more);
    log = vm_read_log(vm);
    g_assert_nonnull(strstr(log, "has no key"));
    expect_auth(vm, NULL);
}

/* Who it is, for the manager. */
static void test_peer_credentials(TestVM *vm)
{
    QDict *info = vm_query_introspection(vm);
    QDict *peer = qdict_get_qdict(info, "peer-credentials");

    g_assert_cmpint(qdict_get_int(peer, "pid"), ==, getpid());
    g_assert_cmpint(qdict_get_int(peer, "uid"), ==, getuid());
    g_assert_cmpint(qdict_get_int(peer, "gid"), ==, getgid());
    g_assert_false(qdict_haskey(peer, "cid"));
    qobject_unref(info);
    tool_close(vm->tool);
}

static void expect_refused_object(TestVM *vm, const char *properties,
                                  const char *word)
{
    g_autofree char *command = g_strdup_printf(
        "{'execute': 'object-add', 'arguments': {'qom-type': 'introspection',"
        " 'id': 'kvmi0', 'chardev': 'vmi', %s}}", properties);
    QDict *error = qtest_qmp_assert_failure_ref(vm->qts, command, NULL);

    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), word));
    qobject_unref(error);
}

static void test_bad_keys(TestVM *vm)
{
    g_autofree char *chardev = g_strdup_printf("path=%s,server=on,wait=off",
                                               vm->socket);

    vm_start_with(vm, chardev, NULL, "-object secret,id=none,data= "
                  "-object iothread,id=thread0");
    expect_refused_object(vm, "'key': 'absent'", "absent");
    expect_refused_object(vm, "'key': 'thread0'", "thread0");
    expect_refused_object(vm, "'key': 'none'", "empty");
    expect_refused_object(vm, "'auth': 'hmac'", "'key'");
    expect_refused_object(vm, "'key': 'none', 'auth': 'none'", "auth");
}

static const TestCase cases[] = {
    { "auth/hmac", test_hmac, .unstarted = true },
    { "auth/hmac-longer", test_hmac_longer, .unstarted = true },
    { "auth/cookie", test_cookie, .unstarted = true },
    { "auth/any", test_any, .unstarted = true },
    { "auth/wrong-key", test_wrong_key, .unstarted = true },
    { "auth/wrong-cookie", test_wrong_cookie, .unstarted = true },
    { "auth/no-key-hmac", test_no_key_hmac, .unstarted = true },
    { "auth/no-key-cookie", test_no_key_cookie, .unstarted = true },
    { "auth/no-key-any", test_no_key_any, .unstarted = true },
    { "auth/replay", test_replay, .unstarted = true },
    { "auth/reflection", test_reflection, .unstarted = true },
    { "auth/changed", test_changed, .unstarted = true },
    { "auth/downgrade", test_downgrade, .unstarted = true },
    { "auth/downgrade-any", test_downgrade_any, .unstarted = true },
    { "auth/hmac-to-cookie", test_hmac_to_cookie, .unstarted = true },
    { "auth/pieces", test_pieces, .unstarted = true },
    { "auth/said", test_said, .unstarted = true },
    { "auth/back-off", test_back_off, .unstarted = true },
    { "auth/no-key-warning", test_no_key_warning, .unstarted = true },
    { "auth/peer-credentials", test_peer_credentials },
    { "auth/bad-keys", test_bad_keys, .unstarted = true },
};

void introspection_add_auth_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
