/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmi: what the subcommands share
 */

#ifndef KVMI_CMD_H
#define KVMI_CMD_H

#include "kvmi-client.h"
#include "json.h"

/* Exit statuses, documented in docs/tools/kvmi.rst. */
enum {
    EXIT_OK = 0,
    EXIT_LOCAL = 1,             /* files, memory, sockets of this host */
    EXIT_USAGE = 2,
    EXIT_NO_VM = 3,             /* none within --timeout */
    EXIT_VM_GONE = 4,
    EXIT_PATH_EXISTS = 5,
    EXIT_HANDSHAKE = 6,         /* the peer is not a VM, or refused us */
    EXIT_REFUSED = 7,           /* the engine refused a command */
    EXIT_NO_ANSWER = 8,         /* the VM is there, but does not answer */
    EXIT_PROTOCOL = 9,          /* the VM sent what it must not send */
    EXIT_NOT_FOUND = 10,        /* what search looked for, a mapped page */
    EXIT_LOST = 11,             /* inject: the guest got something else */
    EXIT_HOST_LACKS = 12,       /* check-host */
    EXIT_SIGNAL = 128,          /* plus the signal's number */
};

/* Errors of the command itself: the code is the exit status. */
#define CMD_ERROR (cmd_error_quark())
GQuark cmd_error_quark(void);

typedef struct Subcommand Subcommand;

typedef struct App {
    /* Options that all subcommands have */
    char *socket;
    gboolean connect;
    char *vm;                   /* of a "kvmi serve" at @socket, or NULL */
    double timeout;             /* seconds; negative: not given */
    gboolean json;
    gboolean quiet;
    gboolean progress;
    char *key_file;
    char *auth;                 /* cookie, hmac or any */

    const Subcommand *subcommand;
    KvmiCancel cancel;
    char *key;
    KvmiListener *listener;
    bool said_left;             /* that somebody has come, and left */
    KvmiClient *client;
} App;

struct Subcommand {
    const char *name;
    const char *arguments;
    const char *summary;        /* one line */
    const char *description;
    bool (*run)(App *app, int argc, char **argv, GError **errp);
};

extern const Subcommand cmd_access, cmd_check_host, cmd_cpuid, cmd_dump,
                        cmd_info, cmd_inject, cmd_map, cmd_pause, cmd_protect,
                        cmd_read, cmd_regs, cmd_search, cmd_serve, cmd_trace,
                        cmd_write, cmd_xsave;

/*
 * Parse a subcommand's options, and those that all have.  What is left in
 * @argv are @min to @max arguments, from argv[1] on.
 */
bool app_parse(App *app, const GOptionEntry *entries, int *argc, char ***argv,
               int min, int max, GError **errp);

/* Wait for the VM, or connect to it.  The VM is app->client from then on. */
bool app_connect(App *app, GError **errp);
void app_disconnect(App *app);

/* What the options say about the key.  @config refers to @app. */
bool app_auth(App *app, KvmiConfig *config, GError **errp);

/* From now on a signal cancels; app_connect() does this too. */
void app_catch_signals(App *app);

/*
 * The signal that asked us to end, or 0.  To go on with cleaning up after
 * it: kvmi_cancel_reset(&app->cancel).  A second signal ends the process.
 */
int app_signal(void);

/* False, with an error, where stdout cannot be written. */
bool app_flush(GError **errp);

bool usage_error(GError **errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
bool local_error(GError **errp, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* "4096", "0x1000", "4k", "512M", "2G" */
bool parse_number(const char *text, const char *what, uint64_t max,
                  uint64_t *out, GError **errp);
/* A vCPU's number; NULL is @fallback. */
bool parse_vcpu(const char *text, int fallback, int *out, GError **errp);
/* The name or the index of an MSR. */
bool parse_msr(const char *text, uint32_t *out, GError **errp);
/* "rax=0x1234" */
bool parse_reg_value(const char *text, unsigned *reg, uint64_t *value,
                     GError **errp);

/* "rwx", "r-x", "-" */
bool parse_access(const char *text, uint8_t *access, GError **errp);

/* Bytes from words of hexadecimal digits; @args ends with NULL. */
bool parse_hex(char **args, GByteArray *out, GError **errp);

/* All vCPUs, or just the one if it is not negative. */
bool app_vcpus(App *app, int only, unsigned *first, unsigned *end,
               GError **errp);

/* An MSR's name, or its index in @buf. */
const char *msr_label(uint32_t index, char buf[16]);

void print_hexdump(uint64_t address, const uint8_t *buf, size_t size);

/* A bar on stderr, where somebody looks at it. */
typedef struct Progress {
    bool on;
    bool is_tty;
    const char *what;
    uint64_t total;
    gint64 start;
    gint64 last;
} Progress;

void progress_begin(Progress *p, const App *app, const char *what,
                    uint64_t total);
void progress_update(Progress *p, uint64_t done);
void progress_end(Progress *p);

/* cmd-info.c */
char *format_uuid(const uint8_t uuid[16]);

/* cmd-regs.c: everything that GET_REGISTERS gives, for people or programs. */
void print_registers(const struct kvm_regs *regs,
                     const struct kvm_sregs *sregs);
void json_registers(Json *json, const struct kvm_regs *regs,
                    const struct kvm_sregs *sregs);
const char *mode_name(uint32_t mode);

#endif /* KVMI_CMD_H */
