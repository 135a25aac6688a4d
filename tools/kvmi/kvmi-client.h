/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client for virtual machine introspection (KVMI)
 *
 * This is the tool's side of the protocol in docs/interop/kvmi.rst: it waits
 * for a virtual machine (or connects to one), shakes hands, sends commands
 * and receives events.  The messages themselves are in linux/kvmi.h.
 *
 * Threads: all functions may be called from any thread, several at a time on
 * the same KvmiClient, except that kvmi_client_free() and
 * kvmi_listener_free() must be the last call on their object.  The library
 * starts no threads and keeps no global state.  Whoever waits for a reply or
 * an event reads the socket, so a command that is alone costs one send() and
 * one recv().
 *
 * Errors: a function that fails sets a GError.  What the engine of the VM
 * refused is in the domain KVMI_ENGINE_ERROR, with the positive KVM_E* number
 * as code; everything else is in KVMI_ERROR.
 */

#ifndef KVMI_CLIENT_H
#define KVMI_CLIENT_H

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <glib.h>
#include <linux/kvmi.h>

G_BEGIN_DECLS

#define KVMI_PAGE_SIZE 4096u

typedef struct KvmiListener KvmiListener;
typedef struct KvmiClient KvmiClient;
typedef struct KvmiRequest KvmiRequest;
typedef struct KvmiRead KvmiRead;

/* Errors */

#define KVMI_ERROR (kvmi_error_quark())
GQuark kvmi_error_quark(void);

typedef enum {
    KVMI_ERROR_ADDRESS,         /* an address that cannot be understood */
    KVMI_ERROR_PATH_EXISTS,     /* something is at the socket's path */
    KVMI_ERROR_SOCKET,          /* the system refused a socket operation */
    KVMI_ERROR_NO_VM,           /* nobody came, or nobody listens, in time */
    KVMI_ERROR_HANDSHAKE,       /* the peer is not a VM, or refused us */
    KVMI_ERROR_LEFT,            /* the peer closed before its handshake */
    KVMI_ERROR_DISCONNECTED,    /* the VM is gone */
    KVMI_ERROR_TIMEOUT,         /* the VM is there but did not answer */
    KVMI_ERROR_PROTOCOL,        /* the VM sent what it must not send */
    KVMI_ERROR_ARGUMENT,        /* the caller asked for the impossible */
    KVMI_ERROR_CANCELLED,       /* kvmi_cancel() was called */
    KVMI_ERROR_NOT_MAPPED,      /* a gva without a page */
    KVMI_ERROR_MAPPING,         /* guest memory that cannot be mapped here */
} KvmiError;

#define KVMI_ENGINE_ERROR (kvmi_engine_error_quark())
GQuark kvmi_engine_error_quark(void);

/*
 * Cancelling.  A KvmiCancel belongs to the caller, who gives its address in
 * KvmiConfig; zeroed is its initial state.  kvmi_cancel() may be called from
 * a signal handler.  Calls that wait then fail with KVMI_ERROR_CANCELLED,
 * within KVMI_CANCEL_LATENCY_MS where no signal wakes them.
 */
typedef struct KvmiCancel {
    gint set;
} KvmiCancel;

#define KVMI_CANCEL_LATENCY_MS 200

void kvmi_cancel(KvmiCancel *cancel);
void kvmi_cancel_reset(KvmiCancel *cancel);
bool kvmi_is_cancelled(const KvmiCancel *cancel);

/* Connecting */

#define KVMI_COOKIE_SIZE 20

/*
 * How to prove that the key is known.  With HMAC the VM has to, too.  The cookie
 * proves nothing to the tool, and who sees it once can use it.  With both set
 * it is used only where the VM does not offer HMAC.
 */
#define KVMI_AUTH_COOKIE 1
#define KVMI_AUTH_HMAC 2

typedef struct KvmiConfig {
    int handshake_timeout_ms;       /* 0: 10 seconds; negative: for ever */
    int reply_timeout_ms;           /* for commands; 0: for ever */
    KvmiCancel *cancel;             /* or NULL */
    const uint8_t *key;             /* that QEMU knows, too; NULL: none */
    size_t key_size;
    unsigned auth;                  /* KVMI_AUTH_*, 0: KVMI_AUTH_HMAC */
    /* kvmi_listener_accept() goes on waiting after KVMI_ERROR_LEFT; or NULL */
    void (*peer_left)(const GError *err, void *opaque);
    void *opaque;
} KvmiConfig;

/* What the VM said of itself in the handshake. */
typedef struct KvmiVMInfo {
    uint32_t struct_size;           /* of what it sent */
    uint8_t uuid[16];
    int64_t start_time;             /* seconds since the epoch */
    char name[65];                  /* always terminated, may be empty */
} KvmiVMInfo;

/*
 * Addresses are "unix:PATH", "tcp:HOST:PORT" (an IPv6 HOST in brackets),
 * "vsock:CID:PORT" (CID "any" to listen), or just a PATH that has a slash.
 *
 * kvmi_listener_new() never replaces what exists at a unix socket's path:
 * that is KVMI_ERROR_PATH_EXISTS, whose message says what to do.
 * kvmi_listener_free() removes the path that kvmi_listener_new() made.
 */
KvmiListener *kvmi_listener_new(const char *address, GError **errp);
void kvmi_listener_free(KvmiListener *listener);

/*
 * Wait up to @timeout_ms (negative: for ever) for a VM and shake hands with
 * it.  @config may be NULL; it is copied.  A listener can accept any number
 * of VMs, one after the other.
 *
 * A peer that closes before its handshake is not taken for the VM: a QEMU does
 * that which must not be introspected now, such as the destination of a
 * migration, and it connects again when it may be.
 */
KvmiClient *kvmi_listener_accept(KvmiListener *listener,
                                 const KvmiConfig *config, int timeout_ms,
                                 GError **errp);

/*
 * The same in two steps, for whoever waits for many VMs: accept a connection
 * here, and give it to kvmi_client_new_from_fd() in a thread of its own,
 * because a peer may take its time for the handshake.  Those that connect at
 * the same time queue up after kvmi_listener_expect_many().
 */
bool kvmi_listener_expect_many(KvmiListener *listener, GError **errp);
int kvmi_listener_accept_fd(KvmiListener *listener, const KvmiCancel *cancel,
                            int timeout_ms, GError **errp);

/*
 * Connect to a VM that listens, trying again until @timeout_ms have passed
 * (0: try once; negative: for ever), and shake hands.
 */
KvmiClient *kvmi_connect(const char *address, const KvmiConfig *config,
                         int timeout_ms, GError **errp);

/* Only connect; -1 where that is not possible. */
int kvmi_connect_fd(const char *address, const KvmiCancel *cancel,
                    int timeout_ms, GError **errp);

/*
 * Shake hands over a connected stream socket that the caller made.  The fd
 * belongs to the library from now on, whether this succeeds or not.
 */
KvmiClient *kvmi_client_new_from_fd(int fd, const KvmiConfig *config,
                                    GError **errp);

/* Close the connection.  The engine undoes all that introspection had set. */
void kvmi_client_free(KvmiClient *client);

const KvmiVMInfo *kvmi_client_vm(const KvmiClient *client);
int kvmi_client_fd(const KvmiClient *client);
/*
 * Whether no command waits for its reply and nothing has come that nobody has
 * taken: then all that comes next is read from kvmi_client_fd(), by whoever
 * does that.
 */
bool kvmi_client_is_idle(KvmiClient *client);
void kvmi_client_set_reply_timeout(KvmiClient *client, int timeout_ms);

/*
 * Commands.  Each sends its message and waits for the reply.
 */
bool kvmi_get_version(KvmiClient *client, struct kvmi_get_version_reply *out,
                      GError **errp);
bool kvmi_get_guest_info(KvmiClient *client,
                         struct kvmi_get_guest_info_reply *out,
                         GError **errp);
bool kvmi_pause_all_vcpus(KvmiClient *client, uint32_t *vcpu_count,
                          GError **errp);
bool kvmi_get_map_token(KvmiClient *client, struct kvmi_map_mem_token *out,
                        GError **errp);

/* Up to this many MSRs fit a KVMI_GET_REGISTERS. */
#define KVMI_MAX_MSRS \
    ((KVMI_MSG_SIZE - sizeof(struct kvmi_get_registers)) / sizeof(uint32_t))

/* @msr_values gets the values of the @nmsrs MSRs in @msrs, in their order. */
bool kvmi_get_registers(KvmiClient *client, uint16_t vcpu,
                        const uint32_t *msrs, unsigned nmsrs,
                        uint32_t *mode, struct kvm_regs *regs,
                        struct kvm_sregs *sregs, uint64_t *msr_values,
                        GError **errp);
bool kvmi_set_registers(KvmiClient *client, uint16_t vcpu,
                        const struct kvm_regs *regs, GError **errp);
bool kvmi_get_cpuid(KvmiClient *client, uint16_t vcpu, uint32_t function,
                    uint32_t index, struct kvmi_get_cpuid_reply *out,
                    GError **errp);
bool kvmi_get_xsave(KvmiClient *client, uint16_t vcpu,
                    struct kvm_xsave *out, GError **errp);
bool kvmi_inject_exception(KvmiClient *client, uint16_t vcpu, uint8_t vector,
                           bool has_error, uint16_t error_code,
                           uint64_t address, GError **errp);
bool kvmi_get_page_access(KvmiClient *client, uint16_t vcpu,
                          const uint64_t *gpas, unsigned count,
                          uint8_t *access, GError **errp);
bool kvmi_set_page_access(KvmiClient *client, uint16_t vcpu,
                          const struct kvmi_page_access_entry *entries,
                          unsigned count, GError **errp);

/* Both masks are made of KVMI_EVENT_*_FLAG and are the complete new set. */
bool kvmi_control_events(KvmiClient *client, uint16_t vcpu, uint32_t events,
                         GError **errp);
bool kvmi_control_vm_events(KvmiClient *client, uint32_t events,
                            GError **errp);
bool kvmi_control_cr(KvmiClient *client, uint16_t vcpu, uint32_t cr,
                     bool enable, GError **errp);
bool kvmi_control_msr(KvmiClient *client, uint16_t vcpu, uint32_t msr,
                      bool enable, GError **errp);

/* One message each: @size bytes inside one page. */
bool kvmi_read_physical(KvmiClient *client, uint64_t gpa, void *buf,
                        size_t size, GError **errp);
bool kvmi_write_physical(KvmiClient *client, uint64_t gpa, const void *buf,
                         size_t size, GError **errp);

/*
 * Memory of any size and alignment, with many requests in flight.  All of it
 * must be RAM.  A write that fails may have written a part.
 */
bool kvmi_read_memory(KvmiClient *client, uint64_t gpa, void *buf,
                      size_t size, GError **errp);
bool kvmi_write_memory(KvmiClient *client, uint64_t gpa, const void *buf,
                       size_t size, GError **errp);

/*
 * Memory that is mapped, not copied: the VM sees what is written to it, and the
 * other way round.  The caller must be in a VM on the same host whose kernel has
 * /dev/kvmmem, and @gpa and @size multiples of 4096.  It ends with the mapping,
 * or with the connection; then there are zeroes.  System calls find in it what the
 * processor does, devices of this VM (O_DIRECT, say) do not.
 */
typedef struct KvmiMapping KvmiMapping;
KvmiMapping *kvmi_mapping_new(KvmiClient *client, uint64_t gpa, size_t size,
                              GError **errp);
void *kvmi_mapping_memory(const KvmiMapping *mapping);
void kvmi_mapping_free(KvmiMapping *mapping);

/*
 * Read @npages pages, of which some may not be RAM.  kvmi_read_start() sends
 * the requests, kvmi_read_finish() waits for the replies: starting the next
 * read before finishing this one keeps the VM busy.  Reads are to be finished
 * in the order in which they were started.  @present (npages bytes) says for
 * each page whether it is RAM; what is in @buf (npages * 4096 bytes) for the
 * others is undefined.  kvmi_read_finish() frees @read, also when it fails;
 * until then @buf and @present must stay.
 */
KvmiRead *kvmi_read_start(KvmiClient *client, uint64_t gpa, size_t npages,
                          void *buf, uint8_t *present, GError **errp);
bool kvmi_read_finish(KvmiClient *client, KvmiRead *read, GError **errp);

/*
 * The same, for one byte of each of @npages addresses, @stride bytes apart:
 * finds out where there is RAM.
 */
bool kvmi_probe(KvmiClient *client, uint64_t gpa, uint64_t stride,
                size_t npages, uint8_t *present, GError **errp);

/*
 * A guest virtual address through the page tables of @sregs: without paging,
 * with 32-bit, PAE, 4- or 5-level page tables.  KVMI_ERROR_NOT_MAPPED where
 * there is no page.  kvmi_read_virtual() says in *@done how many bytes it has
 * read, also when it fails.
 */
bool kvmi_translate(KvmiClient *client, const struct kvm_sregs *sregs,
                    uint64_t gva, uint64_t *gpa, GError **errp);
bool kvmi_read_virtual(KvmiClient *client, const struct kvm_sregs *sregs,
                       uint64_t gva, void *buf, size_t size, size_t *done,
                       GError **errp);

/*
 * Access of @npages pages, from the one of @gpa on.  What is not
 * KVMI_PAGE_ACCESS_ALL is given back by kvmi_client_unhook().
 */
#define KVMI_PAGE_ACCESS_ALL \
    (KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X)
bool kvmi_get_access(KvmiClient *client, uint64_t gpa, size_t npages,
                     uint8_t *access, GError **errp);
bool kvmi_set_access(KvmiClient *client, uint64_t gpa, size_t npages,
                     uint8_t access, GError **errp);

/*
 * Requests in flight: any command, any number of them.
 *
 * kvmi_submit() sends @size bytes of @msg as a message with that @id; the
 * data of the reply (what follows struct kvmi_error_code) goes to @reply, of
 * which @reply_size bytes must stay valid until kvmi_request_finish().  With
 * @more, the message may wait for the next one, to go in one write.  NULL
 * means that the connection is broken (or a message that is too long).
 *
 * kvmi_request_finish() waits for the reply and frees @request in any case.
 * It fails where the engine refused the command, unless @engine_err is given,
 * which then gets the positive KVM_E* number, or 0.  @reply_len, if given,
 * gets the number of bytes of data that the VM sent, which may be more than
 * @reply_size, but never less than @reply_min: that is KVMI_ERROR_PROTOCOL.
 */
KvmiRequest *kvmi_submit(KvmiClient *client, uint16_t id, const void *msg,
                         size_t size, void *reply, size_t reply_size,
                         bool more, GError **errp);
bool kvmi_request_finish(KvmiClient *client, KvmiRequest *request,
                         size_t reply_min, size_t *reply_len,
                         int *engine_err, GError **errp);

/*
 * Events.  The engine holds the vCPU until its event is answered.
 */
typedef struct KvmiEvent {
    uint32_t seq;
    struct kvmi_event common;
    union {
        struct kvmi_event_cr cr;
        struct kvmi_event_msr msr;
        struct kvmi_event_breakpoint breakpoint;
        struct kvmi_event_pf pf;
        struct kvmi_event_trap trap;
        struct kvmi_event_descriptor descriptor;
    };
} KvmiEvent;

/*
 * Wait up to @timeout_ms (negative: for ever) for the next event.  True with
 * a NULL *@event means that there was none in that time.
 */
bool kvmi_next_event(KvmiClient *client, int timeout_ms, KvmiEvent **event,
                     GError **errp);
void kvmi_event_free(KvmiEvent *event);

/* Answer with a structure of the event's own kind, or NULL and 0. */
bool kvmi_event_reply(KvmiClient *client, const KvmiEvent *event,
                      uint32_t action, const void *reply, size_t size,
                      GError **errp);
/* CONTINUE, as if nobody had looked. */
bool kvmi_event_continue(KvmiClient *client, const KvmiEvent *event,
                         GError **errp);

/*
 * Leave a VM as it would be without us: switch off the events that were
 * switched on through this client, give back the access that was taken from
 * pages, and answer what waits for an answer, with @answer, or with
 * kvmi_event_continue() where that is NULL.  Events that the caller has taken
 * out of the queue are the caller's to answer, before this.  Works after
 * kvmi_cancel() too, if that was reset.  kvmi_client_free() is still to be
 * called.
 */
typedef bool KvmiAnswerFunc(KvmiClient *client, const KvmiEvent *event,
                            void *opaque, GError **errp);
bool kvmi_client_unhook(KvmiClient *client, KvmiAnswerFunc *answer,
                        void *opaque, GError **errp);

/*
 * Names, as they are in QEMU's options and QMP: "get-registers", "cr".
 * NULL where there is no such thing.
 */
const char *kvmi_command_name(unsigned id);
const char *kvmi_event_name(unsigned id);
const char *kvmi_engine_error_name(int err);        /* "EINVAL" */
const char *kvmi_engine_error_meaning(int err);

/* Names of MSRs, without MSR_ and in lower case: "lstar". */
const char *kvmi_msr_name(uint32_t index);
bool kvmi_msr_from_name(const char *name, uint32_t *index);

/* The general registers by name, "rax" to "r15", "rip", "rflags". */
#define KVMI_NUM_REGS 18
const char *kvmi_reg_name(unsigned nr);
uint64_t *kvmi_reg(struct kvm_regs *regs, unsigned nr);
bool kvmi_reg_from_name(const char *name, unsigned *nr);

G_END_DECLS

#endif /* KVMI_CLIENT_H */
