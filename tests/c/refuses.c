/* What the interface refuses: null pointers, misaligned memory, wrong sizes, unknown values, memory that is no
 * engine, inputs from inside a callback. It is C11 and C++17 at once; nothing is printed when all is well.
 */
#include "msix.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(wanted, got)                                                                         \
    do {                                                                                            \
        long want = (long)(wanted), have = (long)(got);                                             \
        if (want != have) {                                                                         \
            fprintf(stderr, "line %d: %s is %ld, not %ld\n", __LINE__, #got, have, want);           \
            exit(1);                                                                                \
        }                                                                                           \
    } while (0)

enum { VECTORS = 65 };

static union {
    uint64_t aligned[MSIX_ENGINE_SIZE(VECTORS) / 8 + 2];
    unsigned char bytes[MSIX_ENGINE_SIZE(VECTORS)];
} memory, copy;
static msix_engine *engine;
static int sent, failed;

static msix_engine_config config_of(uint32_t vectors)
{
    msix_engine_config config;
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    msix_layout_exclusive_bar(&config.layout, vectors, 0, NULL);
    EXPECT(0, msix_policy_init(&config.policy, MSIX_POLICY_NAME_SPEC));
    return config;
}

static void made_wrongly(void)
{
    msix_engine_config config = config_of(VECTORS);
    msix_host_ops ops;
    size_t size = msix_engine_size(VECTORS);
    memset(&ops, 0, sizeof ops);
    EXPECT(1, size <= sizeof memory.bytes);
    EXPECT(0, sizeof memory % msix_engine_align());

    EXPECT(MSIX_ERROR_NULL, msix_engine_init(NULL, size, &config, &engine));
    EXPECT(MSIX_ERROR_NULL, msix_engine_init(&memory, size, NULL, &engine));
    EXPECT(MSIX_ERROR_NULL, msix_engine_init(&memory, size, &config, NULL));
    EXPECT(MSIX_ERROR_MISALIGNED, msix_engine_init(memory.bytes + 1, size, &config, &engine));
    EXPECT(MSIX_ERROR_MISALIGNED,
           msix_engine_init(&memory, size, (msix_engine_config *)(void *)(copy.bytes + 1), &engine));
    EXPECT(MSIX_ERROR_SIZE, msix_engine_init(&memory, size - 1, &config, &engine));
    EXPECT(MSIX_ERROR_SIZE, msix_engine_init(&memory, 0, &config, &engine));
    EXPECT(MSIX_ERROR_SIZE, msix_engine_init(&memory, (size_t)-1, &config, &engine));
    config.size--;
    EXPECT(MSIX_ERROR_SIZE, msix_engine_init(&memory, size, &config, &engine));
    config.size++;

    config.policy.intx = 2;
    EXPECT(MSIX_ERROR_VALUE, msix_engine_init(&memory, size, &config, &engine));
    config.policy.intx = 0;
    config.policy.drain = 2;
    EXPECT(MSIX_ERROR_VALUE, msix_engine_init(&memory, size, &config, &engine));
    config.policy.drain = 1;
    config.policy.reserved = 1;
    EXPECT(MSIX_ERROR_VALUE, msix_engine_init(&memory, size, &config, &engine));
    config.policy.reserved = 0;
    EXPECT(MSIX_ERROR_VALUE, msix_policy_init(&config.policy, 2));
    EXPECT(MSIX_ERROR_NULL, msix_policy_init(NULL, 0));

    config.ops = &ops;
    EXPECT(MSIX_ERROR_SIZE, msix_engine_init(&memory, size, &config, &engine));
    ops.size = sizeof ops;
    EXPECT(MSIX_ERROR_NULL, msix_engine_init(&memory, size, &config, &engine)); /* no send */
    EXPECT(1, engine == NULL);
}

static void laid_out_wrongly(void)
{
    static const uint64_t sizes[6] = { 4096, 0, 0, 0, 0, 0 };
    msix_layout layout;
    uint64_t inside;
    EXPECT(MSIX_ERROR_LAYOUT_VECTORS, msix_layout_exclusive_bar(&layout, 0, 0, NULL));
    EXPECT(MSIX_ERROR_LAYOUT_VECTORS, msix_layout_exclusive_bar(&layout, 2049, 0, NULL));
    EXPECT(MSIX_ERROR_LAYOUT_BAR, msix_layout_exclusive_bar(&layout, 1, 6, NULL));
    EXPECT(MSIX_ERROR_LAYOUT_BAR, msix_layout_exclusive_bar(&layout, 1, 256, NULL));
    EXPECT(MSIX_ERROR_NULL, msix_layout_exclusive_bar(NULL, 1, 0, NULL));
    EXPECT(0, msix_layout_exclusive_bar(&layout, 4, 0, NULL));
    EXPECT(0, msix_layout_check(&layout, sizes));
    EXPECT(MSIX_REGION_PBA, msix_layout_locate(&layout, 0, 0x803, &inside));
    EXPECT(3, inside);
    EXPECT(MSIX_REGION_NONE, msix_layout_locate(&layout, 1, 0, &inside));
    EXPECT(MSIX_ERROR_NULL, msix_layout_locate(&layout, 0, 0, NULL));
    layout.pba_offset = 0x804;
    EXPECT(MSIX_ERROR_LAYOUT_MISALIGNED, msix_layout_check(&layout, sizes));
    layout.pba_offset = 0x20;
    EXPECT(MSIX_ERROR_LAYOUT_OVERLAP, msix_layout_check(&layout, sizes));
    layout.pba_offset = 0x1000;
    EXPECT(MSIX_ERROR_LAYOUT_OUTSIDE_BAR, msix_layout_check(&layout, sizes));
    EXPECT(0, msix_layout_check(&layout, NULL)); /* offsets and vectors alone */
    layout.pba_offset = UINT64_C(1) << 32;
    EXPECT(MSIX_ERROR_LAYOUT_OFFSET, msix_layout_check(&layout, NULL));
    EXPECT(MSIX_ERROR_NULL, msix_layout_check(NULL, sizes));
}

static void not_an_engine(void)
{
    unsigned char bytes[4] = { 0, 0, 0, 0 };
    msix_engine *moved = (msix_engine *)(void *)&copy;
    EXPECT(MSIX_ERROR_NULL, msix_engine_notify(NULL, 0));
    EXPECT(MSIX_ERROR_NULL, msix_engine_write_table(NULL, 0, bytes, 4));
    EXPECT(MSIX_ERROR_NULL, msix_engine_is_masked(NULL, 0));
    EXPECT(0, msix_engine_saved_len(NULL));
    EXPECT(MSIX_ERROR_MISALIGNED, msix_engine_notify((msix_engine *)(void *)(memory.bytes + 1), 0));
    memcpy(&copy, &memory, sizeof copy);
    EXPECT(MSIX_ERROR_NOT_INITIALIZED, msix_engine_notify(moved, 0));
    memset(&copy, 0, sizeof copy);
    EXPECT(MSIX_ERROR_NOT_INITIALIZED, msix_engine_reset(moved));
    EXPECT(0, msix_engine_qemu_len(moved));
}

static void wrong_arguments(void)
{
    unsigned char bytes[8];
    msix_message message = { 0, 0 };
    msix_counters counters;
    msix_effect effect;
    size_t taken;
    EXPECT(MSIX_ERROR_VECTOR, msix_engine_notify(engine, VECTORS));
    EXPECT(MSIX_ERROR_VECTOR, msix_engine_notify(engine, 0x10000)); /* not truncated to vector 0 */
    EXPECT(MSIX_ERROR_VECTOR, msix_engine_claims(engine, UINT32_MAX));
    EXPECT(MSIX_ERROR_VECTOR, msix_engine_set_message(engine, VECTORS, message));
    EXPECT(MSIX_ERROR_VECTOR, msix_engine_set_pending(engine, VECTORS));
    EXPECT(MSIX_ERROR_VECTOR, msix_engine_report_failed(engine, VECTORS));
    EXPECT(MSIX_ERROR_VALUE, msix_engine_report_held(engine, 1, 1));
    EXPECT(MSIX_ERROR_VECTOR, msix_engine_report_held(engine, 128, 1));
    EXPECT(MSIX_ERROR_NULL, msix_engine_message(engine, 0, NULL));
    EXPECT(MSIX_ERROR_MISALIGNED, msix_engine_message(engine, 0, (msix_message *)(void *)(copy.bytes + 1)));
    EXPECT(MSIX_ERROR_NULL, msix_engine_read_table(engine, 0, NULL, 4));
    EXPECT(MSIX_ERROR_NULL, msix_engine_write_table(engine, 0, NULL, 4));
    EXPECT(MSIX_ERROR_SIZE, msix_engine_write_table(engine, 0, bytes, (size_t)-1));
    EXPECT(MSIX_ACCESS_UNSUPPORTED, msix_engine_write_table(engine, 0, NULL, 0));
    EXPECT(MSIX_ERROR_NULL, msix_engine_read_config(engine, 0, NULL, 1));
    EXPECT(MSIX_ACCESS_OUT_OF_RANGE, msix_engine_read_table(engine, UINT64_MAX, bytes, 8));
    EXPECT(0xff, bytes[7]);
    EXPECT(MSIX_ERROR_SIZE, msix_engine_counters(engine, &counters, sizeof counters - 1));
    EXPECT(MSIX_ERROR_NULL, msix_engine_counters(engine, NULL, sizeof counters));
    EXPECT(MSIX_ERROR_NULL, msix_engine_take_effects(engine, &effect, 1, NULL));
    EXPECT(MSIX_ERROR_NULL, msix_engine_take_effects(engine, NULL, 1, &taken));
    EXPECT(0, msix_engine_check(engine));
}

static void snapshots(void)
{
    static unsigned char saved[4096];
    size_t len = msix_engine_saved_len(engine), field = msix_engine_qemu_len(engine);
    EXPECT(0, msix_engine_prepare_save(engine));
    EXPECT(MSIX_ERROR_SIZE, msix_engine_save(engine, saved, len - 1));
    EXPECT(MSIX_ERROR_NULL, msix_engine_save(engine, NULL, len));
    EXPECT(0, msix_engine_save(engine, saved, sizeof saved));
    EXPECT(MSIX_ERROR_LOAD_LENGTH, msix_engine_load(engine, saved, len - 1));
    EXPECT(MSIX_ERROR_LOAD_LENGTH, msix_engine_load(engine, NULL, 0));
    saved[20] ^= 1;
    EXPECT(MSIX_ERROR_LOAD_CHECKSUM, msix_engine_load(engine, saved, len));
    saved[20] ^= 1;
    saved[0] = 0;
    EXPECT(MSIX_ERROR_LOAD_MAGIC, msix_engine_load(engine, saved, len));
    saved[0] = 'M';
    EXPECT(0, msix_engine_load(engine, saved, len));
    EXPECT(1, msix_engine_is_loading(engine));
    EXPECT(0, msix_engine_resume(engine));
    EXPECT(0, msix_engine_save_qemu(engine, saved, field));
    EXPECT(MSIX_ERROR_LOAD_VECTORS, msix_engine_load_qemu(engine, 0, saved, field));
    EXPECT(MSIX_ERROR_LOAD_RESERVED_CONTROL,
           msix_engine_load_qemu(engine, 0x2000 | (VECTORS - 1), saved, field));
    saved[field - 1] = 0xfe;
    EXPECT(MSIX_ERROR_LOAD_PBA_TAIL, msix_engine_load_qemu(engine, VECTORS - 1, saved, field));
}

/* A guest with a message that is aimed at its own table: the write comes while the send is made. */
static void send(void *opaque, uint32_t vector, msix_message message)
{
    unsigned char masked[4] = { 1, 0, 0, 0 };
    size_t taken;
    EXPECT(1, opaque == &sent);
    EXPECT(0, message.address);
    EXPECT(0, msix_engine_is_pending(engine, vector));
    EXPECT(MSIX_ACCESS_DONE, msix_engine_read_table(engine, 12, masked, 4));
    EXPECT(MSIX_ERROR_BUSY, msix_engine_write_table(engine, 12, masked, 4));
    EXPECT(MSIX_ERROR_BUSY, msix_engine_notify(engine, vector));
    EXPECT(MSIX_ERROR_BUSY, msix_engine_reset(engine));
    EXPECT(MSIX_ERROR_BUSY, msix_engine_load(engine, masked, 4));
    EXPECT(MSIX_ERROR_BUSY, msix_engine_take_effects(engine, NULL, 0, &taken));
    sent++;
}

static int arm(void *opaque, uint32_t vector, msix_message message)
{
    (void)opaque;
    (void)message;
    failed++;
    return vector != 64;
}

static uint64_t poll(void *opaque, uint32_t first, uint64_t vectors)
{
    (void)opaque;
    (void)vectors;
    if (first == 0) {
        EXPECT(0, msix_engine_set_pending(engine, 3));
    }
    return UINT64_MAX; /* of which only those that were asked for count */
}

static void callbacks(void)
{
    static const unsigned char enable[1] = { 0x80 }, unmasked[4] = { 0, 0, 0, 0 };
    unsigned char pba[8];
    msix_engine_config config = config_of(VECTORS);
    msix_host_ops ops;
    unsigned vector;
    memset(&ops, 0, sizeof ops);
    ops.size = sizeof ops;
    ops.send = send;
    ops.arm = arm;
    ops.poll = poll;
    config.ops = &ops;
    config.opaque = &sent;
    EXPECT(0, msix_engine_init(&memory, sizeof memory, &config, &engine));
    EXPECT(MSIX_DELIVERY_DROPPED_UNCLAIMED, msix_engine_notify(engine, 0));
    for (vector = 0; vector < VECTORS; vector++) {
        EXPECT(0, msix_engine_claim(engine, vector));
    }
    EXPECT(0, msix_engine_attach(engine));
    EXPECT(0, msix_engine_write_config(engine, 3, enable, 1));
    EXPECT(MSIX_ACCESS_DONE, msix_engine_write_table(engine, 12, unmasked, 4));
    EXPECT(MSIX_DELIVERY_SENT, msix_engine_notify(engine, 0));
    EXPECT(1, msix_engine_is_fallback(engine, 0)); /* `arm` said no */
    EXPECT(0, msix_engine_is_masked(engine, 0));
    EXPECT(1, failed);
    EXPECT(1, sent);
    EXPECT(0, msix_engine_poll_pba(engine, 0, 8));
    EXPECT(MSIX_ACCESS_DONE, msix_engine_read_pba(engine, 0, pba, 8));
    EXPECT(0xfe, pba[0]); /* vector 0 is armed and was not asked about */
    EXPECT(0xff, pba[7]);
    EXPECT(MSIX_ACCESS_DONE, msix_engine_write_table(engine, 64 * 16 + 12, unmasked, 4));
    EXPECT(0, msix_engine_is_fallback(engine, 64));
    EXPECT(0, msix_engine_check(engine));
}

static void a_list(void)
{
    msix_engine_config config = config_of(VECTORS);
    msix_effect effects[8];
    size_t taken;
    static const unsigned char enable[1] = { 0x80 };
    EXPECT(sizeof effects / sizeof *effects, msix_engine_max_effects(VECTORS));
    EXPECT(0, msix_engine_max_effects(0));
    EXPECT(MSIX_MAX_EFFECTS, msix_engine_max_effects(2048));
    EXPECT(0, msix_engine_init(&memory, sizeof memory, &config, &engine));
    EXPECT(0, msix_engine_write_config(engine, 3, enable, 1));
    EXPECT(MSIX_ERROR_NOT_CARRIED_OUT, msix_engine_notify(engine, 0));
    EXPECT(MSIX_ERROR_NOT_CARRIED_OUT, msix_engine_set_pending(engine, 0));
    EXPECT(0, msix_engine_take_effects(engine, effects, 0, &taken));
    EXPECT(0, taken);
    EXPECT(0, msix_engine_take_effects(engine, effects, 8, &taken));
    EXPECT(1, taken);
    EXPECT(MSIX_EFFECT_KIND_INTX_DEASSERT, effects[0].kind);
    EXPECT(MSIX_DELIVERY_DROPPED_UNCLAIMED, msix_engine_notify(engine, 0));
}

static void words(void)
{
    int error;
    for (error = -1; strcmp(msix_strerror(error), "an unknown error code") != 0; error--) {
        EXPECT(1, strlen(msix_strerror(error)) > 10);
    }
    EXPECT(MSIX_ERROR_EXISTS - 1, error); /* the last one */
    EXPECT(0, strcmp(msix_strerror(0), "no error"));
    EXPECT(0, strcmp(msix_strerror(1), "no error"));
}

#ifdef __linux__
static void on_kvm(void)
{
    msix_kvm_options options = { sizeof options, MSIX_IRQCHIP_FULL, MSIX_KVM_MAX_ROUTES, 0 };
    msix_kvm_routes *routes;
    msix_kvm_function *function;
    msix_kvm_config config;
    memset(&config, 0, sizeof config);
    EXPECT(MSIX_ERROR_NULL, msix_kvm_routes_new(0, &options, NULL));
    EXPECT(MSIX_ERROR_NULL, msix_kvm_routes_new(0, NULL, &routes));
    EXPECT(MSIX_ERROR_SYSTEM, msix_kvm_routes_new(-1, &options, &routes));
    EXPECT(MSIX_ERROR_SYSTEM, msix_kvm_routes_new(0x7fffffff, &options, &routes));
    EXPECT(MSIX_ERROR_SYSTEM, msix_kvm_routes_new(2, &options, &routes)); /* no VM */
    EXPECT(1, routes == NULL);
    options.irqchip = 3;
    EXPECT(MSIX_ERROR_VALUE, msix_kvm_routes_new(2, &options, &routes));
    options.size = 1;
    EXPECT(MSIX_ERROR_SIZE, msix_kvm_routes_new(2, &options, &routes));
    EXPECT(MSIX_ERROR_NULL, msix_kvm_routes_run(NULL, 0));
    EXPECT(MSIX_ERROR_NULL, msix_kvm_function_new(NULL, &config, &function));
    EXPECT(MSIX_ERROR_NOT_INITIALIZED,
           msix_kvm_function_new((msix_kvm_routes *)(void *)&copy, &config, &function));
    EXPECT(MSIX_ERROR_NOT_INITIALIZED, msix_kvm_function_notify((msix_kvm_function *)(void *)&copy, 0));
    EXPECT(MSIX_ERROR_NULL, msix_kvm_function_reset(NULL));
    EXPECT(0, msix_kvm_function_saved_len(NULL));
    EXPECT(MSIX_ERROR_NULL, msix_kvm_function_vector_counters(NULL, NULL, 0, sizeof(msix_vector_counters)));
    msix_kvm_function_free(NULL);
    msix_kvm_routes_free(NULL);
}
#endif

int main(void)
{
    msix_engine_config config;
    made_wrongly();
    laid_out_wrongly();
    config = config_of(VECTORS);
    EXPECT(0, msix_engine_init(&memory, sizeof memory, &config, &engine));
    not_an_engine();
    wrong_arguments();
    snapshots();
    callbacks();
    a_list();
    words();
#ifdef __linux__
    on_kvm();
#endif
    return 0;
}
