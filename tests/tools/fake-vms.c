/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many well-behaved VMs in one process, for "kvmi serve"
 *
 * Usage: fake-vms PATH COUNT
 *
 * They are called fake-0, fake-1, ..., connect to a unix socket all at once,
 * and stay until they are closed or the standard input ends.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "fake-vm.h"

static int connect_to(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(addr.sun_path, path, sizeof(addr.sun_path));
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    unsigned count, i;
    g_autofree FakeVM **vms = NULL;

    if (argc != 3) {
        fprintf(stderr, "usage: fake-vms PATH COUNT\n");
        return 2;
    }
    count = atoi(argv[2]);
    vms = g_new(FakeVM *, count);
    for (i = 0; i < count; i++) {
        vms[i] = fake_vm_new_connected(fake_serve, connect_to(argv[1]), i);
    }

    while (getchar() != EOF) {
        /* nothing to say to us */
    }
    for (i = 0; i < count; i++) {
        shutdown(vms[i]->fd, SHUT_RDWR);
        fake_vm_free(vms[i]);
    }
    return 0;
}
