/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conformance suite: the kinds of sockets other than a unix one by its path.
 */
#include "qemu/osdep.h"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "qobject/qdict.h"
#include "tests.h"

static void expect_hooked(TestVM *vm)
{
    tool_hook(vm->tool);
    vm_wait_state(vm, "hooked");
}

static void test_tcp(TestVM *vm)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_autofree char *chardev = NULL;
    QDict *info;

    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, size), ==, 0);
    g_assert_cmpint(listen(fd, 4), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &size), ==, 0);
    chardev = g_strdup_printf("host=127.0.0.1,port=%d,reconnect-ms=20",
                              ntohs(address.sin_port));
    vm->tool = tool_from_listener(fd);
    vm_start_with(vm, chardev, "", NULL);
    tool_accept(vm->tool);
    expect_hooked(vm);

    /* TCP does not tell who it is */
    info = vm_query_introspection(vm);
    g_assert_nonnull(strstr(qdict_get_str(info, "peer"), "127.0.0.1"));
    g_assert_false(qdict_haskey(info, "peer-credentials"));
    qobject_unref(info);

    tool_close(vm->tool);
    tool_accept(vm->tool);
    expect_hooked(vm);
}

/* A socket that listens, as managers pass it. */
static void test_fd_listening(TestVM *vm)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    g_autofree char *chardev = g_strdup_printf("fd=%d,server=on,wait=off", fd);

    g_assert_cmpuint(strlen(vm->socket), <, sizeof(address.sun_path));
    strcpy(address.sun_path, vm->socket);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)),
                    ==, 0);
    g_assert_cmpint(listen(fd, 4), ==, 0);
    vm_start_with(vm, chardev, "", NULL);
    close(fd);

    vm->tool = tool_new();
    tool_connect(vm->tool, vm->socket);
    expect_hooked(vm);
    tool_close(vm->tool);
    tool_connect(vm->tool, vm->socket);
    expect_hooked(vm);
}

/* A connection to a tool: good for once. */
static void test_fd_connected(TestVM *vm)
{
    g_autofree char *chardev = NULL;
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    chardev = g_strdup_printf("fd=%d", fds[1]);
    vm_start_with(vm, chardev, "", NULL);
    close(fds[1]);
    vm->tool = tool_from_connection(fds[0]);
    expect_hooked(vm);
    tool_close(vm->tool);
    vm_wait_state(vm, "disconnected");
}

/*
 * There is no vsock here to talk over, perhaps not even the address family:
 * QEMU takes the address, and looks for a tool as ever.
 */
static void test_vsock(TestVM *vm)
{
    g_autofree char *more = g_strdup_printf("2>%s", vm->log);
    QDict *info;

    vm_start_with(vm, "cid=2,port=49999,reconnect-ms=50", "", more);
    info = vm_query_introspection(vm);
    g_assert_cmpstr(qdict_get_str(info, "state"), ==, "disconnected");
    qobject_unref(info);
    VM_WAIT_UNTIL(({
        g_autofree char *log = vm_read_log(vm);
        strstr(log, "vsock:2:49999") != NULL;
    }));
}

static void test_vsock_no_port(TestVM *vm)
{
    g_autofree char *command = g_strdup_printf(
        "%s -M none -display none -chardev socket,id=vmi,cid=2",
        g_getenv("QTEST_QEMU_BINARY"));
    g_autofree char *output = NULL;
    g_autoptr(GError) err = NULL;
    int status;

    g_spawn_command_line_sync(command, NULL, &output, &status, &err);
    g_assert_no_error(err);
    g_assert_cmpint(status, !=, 0);
    g_assert_nonnull(strstr(output, "port"));
}

static const TestCase cases[] = {
    { "transport/tcp", test_tcp, .unstarted = true },
    { "transport/fd-listening", test_fd_listening, .unstarted = true },
    { "transport/fd-connected", test_fd_connected, .unstarted = true },
    { "transport/vsock", test_vsock, .unstarted = true },
    { "transport/vsock-no-port", test_vsock_no_port, .unstarted = true },
};

void introspection_add_transport_tests(const Engine *engine)
{
    INTROSPECTION_ADD_CASES(engine, cases);
}
