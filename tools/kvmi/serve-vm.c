/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi serve: a VM's connection, and lending it
 *
 * A user talks to the VM as if it were connected to it: it gets the VM's part
 * of the handshake again, and from then on messages are passed on as they
 * are.  When it has gone, the VM must be as it was before.  Where that is not
 * certain its connection is closed: the engine then undoes everything, and
 * QEMU connects again.
 */

#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include "serve.h"

#define BUFFER_SIZE (64 * 1024)

/* One direction: what was received and is to be sent. */
typedef struct Stream {
    uint8_t buf[BUFFER_SIZE];
    size_t start;
    size_t end;

    /* Where the end is, in a message */
    struct kvmi_msg_hdr hdr;
    size_t hdr_len;
    size_t body_left;
} Stream;

typedef struct Loan {
    ServedVM *vm;
    int vm_fd;                  /* -1: the VM has gone */
    int user_fd;                /* -1: the user has gone */

    Stream to_vm;
    Stream to_user;

    /* The user's part of the handshake, which is not for the VM */
    uint32_t hello_size;
    size_t hello_len;

    uint64_t commands;          /* without a reply so far */
    uint64_t events;            /* without an answer so far */
    bool changed_vm;            /* something that the engine has to undo */
} Loan;

/* Accounting */

static void note_from_user(Loan *loan, const struct kvmi_msg_hdr *hdr)
{
    switch (hdr->id) {
    case KVMI_EVENT_REPLY:
        loan->events--;
        return;
    case KVMI_GET_VERSION:
    case KVMI_GET_GUEST_INFO:
    case KVMI_GET_REGISTERS:
    case KVMI_SET_REGISTERS:
    case KVMI_GET_PAGE_ACCESS:
    case KVMI_READ_PHYSICAL:
    case KVMI_WRITE_PHYSICAL:
    case KVMI_GET_CPUID:
    case KVMI_GET_XSAVE:
    case KVMI_PAUSE_ALL_VCPUS:
        break;
    default:
        loan->changed_vm = true;
    }
    loan->commands++;
}

static void note_from_vm(Loan *loan, const struct kvmi_msg_hdr *hdr)
{
    if (hdr->id == KVMI_EVENT) {
        loan->events++;
        __atomic_fetch_add(&loan->vm->events, 1, __ATOMIC_RELAXED);
    } else {
        loan->commands--;
    }
}

/* Follow the messages in @data, which has come at the end of @stream. */
static void follow(Loan *loan, Stream *stream, const uint8_t *data, size_t size)
{
    while (size) {
        size_t n;

        if (stream->body_left) {
            n = MIN(size, stream->body_left);
            stream->body_left -= n;
        } else {
            n = MIN(size, sizeof(stream->hdr) - stream->hdr_len);
            memcpy((uint8_t *)&stream->hdr + stream->hdr_len, data, n);
            stream->hdr_len += n;
            if (stream->hdr_len == sizeof(stream->hdr)) {
                stream->hdr_len = 0;
                stream->body_left = stream->hdr.size;
                if (stream == &loan->to_vm) {
                    note_from_user(loan, &stream->hdr);
                } else {
                    note_from_vm(loan, &stream->hdr);
                }
            }
        }
        data += n;
        size -= n;
    }
}

static bool inside_message(const Stream *stream)
{
    return stream->hdr_len || stream->body_left;
}

static bool is_as_before(const Loan *loan)
{
    return !loan->changed_vm && !loan->commands && !loan->events &&
           !inside_message(&loan->to_vm) && !inside_message(&loan->to_user);
}

/* Passing on */

/* How many bytes of @data belong to the user's part of the handshake. */
static size_t take_hello(Loan *loan, const uint8_t *data, size_t size)
{
    size_t taken = 0;

    while (taken < size && loan->hello_len < sizeof(loan->hello_size)) {
        ((uint8_t *)&loan->hello_size)[loan->hello_len++] = data[taken++];
    }
    if (loan->hello_len >= sizeof(loan->hello_size) &&
        loan->hello_len < loan->hello_size) {
        size_t n = MIN(size - taken, loan->hello_size - loan->hello_len);

        loan->hello_len += n;
        taken += n;
    }
    return taken;
}

static size_t stream_room(Stream *stream)
{
    if (stream->start == stream->end) {
        stream->start = stream->end = 0;
    }
    return sizeof(stream->buf) - stream->end;
}

static size_t stream_size(const Stream *stream)
{
    return stream->end - stream->start;
}

/* False when the peer has gone. */
static bool receive(int fd, Stream *stream, ssize_t *n)
{
    *n = recv(fd, stream->buf + stream->end, stream_room(stream),
              MSG_DONTWAIT);
    if (*n < 0 && (errno == EAGAIN || errno == EINTR)) {
        *n = 0;
        return true;
    }
    return *n > 0;
}

static bool send_some(int fd, Stream *stream)
{
    ssize_t n = send(fd, stream->buf + stream->start, stream_size(stream),
                     MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0) {
        stream->start += n;
    }
    return n >= 0 || errno == EAGAIN || errno == EINTR;
}

static void receive_from_user(Loan *loan)
{
    Stream *stream = &loan->to_vm;
    uint8_t *data;
    size_t hello;
    ssize_t n;

    if (!receive(loan->user_fd, stream, &n)) {
        close_fd(&loan->user_fd);
        return;
    }
    data = stream->buf + stream->end;
    hello = take_hello(loan, data, n);
    memmove(data, data + hello, n - hello);
    follow(loan, stream, data, n - hello);
    stream->end += n - hello;
}

static void receive_from_vm(Loan *loan)
{
    Stream *stream = &loan->to_user;
    ssize_t n;

    if (!receive(loan->vm_fd, stream, &n)) {
        loan->vm_fd = -1;
        return;
    }
    follow(loan, stream, stream->buf + stream->end, n);
    stream->end += n;
}

static void loan_poll(Loan *loan)
{
    struct pollfd fds[] = {
        { .fd = loan->vm_fd },
        { .fd = loan->user_fd },
        { .fd = loan->vm->wake, .events = POLLIN },
    };

    if (loan->user_fd < 0) {
        loan->to_user.start = loan->to_user.end;
    }
    fds[0].events = (stream_room(&loan->to_user) ? POLLIN : 0) |
                    (stream_size(&loan->to_vm) ? POLLOUT : 0);
    fds[1].events = (stream_room(&loan->to_vm) ? POLLIN : 0) |
                    (stream_size(&loan->to_user) ? POLLOUT : 0);
    if (!fds[0].events) {
        fds[0].fd = -1;
    }
    if (!fds[1].events) {
        fds[1].fd = -1;
    }
    if (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
        return;                         /* a signal */
    }

    if (fds[0].revents & POLLOUT && !send_some(loan->vm_fd, &loan->to_vm)) {
        loan->vm_fd = -1;
    }
    if (fds[1].revents & POLLOUT &&
        !send_some(loan->user_fd, &loan->to_user)) {
        close_fd(&loan->user_fd);
    }
    if (loan->vm_fd >= 0 && fds[0].revents & ~POLLOUT) {
        receive_from_vm(loan);
    }
    if (loan->user_fd >= 0 && fds[1].revents & ~POLLOUT) {
        receive_from_user(loan);
    }
}

/*
 * A VM that has gone still has its last words, and a user that has gone too:
 * what it answered before holds.
 */
static bool loan_goes_on(const Loan *loan)
{
    if (serve_stopping(loan->vm->serve)) {
        return false;
    }
    if (loan->vm_fd < 0) {
        return loan->user_fd >= 0 && stream_size(&loan->to_user);
    }
    return loan->user_fd >= 0 || stream_size(&loan->to_vm);
}

/* The VM's part of the handshake, as it sent it but for what is newer. */
static void put_hello(Stream *stream, const KvmiVMInfo *info)
{
    struct {
        uint32_t struct_size;
        uint8_t uuid[16];
        uint32_t padding;
        int64_t start_time;
        char name[64];
    } hello = {
        .struct_size = sizeof(hello),
        .start_time = info->start_time,
    };

    G_STATIC_ASSERT(sizeof(hello) == 96);
    memcpy(hello.uuid, info->uuid, sizeof(hello.uuid));
    memcpy(hello.name, info->name, sizeof(hello.name));
    memcpy(stream->buf, "ok\n", 3);
    memcpy(stream->buf + 3, &hello, sizeof(hello));
    stream->end = 3 + sizeof(hello);
}

/* Whether the VM is there, and as it was before. */
static bool lend(ServedVM *vm, int user_fd)
{
    g_autofree Loan *loan = g_new0(Loan, 1);

    loan->vm = vm;
    loan->vm_fd = kvmi_client_fd(vm->client);
    loan->user_fd = user_fd;
    put_hello(&loan->to_user, kvmi_client_vm(vm->client));
    while (loan_goes_on(loan)) {
        loan_poll(loan);
    }
    close_fd(&loan->user_fd);
    return loan->vm_fd >= 0 && is_as_before(loan);
}

/* The VM's thread */

void serve_vm_wake(ServedVM *vm)
{
    eventfd_write(vm->wake, 1);
}

/*
 * The protocol does not say who answers at the VM's side, so ask for the
 * hypervisor's name that the guest sees.  False where the VM is no good.
 */
static bool find_engine(ServedVM *vm, const char **engine, GError **errp)
{
    static const struct {
        uint32_t leaf;
        const char *signature;
        const char *engine;
    } known[] = {
        { 0x40000000, "TCGTCGTCGTCG", "qemu" },
        { 0x40000000, "KVMKVMKVM\0\0\0", "kvm" },
        { 0x40000100, "KVMKVMKVM\0\0\0", "kvm" },  /* behind Hyper-V's */
    };
    unsigned i;

    *engine = NULL;
    for (i = 0; i < G_N_ELEMENTS(known) && !*engine; i++) {
        struct kvmi_get_cpuid_reply leaf;
        GError *local = NULL;

        if (kvmi_get_cpuid(vm->client, 0, known[i].leaf, 0, &leaf, &local)) {
            uint32_t name[] = { leaf.ebx, leaf.ecx, leaf.edx };

            if (!memcmp(name, known[i].signature, sizeof(name))) {
                *engine = known[i].engine;
            }
        } else if (local->domain == KVMI_ENGINE_ERROR) {
            g_error_free(local);    /* not there, or not allowed */
        } else {
            g_propagate_error(errp, local);
            return false;
        }
    }
    return true;
}

static void say_unexpected(ServedVM *vm)
{
    g_autofree char *name = printable(kvmi_client_vm(vm->client)->name);

    serve_say(vm->serve, "VM '%s' sent something that nobody waits for: "
              "its connection is closed", name);
}

/* From here on the library reads nothing any more. */
static bool meet(ServedVM *vm)
{
    g_autoptr(GError) err = NULL;
    const char *engine;

    if (!find_engine(vm, &engine, &err)) {
        g_autofree char *message = printable(err->message);

        serve_say(vm->serve, "%s", message);
        return false;
    }
    if (!kvmi_client_is_idle(vm->client)) {
        say_unexpected(vm);
        return false;
    }
    g_mutex_lock(&vm->serve->lock);
    vm->engine = engine;
    serve_change(vm->serve);
    g_mutex_unlock(&vm->serve->lock);
    return true;
}

/* Wait until somebody wants the VM.  -1: it is not there any more. */
static int wait_for_borrower(ServedVM *vm)
{
    struct pollfd fds[] = {
        { .fd = kvmi_client_fd(vm->client), .events = POLLIN },
        { .fd = vm->wake, .events = POLLIN },
    };
    eventfd_t value;
    int fd;

    while (poll(fds, G_N_ELEMENTS(fds), -1) < 0) {
        /* a signal */
    }
    if (fds[0].revents) {
        uint8_t byte;

        if (recv(fds[0].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
            say_unexpected(vm);
        }
        return -1;
    }
    eventfd_read(vm->wake, &value);

    g_mutex_lock(&vm->serve->lock);
    fd = vm->borrower;
    vm->borrower = -1;
    g_mutex_unlock(&vm->serve->lock);
    return fd;
}

static void be_there(ServedVM *vm)
{
    int fd;

    while ((fd = wait_for_borrower(vm)) >= 0 && lend(vm, fd)) {
        g_mutex_lock(&vm->serve->lock);
        g_clear_pointer(&vm->user, g_free);
        serve_change(vm->serve);
        g_mutex_unlock(&vm->serve->lock);
    }
}

static void vm_appears(ServedVM *vm)
{
    Serve *serve = vm->serve;

    g_mutex_lock(&serve->lock);
    serve->handshakes--;
    g_ptr_array_add(serve->vms, vm);
    if (serve->stopping) {
        serve_vm_wake(vm);
    }
    serve_change(serve);
    g_mutex_unlock(&serve->lock);
}

static void vm_disappears(ServedVM *vm)
{
    Serve *serve = vm->serve;

    g_mutex_lock(&serve->lock);
    g_ptr_array_remove(serve->vms, vm);
    serve_change(serve);
    g_mutex_unlock(&serve->lock);

    close_fd(&vm->borrower);
    close(vm->wake);
    kvmi_client_free(vm->client);
    g_free(vm->user);
    g_free(vm);
}

void serve_vm(Serve *serve, int fd)
{
    g_autoptr(GError) err = NULL;
    KvmiClient *client;
    ServedVM *vm;
    int wake;

    g_mutex_lock(&serve->lock);
    serve->handshakes++;
    serve_change(serve);
    g_mutex_unlock(&serve->lock);

    client = kvmi_client_new_from_fd(fd, &serve->config, &err);
    wake = client ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (wake < 0) {
        serve_say(serve, "%s", client ? g_strerror(errno) : err->message);
        kvmi_client_free(client);
        g_mutex_lock(&serve->lock);
        serve->handshakes--;
        serve_change(serve);
        g_mutex_unlock(&serve->lock);
        return;
    }

    vm = g_new0(ServedVM, 1);
    vm->serve = serve;
    vm->client = client;
    vm->wake = wake;
    vm->borrower = -1;
    vm_appears(vm);
    if (meet(vm)) {
        be_there(vm);
    }
    vm_disappears(vm);
}
