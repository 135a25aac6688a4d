/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi dump: all of the guest's RAM into a file
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "guest-ram.h"

typedef struct Dump {
    const char *file;
    char *part;                 /* what is written to until all is there */
    int fd;
    uint64_t base;              /* the file begins with this gpa */
    uint64_t end;               /* of the last RAM that was seen */
    uint64_t done;              /* bytes asked for */
    uint64_t ram;               /* bytes that are RAM */
    uint64_t data;              /* bytes that are not zero */
    Progress progress;
} Dump;

static bool is_zero(const uint8_t *page)
{
    return !page[0] && !memcmp(page, page + 1, KVMI_PAGE_SIZE - 1);
}

static bool write_at(Dump *d, const uint8_t *buf, size_t size, uint64_t gpa,
                     GError **errp)
{
    while (size) {
        ssize_t n = pwrite(d->fd, buf, size, gpa - d->base);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return local_error(errp, "cannot write '%s': %s", d->part,
                               n ? g_strerror(errno) : "nothing was written");
        }
        buf += n;
        size -= n;
        gpa += n;
    }
    return true;
}

/* Pages of zeros, and what is not RAM, become holes of the file. */
static bool dump_chunk(uint64_t gpa, const uint8_t *buf,
                       const uint8_t *present, size_t npages, void *opaque,
                       GError **errp)
{
    Dump *d = opaque;
    size_t i, first = 0, n = 0;

    for (i = 0; i < npages; i++) {
        const uint8_t *page = buf + i * KVMI_PAGE_SIZE;
        bool wanted = present[i] && !is_zero(page);

        if (present[i]) {
            d->ram += KVMI_PAGE_SIZE;
            d->end = gpa + (i + 1) * KVMI_PAGE_SIZE;
        }
        if (wanted) {
            first = n ? first : i;
            n++;
        }
        if (n && (!wanted || i + 1 == npages)) {
            if (!write_at(d, buf + first * KVMI_PAGE_SIZE,
                          n * KVMI_PAGE_SIZE, gpa + first * KVMI_PAGE_SIZE,
                          errp)) {
                return false;
            }
            d->data += n * KVMI_PAGE_SIZE;
            n = 0;
        }
    }
    d->done += npages * KVMI_PAGE_SIZE;
    progress_update(&d->progress, d->done);
    return true;
}

static bool open_part(Dump *d, GError **errp)
{
    struct stat st;

    if (stat(d->file, &st) == 0 && !S_ISREG(st.st_mode)) {
        return usage_error(errp, "'%s' is no ordinary file", d->file);
    }
    d->part = g_strdup_printf("%s.part", d->file);
    d->fd = open(d->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (d->fd < 0) {
        return local_error(errp, "cannot create '%s': %s", d->part,
                           g_strerror(errno));
    }
    return true;
}

static bool commit(Dump *d, GError **errp)
{
    int fd = d->fd;

    d->fd = -1;
    if (ftruncate(fd, d->end - d->base) < 0) {
        close(fd);
        return local_error(errp, "cannot set the size of '%s': %s", d->part,
                           g_strerror(errno));
    }
    if (close(fd) < 0 || rename(d->part, d->file) < 0) {
        return local_error(errp, "cannot finish '%s': %s", d->file,
                           g_strerror(errno));
    }
    return true;
}

/* What was read of a VM that is gone is not to be had again. */
static void abandon(Dump *d, GError **errp)
{
    if (d->fd >= 0) {
        close(d->fd);
    }
    if (errp && g_error_matches(*errp, KVMI_ERROR, KVMI_ERROR_DISCONNECTED) &&
        d->ram) {
        g_prefix_error(errp, "'%s' has what was read up to 0x%" PRIx64 ": ",
                       d->part, d->end);
    } else if (d->part) {
        unlink(d->part);
    }
}

static void show_result(App *app, const Dump *d, const GArray *ranges,
                        double seconds)
{
    Json json = { 0 };
    double mib = 1024 * 1024;
    unsigned i;

    if (!app->json) {
        if (!app->quiet) {
            printf("%.1f MiB of RAM, %.1f MiB of them not zero, in %.2f s "
                   "(%.0f MiB/s): '%s', in which an offset is a guest "
                   "physical address%s\n", d->ram / mib, d->data / mib,
                   seconds, d->ram / mib / seconds, d->file,
                   d->base ? " minus --start" : "");
        }
        return;
    }
    json_object(&json, NULL);
    json_string(&json, "file", d->file);
    json_hex(&json, "base", d->base);
    json_uint(&json, "size", d->end - d->base);
    json_uint(&json, "ram", d->ram);
    json_uint(&json, "not-zero", d->data);
    json_double(&json, "seconds", seconds, 6);
    json_array(&json, "ranges");
    for (i = 0; i < ranges->len; i++) {
        RamRange *range = &g_array_index(ranges, RamRange, i);

        json_object(&json, NULL);
        json_hex(&json, "start", range->start);
        json_hex(&json, "end", MIN(range->end, MAX(d->end, range->start)));
        json_object_end(&json);
    }
    json_array_end(&json);
    json_object_end(&json);
    json_flush(&json);
}

static bool dump(App *app, Dump *d, uint64_t start, uint64_t length,
                 GError **errp)
{
    gint64 begin = g_get_monotonic_time();
    g_autoptr(GArray) ranges = ram_find(app, start, length, errp);
    bool ok;

    if (!ranges || !open_part(d, errp)) {
        return false;
    }
    d->base = d->end = start;
    progress_begin(&d->progress, app, "dump", ram_total(ranges));
    ok = ram_walk(app, ranges, dump_chunk, d, errp);
    progress_end(&d->progress);
    if (ok && !d->ram) {
        return local_error(errp, "there is no RAM in that range");
    }
    if (!ok || !commit(d, errp)) {
        return false;
    }
    show_result(app, d, ranges,
                MAX(1, g_get_monotonic_time() - begin) / 1e6);
    return true;
}

static bool run_dump(App *app, int argc, char **argv, GError **errp)
{
    RamOptions o = { 0 };
    const GOptionEntry entries[] = {
        { "start", 0, 0, G_OPTION_ARG_STRING, &o.start,
          "begin at this guest physical address", "GPA" },
        { "length", 0, 0, G_OPTION_ARG_STRING, &o.length,
          "only so many bytes, RAM or not", "BYTES" },
        { NULL }
    };
    Dump d = { .fd = -1 };
    uint64_t start, length;
    bool ok;

    ok = app_parse(app, entries, &argc, &argv, 1, 1, errp) &&
         ram_options_parse(&o, &start, &length, errp);
    if (ok && (start | length) % KVMI_PAGE_SIZE) {
        ok = usage_error(errp, "--start and --length must be multiples of %u",
                         KVMI_PAGE_SIZE);
    }
    if (ok) {
        d.file = argv[1];
        ok = app_connect(app, errp) && dump(app, &d, start, length, errp);
        if (!ok) {
            abandon(&d, errp);
        }
    }
    g_free(d.part);
    g_free(o.start);
    g_free(o.length);
    return ok;
}

const Subcommand cmd_dump = {
    .name = "dump",
    .arguments = "FILE",
    .summary = "write all RAM to a file",
    .description =
        "Writes all of the guest's RAM to FILE, in which an offset is a\n"
        "guest physical address (minus --start).  What is not RAM, and pages\n"
        "of zeros, are holes.  The guest goes on running meanwhile.",
    .run = run_dump,
};
