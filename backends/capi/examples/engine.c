/* The smallest embedding: an engine of four vectors in static memory, with callbacks.
 *
 *   cc engine.c $(pkg-config --cflags --libs msix) -o engine && ./engine
 */
#include <msix.h>
#include <stdio.h>

static void send(void *opaque, uint32_t vector, msix_message message)
{
    (void)opaque;
    printf("vector %u: write %#x to %#llx\n", (unsigned)vector, (unsigned)message.data,
           (unsigned long long)message.address);
}

int main(void)
{
    static _Alignas(MSIX_ENGINE_ALIGN) unsigned char memory[MSIX_ENGINE_SIZE(4)];
    static const unsigned char enable[2] = { 0x00, 0x80 };
    static const unsigned char entry[16] = { 0x00, 0x10, 0xe0, 0xfe, 0, 0, 0, 0, 0x23 };
    msix_host_ops ops = { .size = sizeof ops, .send = send };
    msix_engine_config config = { .size = sizeof config, .ops = &ops };
    msix_engine *engine;
    unsigned at;
    int error;

    msix_layout_exclusive_bar(&config.layout, 4, 1, NULL);
    msix_policy_init(&config.policy, MSIX_POLICY_NAME_SPEC);
    error = msix_engine_init(memory, sizeof memory, &config, &engine);
    if (error) {
        fprintf(stderr, "%s\n", msix_strerror(error));
        return 1;
    }
    msix_engine_claim(engine, 0);                  /* the device will raise vector 0 */
    msix_engine_write_config(engine, 2, enable, 2); /* the guest sets MSI-X Enable, */
    for (at = 0; at < 16; at += 4) {               /* programs vector 0 and unmasks it */
        msix_engine_write_table(engine, at, entry + at, 4);
    }
    return msix_engine_notify(engine, 0) != MSIX_DELIVERY_SENT; /* the device has an event */
}
