/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's side of a KVMI connection, played by a thread
 *
 * A test gives a script: a function that runs in the thread and says byte for
 * byte what the VM sends, and what it expects to receive.
 */

#ifndef FAKE_VM_H
#define FAKE_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>
#include <linux/kvmi.h>

#define FAKE_RAM_SIZE (1024 * 1024)
#define FAKE_HOLE_START 0xa0000
#define FAKE_HOLE_END 0xc0000
#define FAKE_PAGES 2000         /* with an access */

typedef struct FakeVM FakeVM;
typedef void FakeScript(FakeVM *vm);

struct FakeVM {
    unsigned number;            /* of its record, see fake-vm.c */
    int fd;                     /* the VM's end */
    int client_fd;              /* for kvmi_client_new_from_fd() */
    GThread *thread;
    FakeScript *script;
    size_t piece;               /* send so many bytes at a time; 0: all */
    void *opaque;               /* the test's */
    char name[64];              /* if empty, "fake" with another UUID */
    uint8_t uuid[16];

    uint8_t hello[24];          /* what the tool answered */
    uint8_t *ram;               /* FAKE_RAM_SIZE bytes */
    uint64_t rax;               /* of vCPU 0, for SET_REGISTERS */
    uint8_t access[FAKE_PAGES]; /* of each page; the last one is not RAM */
    unsigned messages;          /* that set access */
};

/* Run @script in a thread. */
FakeVM *fake_vm_new(FakeScript *script, size_t piece, void *opaque);
/* The same over a connected socket, with another name and UUID. */
FakeVM *fake_vm_new_connected(FakeScript *script, int fd, unsigned number);
/* Wait until the script has ended, to look at what it left in @vm. */
void fake_vm_join(FakeVM *vm);
void fake_vm_free(FakeVM *vm);

/* For scripts */

void fake_send(FakeVM *vm, const void *buf, size_t size);
/* False at the end of the stream. */
bool fake_recv(FakeVM *vm, void *buf, size_t size);

/* The handshake, with a structure of @struct_size bytes. */
void fake_send_hello(FakeVM *vm, uint32_t struct_size);
void fake_recv_hello(FakeVM *vm);
void fake_handshake(FakeVM *vm);

/* False at the end of the stream.  @body has KVMI_MSG_SIZE bytes. */
bool fake_recv_message(FakeVM *vm, struct kvmi_msg_hdr *hdr, void *body);
void fake_reply(FakeVM *vm, const struct kvmi_msg_hdr *hdr, int32_t err,
                const void *data, size_t size);
void fake_event(FakeVM *vm, uint32_t seq, uint32_t event, uint16_t vcpu,
                const void *own, size_t size);

/* Answer one command as an engine would, out of @ram. */
void fake_answer(FakeVM *vm, const struct kvmi_msg_hdr *hdr,
                 const void *body);
/* The whole life of a well-behaved VM. */
void fake_serve(FakeVM *vm);

#endif /* FAKE_VM_H */
