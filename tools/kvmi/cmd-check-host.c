/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi check-host: can guests of KVM be introspected on this host?
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <linux/kvm.h>
#include "cmd.h"

#ifndef KVM_CAP_INTROSPECTION
#define KVM_CAP_INTROSPECTION 999
#endif

#define KVM_PARAMETER "/sys/module/kvm/parameters/introspection"

typedef struct Host {
    struct utsname kernel;
    const char *processor;      /* "SVM", "VMX", or NULL */
    int device_errno;           /* of opening the device */
    int version;                /* KVM_CAP_INTROSPECTION; 0: it has none */
    char *parameter;            /* "Y", "N", or NULL: no such parameter */
    bool headers;               /* to build modules against */
    bool installed;             /* modules with introspection, not loaded */
} Host;

static const char *find_processor(void)
{
    g_autofree char *text = NULL;

    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL)) {
        return NULL;
    }
    return strstr(text, " svm") ? "SVM" : strstr(text, " vmx") ? "VMX" : NULL;
}

/* Where 'make install-dkms' has them, compressed or not. */
static bool find_installed(const struct utsname *kernel)
{
    g_autofree char *path = g_strdup_printf("/lib/modules/%s/updates/dkms",
                                            kernel->release);
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name;
    bool found = false;

    while (dir && (name = g_dir_read_name(dir))) {
        found |= g_str_has_prefix(name, "kvm.ko");
    }
    if (dir) {
        g_dir_close(dir);
    }
    return found;
}

static void ask_kvm(Host *host, const char *device)
{
    int fd = open(device, O_RDWR | O_CLOEXEC);
    int ret;

    if (fd < 0) {
        host->device_errno = errno;
        return;
    }
    ret = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_INTROSPECTION);
    if (ret < 0) {
        host->device_errno = errno;
    } else {
        host->version = ret;
    }
    close(fd);
}

static void look_at_host(Host *host, const char *device)
{
    g_autofree char *headers = NULL;

    uname(&host->kernel);
    host->processor = find_processor();
    ask_kvm(host, device);
    if (g_file_get_contents(KVM_PARAMETER, &host->parameter, NULL, NULL)) {
        g_strchomp(host->parameter);
    }
    headers = g_strdup_printf("/lib/modules/%s/build/Makefile",
                              host->kernel.release);
    host->headers = g_file_test(headers, G_FILE_TEST_EXISTS);
    host->installed = find_installed(&host->kernel);
}

/* What is missing, and the way out; NULL if nothing is. */
static char *missing(const Host *host, const char *device)
{
    bool is_6_12 = g_str_has_prefix(host->kernel.release, "6.12.");
    const char *module = g_strcmp0(host->processor, "SVM") ? "kvm-intel"
                                                           : "kvm-amd";

    if (host->device_errno == ENOENT && !host->processor) {
        return g_strdup("this processor has no virtualization, or the "
                        "firmware has switched it off");
    }
    if (host->device_errno == ENOENT) {
        return g_strdup_printf("KVM is not loaded: modprobe %s", module);
    }
    if (host->device_errno == EACCES) {
        return g_strdup_printf("you may not use %s: become a member of its "
                               "group", device);
    }
    if (host->device_errno) {
        return g_strdup_printf("%s is no KVM: %s", device,
                               g_strerror(host->device_errno));
    }
    if (host->version == KVMI_VERSION) {
        return NULL;
    }
    if (host->version) {
        return g_strdup_printf("KVM has version %d of introspection, this "
                               "kvmi knows version %d", host->version,
                               KVMI_VERSION);
    }
    if (host->parameter) {
        return g_strdup("introspection is switched off: as root, "
                        "echo Y >" KVM_PARAMETER);
    }
    if (host->installed) {
        return g_strdup_printf("KVM with introspection is installed, but not "
                               "loaded: stop all VMs, then modprobe -r %s "
                               "kvm && modprobe %s", module, module);
    }
    if (!is_6_12) {
        return g_strdup("KVM has no introspection: its patches are made for "
                        "Linux 6.12; boot such a kernel, then make "
                        "install-dkms");
    }
    return g_strdup("KVM has no introspection: run make install-dkms in "
                    "QEMU's source directory");
}

static void print_human(const Host *host, const char *device,
                        const char *lack)
{
    printf("%-12s Linux %s\n", "kernel", host->kernel.release);
    printf("%-12s %s\n", "processor", host->processor ?: "no virtualization");
    printf("%-12s %s\n", device,
           host->device_errno ? g_strerror(host->device_errno)
                              : "can be used");
    if (host->version) {
        printf("%-12s version %d\n", "KVMI", host->version);
    } else {
        printf("%-12s no\n", "KVMI");
    }
    if (host->parameter) {
        printf("%-12s kvm.introspection=%s\n", "parameter", host->parameter);
    }
    printf("%-12s %s\n", "headers", host->headers ? "installed"
                                                  : "not installed");
    printf("%-12s %s\n", "-accel kvm",
           lack ? "cannot be introspected" : "can be introspected");
}

static void print_json(const Host *host, const char *device, const char *lack)
{
    Json json = { 0 };

    json_object(&json, NULL);
    json_string(&json, "kernel", host->kernel.release);
    if (host->processor) {
        json_string(&json, "processor", host->processor);
    }
    json_string(&json, "device", device);
    json_bool(&json, "usable", !host->device_errno);
    json_int(&json, "version", host->version);
    if (host->parameter) {
        json_string(&json, "parameter", host->parameter);
    }
    json_bool(&json, "headers", host->headers);
    json_bool(&json, "installed", host->installed);
    if (lack) {
        json_string(&json, "missing", lack);
    }
    json_object_end(&json);
    json_flush(&json);
}

static bool run_check_host(App *app, int argc, char **argv, GError **errp)
{
    g_autofree char *device = NULL;
    g_autofree char *lack = NULL;
    const GOptionEntry entries[] = {
        { "device", 0, 0, G_OPTION_ARG_FILENAME, &device,
          "KVM's device (default: /dev/kvm)", "PATH" },
        { NULL }
    };
    Host host = { 0 };

    if (!app_parse(app, entries, &argc, &argv, 0, 0, errp)) {
        return false;
    }
    look_at_host(&host, device ?: "/dev/kvm");
    lack = missing(&host, device ?: "/dev/kvm");
    (app->json ? print_json : print_human)(&host, device ?: "/dev/kvm", lack);
    g_free(host.parameter);
    if (lack) {
        g_set_error(errp, CMD_ERROR, EXIT_HOST_LACKS, "%s", lack);
        return false;
    }
    return true;
}

const Subcommand cmd_check_host = {
    .name = "check-host",
    .summary = "can guests of KVM be introspected on this host?",
    .description =
        "Says what this host has of what the introspection of guests of\n"
        "-accel kvm takes, and what to do about the first thing that is\n"
        "missing.  Guests of -accel tcg need nothing of it.",
    .run = run_check_host,
};
