/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the KVMI client library share with each other
 */

#ifndef KVMI_INTERNALS_H
#define KVMI_INTERNALS_H

#include "kvmi-client.h"

/* address.c */

/*
 * A deadline is a g_get_monotonic_time() value, or -1 for never.
 */
static inline gint64 kvmi_deadline(int timeout_ms)
{
    return timeout_ms < 0 ? -1
                          : g_get_monotonic_time() + timeout_ms * 1000LL;
}

/* Until the deadline, but at most KVMI_CANCEL_LATENCY_MS, in milliseconds. */
int kvmi_deadline_slice_ms(gint64 deadline);

/* Poll in slices.  Fails for a signal on @cancel or an expired @deadline. */
bool kvmi_poll(int fd, short events, gint64 deadline,
               const KvmiCancel *cancel, const char *what, GError **errp);

/* handshake.c */

bool kvmi_handshake(int fd, const KvmiConfig *config, KvmiVMInfo *vm,
                    GError **errp);

/* connection.c */

/*
 * The event masks that are set, for kvmi_client_unhook().  A vCPU that has
 * been sent a mask other than 0 is in @vcpus.
 */
void kvmi_client_note_events(KvmiClient *client, uint16_t vcpu,
                             uint32_t events);
void kvmi_client_note_vm_events(KvmiClient *client, uint32_t events);
GArray *kvmi_client_vcpus_with_events(KvmiClient *client);
bool kvmi_client_has_vm_events(KvmiClient *client);

/* The pages that have not all access, for the same; in order of their gpa. */
void kvmi_client_note_access(KvmiClient *client,
                             const struct kvmi_page_access_entry *entries,
                             unsigned count);
GArray *kvmi_client_restricted_pages(KvmiClient *client);

/* One write, no reply expected. */
bool kvmi_send(KvmiClient *client, uint16_t id, uint32_t seq,
               const void *msg, size_t size, GError **errp);

/* Submit, flush, wait. */
bool kvmi_call(KvmiClient *client, uint16_t id, const void *msg, size_t size,
               void *reply, size_t reply_size, GError **errp);

/*
 * Until all commands are answered, also those that nobody waits for any more
 * because the wait was cancelled: a vCPU takes no other command before.
 */
bool kvmi_wait_all(KvmiClient *client, GError **errp);

/* page-access.c */

/* All access to the pages that have not. */
bool kvmi_give_back_access(KvmiClient *client, GError **errp);

/* names.c */

void kvmi_set_engine_error(GError **errp, uint16_t id, int err);

#endif /* KVMI_INTERNALS_H */
