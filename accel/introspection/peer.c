/*
 * Virtual machine introspection: who is at the other end of a socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "qemu/sockets.h"
#include "peer.h"

#ifdef CONFIG_AF_VSOCK
#include <linux/vm_sockets.h>
#endif

static sa_family_t peer_family(int fd, struct sockaddr_storage *address)
{
    socklen_t size = sizeof(*address);

    if (getpeername(fd, (struct sockaddr *)address, &size) < 0) {
        return AF_UNSPEC;
    }
    return address->ss_family;
}

#ifdef SO_PEERCRED
static bool unix_credentials(int fd, IntrospectionPeerCredentials *peer)
{
    struct ucred cred;
    socklen_t size = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0 ||
        !cred.pid) {
        return false;
    }
    peer->has_pid = peer->has_uid = peer->has_gid = true;
    peer->pid = cred.pid;
    peer->uid = cred.uid;
    peer->gid = cred.gid;
    return true;
}
#else
static bool unix_credentials(int fd, IntrospectionPeerCredentials *peer)
{
    return false;
}
#endif

IntrospectionPeerCredentials *introspection_peer_credentials(int fd)
{
    g_autoptr(IntrospectionPeerCredentials) peer =
        g_new0(IntrospectionPeerCredentials, 1);
    struct sockaddr_storage address = { };

    switch (peer_family(fd, &address)) {
    case AF_UNIX:
        if (unix_credentials(fd, peer)) {
            return g_steal_pointer(&peer);
        }
        break;
#ifdef CONFIG_AF_VSOCK
    case AF_VSOCK:
        peer->has_cid = true;
        peer->cid = ((struct sockaddr_vm *)&address)->svm_cid;
        return g_steal_pointer(&peer);
#endif
    default:
        break;
    }
    return NULL;
}

char *introspection_peer_in_words(int fd)
{
    g_autoptr(IntrospectionPeerCredentials) peer =
        introspection_peer_credentials(fd);

    if (!peer) {
        return g_strdup("");
    }
    if (peer->has_cid) {
        return g_strdup_printf(" (vsock cid %" PRIu32 ")", peer->cid);
    }
    return g_strdup_printf(" (process %" PRId64 ", user %" PRId64 ")",
                           peer->pid, peer->uid);
}

bool introspection_peer_has_gone(int fd)
{
    struct pollfd pollfd = { .fd = fd };

#ifdef POLLRDHUP
    pollfd.events = POLLRDHUP;
#endif
    return RETRY_ON_EINTR(poll(&pollfd, 1, 0)) > 0;
}
