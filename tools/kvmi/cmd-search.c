/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi search: where in guest memory are these bytes?
 */

#include <stdio.h>
#include <string.h>
#include "guest-ram.h"

#define MAX_PATTERN KVMI_PAGE_SIZE
#define MAX_TEXT 256            /* of what is shown of a match */
#define HEX_SHOWN 32

typedef struct Search {
    App *app;
    const uint8_t *pattern;
    size_t length;
    bool is_text;
    uint64_t start, end;        /* matches begin in [start, end) */
    uint64_t max;
    uint64_t found;
    uint64_t done;

    /* The end of the RAM before this, of which a match may begin there. */
    uint8_t *window;
    size_t tail;                /* its bytes, at the beginning of @window */
    uint64_t next;              /* the gpa that would continue it */

    Progress progress;
} Search;

/*
 * What follows a match, for people: at most @size bytes from @gpa on, of
 * which @have are at @p already.  Ends early where RAM does.
 */
static size_t context(Search *s, uint64_t gpa, const uint8_t *p, size_t have,
                      uint8_t *out, size_t size)
{
    size_t n = MIN(have, size);

    memcpy(out, p, n);
    while (n < size) {
        size_t more = MIN(size - n,
                          KVMI_PAGE_SIZE - (gpa + n) % KVMI_PAGE_SIZE);

        if (!kvmi_read_physical(s->app->client, gpa + n, out + n, more,
                                NULL)) {
            break;
        }
        n += more;
    }
    return n;
}

/* Up to the end of the line or the string. */
static char *printable(const uint8_t *p, size_t size)
{
    GString *text = g_string_new(NULL);
    size_t i;

    for (i = 0; i < size && p[i] && p[i] != '\n'; i++) {
        g_string_append_c(text, p[i] == '\t' || !g_ascii_iscntrl(p[i])
                                ? p[i] : '.');
    }
    if (!g_utf8_validate(text->str, text->len, NULL)) {
        for (i = 0; i < text->len; i++) {
            if (text->str[i] & 0x80) {
                text->str[i] = '.';
            }
        }
    }
    return g_string_free(text, FALSE);
}

static void show_match(Search *s, uint64_t gpa, const uint8_t *p, size_t have)
{
    uint8_t bytes[MAX_TEXT];
    Json json = { 0 };
    size_t n;

    n = context(s, gpa, p, have, bytes, s->is_text ? MAX_TEXT : HEX_SHOWN);
    if (s->app->json) {
        json_object(&json, NULL);
        json_hex(&json, "gpa", gpa);
        if (s->is_text) {
            g_autofree char *text = printable(bytes, n);

            json_string(&json, "text", text);
        } else {
            json_bytes(&json, "data", bytes, n);
        }
        json_object_end(&json);
        json_flush(&json);
    } else if (s->is_text) {
        g_autofree char *text = printable(bytes, n);

        printf("0x%012" PRIx64 "  %s\n", gpa, text);
    } else {
        size_t i;

        printf("0x%012" PRIx64 " ", gpa);
        for (i = 0; i < n; i++) {
            printf(" %02x", bytes[i]);
        }
        printf("\n");
    }
}

/* @size bytes of RAM in one piece, of which matches are to be found. */
static bool search_bytes(Search *s, uint64_t gpa, const uint8_t *buf,
                         size_t size, GError **errp)
{
    const uint8_t *p = buf, *end = buf + size;

    while ((!s->max || s->found < s->max) &&
           (p = memmem(p, end - p, s->pattern, s->length))) {
        uint64_t at = gpa + (p - buf);

        if (at >= s->end) {
            break;
        }
        if (at >= s->start) {
            s->found++;
            progress_end(&s->progress);
            show_match(s, at, p, end - p);
            if (!app_flush(errp)) {
                return false;
            }
        }
        p++;
    }
    return true;
}

/*
 * A run of pages that are RAM.  A match that begins in the run before, if
 * this one continues it, lies in the window: that run's last bytes and this
 * one's first.  @length - 1 of each, so nothing is found twice.
 */
static bool search_run(Search *s, uint64_t gpa, const uint8_t *buf,
                       size_t size, GError **errp)
{
    size_t keep = s->length - 1;

    if (s->tail && s->next == gpa) {
        memcpy(s->window + s->tail, buf, keep);
        if (!search_bytes(s, gpa - s->tail, s->window, s->tail + keep, errp)) {
            return false;
        }
    }
    if (!search_bytes(s, gpa, buf, size, errp)) {
        return false;
    }
    memcpy(s->window, buf + size - keep, keep);
    s->tail = keep;
    s->next = gpa + size;
    return true;
}

static bool search_chunk(uint64_t gpa, const uint8_t *buf,
                         const uint8_t *present, size_t npages, void *opaque,
                         GError **errp)
{
    Search *s = opaque;
    size_t i, first = 0, n = 0;

    for (i = 0; i < npages; i++) {
        if (present[i]) {
            first = n ? first : i;
            n++;
        }
        if (n && (!present[i] || i + 1 == npages)) {
            if (!search_run(s, gpa + first * KVMI_PAGE_SIZE,
                            buf + first * KVMI_PAGE_SIZE, n * KVMI_PAGE_SIZE,
                            errp)) {
                return false;
            }
            n = 0;
        }
    }
    s->done += npages * KVMI_PAGE_SIZE;
    progress_update(&s->progress, s->done);
    if (s->max && s->found >= s->max) {
        g_set_error(errp, CMD_ERROR, EXIT_OK, "enough");
        return false;
    }
    return true;
}

static bool search(Search *s, uint64_t start, uint64_t length, GError **errp)
{
    g_autoptr(GArray) ranges = ram_find(s->app, start, length, errp);
    GError *local = NULL;

    if (!ranges) {
        return false;
    }
    s->start = start;
    s->end = length ? start + length - (s->length - 1) : UINT64_MAX;
    s->window = g_malloc(2 * s->length);
    progress_begin(&s->progress, s->app, "search", ram_total(ranges));
    ram_walk(s->app, ranges, search_chunk, s, &local);
    progress_end(&s->progress);
    g_free(s->window);

    if (g_error_matches(local, CMD_ERROR, EXIT_OK)) {
        g_clear_error(&local);
    }
    if (local) {
        g_propagate_error(errp, local);
        return false;
    }
    if (!s->found) {
        g_set_error(errp, CMD_ERROR, EXIT_NOT_FOUND, "not found");
        return false;
    }
    return true;
}

static bool parse_pattern(const char *text, bool hex, GByteArray *out,
                          GError **errp)
{
    char *words[] = { (char *)text, NULL };

    if (!hex) {
        g_byte_array_append(out, (const uint8_t *)text, strlen(text));
    } else if (!parse_hex(words, out, errp)) {
        return false;
    }
    if (!out->len || out->len > MAX_PATTERN) {
        return usage_error(errp, "PATTERN has %u bytes: 1 to %u are possible",
                           out->len, MAX_PATTERN);
    }
    return true;
}

static bool run_search(App *app, int argc, char **argv, GError **errp)
{
    RamOptions o = { 0 };
    gboolean hex = FALSE;
    int64_t max = 0;
    const GOptionEntry entries[] = {
        { "hex", 'x', 0, G_OPTION_ARG_NONE, &hex,
          "PATTERN is hexadecimal bytes, not text", NULL },
        { "max", 'm', 0, G_OPTION_ARG_INT64, &max,
          "end after so many matches", "N" },
        { "start", 0, 0, G_OPTION_ARG_STRING, &o.start,
          "begin at this guest physical address", "GPA" },
        { "length", 0, 0, G_OPTION_ARG_STRING, &o.length,
          "only so many bytes, RAM or not", "BYTES" },
        { NULL }
    };
    g_autoptr(GByteArray) pattern = g_byte_array_new();
    uint64_t start, length;
    bool ok;

    ok = app_parse(app, entries, &argc, &argv, 1, 1, errp) &&
         ram_options_parse(&o, &start, &length, errp) &&
         parse_pattern(argv[1], hex, pattern, errp);
    if (ok && max < 0) {
        ok = usage_error(errp, "--max: give the number of matches");
    }
    if (ok && length && length < pattern->len) {
        ok = usage_error(errp, "--length is less than the %u bytes of "
                         "PATTERN", pattern->len);
    }
    if (ok) {
        Search s = {
            .app = app,
            .pattern = pattern->data,
            .length = pattern->len,
            .is_text = !hex,
            .max = max,
        };

        ok = app_connect(app, errp) && search(&s, start, length, errp);
    }
    g_free(o.start);
    g_free(o.length);
    return ok;
}

const Subcommand cmd_search = {
    .name = "search",
    .arguments = "PATTERN",
    .summary = "find text or bytes in guest memory",
    .description =
        "Shows the guest physical addresses at which PATTERN lies in RAM,\n"
        "and what follows it there: of text, the rest of the line.",
    .run = run_search,
};
