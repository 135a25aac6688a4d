/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: where the guest's RAM is, and going through all of it
 *
 * The protocol has no memory map: a page that can be read is RAM or ROM.
 * What is known is how QEMU lays out x86 machines.  RAM begins at 0 and goes
 * on, apart from the legacy hole below 1 MiB, to somewhere below 4 GiB.  Then
 * come PCI, firmware and interrupt controllers, and the rest of RAM begins at
 * 4 GiB, or at 1 TiB where an AMD guest has so much of it that it would run
 * into HyperTransport's addresses.  Hotplugged memory follows, aligned to
 * 1 GiB, so that there may be gaps.
 *
 * So one byte is read of every 2 MiB block, from 0 up to the first that
 * cannot be read, and from 4 GiB and 1 TiB up to a gap of 4 GiB.  In a block
 * that begins with RAM, every page is tried when it is read for real: RAM
 * that ends inside a block is found to the page.
 */

#include <string.h>
#include "guest-ram.h"

#define MIB (1024ULL * 1024)
#define GIB (1024ULL * MIB)
#define TIB (1024ULL * GIB)

#define BLOCK (2 * MIB)
#define BLOCKS_AT_ONCE 256
#define MAX_GAP (4 * GIB)
#define MAX_ADDRESS (1ULL << 52)

#define CHUNK_PAGES 512

bool ram_options_parse(const RamOptions *o, uint64_t *start, uint64_t *length,
                       GError **errp)
{
    *start = 0;
    *length = 0;
    if (o->start &&
        !parse_number(o->start, "--start", MAX_ADDRESS - 1, start, errp)) {
        return false;
    }
    if (o->length) {
        if (!parse_number(o->length, "--length", MAX_ADDRESS - *start, length,
                          errp)) {
            return false;
        }
        if (!*length) {
            return usage_error(errp, "--length: 0 bytes are nothing to read");
        }
    }
    return true;
}

static void add_range(GArray *ranges, uint64_t start, uint64_t end)
{
    RamRange range = { start, end };

    if (ranges->len) {
        RamRange *last = &g_array_index(ranges, RamRange, ranges->len - 1);

        if (last->end == start) {
            last->end = end;
            return;
        }
    }
    g_array_append_val(ranges, range);
}

/*
 * Look at blocks from @start up to @limit, or until there was nothing for
 * @max_gap bytes.
 */
static bool find_in(KvmiClient *client, uint64_t start, uint64_t limit,
                    uint64_t max_gap, GArray *ranges, GError **errp)
{
    uint8_t present[BLOCKS_AT_ONCE];
    uint64_t end_of_ram = start;
    uint64_t gpa = start;

    while (gpa < limit) {
        size_t n = MIN(BLOCKS_AT_ONCE, (limit - gpa) / BLOCK);
        size_t i;

        if (!kvmi_probe(client, gpa, BLOCK, n, present, errp)) {
            return false;
        }
        for (i = 0; i < n; i++, gpa += BLOCK) {
            if (present[i]) {
                add_range(ranges, gpa, gpa + BLOCK);
                end_of_ram = gpa + BLOCK;
            } else if (gpa + BLOCK - end_of_ram > max_gap) {
                return true;
            }
        }
    }
    return true;
}

/* Only what is not below @start. */
static void clip(GArray *ranges, uint64_t start)
{
    unsigned i = 0;

    while (i < ranges->len) {
        RamRange *range = &g_array_index(ranges, RamRange, i);

        if (range->end <= start) {
            g_array_remove_index(ranges, i);
        } else {
            range->start = MAX(range->start, start);
            i++;
        }
    }
}

static bool find_all(KvmiClient *client, GArray *ranges, GError **errp)
{
    return find_in(client, 0, 4 * GIB, 0, ranges, errp) &&
           find_in(client, 4 * GIB, TIB, MAX_GAP, ranges, errp) &&
           find_in(client, TIB, MAX_ADDRESS, MAX_GAP, ranges, errp);
}

GArray *ram_find(App *app, uint64_t start, uint64_t length, GError **errp)
{
    g_autoptr(GArray) ranges = g_array_new(FALSE, FALSE, sizeof(RamRange));
    uint64_t mask = KVMI_PAGE_SIZE - 1;
    uint64_t first = start & ~mask;

    if (length) {
        add_range(ranges, first, (start + length + mask) & ~mask);
    } else {
        if (!find_all(app->client, ranges, errp)) {
            return NULL;
        }
        clip(ranges, first);
    }
    if (!ranges->len) {
        local_error(errp, "there is no RAM at 0x%" PRIx64 " or above", start);
        return NULL;
    }
    return g_steal_pointer(&ranges);
}

uint64_t ram_total(const GArray *ranges)
{
    uint64_t total = 0;
    unsigned i;

    for (i = 0; i < ranges->len; i++) {
        RamRange *range = &g_array_index(ranges, RamRange, i);

        total += range->end - range->start;
    }
    return total;
}

/*
 * Two chunks take turns: while one is worked on, the VM fills the other.
 */
typedef struct Chunk {
    uint64_t gpa;
    size_t npages;
    uint8_t *buf;
    uint8_t present[CHUNK_PAGES];
    KvmiRead *read;             /* NULL: nothing under way */
} Chunk;

typedef struct Walk {
    KvmiClient *client;
    const GArray *ranges;
    unsigned range;
    uint64_t gpa;
    Chunk chunks[2];
} Walk;

/* True without a read under way: there is nothing left. */
static bool start_chunk(Walk *w, Chunk *chunk, GError **errp)
{
    RamRange *range;

    chunk->read = NULL;
    if (w->range == w->ranges->len) {
        return true;
    }
    range = &g_array_index(w->ranges, RamRange, w->range);
    w->gpa = MAX(w->gpa, range->start);
    chunk->gpa = w->gpa;
    chunk->npages = MIN(CHUNK_PAGES, (range->end - w->gpa) / KVMI_PAGE_SIZE);
    w->gpa += chunk->npages * KVMI_PAGE_SIZE;
    if (w->gpa == range->end) {
        w->range++;
    }
    chunk->read = kvmi_read_start(w->client, chunk->gpa, chunk->npages,
                                  chunk->buf, chunk->present, errp);
    return chunk->read;
}

static bool finish_chunk(Walk *w, Chunk *chunk, GError **errp)
{
    KvmiRead *read = g_steal_pointer(&chunk->read);

    return kvmi_read_finish(w->client, read, errp);
}

bool ram_walk(App *app, const GArray *ranges, RamFunc *func, void *opaque,
              GError **errp)
{
    Walk w = { .client = app->client, .ranges = ranges };
    bool ok = true;
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(w.chunks); i++) {
        w.chunks[i].buf = g_malloc(CHUNK_PAGES * KVMI_PAGE_SIZE);
        ok = ok && start_chunk(&w, &w.chunks[i], errp);
    }
    for (i = 0; ok && w.chunks[i].read; i ^= 1) {
        Chunk *chunk = &w.chunks[i];

        ok = finish_chunk(&w, chunk, errp) &&
             func(chunk->gpa, chunk->buf, chunk->present, chunk->npages,
                  opaque, errp) &&
             start_chunk(&w, chunk, errp);
    }
    for (i = 0; i < G_N_ELEMENTS(w.chunks); i++) {
        if (w.chunks[i].read) {
            finish_chunk(&w, &w.chunks[i], NULL);
        }
        g_free(w.chunks[i].buf);
    }
    return ok;
}
