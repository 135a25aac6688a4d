/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: writing JSON, one object per line
 *
 * Addresses and register values are strings ("0xffffffff81000000"), because
 * many programs that read JSON have no 64-bit integers.
 */

#ifndef KVMI_JSON_H
#define KVMI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct Json {
    GString *text;
    bool first;                 /* no comma before what comes next */
} Json;

/* @key is NULL in arrays and for the outermost object. */
void json_object(Json *json, const char *key);
void json_object_end(Json *json);
void json_array(Json *json, const char *key);
void json_array_end(Json *json);
void json_string(Json *json, const char *key, const char *value);
void json_hex(Json *json, const char *key, uint64_t value);
void json_uint(Json *json, const char *key, uint64_t value);
void json_int(Json *json, const char *key, int64_t value);
void json_double(Json *json, const char *key, double value, int digits);
void json_bool(Json *json, const char *key, bool value);
/* Bytes as a string of hexadecimal digits. */
void json_bytes(Json *json, const char *key, const uint8_t *buf, size_t size);

/* Forget what was put together, and be ready for the next. */
void json_clear(Json *json);

/* Write the line to stdout, and json_clear(). */
void json_flush(Json *json);

#endif /* KVMI_JSON_H */
