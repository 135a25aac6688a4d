/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi serve: what its files share
 *
 * The main thread shows the table.  One thread accepts VMs, one accepts
 * requests, and each peer has a thread of its own, from its handshake to its
 * end: whatever a peer does or does not do, no other one waits for it.
 *
 * A VM is lent to one user at a time, that is, to a kvmi that was started with
 * --name.  Its messages go through the VM's thread, which counts them.
 */

#ifndef KVMI_SERVE_H
#define KVMI_SERVE_H

#include <unistd.h>
#include "cmd.h"

typedef struct Serve {
    App *app;                   /* constant while there are threads */
    KvmiConfig config;          /* constant */

    GMutex lock;                /* protects all that follows */
    GCond changed;              /* something that follows has changed */
    bool stopping;
    bool changes;               /* since the table was last shown */
    unsigned threads;
    unsigned handshakes;        /* peers that are not VMs yet */
    GPtrArray *vms;             /* of ServedVM */
    GHashTable *said;           /* messages, and when */
} Serve;

typedef struct ServedVM {
    Serve *serve;               /* constant */
    KvmiClient *client;         /* constant */
    int wake;                   /* constant: an eventfd for the VM's thread */
    uint64_t events;            /* atomic */

    /* All that follows is under @serve->lock. */
    int borrower;               /* for the VM's thread to take, or -1 */
    char *user;                 /* the subcommand it is lent to, or NULL */
    const char *engine;         /* "qemu", "kvm", or NULL: not known */

    /* What the table has shown */
    uint64_t shown_events;
    double rate;                /* events per second */
} ServedVM;

typedef void ServePeer(Serve *serve, int fd);

/* Start a thread that does @peer with a socket, which is its own then. */
void serve_start_peer(Serve *serve, ServePeer *peer, int fd);

bool serve_stopping(Serve *serve);

/* Say something on stderr, but not again and again.  Takes @lock. */
void serve_say(Serve *serve, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* A VM's name may have anything in it: without what a terminal acts on. */
char *printable(const char *name);

static inline void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Called with @lock held. */
void serve_change(Serve *serve);

/* serve-vm.c: the whole life of a VM's connection */
ServePeer serve_vm;

/* Called with @serve->lock held: the VM's thread is to notice something. */
void serve_vm_wake(ServedVM *vm);

/* serve-control.c: a request for a VM */
ServePeer serve_request;

/*
 * The other side of serve_request(): a connected socket over which the VM
 * @name shakes hands, or -1.
 */
int serve_borrow(App *app, const char *name, int timeout_ms, GError **errp);

#endif /* KVMI_SERVE_H */
