/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: page access of any number of pages
 */

#include "internals.h"

/* What fits one message. */
#define GET_MAX ((KVMI_MSG_SIZE - sizeof(struct kvmi_get_page_access)) / \
                 sizeof(uint64_t))
#define SET_MAX ((KVMI_MSG_SIZE - sizeof(struct kvmi_set_page_access)) / \
                 sizeof(struct kvmi_page_access_entry))

/* Access is the VM's; the vCPU is only the one that does the work. */
#define WORKER 0

static void add_page(GError **errp, uint64_t gpa, size_t npages)
{
    g_prefix_error(errp, "access of %zu pages from 0x%" PRIx64 " on: ",
                   npages, gpa);
}

bool kvmi_get_access(KvmiClient *c, uint64_t gpa, size_t npages,
                     uint8_t *access, GError **errp)
{
    uint64_t gpas[GET_MAX];

    gpa -= gpa % KVMI_PAGE_SIZE;
    while (npages) {
        size_t n = MIN(npages, GET_MAX);
        size_t i;

        for (i = 0; i < n; i++) {
            gpas[i] = gpa + i * KVMI_PAGE_SIZE;
        }
        if (!kvmi_get_page_access(c, WORKER, gpas, n, access, errp)) {
            add_page(errp, gpa, n);
            return false;
        }
        gpa += n * KVMI_PAGE_SIZE;
        access += n;
        npages -= n;
    }
    return true;
}

bool kvmi_set_access(KvmiClient *c, uint64_t gpa, size_t npages,
                     uint8_t access, GError **errp)
{
    struct kvmi_page_access_entry entries[SET_MAX] = { { 0 } };

    gpa -= gpa % KVMI_PAGE_SIZE;
    while (npages) {
        size_t n = MIN(npages, SET_MAX);
        size_t i;

        for (i = 0; i < n; i++) {
            entries[i].gpa = gpa + i * KVMI_PAGE_SIZE;
            entries[i].access = access;
        }
        if (!kvmi_set_page_access(c, WORKER, entries, n, errp)) {
            add_page(errp, gpa, n);
            return false;
        }
        gpa += n * KVMI_PAGE_SIZE;
        npages -= n;
    }
    return true;
}

static bool give_back(KvmiClient *c, uint64_t gpa, size_t npages,
                      GError **errp)
{
    GError *local = NULL;

    if (!kvmi_set_access(c, gpa, npages, KVMI_PAGE_ACCESS_ALL, &local)) {
        /* A page that is not RAM has none to be given back. */
        if (!g_error_matches(local, KVMI_ENGINE_ERROR, KVM_EINVAL)) {
            g_propagate_error(errp, local);
            return false;
        }
        g_error_free(local);
    }
    return true;
}

bool kvmi_give_back_access(KvmiClient *c, GError **errp)
{
    g_autoptr(GArray) gpas = kvmi_client_restricted_pages(c);
    size_t i;

    for (i = 0; i < gpas->len; i++) {
        uint64_t gpa = g_array_index(gpas, uint64_t, i);
        size_t n = 1;

        /* They are in order: neighbours go together. */
        while (i + 1 < gpas->len &&
               g_array_index(gpas, uint64_t, i + 1) ==
               gpa + n * KVMI_PAGE_SIZE) {
            i++;
            n++;
        }
        if (!give_back(c, gpa, n, errp)) {
            return false;
        }
    }
    return true;
}
