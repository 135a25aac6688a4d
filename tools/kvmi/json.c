/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: writing JSON, one object per line
 */

#include <inttypes.h>
#include <stdio.h>
#include "json.h"

static void put_string(GString *text, const char *value)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);
    const char *p;

    g_string_append_c(text, '"');
    for (p = valid; *p; p++) {
        switch (*p) {
        case '"':
        case '\\':
            g_string_append_c(text, '\\');
            g_string_append_c(text, *p);
            break;
        case 1 ... 31:
        case 127:
            g_string_append_printf(text, "\\u%04x", *p);
            break;
        default:
            g_string_append_c(text, *p);
        }
    }
    g_string_append_c(text, '"');
}

static void put_key(Json *json, const char *key)
{
    if (!json->text) {
        json->text = g_string_new(NULL);
        json->first = true;
    }
    if (!json->first) {
        g_string_append(json->text, ", ");
    }
    json->first = false;
    if (key) {
        put_string(json->text, key);
        g_string_append(json->text, ": ");
    }
}

static void put_open(Json *json, const char *key, char bracket)
{
    put_key(json, key);
    g_string_append_c(json->text, bracket);
    json->first = true;
}

static void put_close(Json *json, char bracket)
{
    g_string_append_c(json->text, bracket);
    json->first = false;
}

void json_object(Json *json, const char *key)
{
    put_open(json, key, '{');
}

void json_object_end(Json *json)
{
    put_close(json, '}');
}

void json_array(Json *json, const char *key)
{
    put_open(json, key, '[');
}

void json_array_end(Json *json)
{
    put_close(json, ']');
}

void json_string(Json *json, const char *key, const char *value)
{
    put_key(json, key);
    put_string(json->text, value);
}

void json_hex(Json *json, const char *key, uint64_t value)
{
    put_key(json, key);
    g_string_append_printf(json->text, "\"0x%" PRIx64 "\"", value);
}

void json_uint(Json *json, const char *key, uint64_t value)
{
    put_key(json, key);
    g_string_append_printf(json->text, "%" PRIu64, value);
}

void json_int(Json *json, const char *key, int64_t value)
{
    put_key(json, key);
    g_string_append_printf(json->text, "%" PRId64, value);
}

void json_double(Json *json, const char *key, double value, int digits)
{
    char format[16], buf[64];

    put_key(json, key);
    g_snprintf(format, sizeof(format), "%%.%df", digits);
    g_string_append(json->text,
                    g_ascii_formatd(buf, sizeof(buf), format, value));
}

void json_bool(Json *json, const char *key, bool value)
{
    put_key(json, key);
    g_string_append(json->text, value ? "true" : "false");
}

void json_bytes(Json *json, const char *key, const uint8_t *buf, size_t size)
{
    size_t i;

    put_key(json, key);
    g_string_append_c(json->text, '"');
    for (i = 0; i < size; i++) {
        g_string_append_printf(json->text, "%02x", buf[i]);
    }
    g_string_append_c(json->text, '"');
}

void json_clear(Json *json)
{
    if (json->text) {
        g_string_free(json->text, TRUE);
        json->text = NULL;
    }
}

void json_flush(Json *json)
{
    puts(json->text->str);
    json_clear(json);
}
