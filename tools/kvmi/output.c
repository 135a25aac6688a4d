/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: hex dumps and progress
 */

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cmd.h"

#define BAR_WIDTH 30
#define TTY_INTERVAL_US 100000
#define PLAIN_INTERVAL_US 1000000

const char *msr_label(uint32_t index, char buf[16])
{
    const char *name = kvmi_msr_name(index);

    if (name) {
        return name;
    }
    g_snprintf(buf, 16, "0x%" PRIx32, index);
    return buf;
}

void print_hexdump(uint64_t address, const uint8_t *buf, size_t size)
{
    size_t i, j;

    for (i = 0; i < size; i += 16) {
        size_t n = MIN(16, size - i);

        printf("%016" PRIx64 " ", address + i);
        for (j = 0; j < 16; j++) {
            if (j % 8 == 0) {
                putchar(' ');
            }
            if (j < n) {
                printf("%02x ", buf[i + j]);
            } else {
                printf("   ");
            }
        }
        printf(" |");
        for (j = 0; j < n; j++) {
            putchar(g_ascii_isprint(buf[i + j]) ? buf[i + j] : '.');
        }
        printf("|\n");
    }
}

void progress_begin(Progress *p, const App *app, const char *what,
                    uint64_t total)
{
    p->is_tty = isatty(STDERR_FILENO);
    p->on = !app->quiet && (p->is_tty || app->progress) && total;
    p->what = what;
    p->total = total;
    p->start = g_get_monotonic_time();
    p->last = 0;
}

static void progress_show(Progress *p, uint64_t done, gint64 now)
{
    double seconds = (now - p->start) / 1e6;
    double rate = seconds > 0 ? done / seconds : 0;
    double mib = 1024 * 1024;
    char bar[BAR_WIDTH + 1];
    int filled = (double)done / p->total * BAR_WIDTH;

    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', MIN(filled, BAR_WIDTH));
    bar[BAR_WIDTH] = 0;
    fprintf(stderr, "%s%s [%s] %3.0f%% of %.0f MiB, %.0f MiB/s%s",
            p->is_tty ? "\r" : "", p->what, bar, 100.0 * done / p->total,
            p->total / mib, rate / mib, p->is_tty ? "  " : "\n");
}

void progress_update(Progress *p, uint64_t done)
{
    gint64 now;

    if (!p->on) {
        return;
    }
    now = g_get_monotonic_time();
    if (now - p->last >= (p->is_tty ? TTY_INTERVAL_US : PLAIN_INTERVAL_US) ||
        done == p->total) {
        p->last = now;
        progress_show(p, done, now);
    }
}

void progress_end(Progress *p)
{
    if (p->on && p->is_tty) {
        fputc('\n', stderr);
    }
    p->on = false;
}
