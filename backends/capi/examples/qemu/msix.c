/*
 * QEMU's MSI-X interface (include/hw/pci/msix.h of QEMU 7.2) on the engine, in place of hw/pci/msix.c.
 *
 * SPDX-License-Identifier: MIT
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
 * associated documentation files (the "Software"), to deal in the Software without restriction, including
 * without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
 * copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the
 * following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or substantial
 * portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
 * LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO
 * EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER
 * IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR
 * THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */

#include "qemu/osdep.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci.h"
#include "migration/qemu-file-types.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/error-report.h"
#include "qemu/memalign.h"
#include "qemu/range.h"
#include "sysemu/runstate.h"

#include <msix.h>

/* The byte of the capability with MSI-X Enable and Function Mask. */
#define CONTROL_BYTE (PCI_MSIX_FLAGS + 1)
#define CONTROL_ENABLE (PCI_MSIX_FLAGS_ENABLE >> 8)
#define CONTROL_MASK (PCI_MSIX_FLAGS_MASKALL >> 8)

/* The MSI-X of a device. Its `msix_table` points here. */
typedef struct Msix {
    PCIDevice *dev;
    struct msix_engine *engine;
    /* The vectors that the device's notifier took. */
    unsigned long *taken;
    /* Vectors to send once the engine has returned: a message may be aimed at a table. */
    GArray *outbox;
    /* They are being sent, or must wait until the engine has returned. */
    bool waits;
    /* It does what the original did: what was loaded is in force at once, and the bus drops messages while
     * the device may not master it. Otherwise the engine waits until the guest runs and the bus is there. */
    bool as_original;
    /* The first failure of a notifier since it was last looked at. */
    int failure;
    VMChangeStateEntry *run_state;
} Msix;

static Msix *msix_of(const PCIDevice *dev)
{
    return (Msix *)(void *)dev->msix_table;
}

/* What every input ends with: its messages are sent. A message may cause another input. */
static void after_input(Msix *msix, int result)
{
    if (result < 0) {
        error_report("%s: MSI-X: %s", msix->dev->name, msix_strerror(result));
    }
    if (msix->waits) {
        return;
    }
    msix->waits = true;
    for (guint i = 0; i < msix->outbox->len; i++) {
        msi_send_message(msix->dev, g_array_index(msix->outbox, MSIMessage, i));
    }
    g_array_set_size(msix->outbox, 0);
    msix->waits = false;
}

/* ---- What the engine asks for ---- */

static void on_send(void *opaque, uint32_t vector, struct msix_message message)
{
    Msix *msix = opaque;
    MSIMessage msg = msix_get_message(msix->dev, vector);

    g_array_append_val(msix->outbox, msg);
}

static int on_arm(void *opaque, uint32_t vector, struct msix_message message)
{
    Msix *msix = opaque;
    PCIDevice *dev = msix->dev;
    int failed = dev->msix_vector_use_notifier(dev, vector, msix_get_message(dev, vector));

    if (failed >= 0) {
        set_bit(vector, msix->taken);
        return 0;
    }
    if (!msix->failure) {
        msix->failure = failed;
    }
    return failed;
}

static void on_disarm(void *opaque, uint32_t vector)
{
    Msix *msix = opaque;

    if (test_and_clear_bit(vector, msix->taken)) {
        msix->dev->msix_vector_release_notifier(msix->dev, vector);
    }
}

static uint64_t on_poll(void *opaque, uint32_t first, uint64_t vectors)
{
    Msix *msix = opaque;
    PCIDevice *dev = msix->dev;

    bool waited = msix->waits;

    if (dev->msix_vector_poll_notifier) {
        /* It calls msix_set_pending() for those that have events. */
        msix->waits = true;
        dev->msix_vector_poll_notifier(dev, first, MIN(first + 64, dev->msix_entries_nr));
        msix->waits = waited;
    }
    return 0;
}

static void on_intx_deassert(void *opaque)
{
    Msix *msix = opaque;

    pci_device_deassert_intx(msix->dev);
}

static const struct msix_host_ops host_ops = {
    .size = sizeof(struct msix_host_ops),
    .send = on_send,
    .arm = on_arm,
    .disarm = on_disarm,
    .poll = on_poll,
    .intx_deassert = on_intx_deassert,
};

/* ---- The table and the PBA in the device's BARs ---- */

static uint64_t table_read(void *opaque, hwaddr addr, unsigned size)
{
    Msix *msix = opaque;
    uint64_t value = 0;

    msix_engine_read_table(msix->engine, addr, &value, size);
    return le64_to_cpu(value);
}

static void table_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    Msix *msix = opaque;

    value = cpu_to_le64(value);
    after_input(msix, msix_engine_write_table(msix->engine, addr, &value, size));
}

static uint64_t pba_read(void *opaque, hwaddr addr, unsigned size)
{
    Msix *msix = opaque;
    uint64_t value = 0;

    after_input(msix, msix_engine_poll_pba(msix->engine, addr, size));
    msix_engine_read_pba(msix->engine, addr, &value, size);
    return le64_to_cpu(value);
}

static void pba_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    Msix *msix = opaque;

    value = cpu_to_le64(value);
    msix_engine_write_pba(msix->engine, addr, &value, size);
}

/* Every aligned access comes here: which are carried out is the engine's policy. QEMU splits the others. */
#define ANY_ACCESS { .min_access_size = 1, .max_access_size = 8 }

static const MemoryRegionOps table_ops = {
    .read = table_read,
    .write = table_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = ANY_ACCESS,
    .impl = ANY_ACCESS,
};

static const MemoryRegionOps pba_ops = {
    .read = pba_read,
    .write = pba_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = ANY_ACCESS,
    .impl = ANY_ACCESS,
};

/* ---- Making and removing it ---- */

/* The guest goes on, and with it what was loaded. */
static void on_run_state(void *opaque, bool running, RunState state)
{
    Msix *msix = opaque;

    if (running) {
        after_input(msix, msix_engine_resume(msix->engine));
    }
}

static MSIMessage engine_message(PCIDevice *dev, unsigned vector)
{
    struct msix_message message = { 0 };

    msix_engine_message(msix_of(dev)->engine, vector, &message);
    return (MSIMessage) { .address = message.address, .data = message.data };
}

static void follow_bus_master(Msix *msix)
{
    int on = !!(pci_get_word(msix->dev->config + PCI_COMMAND) & PCI_COMMAND_MASTER);

    if (!msix->as_original) {
        after_input(msix, msix_engine_set_bus_master(msix->engine, on));
    }
}

static int make(Msix *msix, const struct msix_layout *layout, Error **errp)
{
    size_t size = msix_engine_size(layout->vectors);
    const char *policy = getenv("MSIX_POLICY");
    struct msix_engine_config config = {
        .size = sizeof(config),
        .layout = *layout,
        .ops = &host_ops,
        .opaque = msix,
    };
    void *memory;
    int result;

    msix->as_original = !policy || strcmp(policy, "spec");
    msix_policy_init(&config.policy, msix->as_original ? MSIX_POLICY_NAME_QEMU : MSIX_POLICY_NAME_SPEC);
    if (size == 0) {
        error_setg(errp, "MSI-X with %u vectors", layout->vectors);
        return -EINVAL;
    }
    memory = qemu_memalign(msix_engine_align(), size);
    result = msix_engine_init(memory, size, &config, &msix->engine);
    if (result < 0) {
        error_setg(errp, "MSI-X: %s", msix_strerror(result));
        qemu_vfree(memory);
        return -EINVAL;
    }
    msix->taken = bitmap_new(layout->vectors);
    msix->outbox = g_array_new(false, false, sizeof(MSIMessage));
    return 0;
}

static void destroy(Msix *msix)
{
    g_array_free(msix->outbox, true);
    g_free(msix->taken);
    qemu_vfree(msix->engine); /* which begins where its memory does */
    g_free(msix);
}

int msix_init(PCIDevice *dev, unsigned short nentries, MemoryRegion *table_bar, uint8_t table_bar_nr,
              unsigned table_offset, MemoryRegion *pba_bar, uint8_t pba_bar_nr, unsigned pba_offset,
              uint8_t cap_pos, Error **errp)
{
    struct msix_layout layout = {
        .vectors = nentries,
        .table_bar = table_bar_nr,
        .pba_bar = pba_bar_nr,
        .table_offset = table_offset,
        .pba_offset = pba_offset,
    };
    Msix *msix;
    int cap;

    if (!msi_nonbroken) {
        error_setg(errp, "this machine's interrupt controller takes no messages");
        return -ENOTSUP;
    }
    msix = g_new0(Msix, 1);
    msix->dev = dev;
    if (make(msix, &layout, errp) < 0) {
        g_free(msix);
        return -EINVAL;
    }
    cap = pci_add_capability(dev, PCI_CAP_ID_MSIX, cap_pos, MSIX_CAP_LENGTH, errp);
    if (cap < 0) {
        destroy(msix);
        return cap;
    }
    msix_engine_read_config(msix->engine, PCI_MSIX_FLAGS, dev->config + cap + PCI_MSIX_FLAGS,
                            MSIX_CAP_LENGTH - PCI_MSIX_FLAGS);
    dev->wmask[cap + CONTROL_BYTE] |= CONTROL_ENABLE | CONTROL_MASK;
    dev->msix_cap = cap;
    dev->cap_present |= QEMU_PCI_CAP_MSIX;
    dev->msix_entries_nr = nentries;
    dev->msix_prepare_message = engine_message;
    /* Some devices look whether these are there. */
    dev->msix_table = dev->msix_pba = (uint8_t *)msix;
    dev->msix_entry_used = (unsigned *)(void *)msix;

    memory_region_init_io(&dev->msix_table_mmio, OBJECT(dev), &table_ops, msix, "msix-table",
                          nentries * PCI_MSIX_ENTRY_SIZE);
    memory_region_add_subregion(table_bar, table_offset, &dev->msix_table_mmio);
    memory_region_init_io(&dev->msix_pba_mmio, OBJECT(dev), &pba_ops, msix, "msix-pba",
                          DIV_ROUND_UP(nentries, 64) * 8);
    memory_region_add_subregion(pba_bar, pba_offset, &dev->msix_pba_mmio);
    msix->run_state = qemu_add_vm_change_state_handler(on_run_state, msix);
    return 0;
}

int msix_init_exclusive_bar(PCIDevice *dev, unsigned short nentries, uint8_t bar_nr, Error **errp)
{
    struct msix_layout layout;
    g_autofree char *name = g_strdup_printf("%s-msix", dev->name);
    uint64_t size;
    int result = msix_layout_exclusive_bar(&layout, nentries, bar_nr, &size);

    if (result < 0) {
        error_setg(errp, "MSI-X: %s", msix_strerror(result));
        return -EINVAL;
    }
    memory_region_init(&dev->msix_exclusive_bar, OBJECT(dev), name, size);
    result = msix_init(dev, nentries, &dev->msix_exclusive_bar, bar_nr, layout.table_offset,
                       &dev->msix_exclusive_bar, bar_nr, layout.pba_offset, 0, errp);
    if (result == 0) {
        pci_register_bar(dev, bar_nr, PCI_BASE_ADDRESS_SPACE_MEMORY, &dev->msix_exclusive_bar);
    }
    return result;
}

void msix_uninit(PCIDevice *dev, MemoryRegion *table_bar, MemoryRegion *pba_bar)
{
    Msix *msix = msix_of(dev);

    if (!msix_present(dev)) {
        return;
    }
    qemu_del_vm_change_state_handler(msix->run_state);
    pci_del_capability(dev, PCI_CAP_ID_MSIX, MSIX_CAP_LENGTH);
    memory_region_del_subregion(pba_bar, &dev->msix_pba_mmio);
    memory_region_del_subregion(table_bar, &dev->msix_table_mmio);
    dev->cap_present &= ~QEMU_PCI_CAP_MSIX;
    dev->msix_cap = 0;
    dev->msix_entries_nr = 0;
    dev->msix_prepare_message = NULL;
    dev->msix_table = dev->msix_pba = NULL;
    dev->msix_entry_used = NULL;
    destroy(msix);
}

void msix_uninit_exclusive_bar(PCIDevice *dev)
{
    msix_uninit(dev, &dev->msix_exclusive_bar, &dev->msix_exclusive_bar);
}

/* ---- What the guest does to config space, and resets ---- */

void msix_write_config(PCIDevice *dev, uint32_t address, uint32_t val, int len)
{
    Msix *msix = msix_of(dev);
    unsigned control = dev->msix_cap + CONTROL_BYTE;

    if (!msix_present(dev)) {
        return;
    }
    if (ranges_overlap(address, len, PCI_COMMAND, 2)) {
        follow_bus_master(msix);
    }
    if (range_covers_byte(address, len, control)) {
        /* QEMU has masked what was written. */
        after_input(msix, msix_engine_write_config(msix->engine, CONTROL_BYTE, &dev->config[control], 1));
    }
}

void msix_reset(PCIDevice *dev)
{
    Msix *msix = msix_of(dev);

    if (!msix_present(dev)) {
        return;
    }
    after_input(msix, msix_engine_reset(msix->engine));
    follow_bus_master(msix);
    dev->config[dev->msix_cap + CONTROL_BYTE] &= ~(CONTROL_ENABLE | CONTROL_MASK);
}

/* ---- Queries ---- */

int msix_present(PCIDevice *dev)
{
    return dev->cap_present & QEMU_PCI_CAP_MSIX;
}

/* By config space, which is loaded before MSI-X is. */
int msix_enabled(PCIDevice *dev)
{
    return msix_present(dev) && (dev->config[dev->msix_cap + CONTROL_BYTE] & CONTROL_ENABLE);
}

unsigned int msix_nr_vectors_allocated(const PCIDevice *dev)
{
    return dev->msix_entries_nr;
}

bool msix_is_masked(PCIDevice *dev, unsigned vector)
{
    return !msix_enabled(dev) || msix_engine_is_masked(msix_of(dev)->engine, vector) != 0;
}

MSIMessage msix_get_message(PCIDevice *dev, unsigned vector)
{
    return dev->msix_prepare_message(dev, vector);
}

/* ---- What the device does ---- */

void msix_vector_use(PCIDevice *dev, unsigned vector)
{
    if (msix_present(dev)) {
        after_input(msix_of(dev), msix_engine_claim(msix_of(dev)->engine, vector));
    }
}

void msix_vector_unuse(PCIDevice *dev, unsigned vector)
{
    if (msix_present(dev)) {
        after_input(msix_of(dev), msix_engine_unclaim(msix_of(dev)->engine, vector));
    }
}

void msix_unuse_all_vectors(PCIDevice *dev)
{
    if (msix_present(dev)) {
        after_input(msix_of(dev), msix_engine_unclaim_all(msix_of(dev)->engine));
    }
}

void msix_notify(PCIDevice *dev, unsigned vector)
{
    if (msix_present(dev)) {
        after_input(msix_of(dev), msix_engine_notify(msix_of(dev)->engine, vector));
    }
}

void msix_set_pending(PCIDevice *dev, unsigned vector)
{
    after_input(msix_of(dev), msix_engine_set_pending(msix_of(dev)->engine, vector));
}

void msix_clr_pending(PCIDevice *dev, int vector)
{
    after_input(msix_of(dev), msix_engine_withdraw(msix_of(dev)->engine, vector));
}

void msix_set_mask(PCIDevice *dev, int vector, bool mask)
{
    after_input(msix_of(dev), msix_engine_set_mask(msix_of(dev)->engine, vector, mask));
}

void msix_set_message(PCIDevice *dev, int vector, MSIMessage msg)
{
    struct msix_message message = { .address = msg.address, .data = msg.data };

    after_input(msix_of(dev), msix_engine_set_message(msix_of(dev)->engine, vector, message));
}

/* ---- A host that delivers by itself ---- */

int msix_set_vector_notifiers(PCIDevice *dev, MSIVectorUseNotifier use_notifier,
                              MSIVectorReleaseNotifier release_notifier,
                              MSIVectorPollNotifier poll_notifier)
{
    Msix *msix = msix_of(dev);
    int failed;

    dev->msix_vector_use_notifier = use_notifier;
    dev->msix_vector_release_notifier = release_notifier;
    dev->msix_vector_poll_notifier = poll_notifier;
    msix->failure = 0;
    after_input(msix, msix_engine_attach(msix->engine));
    failed = msix->failure;
    if (failed) {
        msix_unset_vector_notifiers(dev);
    }
    return failed;
}

void msix_unset_vector_notifiers(PCIDevice *dev)
{
    Msix *msix = msix_of(dev);

    after_input(msix, msix_engine_detach(msix->engine));
    dev->msix_vector_use_notifier = NULL;
    dev->msix_vector_release_notifier = NULL;
    dev->msix_vector_poll_notifier = NULL;
}

/* ---- Migration ---- */

void msix_save(PCIDevice *dev, QEMUFile *f)
{
    Msix *msix = msix_of(dev);
    g_autofree uint8_t *bytes = NULL;
    size_t len;

    if (!msix_present(dev)) {
        return;
    }
    after_input(msix, msix_engine_prepare_save(msix->engine));
    len = msix_engine_qemu_len(msix->engine);
    bytes = g_malloc0(len);
    msix_engine_save_qemu(msix->engine, bytes, len);
    qemu_put_buffer(f, bytes, len);
}

static int load(PCIDevice *dev, QEMUFile *f)
{
    Msix *msix = msix_of(dev);
    g_autofree uint8_t *bytes = NULL;
    size_t len;
    int result;

    if (!msix_present(dev)) {
        return 0;
    }
    len = msix_engine_qemu_len(msix->engine);
    bytes = g_malloc0(len);
    if (qemu_get_buffer(f, bytes, len) != len) {
        return -EINVAL;
    }
    result = msix_engine_load_qemu(msix->engine,
                                   pci_get_word(dev->config + dev->msix_cap + PCI_MSIX_FLAGS), bytes, len);
    after_input(msix, result);
    follow_bus_master(msix);
    if (result >= 0 && msix->as_original) {
        after_input(msix, msix_engine_resume(msix->engine));
    }
    return result < 0 ? -EINVAL : 0;
}

void msix_load(PCIDevice *dev, QEMUFile *f)
{
    load(dev, f); /* which has reported what is wrong, for a caller that asks nothing */
}

static int put(QEMUFile *f, void *pv, size_t size, const VMStateField *field, JSONWriter *vmdesc)
{
    msix_save(pv, f);
    return 0;
}

static int get(QEMUFile *f, void *pv, size_t size, const VMStateField *field)
{
    return load(pv, f);
}

static const VMStateInfo vmstate_info_engine = {
    .name = "msix engine",
    .get = get,
    .put = put,
};

const VMStateDescription vmstate_msix = {
    .name = "msix",
    .fields = (VMStateField[]) {
        {
            .name = "msix",
            .info = &vmstate_info_engine,
            .flags = VMS_SINGLE,
        },
        VMSTATE_END_OF_LIST()
    }
};
