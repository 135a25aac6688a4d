/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * KVMI client library: guest memory that is mapped, not copied
 *
 * For a tool that runs in a VM itself, on the host that the other VM is on.
 */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "internals.h"

#define DEVICE "/dev/kvmmem"
#define PAGE_SIZE 4096

struct KvmiMapping {
    int fd;                     /* closing it unmaps everything */
    void *memory;
    size_t size;
};

static int open_device(GError **errp)
{
    int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        return fd;
    }
    if (errno == ENOENT) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_MAPPING,
                    "there is no " DEVICE ": a tool can map memory only in a "
                    "VM, on the same host, whose kernel has the module kvmmem");
    } else {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_MAPPING,
                    "opening " DEVICE ": %s", g_strerror(errno));
    }
    return -1;
}

static bool map_page(KvmiMapping *m, KvmiClient *c, uint64_t gpa, void *page,
                     GError **errp)
{
    struct kvmi_mem_map map = { .gpa = gpa, .gva = (uintptr_t)page };
    int status;

    if (!kvmi_get_map_token(c, &map.token, errp)) {
        return false;
    }
    status = ioctl(m->fd, KVM_INTRO_MEM_MAP, &map);
    if (status < 0) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_MAPPING,
                    "mapping the page at 0x%" PRIx64 ": %s", gpa,
                    errno == EINVAL ? "the VM has no RAM there" :
                    errno == ENOENT ? "the VM is not on this host" :
                    g_strerror(errno));
    }
    return status == 0;
}

void kvmi_mapping_free(KvmiMapping *m)
{
    close(m->fd);
    if (m->memory != MAP_FAILED) {
        munmap(m->memory, m->size);
    }
    g_free(m);
}

KvmiMapping *kvmi_mapping_new(KvmiClient *c, uint64_t gpa, size_t size,
                              GError **errp)
{
    KvmiMapping *m;
    size_t pos;
    int fd;

    g_return_val_if_fail(gpa % PAGE_SIZE == 0 && size % PAGE_SIZE == 0 && size,
                         NULL);

    fd = open_device(errp);
    if (fd < 0) {
        return NULL;
    }
    m = g_new0(KvmiMapping, 1);
    m->fd = fd;
    m->size = size;
    m->memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* Single pages, which a child gets no copy of. */
    if (m->memory == MAP_FAILED ||
        (madvise(m->memory, size, MADV_NOHUGEPAGE) < 0 && errno != EINVAL) ||
        madvise(m->memory, size, MADV_DONTFORK) < 0) {
        g_set_error(errp, KVMI_ERROR, KVMI_ERROR_MAPPING,
                    "%zu bytes to map memory to: %s", size, g_strerror(errno));
        kvmi_mapping_free(m);
        return NULL;
    }
    for (pos = 0; pos < size; pos += PAGE_SIZE) {
        if (!map_page(m, c, gpa + pos, (char *)m->memory + pos, errp)) {
            kvmi_mapping_free(m);
            return NULL;
        }
    }
    return m;
}

void *kvmi_mapping_memory(const KvmiMapping *m)
{
    return m->memory;
}
