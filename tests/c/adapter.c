/* An adapter of the conformance suite: drives one engine through msix.h, by lines on standard input and
 * output. It is C11 and C++17 at once. `tests/src/conformance/c_program.rs` is the other end.
 *
 * Line in:  a command and its arguments, numbers as strtoull() reads them, bytes as hexadecimal digits.
 * Line out: "= ANSWER [DATA]", with the words of an error as data. Before it, for each thing that the host
 *           is asked, "! KIND VECTOR ADDRESS DATA", which is answered by a line with a number.
 */
#define _POSIX_C_SOURCE 200809L
#include "msix.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BYTES (64 * 1024)

static msix_engine *engine;
static int by_list;
static unsigned char bytes[MOST_BYTES];

static void die(const char *why)
{
    fprintf(stderr, "adapter: %s\n", why);
    exit(2);
}

/* The next line, without its end; NULL when there is none. */
static char *next_line(void)
{
    static char *line;
    static size_t room;
    ssize_t len = getline(&line, &room, stdin);
    if (len < 0) {
        return NULL;
    }
    line[strcspn(line, "\n")] = 0;
    return line;
}

/* The host: the other end of the pipes. */

static int64_t ask(const char *kind, uint32_t vector, uint64_t address, uint32_t data)
{
    char answer[64];
    printf("! %s %" PRIu32 " %" PRIu64 " %" PRIu32 "\n", kind, vector, address, data);
    fflush(stdout);
    if (!fgets(answer, sizeof answer, stdin)) {
        die("no answer");
    }
    return strtoll(answer, NULL, 0);
}

static void host_send(void *opaque, uint32_t vector, msix_message message)
{
    unsigned char masked[4] = { 1, 0, 0, 0 };
    (void)opaque;
    ask("send", vector, message.address, message.data);
    /* What a callback may and may not do. */
    if (msix_engine_is_masked(engine, vector) < 0) {
        die("a query was refused");
    }
    if (!by_list && msix_engine_write_table(engine, 12, masked, 4) != MSIX_ERROR_BUSY) {
        die("an input inside an input");
    }
}

static int host_arm(void *opaque, uint32_t vector, msix_message message)
{
    (void)opaque;
    return (int)ask("arm", vector, message.address, message.data);
}

static int host_reroute(void *opaque, uint32_t vector, msix_message message)
{
    (void)opaque;
    return (int)ask("reroute", vector, message.address, message.data);
}

static void host_disarm(void *opaque, uint32_t vector)
{
    (void)opaque;
    ask("disarm", vector, 0, 0);
}

/* Answers one half by its return value, the other by msix_engine_set_pending(). */
static uint64_t host_poll(void *opaque, uint32_t first, uint64_t vectors)
{
    uint64_t held = 0;
    unsigned bit;
    (void)opaque;
    for (bit = 0; bit < 64; bit++) {
        if (!(vectors >> bit & 1) || !ask("poll", first + bit, 0, 0)) {
            continue;
        }
        if (bit % 2 || by_list) {
            held |= UINT64_C(1) << bit;
        } else if (msix_engine_set_pending(engine, first + bit) != 0) {
            die("an answer to a poll was refused");
        }
    }
    return held;
}

static void host_drain(void *opaque, uint32_t vector)
{
    (void)opaque;
    ask("drain", vector, 0, 0);
}

static void host_intx_deassert(void *opaque)
{
    (void)opaque;
    ask("intx_deassert", 0, 0, 0);
}

static void host_intx_reevaluate(void *opaque)
{
    (void)opaque;
    ask("intx_reevaluate", 0, 0, 0);
}

/* The same by a list. */

static void carry_out_one(uint32_t kind, uint32_t vector)
{
    msix_message message;
    if (msix_engine_message(engine, vector, &message) != 0) {
        die("an effect names no vector");
    }
    switch (kind) {
    case MSIX_EFFECT_KIND_DISARM:
        host_disarm(NULL, vector);
        break;
    case MSIX_EFFECT_KIND_DRAIN:
        host_drain(NULL, vector);
        break;
    case MSIX_EFFECT_KIND_ARM:
        if (host_arm(NULL, vector, message) != 0) {
            msix_engine_report_failed(engine, vector);
        }
        break;
    case MSIX_EFFECT_KIND_REROUTE:
        if (host_reroute(NULL, vector, message) != 0) {
            msix_engine_report_failed(engine, vector);
        }
        break;
    case MSIX_EFFECT_KIND_SEND:
        host_send(NULL, vector, message);
        break;
    default:
        die("an unexpected effect");
    }
}

static void carry_out(void)
{
    /* Room for three, so that one list is taken by several calls. */
    msix_effect effects[3];
    uint64_t held[32] = { 0 };
    size_t taken, i;
    unsigned word, bit;
    do {
        if (msix_engine_take_effects(engine, effects, 3, &taken) != 0) {
            die("the list was refused");
        }
        for (i = 0; i < taken; i++) {
            const msix_effect *effect = &effects[i];
            if (effect->kind == MSIX_EFFECT_KIND_INTX_DEASSERT) {
                host_intx_deassert(NULL);
            } else if (effect->kind == MSIX_EFFECT_KIND_INTX_REEVALUATE) {
                host_intx_reevaluate(NULL);
            } else if (effect->kind == MSIX_EFFECT_KIND_POLL) {
                held[effect->first / 64] |= host_poll(NULL, effect->first, effect->vectors);
            } else {
                for (bit = 0; bit < 64; bit++) {
                    if (effect->vectors >> bit & 1) {
                        carry_out_one(effect->kind, effect->first + bit);
                    }
                }
            }
        }
    } while (taken != 0);
    for (word = 0; word < 32; word++) {
        if (held[word] != 0) {
            if (msix_engine_report_held(engine, word * 64, held[word]) != 0) {
                die("an answer was refused");
            }
            carry_out();
        }
    }
}

/* Commands. */

static uint64_t number(void)
{
    char *word = strtok(NULL, " ");
    if (!word) {
        die("an argument is missing");
    }
    return strtoull(word, NULL, 0);
}

/* Reads bytes; returns how many. */
static size_t read_bytes(void)
{
    const char *digits = strtok(NULL, " ");
    size_t len = digits ? strlen(digits) / 2 : 0, i;
    if (len > MOST_BYTES) {
        die("too many bytes");
    }
    for (i = 0; i < len; i++) {
        unsigned byte;
        if (sscanf(digits + 2 * i, "%2x", &byte) != 1) {
            die("no digits");
        }
        bytes[i] = (unsigned char)byte;
    }
    return len;
}

static void say(int answer, size_t len)
{
    size_t i;
    printf("= %d ", answer);
    if (answer < 0) {
        printf("%s", msix_strerror(answer));
    } else {
        for (i = 0; i < len; i++) {
            printf("%02x", bytes[i]);
        }
    }
    printf("\n");
    fflush(stdout);
}

/* Answers an input. */
static void done(int answer)
{
    if (by_list) {
        carry_out();
    }
    if (msix_engine_check(engine) != 0) {
        die("an invariant does not hold");
    }
    say(answer, 0);
}

static int make(uint32_t vectors, const char *policy, int list)
{
    static msix_host_ops ops;
    msix_engine_config config;
    void *memory = NULL;
    size_t align = msix_engine_align();
    int made;
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    made = msix_layout_exclusive_bar(&config.layout, vectors, 0, NULL);
    if (made < 0) {
        return made;
    }
    if (msix_policy_init(&config.policy, strcmp(policy, "QEMU") ? MSIX_POLICY_NAME_SPEC
                                                                : MSIX_POLICY_NAME_QEMU) != 0) {
        die("no policy");
    }
    ops.size = sizeof ops;
    ops.send = host_send;
    ops.arm = host_arm;
    ops.reroute = host_reroute;
    ops.disarm = host_disarm;
    ops.poll = host_poll;
    ops.drain = host_drain;
    ops.intx_deassert = host_intx_deassert;
    ops.intx_reevaluate = host_intx_reevaluate;
    by_list = list;
    config.ops = list ? NULL : &ops;
    if (posix_memalign(&memory, align < sizeof(void *) ? sizeof(void *) : align,
                       msix_engine_size(vectors)) != 0) {
        die("no memory");
    }
    return msix_engine_init(memory, msix_engine_size(vectors), &config, &engine);
}

static void lay_out(void)
{
    msix_layout layout;
    uint64_t size;
    uint32_t vectors = (uint32_t)number();
    int made = msix_layout_exclusive_bar(&layout, vectors, (uint32_t)number(), &size);
    if (made < 0) {
        say(made, 0);
        return;
    }
    printf("= 0 %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", layout.table_offset, layout.pba_offset, size);
    fflush(stdout);
}

static void check_layout(void)
{
    msix_layout layout;
    uint64_t sizes[6];
    int i;
    layout.vectors = (uint32_t)number();
    layout.table_bar = (uint32_t)number();
    layout.table_offset = number();
    layout.pba_bar = (uint32_t)number();
    layout.pba_offset = number();
    for (i = 0; i < 6; i++) {
        sizes[i] = number();
    }
    say(msix_layout_check(&layout, sizes), 0);
}

static void command(const char *name)
{
    uint64_t a, b;
    if (!strcmp(name, "read_config")) {
        a = number();
        b = number();
        say(msix_engine_read_config(engine, a, bytes, b), b);
    } else if (!strcmp(name, "write_config")) {
        a = number();
        b = read_bytes();
        done(msix_engine_write_config(engine, a, bytes, b));
    } else if (!strcmp(name, "read_table")) {
        a = number();
        b = number();
        say(msix_engine_read_table(engine, a, bytes, b), b);
    } else if (!strcmp(name, "write_table")) {
        a = number();
        b = read_bytes();
        done(msix_engine_write_table(engine, a, bytes, b));
    } else if (!strcmp(name, "poll_pba")) {
        a = number();
        done(msix_engine_poll_pba(engine, a, number()));
    } else if (!strcmp(name, "read_pba")) {
        a = number();
        b = number();
        say(msix_engine_read_pba(engine, a, bytes, b), b);
    } else if (!strcmp(name, "write_pba")) {
        a = number();
        b = read_bytes();
        say(msix_engine_write_pba(engine, a, bytes, b), 0);
    } else if (!strcmp(name, "notify")) {
        done(msix_engine_notify(engine, (uint32_t)number()));
    } else if (!strcmp(name, "withdraw")) {
        done(msix_engine_withdraw(engine, (uint32_t)number()));
    } else if (!strcmp(name, "claim")) {
        done(msix_engine_claim(engine, (uint32_t)number()));
    } else if (!strcmp(name, "unclaim")) {
        done(msix_engine_unclaim(engine, (uint32_t)number()));
    } else if (!strcmp(name, "claims")) {
        say(msix_engine_claims(engine, (uint32_t)number()), 0);
    } else if (!strcmp(name, "set_mask")) {
        a = number();
        done(msix_engine_set_mask(engine, (uint32_t)a, (int)number()));
    } else if (!strcmp(name, "set_message")) {
        msix_message message;
        a = number();
        message.address = number();
        message.data = (uint32_t)number();
        done(msix_engine_set_message(engine, (uint32_t)a, message));
    } else if (!strcmp(name, "attach")) {
        done(msix_engine_attach(engine));
    } else if (!strcmp(name, "detach")) {
        done(msix_engine_detach(engine));
    } else if (!strcmp(name, "reset")) {
        done(msix_engine_reset(engine));
    } else if (!strcmp(name, "set_bus_master")) {
        done(msix_engine_set_bus_master(engine, (int)number()));
    } else if (!strcmp(name, "prepare_save")) {
        done(msix_engine_prepare_save(engine));
    } else if (!strcmp(name, "save")) {
        say(msix_engine_save(engine, bytes, MOST_BYTES), msix_engine_saved_len(engine));
    } else if (!strcmp(name, "save_qemu")) {
        say(msix_engine_save_qemu(engine, bytes, MOST_BYTES), msix_engine_qemu_len(engine));
    } else if (!strcmp(name, "load")) {
        b = read_bytes();
        done(msix_engine_load(engine, bytes, b));
    } else if (!strcmp(name, "load_qemu")) {
        a = number();
        b = read_bytes();
        done(msix_engine_load_qemu(engine, (uint16_t)a, bytes, b));
    } else if (!strcmp(name, "resume")) {
        done(msix_engine_resume(engine));
    } else if (!strcmp(name, "is_attached")) {
        say(msix_engine_is_attached(engine), 0);
    } else if (!strcmp(name, "is_loading")) {
        say(msix_engine_is_loading(engine), 0);
    } else if (!strcmp(name, "is_fallback")) {
        say(msix_engine_is_fallback(engine, (uint32_t)number()), 0);
    } else if (!strcmp(name, "exclusive_bar")) {
        lay_out();
    } else if (!strcmp(name, "check_layout")) {
        check_layout();
    } else if (!strcmp(name, "new")) {
        const char *policy;
        a = number();
        policy = strtok(NULL, " ");
        say(make((uint32_t)a, policy ? policy : "SPEC", (int)number()), 0);
    } else {
        die("an unknown command");
    }
}

int main(void)
{
    char *line;
    if (msix_version() != MSIX_VERSION) {
        die("the library is not of the header's version");
    }
    while ((line = next_line()) != NULL) {
        const char *name = strtok(line, " ");
        if (!name) {
            die("an empty line");
        }
        command(name);
    }
    return 0;
}
