/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: numbers, vCPUs, MSRs and registers as people write them
 */

#include <stdlib.h>
#include <string.h>
#include "cmd.h"

GQuark cmd_error_quark(void)
{
    return g_quark_from_static_string("kvmi-command-error-quark");
}

bool usage_error(GError **errp, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_propagate_error(errp, g_error_new_valist(CMD_ERROR, EXIT_USAGE,
                                               fmt, ap));
    va_end(ap);
    return false;
}

bool local_error(GError **errp, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_propagate_error(errp, g_error_new_valist(CMD_ERROR, EXIT_LOCAL,
                                               fmt, ap));
    va_end(ap);
    return false;
}

static int suffix_shift(const char *end)
{
    static const char suffixes[] = "kmgt";
    const char *p;

    if (!*end) {
        return 0;
    }
    p = strchr(suffixes, g_ascii_tolower(*end));
    return p && !end[1] ? (p - suffixes + 1) * 10 : -1;
}

bool parse_number(const char *text, const char *what, uint64_t max,
                  uint64_t *out, GError **errp)
{
    int base = g_ascii_strncasecmp(text, "0x", 2) ? 10 : 16;
    const char *digits = base == 16 ? text + 2 : text;
    uint64_t value;
    char *end;
    int shift;

    errno = 0;
    value = g_ascii_strtoull(digits, &end, base);
    shift = suffix_shift(end);
    if (end == digits || !g_ascii_isxdigit(*digits) || shift < 0) {
        return usage_error(errp, "%s: '%s' is no number: give 4096, 0x1000, "
                           "4k, 512M or 2G", what, text);
    }
    if (errno == ERANGE || value > (max >> shift)) {
        return usage_error(errp, "%s: %s is too large: 0x%" PRIx64
                           " is the most", what, text, max);
    }
    *out = value << shift;
    return true;
}

bool parse_vcpu(const char *text, int fallback, int *out, GError **errp)
{
    uint64_t value;

    if (!text) {
        *out = fallback;
        return true;
    }
    if (!parse_number(text, "--vcpu", UINT16_MAX, &value, errp)) {
        return false;
    }
    *out = value;
    return true;
}

bool parse_msr(const char *text, uint32_t *out, GError **errp)
{
    uint64_t value;

    if (kvmi_msr_from_name(text, out)) {
        return true;
    }
    if (!g_ascii_isdigit(*text)) {
        return usage_error(errp, "there is no MSR '%s': give a name like "
                           "lstar, or an index like 0xc0000082", text);
    }
    if (!parse_number(text, "MSR", UINT32_MAX, &value, errp)) {
        return false;
    }
    *out = value;
    return true;
}

bool parse_reg_value(const char *text, unsigned *reg, uint64_t *value,
                     GError **errp)
{
    const char *equals = strchr(text, '=');
    g_autofree char *name = equals ? g_strndup(text, equals - text) : NULL;

    if (!name) {
        return usage_error(errp, "'%s': give REGISTER=VALUE, like rax=0x1234",
                           text);
    }
    if (!kvmi_reg_from_name(name, reg)) {
        return usage_error(errp, "there is no register '%s': give rax to r15, "
                           "rip or rflags", name);
    }
    return parse_number(equals + 1, name, UINT64_MAX, value, errp);
}

bool parse_access(const char *text, uint8_t *access, GError **errp)
{
    const char *p;

    *access = 0;
    for (p = text; *p; p++) {
        switch (*p) {
        case 'r':
            *access |= KVMI_PAGE_ACCESS_R;
            break;
        case 'w':
            *access |= KVMI_PAGE_ACCESS_W;
            break;
        case 'x':
            *access |= KVMI_PAGE_ACCESS_X;
            break;
        case '-':
            break;
        default:
            return usage_error(errp, "'%s' is no access: give r, w and x, or "
                               "- for none", text);
        }
    }
    if (p == text) {
        return usage_error(errp, "no access: give r, w and x, or - for none");
    }
    return true;
}

bool parse_hex(char **args, GByteArray *out, GError **errp)
{
    int high = -1;

    for (; *args; args++) {
        const char *p = *args;

        if (g_ascii_strncasecmp(p, "0x", 2) == 0) {
            p += 2;
        }
        for (; *p; p++) {
            int digit = g_ascii_xdigit_value(*p);

            if (g_ascii_isspace(*p)) {
                continue;
            }
            if (digit < 0) {
                return usage_error(errp, "'%s' is not made of hexadecimal "
                                   "digits", *args);
            }
            if (high < 0) {
                high = digit;
            } else {
                uint8_t byte = high << 4 | digit;

                g_byte_array_append(out, &byte, 1);
                high = -1;
            }
        }
        if (high >= 0) {
            return usage_error(errp, "'%s' has an odd number of digits",
                               *args);
        }
    }
    return true;
}
