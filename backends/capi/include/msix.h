/* MSI-X engine for hypervisors and firmware, version 0.1.
 *
 * Licence: Apache-2.0 OR MIT, at your choice. Made by cbindgen from the Rust sources: do not edit.
 *
 * This is the interrupt side of one PCI function as a state machine. Guest accesses, events of the device
 * and answers of the host go in ("inputs"); what the host must do comes out ("effects"). The engine does no
 * I/O, allocates nothing, and does a bounded amount of work for an input. The rules behind every line are in
 * core/RULES.md of the project.
 *
 * Words
 *   claim    the device says that it will raise a vector; events of a vector without a claim are dropped
 *   pending  an event waits until its message may be sent; the guest reads this bit in the PBA
 *   send     one message is to be sent, now, by the caller
 *   arm      the host is to deliver a vector's events by itself from now on, for instance by an irqfd
 *   held     an event that the host keeps for a vector it does not deliver, such as an eventfd's counter
 *
 * Units. Offsets and lengths are bytes. Vectors are numbered from 0. The bytes of a guest's access are in the
 * guest's order, which for PCI is little-endian: on a little-endian machine the address of an integer will do.
 *
 * Errors. A function that returns int returns 0 or an answer that is not negative, or one of enum msix_error,
 * which is negative; then nothing was changed. "Those of an input" are MSIX_ERROR_NULL,
 * MSIX_ERROR_MISALIGNED and MSIX_ERROR_NOT_INITIALIZED for the engine, MSIX_ERROR_NULL and MSIX_ERROR_SIZE
 * for bytes, MSIX_ERROR_BUSY and MSIX_ERROR_NOT_CARRIED_OUT. What a guest does is never an error: the access
 * is carried out or ignored, and enum msix_access says which.
 *
 * What a caller owes. A pointer may be null or misaligned, which is answered with an error; otherwise it
 * must point to what the function says, until the function returns. An engine's memory must not be written,
 * moved or freed while the engine is used; a pointer to memory that is no engine is recognised if that can
 * be read. One engine is used by one thread at a time: hold your own lock. Two engines have nothing in common.
 *
 * Effects, by callbacks or by list. An engine made with struct msix_host_ops calls its callbacks before the
 * input returns, in the order of enum msix_effect_kind. One made without leaves the effects in a list in its
 * own memory: take them with msix_engine_take_effects() after every input and carry them out in order. An
 * input that finds some left is refused, so none is lost.
 *
 * Callbacks may call, on the same engine, every function that says so: queries such as
 * msix_engine_is_masked() and msix_engine_message(), reads, msix_engine_report_failed(), and
 * msix_engine_set_pending() or msix_engine_report_held(). These see the registers as the input left them,
 * also for vectors with effects that are still to come. Any other input returns MSIX_ERROR_BUSY and does
 * nothing, because its effects would come before those of the outer one. Do what was refused after the outer
 * call has returned: a guest may aim a message at its own table, so a `send` that writes to a bus can come
 * back here as msix_engine_write_table(). Another engine may be used at any time.
 *
 * On Linux, msix_kvm_function is a whole function on KVM, with MSI-X, MSI and a pin: it needs a library
 * with feature `kvm`, lives on the heap, and may be used by all threads of a VMM.
 *
 * Defects of the library end the process: a panic never unwinds into the caller. No input panics.
 */


#ifndef MSIX_H
#define MSIX_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header: major << 16 | minor << 8 | patch, as msix_version() returns it. */
#define MSIX_VERSION (MSIX_VERSION_MAJOR << 16 | MSIX_VERSION_MINOR << 8 | MSIX_VERSION_PATCH)

/* Bytes that are enough for an engine of n vectors, as a constant, for static memory:
 *
 *   static _Alignas(MSIX_ENGINE_ALIGN) unsigned char memory[MSIX_ENGINE_SIZE(4)];
 */
#define MSIX_ENGINE_SIZE(n) \
    (MSIX_ENGINE_FIXED_SIZE + MSIX_ENGINE_VECTOR_SIZE * (n) + MSIX_ENGINE_WORD_SIZE * (((n) + 63) / 64))

/**
 * Alignment of an engine's memory, bytes. msix_engine_align() is what is needed.
 */
#define MSIX_ENGINE_ALIGN 16

/**
 * Bytes of an engine's memory for any number of vectors: see MSIX_ENGINE_SIZE.
 */
#define MSIX_ENGINE_FIXED_SIZE 640

/**
 * Bytes of an engine's memory for every 64 vectors: see MSIX_ENGINE_SIZE.
 */
#define MSIX_ENGINE_WORD_SIZE 112

/**
 * Bytes of an engine's memory for each vector: see MSIX_ENGINE_SIZE.
 */
#define MSIX_ENGINE_VECTOR_SIZE 18

/**
 * Most effects of one input, for the largest table: 2 + 3 for every 64 vectors.
 */
#define MSIX_MAX_EFFECTS 98

/**
 * The most routes that a VM can have.
 */
#define MSIX_KVM_MAX_ROUTES 4096

/**
 * Major version of this header. A program must be linked with a library of the same one.
 */
#define MSIX_VERSION_MAJOR 0

/**
 * Minor version of this header. While the major version is 0 it must be the library's too.
 */
#define MSIX_VERSION_MINOR 1

/**
 * Patch version of this header.
 */
#define MSIX_VERSION_PATCH 0

/**
 * A policy to start from: see msix_policy_init().
 */
typedef enum msix_policy_name {
    /**
     * Strict and lossless: what the PCI Express specification asks for.
     */
    MSIX_POLICY_NAME_SPEC = 0,
    /**
     * What QEMU was observed to do, byte for byte and message for message.
     */
    MSIX_POLICY_NAME_QEMU = 1,
} msix_policy_name;

/**
 * What becomes of an event while MSI-X is disabled.
 */
typedef enum msix_while_disabled {
    /**
     * It becomes pending. SPEC and QEMU.
     */
    MSIX_WHILE_DISABLED_LATCH = 0,
    /**
     * It is dropped and counted.
     */
    MSIX_WHILE_DISABLED_DROP = 1,
    /**
     * It is left to INTx, and nothing is latched.
     */
    MSIX_WHILE_DISABLED_INTX = 2,
} msix_while_disabled;

/**
 * What becomes of pending bits when MSI-X is disabled.
 */
typedef enum msix_pending_on_disable {
    /**
     * They stay. SPEC and QEMU.
     */
    MSIX_PENDING_ON_DISABLE_KEEP = 0,
    /**
     * They are cleared and counted.
     */
    MSIX_PENDING_ON_DISABLE_DROP = 1,
} msix_pending_on_disable;

/**
 * Whether the host learns of a rewritten message of an armed vector.
 */
typedef enum msix_live_rewrite {
    /**
     * When the message is complete: never half an address. SPEC.
     */
    MSIX_LIVE_REWRITE_REROUTE = 0,
    /**
     * Not before it is armed the next time. QEMU.
     */
    MSIX_LIVE_REWRITE_IGNORE = 1,
} msix_live_rewrite;

/**
 * Which accesses to table and PBA are carried out.
 */
typedef enum msix_table_access {
    /**
     * Aligned ones of 4 or 8 bytes. SPEC.
     */
    MSIX_TABLE_ACCESS_ALIGNED = 0,
    /**
     * Every aligned 4 bytes that an access of up to 8 covers in full. QEMU.
     */
    MSIX_TABLE_ACCESS_DWORDS = 1,
} msix_table_access;

/**
 * Which bits of Vector Control besides the mask are kept.
 */
typedef enum msix_vector_control {
    /**
     * All of them. QEMU.
     */
    MSIX_VECTOR_CONTROL_VERBATIM = 0,
    /**
     * The steering tag, bits 31:16. SPEC.
     */
    MSIX_VECTOR_CONTROL_STEERING_TAG = 1,
    /**
     * None.
     */
    MSIX_VECTOR_CONTROL_MASK_ONLY = 2,
} msix_vector_control;

/**
 * Whether address bits 1:0 reach the message.
 */
typedef enum msix_message_address {
    /**
     * The message address is a multiple of 4. SPEC.
     */
    MSIX_MESSAGE_ADDRESS_ALIGNED = 0,
    /**
     * As written. QEMU.
     */
    MSIX_MESSAGE_ADDRESS_VERBATIM = 1,
} msix_message_address;

/**
 * What becomes of claims at a reset.
 */
typedef enum msix_claims_on_reset {
    /**
     * They become 0: the device must claim its vectors again.
     */
    MSIX_CLAIMS_ON_RESET_CLEAR = 0,
    /**
     * They stay. SPEC and QEMU.
     */
    MSIX_CLAIMS_ON_RESET_KEEP = 1,
} msix_claims_on_reset;

/**
 * What becomes of a pending bit when its vector could be sent and has no claim.
 */
typedef enum msix_unclaimed_pending {
    /**
     * It stays until the vector is claimed. SPEC.
     */
    MSIX_UNCLAIMED_PENDING_KEEP = 0,
    /**
     * It is cleared without a message, and counted. QEMU.
     */
    MSIX_UNCLAIMED_PENDING_LOSE = 1,
} msix_unclaimed_pending;

/**
 * What bus master off does to messages.
 */
typedef enum msix_bus_master_off {
    /**
     * It gates like a mask. SPEC.
     */
    MSIX_BUS_MASTER_OFF_LATCH = 0,
    /**
     * Vectors stay armed; messages sent by callback or list are dropped and counted. QEMU.
     */
    MSIX_BUS_MASTER_OFF_DROP_MESSAGE = 1,
} msix_bus_master_off;

/**
 * When the INTx effects are emitted.
 */
typedef enum msix_intx_rule {
    /**
     * When MSI-X Enable changes. SPEC.
     */
    MSIX_INTX_RULE_ON_CHANGE = 0,
    /**
     * Deassert at every write of the control byte that leaves MSI-X enabled, nothing else. QEMU.
     */
    MSIX_INTX_RULE_ON_EVERY_WRITE = 1,
} msix_intx_rule;

/**
 * How Multiple Message Enable of MSI reads back when it exceeds what the function is capable of.
 */
typedef enum msix_message_enable {
    /**
     * As written. SPEC.
     */
    MSIX_MESSAGE_ENABLE_AS_WRITTEN = 0,
    /**
     * Lowered to what the function is capable of. QEMU.
     */
    MSIX_MESSAGE_ENABLE_CAPPED = 1,
} msix_message_enable;

/**
 * What the host is asked to do. In every list the kinds come in this order.
 */
typedef enum msix_effect_kind {
    /**
     * Lower the INTx line: MSI-X was enabled, which prohibits INTx.
     */
    MSIX_EFFECT_KIND_INTX_DEASSERT = 0,
    /**
     * Say which of these vectors have held events, and take the events from where they are held: answer
     * with msix_engine_report_held() or msix_engine_set_pending().
     */
    MSIX_EFFECT_KIND_POLL = 1,
    /**
     * Stop delivering these. From now on the host holds their events, until they are polled or the
     * vector is armed again.
     */
    MSIX_EFFECT_KIND_DISARM = 2,
    /**
     * Throw away the held events of these.
     */
    MSIX_EFFECT_KIND_DRAIN = 3,
    /**
     * Deliver these from now on, with the messages they have now: route, then arm. Report what fails with
     * msix_engine_report_failed().
     */
    MSIX_EFFECT_KIND_ARM = 4,
    /**
     * Deliver these armed vectors with the messages they have now: they changed. Report what fails with
     * msix_engine_report_failed(), and no longer deliver it.
     */
    MSIX_EFFECT_KIND_REROUTE = 5,
    /**
     * Note that the guest wrote the entries of these; only under `snoop` of the policy.
     */
    MSIX_EFFECT_KIND_SNOOP = 6,
    /**
     * Send one message of each of these now, lowest vector first.
     */
    MSIX_EFFECT_KIND_SEND = 7,
    /**
     * Let the device drive its INTx line again, as its own status says.
     */
    MSIX_EFFECT_KIND_INTX_REEVALUATE = 8,
} msix_effect_kind;

/**
 * What became of an event.
 */
typedef enum msix_delivery {
    /**
     * The message is sent, by callback or list.
     */
    MSIX_DELIVERY_SENT = 0,
    /**
     * It is pending.
     */
    MSIX_DELIVERY_PENDING = 1,
    /**
     * The vector was pending already: one message stands for both.
     */
    MSIX_DELIVERY_COALESCED = 2,
    /**
     * MSI-X is disabled, and the event is left to INTx.
     */
    MSIX_DELIVERY_INTX = 3,
    /**
     * It was dropped: the vector has no claim. See msix_engine_claim().
     */
    MSIX_DELIVERY_DROPPED_UNCLAIMED = 4,
    /**
     * It was dropped: MSI-X is disabled, and the policy drops then.
     */
    MSIX_DELIVERY_DROPPED_DISABLED = 5,
    /**
     * It was dropped: bus master is off, and the policy drops then.
     */
    MSIX_DELIVERY_DROPPED_BUS_MASTER = 6,
} msix_delivery;

/**
 * What became of a guest's access. Nothing that a guest does is an error.
 */
typedef enum msix_access {
    /**
     * It was carried out, at least in part.
     */
    MSIX_ACCESS_DONE = 0,
    /**
     * Undefined width or alignment: ignored, and the bytes inside the structure read 0.
     */
    MSIX_ACCESS_UNSUPPORTED = 1,
    /**
     * Past the end of the structure: ignored, and reads all ones.
     */
    MSIX_ACCESS_OUT_OF_RANGE = 2,
    /**
     * A write to the PBA: ignored.
     */
    MSIX_ACCESS_READ_ONLY = 3,
} msix_access;

/**
 * A structure in a BAR.
 */
typedef enum msix_region {
    /**
     * Neither.
     */
    MSIX_REGION_NONE = 0,
    /**
     * The table.
     */
    MSIX_REGION_TABLE = 1,
    /**
     * The PBA.
     */
    MSIX_REGION_PBA = 2,
} msix_region;

/**
 * What a function returns instead of its answer: a negative number. Nothing was changed then, unless
 * the function says otherwise. msix_strerror() returns the words.
 */
typedef enum msix_error {
    /**
     * A pointer is null that must not be.
     */
    MSIX_ERROR_NULL = -1,
    /**
     * A pointer is not a multiple of the alignment of what it points to.
     */
    MSIX_ERROR_MISALIGNED = -2,
    /**
     * A length is wrong: the memory is too small, a buffer is too short, or the `size` of a struct is
     * not that of this version.
     */
    MSIX_ERROR_SIZE = -3,
    /**
     * The memory holds no engine: it was not initialised, or was moved since.
     */
    MSIX_ERROR_NOT_INITIALIZED = -4,
    /**
     * An input was called from a callback. Call it after the outer call has returned.
     */
    MSIX_ERROR_BUSY = -5,
    /**
     * Effects of the last input are still in the list. Take them and carry them out first.
     */
    MSIX_ERROR_NOT_CARRIED_OUT = -6,
    /**
     * A value is none of its enum.
     */
    MSIX_ERROR_VALUE = -7,
    /**
     * There is no such vector.
     */
    MSIX_ERROR_VECTOR = -8,
    /**
     * The vector has 65535 claims already.
     */
    MSIX_ERROR_TOO_MANY_CLAIMS = -9,
    /**
     * An invariant does not hold: a defect of this library.
     */
    MSIX_ERROR_INVARIANT = -10,
    /**
     * The vector count is not 1 to 2048.
     */
    MSIX_ERROR_LAYOUT_VECTORS = -11,
    /**
     * A BAR index is above 5.
     */
    MSIX_ERROR_LAYOUT_BAR = -12,
    /**
     * An offset is not a multiple of 8 bytes.
     */
    MSIX_ERROR_LAYOUT_MISALIGNED = -13,
    /**
     * An offset does not fit 32 bits.
     */
    MSIX_ERROR_LAYOUT_OFFSET = -14,
    /**
     * The table or the PBA ends past its BAR.
     */
    MSIX_ERROR_LAYOUT_OUTSIDE_BAR = -15,
    /**
     * Table and PBA overlap.
     */
    MSIX_ERROR_LAYOUT_OVERLAP = -16,
    /**
     * The snapshot has another length than one of this function.
     */
    MSIX_ERROR_LOAD_LENGTH = -17,
    /**
     * The bytes are not a snapshot.
     */
    MSIX_ERROR_LOAD_MAGIC = -18,
    /**
     * The snapshot has a version that this library does not know.
     */
    MSIX_ERROR_LOAD_VERSION = -19,
    /**
     * The snapshot is of a function with another number of vectors.
     */
    MSIX_ERROR_LOAD_VECTORS = -20,
    /**
     * The snapshot's checksum is wrong.
     */
    MSIX_ERROR_LOAD_CHECKSUM = -21,
    /**
     * Message Control in the snapshot has a reserved bit set.
     */
    MSIX_ERROR_LOAD_RESERVED_CONTROL = -22,
    /**
     * The PBA in the snapshot has bits set past the last vector.
     */
    MSIX_ERROR_LOAD_PBA_TAIL = -23,
    /**
     * The snapshot is of a function with other parts.
     */
    MSIX_ERROR_LOAD_FUNCTION = -24,
    /**
     * An error that this version of the interface has no code for.
     */
    MSIX_ERROR_OTHER = -25,
    /**
     * The system refused: `errno` says why.
     */
    MSIX_ERROR_SYSTEM = -26,
    /**
     * It is there already.
     */
    MSIX_ERROR_EXISTS = -27,
} msix_error;

/**
 * How a function interrupts now.
 */
typedef enum msix_mode {
    /**
     * Not at all: MSI and MSI-X are disabled or missing, and so is the pin.
     */
    MSIX_MODE_NONE = 0,
    /**
     * By its pin.
     */
    MSIX_MODE_INTX = 1,
    /**
     * By MSI.
     */
    MSIX_MODE_MSI = 2,
    /**
     * By MSI-X.
     */
    MSIX_MODE_MSIX = 3,
} msix_mode;

/**
 * The interrupt controllers that a VM has in the kernel.
 */
typedef enum msix_irqchip {
    /**
     * KVM_CREATE_IRQCHIP: their routes are kept in the table.
     */
    MSIX_IRQCHIP_FULL = 0,
    /**
     * KVM_CAP_SPLIT_IRQCHIP: local APICs alone. Give the routes of an I/O APIC in the VMM to
     * msix_kvm_routes_keep().
     */
    MSIX_IRQCHIP_SPLIT = 1,
    /**
     * Arm's GICv2 or GICv3: the routes of SPIs are kept in the table, and GSI n is SPI n, interrupt 32 + n.
     */
    MSIX_IRQCHIP_GIC = 2,
} msix_irqchip;

/**
 * Which messages of a function are interrupts. All others are writes of memory.
 */
typedef enum msix_interrupts {
    /**
     * On x86-64 those to 0xFEE00000 to 0xFEEFFFFF; elsewhere all.
     */
    MSIX_INTERRUPTS_DEFAULT = 0,
    /**
     * Those to `doorbell`, the GITS_TRANSLATER of an Arm ITS: 0x10040 behind the start of its frames. The
     * function needs `requester_id`, by which the guest's ITS knows it.
     */
    MSIX_INTERRUPTS_ITS = 1,
    /**
     * Those to the MSI_SETSPI_NS register of the GICv2m frame that begins at `doorbell`, which the VMM
     * emulates. They raise the SPIs of the frame.
     */
    MSIX_INTERRUPTS_GICV2M = 2,
} msix_interrupts;

/**
 * The MSI-X side of one PCI function. It lies in memory of the caller, begins where that begins, and must
 * not be moved or copied: make a new one and load a snapshot instead. There is nothing to free.
 */
typedef struct msix_engine msix_engine;

/**
 * A PCI function on KVM, with MSI-X, MSI and a pin, or some of them: the engine, its effects carried out on
 * a VM, and a lock around both. All its calls may be made by any thread, at the same time. Effects are
 * carried out when a call returns, but for callbacks that another thread is about to make.
 */
typedef struct msix_kvm_function msix_kvm_function;

/**
 * The one owner of a VM's route table, shared by all functions of the VM. All its calls may be made by
 * any thread.
 */
typedef struct msix_kvm_routes msix_kvm_routes;

/**
 * Vector count, and where table and PBA lie in the function's BARs.
 */
typedef struct msix_layout {
    /**
     * 1 to 2048.
     */
    uint32_t vectors;
    /**
     * The BAR of the table, 0 to 5; of a 64-bit BAR, its lower half.
     */
    uint32_t table_bar;
    /**
     * The BAR of the PBA, 0 to 5; of a 64-bit BAR, its lower half.
     */
    uint32_t pba_bar;
    /**
     * Bytes from the start of the BAR to the table, a multiple of 8. The table has 16 bytes a vector.
     */
    uint64_t table_offset;
    /**
     * Bytes from the start of the BAR to the PBA, a multiple of 8. The PBA has 8 bytes for every 64
     * vectors.
     */
    uint64_t pba_offset;
} msix_layout;

/**
 * The choices that PCI leaves open, one field for each. Let msix_policy_init() fill it in, then change
 * fields. A value that its enum does not have is refused where the policy is used.
 */
typedef struct msix_policy {
    /**
     * One of msix_while_disabled.
     */
    uint8_t while_disabled;
    /**
     * One of msix_pending_on_disable.
     */
    uint8_t pending_on_disable;
    /**
     * One of msix_live_rewrite.
     */
    uint8_t live_rewrite;
    /**
     * One of msix_table_access.
     */
    uint8_t table_access;
    /**
     * One of msix_vector_control.
     */
    uint8_t vector_control;
    /**
     * One of msix_message_address.
     */
    uint8_t message_address;
    /**
     * One of msix_claims_on_reset.
     */
    uint8_t claims_on_reset;
    /**
     * One of msix_unclaimed_pending.
     */
    uint8_t unclaimed_pending;
    /**
     * One of msix_bus_master_off.
     */
    uint8_t bus_master_off;
    /**
     * One of msix_intx_rule.
     */
    uint8_t intx;
    /**
     * One of msix_message_enable.
     */
    uint8_t message_enable;
    /**
     * 1: the host drops held events wherever the engine drops pending ones; 0: it does not.
     */
    uint8_t drain;
    /**
     * 1: a disable and a detach first poll the held events; 0: they do not.
     */
    uint8_t poll_before_disable;
    /**
     * 1: a snapshot in QEMU's encoding with PBA bits past the last vector is refused; 0: the bits are
     * ignored.
     */
    uint8_t reject_pba_tail;
    /**
     * 1: every entry that is written is reported (Xen); 0: none is.
     */
    uint8_t snoop;
    /**
     * Must be 0.
     */
    uint8_t reserved;
} msix_policy;

/**
 * What a vector writes to memory: 32 bits, `data`, at `address` of the bus master's address space.
 */
typedef struct msix_message {
    /**
     * Where to.
     */
    uint64_t address;
    /**
     * What.
     */
    uint32_t data;
} msix_message;

/**
 * The callbacks of a host, one for each kind of effect. They are called in the order of the list while
 * the input that emitted it runs; see "Callbacks" at the top of this file for what they may call.
 * `opaque` is that of the configuration. A callback must return: no longjmp(), no exception.
 *
 * `send` must be there. Each other may be null, with the meaning that its comment gives.
 */
typedef struct msix_host_ops {
    /**
     * sizeof(struct msix_host_ops).
     */
    size_t size;
    /**
     * Sends one message now. If it cannot, it must send it later: the engine has forgotten it.
     */
    void (*send)(void *opaque, uint32_t vector, struct msix_message message);
    /**
     * Attaches the host to a vector ("use notifier"): delivers its events from now on, with this message.
     * Returns 0, or anything else if it cannot; then its events must come in through
     * msix_engine_notify(), until the vector is disarmed. Null: it never can.
     */
    int (*arm)(void *opaque, uint32_t vector, struct msix_message message);
    /**
     * Changes the message of an armed vector. Returns 0, or anything else if it cannot; then it must no
     * longer deliver the vector. Null: the vector is disarmed and armed again instead.
     */
    int (*reroute)(void *opaque, uint32_t vector, struct msix_message message);
    /**
     * Detaches the host from a vector ("release notifier"): it stops to deliver the vector, and holds its
     * events until it is polled or armed again. Called for every vector that `arm` was called for, also
     * if that failed. Null: nothing.
     */
    void (*disarm)(void *opaque, uint32_t vector);
    /**
     * Ends the `arm` and `reroute` calls of one input, which come one after the other: for a host that
     * commits routes together. Report what fails with msix_engine_report_failed(). Null: nothing.
     */
    void (*commit)(void *opaque);
    /**
     * Asks which of up to 64 vectors have held events, and takes the events from where they are held. Bit
     * k of `vectors` and of the answer stands for vector `first` + k. It may call
     * msix_engine_set_pending() instead for each. Null: nothing is ever held.
     */
    uint64_t (*poll)(void *opaque, uint32_t first, uint64_t vectors);
    /**
     * Throws away the held events of a vector. Null: nothing is ever held.
     */
    void (*drain)(void *opaque, uint32_t vector);
    /**
     * Notes that the guest wrote the entry of a vector; only under `snoop` of the policy. Null: nothing.
     */
    void (*snoop)(void *opaque, uint32_t vector, struct msix_message message);
    /**
     * Lowers the INTx line. Null: the device has none.
     */
    void (*intx_deassert)(void *opaque);
    /**
     * Lets the device drive its INTx line again, as its own status says. Null: the device has none.
     */
    void (*intx_reevaluate)(void *opaque);
} msix_host_ops;

/**
 * How an engine is made.
 */
typedef struct msix_engine_config {
    /**
     * sizeof(struct msix_engine_config).
     */
    size_t size;
    /**
     * Vector count, and where table and PBA lie.
     */
    struct msix_layout layout;
    /**
     * The sizes of the six BARs, bytes, 0 for one that is not there, to check the layout against; null if
     * they are not known.
     */
    const uint64_t *bar_sizes;
    /**
     * The choices that PCI leaves open.
     */
    struct msix_policy policy;
    /**
     * Nonzero: as under Xen, messages with data that names vector 0 (bits 7:0) are exempt from both
     * masks.
     */
    uint32_t exempt_pirqs;
    /**
     * The callbacks, which are copied. Null: effects stay in a list, from which
     * msix_engine_take_effects() takes them.
     */
    const struct msix_host_ops *ops;
    /**
     * Passed to every callback.
     */
    void *opaque;
} msix_engine_config;

/**
 * Totals since the engine was made, which wrap at 2^64. Neither a reset nor a load clears them.
 *
 * Every event ends in exactly one place: it is pending, or it is counted in `sent`, `coalesced`,
 * `withdrawn`, `to_intx` or one of the `dropped` ones. A device that never claims its vectors sees all its
 * events in `dropped_unclaimed`: look there first when nothing arrives.
 */
typedef struct msix_counters {
    /**
     * Messages sent by callback or list.
     */
    uint64_t sent;
    /**
     * Events that found their pending bit set: one message stands for both.
     */
    uint64_t coalesced;
    /**
     * Pending bits cleared by msix_engine_withdraw().
     */
    uint64_t withdrawn;
    /**
     * Events while disabled that were left to INTx.
     */
    uint64_t to_intx;
    /**
     * Events of a vector without a claim, and pending bits that the last unclaim cleared.
     */
    uint64_t dropped_unclaimed;
    /**
     * Events and pending bits dropped because MSI-X was disabled, by policy.
     */
    uint64_t dropped_disabled;
    /**
     * Messages dropped because bus master was off, by policy.
     */
    uint64_t dropped_bus_master;
    /**
     * Pending bits cleared by a reset.
     */
    uint64_t dropped_reset;
    /**
     * Pending bits that a load replaced.
     */
    uint64_t dropped_load;
    /**
     * Vectors armed.
     */
    uint64_t arms;
    /**
     * Vectors disarmed.
     */
    uint64_t disarms;
    /**
     * Vectors rerouted.
     */
    uint64_t reroutes;
    /**
     * Vectors that the host reported as failed.
     */
    uint64_t failures;
} msix_counters;

/**
 * One effect, for a set of up to 64 vectors.
 */
typedef struct msix_effect {
    /**
     * Which: one of msix_effect_kind.
     */
    uint32_t kind;
    /**
     * The vector that bit 0 of `vectors` stands for: a multiple of 64.
     */
    uint32_t first;
    /**
     * The vectors: bit k stands for vector `first` + k. 0 for the INTx kinds.
     */
    uint64_t vectors;
} msix_effect;

/**
 * Counts of the events of one device vector since its function was made, for a VMM to export. A snapshot
 * does not have them, and a reset leaves them alone.
 *
 * What KVM sends is not counted: while it owns the vector's eventfd it reads the eventfd and sends by
 * itself, and nobody is told. Of these events `given` has those that msix_kvm_function_notify() wrote; KVM
 * may send one message for several. It has none of those that others write.
 */
typedef struct msix_vector_counters {
    /**
     * Events that msix_kvm_function_notify() wrote to the eventfd while KVM owned it.
     */
    uint64_t given;
    /**
     * Events that the function took itself, and those that it read from an eventfd.
     */
    uint64_t taken;
    /**
     * Those of them that became pending, or were one with an event that was.
     */
    uint64_t pending;
    /**
     * Those of them that were dropped, most often because the device had not claimed the vector.
     */
    uint64_t dropped;
    /**
     * Messages that userspace sent as this vector, by KVM_SIGNAL_MSI or as a write of memory.
     */
    uint64_t sent;
    /**
     * Messages that the kernel refused; they are sent later.
     */
    uint64_t refused;
    /**
     * How often the vector went from KVM to userspace, because a call failed.
     */
    uint64_t fallbacks;
} msix_vector_counters;

/**
 * What a function on KVM calls in the VMM. The calls are made without any lock of the library, one at a
 * time for a function, by the thread that uses a function or runs the routes. They may use every function,
 * also this one, but must not free any, nor wait for a lock that a thread holds while it uses a function.
 * A callback must return: no longjmp(), no exception.
 */
typedef struct msix_kvm_ops {
    /**
     * sizeof(struct msix_kvm_ops).
     */
    size_t size;
    /**
     * Writes 32 bits, `data`, to `address` of guest memory, as a bus master does: the guest gave a vector a
     * message that is no interrupt. It may be the address of a register. Null: such messages are lost.
     */
    void (*write_memory)(void *opaque, uint64_t address, uint32_t data);
    /**
     * Notes that the guest wrote the entry of a vector; only under `snoop` of the policy. Null: nothing.
     */
    void (*snoop)(void *opaque, uint32_t vector, struct msix_message message);
    /**
     * Drives the function's pin at the guest's interrupt controller, 1 is asserted. May be repeated. Null:
     * the function has no pin.
     */
    void (*set_pin)(void *opaque, int asserted);
} msix_kvm_ops;

/**
 * How a function on KVM is made. A part that it has not is 0.
 */
typedef struct msix_kvm_config {
    /**
     * sizeof(struct msix_kvm_config).
     */
    size_t size;
    /**
     * Table and PBA of MSI-X; with 0 vectors the function has no MSI-X.
     */
    struct msix_layout msix;
    /**
     * The sizes of the six BARs, bytes, 0 for one that is not there, to check the layout against; null if
     * they are not known.
     */
    const uint64_t *bar_sizes;
    /**
     * The vectors of MSI: 1, 2, 4, 8, 16 or 32; with 0 the function has no MSI.
     */
    uint32_t msi_vectors;
    /**
     * 1: the MSI capability has a 64-bit address; 0: 32 bits.
     */
    uint32_t msi_64_bit;
    /**
     * 1: the MSI capability has mask and pending registers; 0: none.
     */
    uint32_t msi_masks;
    /**
     * 1: the eventfd of each vector is made elsewhere and given to msix_kvm_function_connect(); 0: the
     * function makes them.
     */
    uint32_t connected;
    /**
     * 1: the VMM offers KVM_FEATURE_MSI_EXT_DEST_ID and has enabled 32-bit APIC ids; 0: not.
     */
    uint32_t extended_destinations;
    /**
     * 1: messages carry `requester_id`, as KVM_CAP_MSI_DEVID asks for; 0: they do not.
     */
    uint32_t has_requester_id;
    /**
     * The requester id: bus << 8 | device << 3 | function, unless the guest's tables map it to another.
     */
    uint32_t requester_id;
    /**
     * One of msix_interrupts.
     */
    uint32_t interrupts;
    /**
     * The guest-physical address that `interrupts` needs; otherwise 0.
     */
    uint64_t doorbell;
    /**
     * The first interrupt of a GICv2m frame, 32 to 1019; otherwise 0.
     */
    uint32_t first_spi;
    /**
     * How many interrupts the frame has; otherwise 0.
     */
    uint32_t spis;
    /**
     * The choices that PCI leaves open.
     */
    struct msix_policy policy;
    /**
     * The callbacks, which are copied; null for none.
     */
    const struct msix_kvm_ops *ops;
    /**
     * Passed to every callback, by any thread.
     */
    void *opaque;
} msix_kvm_config;

/**
 * How the owner of a VM's route table is made.
 */
typedef struct msix_kvm_options {
    /**
     * sizeof(struct msix_kvm_options).
     */
    size_t size;
    /**
     * One of msix_irqchip.
     */
    uint32_t irqchip;
    /**
     * How many routes there may be, at most MSIX_KVM_MAX_ROUTES. What has none is delivered from
     * userspace; with 0 everything is.
     */
    uint32_t limit;
    /**
     * The number of SPIs with MSIX_IRQCHIP_GIC: KVM_DEV_ARM_VGIC_GRP_NR_IRQS less 32, at most 988; otherwise 0.
     */
    uint32_t spis;
} msix_kvm_options;

/**
 * A route of a pin of an interrupt controller in the kernel.
 */
typedef struct msix_pin_route {
    /**
     * GSI, below 24; with MSIX_IRQCHIP_GIC, below the number of SPIs.
     */
    uint32_t gsi;
    /**
     * KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE or KVM_IRQCHIP_IOAPIC: 0 to 2. On Arm 0.
     */
    uint32_t irqchip;
    /**
     * The pin. On Arm the SPI, counted from 0.
     */
    uint32_t pin;
} msix_pin_route;

/**
 * Counts of the calls to the kernel so far, failed ones included.
 */
typedef struct msix_route_stats {
    /**
     * KVM_SET_GSI_ROUTING.
     */
    uint64_t commits;
    /**
     * KVM_IRQFD that assign.
     */
    uint64_t assigns;
    /**
     * KVM_IRQFD that deassign.
     */
    uint64_t deassigns;
    /**
     * KVM_SIGNAL_MSI, and pulses of an SPI by KVM_IRQ_LINE.
     */
    uint64_t signals;
    /**
     * Those of any kind that failed.
     */
    uint64_t failures;
    /**
     * GSIs given out now; not a total.
     */
    uint64_t gsis;
} msix_route_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns how many bytes of memory an engine for `vectors` vectors needs; 0 unless there are 1 to 2048.
 * MSIX_ENGINE_SIZE(n) is a constant that is at least this.
 */
size_t msix_engine_size(uint32_t vectors);

/**
 * Returns the alignment that an engine's memory needs, bytes. MSIX_ENGINE_ALIGN is at least this.
 */
size_t msix_engine_align(void);

/**
 * Makes an engine in `size` bytes of `memory`, whatever they hold, in its reset state: MSI-X disabled,
 * all vectors masked, nothing pending, no claims, no host attached, bus master on. The memory belongs to
 * the engine from then on: it must stay where it is, and there is nothing to free. `*engine` is the
 * engine. `config` and its `ops` are copied. No callback is called.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE if there is too little memory or
 * `size` of a struct is wrong, MSIX_ERROR_VALUE for a policy, and the MSIX_ERROR_LAYOUT ones.
 */
int msix_engine_init(void *memory,
                     size_t size,
                     const struct msix_engine_config *config,
                     struct msix_engine **engine);

/**
 * Writes the totals to `*counters`; `size` is sizeof(struct msix_counters). Callbacks may call it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_counters(const struct msix_engine *engine,
                         struct msix_counters *counters,
                         size_t size);

/**
 * Takes an event of the device for `vector`. Returns one of msix_delivery: an event of a vector that the
 * device did not claim is dropped. Effects: send, when the vector may be sent; intx_reevaluate by policy
 * while disabled.
 *
 * Where a host delivers the vector by itself (through an irqfd), signal the host instead.
 *
 * Errors: those of an input, MSIX_ERROR_VECTOR.
 */
int msix_engine_notify(struct msix_engine *engine,
                       uint32_t vector);

/**
 * Withdraws a pending event of `vector`, because its cause is gone. Returns 1 if the pending bit was set,
 * 0 if not. Effects: drain by policy.
 *
 * Errors: those of an input, MSIX_ERROR_VECTOR.
 */
int msix_engine_withdraw(struct msix_engine *engine,
                         uint32_t vector);

/**
 * Adds a claim of `vector`: the device will raise it. Claims are counted, and events of a vector without
 * one are dropped. A reset keeps the claims, unless the policy says otherwise. Effects: send, when the
 * first claim finds the vector pending and not masked.
 *
 * Errors: those of an input, MSIX_ERROR_VECTOR, MSIX_ERROR_TOO_MANY_CLAIMS at 65535.
 */
int msix_engine_claim(struct msix_engine *engine,
                      uint32_t vector);

/**
 * Removes a claim of `vector`; does nothing where there is none. The last one drops the pending bit.
 * Effects: drain by policy.
 *
 * Errors: those of an input, MSIX_ERROR_VECTOR.
 */
int msix_engine_unclaim(struct msix_engine *engine,
                        uint32_t vector);

/**
 * Removes all claims of all vectors, and drops every pending bit. Effects: drain by policy.
 *
 * Errors: those of an input.
 */
int msix_engine_unclaim_all(struct msix_engine *engine);

/**
 * Sets the mask bit of `vector` from a side channel of a paravirtual platform, or clears it where
 * `masked` is 0. Effects: those of the table write.
 *
 * Errors: those of an input, MSIX_ERROR_VECTOR.
 */
int msix_engine_set_mask(struct msix_engine *engine, uint32_t vector, int masked);

/**
 * Sets the message of `vector` from a side channel of a paravirtual platform, and clears its mask bit.
 * Effects: those of the table writes.
 *
 * Errors: those of an input, MSIX_ERROR_VECTOR.
 */
int msix_engine_set_message(struct msix_engine *engine,
                            uint32_t vector,
                            struct msix_message message);

/**
 * Returns the most effects of one input of an engine for `vectors` vectors: 2 + 3 for every 64 of them.
 * Returns 0 unless there are 1 to 2048.
 */
size_t msix_engine_max_effects(uint32_t vectors);

/**
 * Takes the effects of the last input from the list, in order, and writes at most `capacity` of them to
 * `effects`. They must be carried out in this order before the next input, which is refused with
 * MSIX_ERROR_NOT_CARRIED_OUT while the list still has some. `*taken` is how many there were. With
 * msix_engine_max_effects() of room, one call takes all. An engine with callbacks has none to take.
 *
 * The message of a vector is read with msix_engine_message() while the effects are carried out.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED,
 * MSIX_ERROR_BUSY from inside a callback.
 */
int msix_engine_take_effects(struct msix_engine *engine,
                             struct msix_effect *effects,
                             size_t capacity,
                             size_t *taken);

/**
 * Returns the words of an error, or "no error" for a number that is not negative. The string lives as
 * long as the program.
 */
const char *msix_strerror(int error);

/**
 * Reads for a guest `len` bytes at byte `offset` of the 12-byte capability, with any width. Bytes past it
 * read all ones. Callbacks may call it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_read_config(const struct msix_engine *engine,
                            size_t offset,
                            void *bytes,
                            size_t len);

/**
 * Writes for a guest `len` bytes at byte `offset` of the 12-byte capability, with any width and
 * alignment. Only a write that covers byte 3 has an effect: it sets MSI-X Enable and Function Mask.
 * Effects: disarm, or arm and send, of vectors; the INTx ones, poll and drain by policy.
 *
 * Errors: those of an input.
 */
int msix_engine_write_config(struct msix_engine *engine,
                             size_t offset,
                             const void *bytes,
                             size_t len);

/**
 * Reads for a guest `len` bytes at byte `offset` of the table. Returns one of msix_access. Callbacks may
 * call it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_read_table(const struct msix_engine *engine,
                           uint64_t offset,
                           void *bytes,
                           size_t len);

/**
 * Writes for a guest `len` bytes at byte `offset` of the table. 8 bytes are applied as one. Returns one
 * of msix_access. Effects: disarm, or arm and send, of the vector; reroute and snoop by policy.
 *
 * Errors: those of an input.
 */
int msix_engine_write_table(struct msix_engine *engine,
                            uint64_t offset,
                            const void *bytes,
                            size_t len);

/**
 * Begins a guest's read of `len` bytes at byte `offset` of the PBA. Effects: poll of the vectors it covers
 * that may have held events. Carry it out, answer, then call msix_engine_read_pba().
 *
 * Errors: those of an input.
 */
int msix_engine_poll_pba(struct msix_engine *engine,
                         uint64_t offset,
                         size_t len);

/**
 * Reads for a guest `len` bytes at byte `offset` of the PBA, as it is: call msix_engine_poll_pba() first,
 * if there is a host that holds events. Returns one of msix_access. Callbacks may call it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_read_pba(const struct msix_engine *engine,
                         uint64_t offset,
                         void *bytes,
                         size_t len);

/**
 * Ignores a guest's write at byte `offset` of the PBA, which changes nothing. Returns one of msix_access,
 * for a diagnostic. Callbacks may call it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_write_pba(const struct msix_engine *engine,
                          uint64_t offset,
                          const void *bytes,
                          size_t len);

/**
 * Writes the counts of the first `count` device vectors, lowest first, to an array of as many; `size` is
 * sizeof(struct msix_vector_counters). Returns the number of device vectors: where it is less than `count`,
 * the rest of the array is left as it is. Null is good for a `count` of 0.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_vector_counters(const struct msix_kvm_function *function,
                                      struct msix_vector_counters *counters,
                                      size_t count,
                                      size_t size);

/**
 * Takes an event of the device for `vector`, whatever the mode is. Returns one of msix_delivery; an event of
 * a vector that the device did not claim is dropped. Takes no lock while KVM delivers the vector and
 * nobody else holds its eventfd.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_kvm_function_notify(struct msix_kvm_function *function,
                             uint32_t vector);

/**
 * Withdraws a pending event of `vector` of `mode`, one of msix_mode, because its cause is gone. Returns 1
 * if there was one, 0 if not.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VALUE for the
 * mode, MSIX_ERROR_VECTOR.
 */
int msix_kvm_function_withdraw(struct msix_kvm_function *function,
                               uint32_t mode_number,
                               uint32_t vector);

/**
 * Sets the level of the device's pin; 0 is low. The guest sees it while MSI and MSI-X are disabled.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_set_level(struct msix_kvm_function *function, int high);

/**
 * Adds a claim of `vector`: the device will raise it. Claims are counted, and events of a vector without
 * one are dropped.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR,
 * MSIX_ERROR_TOO_MANY_CLAIMS at 65535.
 */
int msix_kvm_function_claim(struct msix_kvm_function *function,
                            uint32_t vector);

/**
 * Removes a claim of `vector`; does nothing where there is none. The last one drops the pending bit.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_kvm_function_unclaim(struct msix_kvm_function *function,
                              uint32_t vector);

/**
 * Removes all claims of all vectors, and drops every pending bit.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_unclaim_all(struct msix_kvm_function *function);

/**
 * Sets the mask bit of a vector of MSI-X from a side channel, or clears it where `masked` is 0.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_kvm_function_set_mask(struct msix_kvm_function *function, uint32_t vector, int masked);

/**
 * Sets the message of a vector of MSI-X from a side channel, and clears its mask bit.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_kvm_function_set_message(struct msix_kvm_function *function,
                                  uint32_t vector,
                                  struct msix_message message);

/**
 * Returns the eventfd of `vector`, for a device that does not call msix_kvm_function_notify(), such as a
 * vhost worker. Each event written to it reaches the guest. It is the function's and is closed with it:
 * dup() it to keep it. From now on msix_kvm_function_notify() of this vector takes the lock.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR above 65535,
 * MSIX_ERROR_VALUE past the vectors of every mode, MSIX_ERROR_SYSTEM.
 */
int msix_kvm_function_eventfd(struct msix_kvm_function *function,
                              uint32_t vector);

/**
 * Connects `vector` to an eventfd that was made and is written elsewhere. It is duplicated, and made
 * non-blocking for all who have it; the caller's stays open. What it holds already is an event.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR above 65535,
 * MSIX_ERROR_VALUE past the vectors of every mode or for what is no eventfd or one with EFD_SEMAPHORE,
 * MSIX_ERROR_EXISTS if the vector has an eventfd, MSIX_ERROR_SYSTEM.
 */
int msix_kvm_function_connect(struct msix_kvm_function *function,
                              uint32_t vector,
                              int eventfd);

/**
 * Makes a function in its reset state, with KVM attached. Bus master is off, as Command is 0: it sends
 * nothing before msix_kvm_function_write_command(). `config` is copied. `*function` is freed with
 * msix_kvm_function_free().
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED,
 * MSIX_ERROR_VALUE, and the MSIX_ERROR_LAYOUT ones.
 */
int msix_kvm_function_new(const struct msix_kvm_routes *routes,
                          const struct msix_kvm_config *config,
                          struct msix_kvm_function **function);

/**
 * Frees a function, its eventfds and its routes, and lowers its pin; null does nothing. No other thread may
 * use it, and no callback may call this.
 */
void msix_kvm_function_free(struct msix_kvm_function *function);

/**
 * Returns how the function interrupts now, one of msix_mode.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_mode(const struct msix_kvm_function *function);

/**
 * Writes the totals of MSI-X to `*counters`, which are 0 if the function has none; `size` is sizeof(struct
 * msix_counters). `sent` counts what was sent from userspace: what KVM delivers by itself, it alone
 * knows.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_counters(const struct msix_kvm_function *function,
                               struct msix_counters *counters,
                               size_t size);

/**
 * Detaches KVM, and gives all GSIs back. The eventfds stay. Until the next
 * msix_kvm_function_attach() every input, read and save first takes in the events in them.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_detach(struct msix_kvm_function *function);

/**
 * Attaches KVM again.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_attach(struct msix_kvm_function *function);

/**
 * Resets the function, with Command; bus master is off afterwards.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_reset(struct msix_kvm_function *function);

/**
 * Commits and arms what waits of this function.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_flush(struct msix_kvm_function *function);

/**
 * Reads for a guest `len` bytes at byte `offset` of the MSI-X capability. Bytes past it read all ones.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_read_msix(const struct msix_kvm_function *function,
                                size_t offset,
                                void *bytes,
                                size_t len);

/**
 * Writes for a guest `len` bytes at byte `offset` of the MSI-X capability.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_write_msix(struct msix_kvm_function *function,
                                 size_t offset,
                                 const void *bytes,
                                 size_t len);

/**
 * Reads for a guest `len` bytes at byte `offset` of the MSI capability. Bytes past it read all ones.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_read_msi(const struct msix_kvm_function *function,
                               size_t offset,
                               void *bytes,
                               size_t len);

/**
 * Writes for a guest `len` bytes at byte `offset` of the MSI capability.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_write_msi(struct msix_kvm_function *function,
                                size_t offset,
                                const void *bytes,
                                size_t len);

/**
 * Writes for a guest `len` bytes at byte `offset` of the Command register, config space byte 4: bus master,
 * and Interrupt Disable.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_write_command(struct msix_kvm_function *function,
                                    size_t offset,
                                    const void *bytes,
                                    size_t len);

/**
 * Writes the bits of Command and of Status that are kept here to `*command` and `*status`: bits 0, 1, 2 and
 * 10 of Command, and Interrupt Status, bit 3 of Status.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_command_and_status(const struct msix_kvm_function *function,
                                         uint16_t *command,
                                         uint16_t *status);

/**
 * Reads for a guest `len` bytes at byte `offset` of the table. Returns one of msix_access.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_read_table(const struct msix_kvm_function *function,
                                 uint64_t offset,
                                 void *bytes,
                                 size_t len);

/**
 * Writes for a guest `len` bytes at byte `offset` of the table. Returns one of msix_access.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_write_table(struct msix_kvm_function *function,
                                  uint64_t offset,
                                  const void *bytes,
                                  size_t len);

/**
 * Reads for a guest `len` bytes at byte `offset` of the PBA, with the events in the eventfds of masked
 * vectors. Returns one of msix_access.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_read_pba(struct msix_kvm_function *function,
                               uint64_t offset,
                               void *bytes,
                               size_t len);

/**
 * Ignores a guest's write at byte `offset` of the PBA. Returns one of msix_access, for a diagnostic.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_write_pba(const struct msix_kvm_function *function,
                                uint64_t offset,
                                const void *bytes,
                                size_t len);

/**
 * Takes the guest's EOI of the pin, from an interrupt controller in the VMM.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_eoi(struct msix_kvm_function *function);

/**
 * Makes the owner of the route table of the VM behind `vm_fd`, the descriptor that KVM_CREATE_VM returned.
 * The descriptor is duplicated, and stays the caller's. There must be no other owner: no
 * KVM_SET_GSI_ROUTING but by this. Make interrupt controllers in the kernel before. `*routes` is freed
 * with msix_kvm_routes_free().
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_VALUE, and
 * MSIX_ERROR_SYSTEM with errno, for instance if it is no VM or there is no /dev/kvm.
 */
int msix_kvm_routes_new(int vm_fd,
                        const struct msix_kvm_options *options,
                        struct msix_kvm_routes **routes);

/**
 * Frees the owner of a route table; null does nothing. Free its functions first, and let no other thread
 * use it.
 */
void msix_kvm_routes_free(struct msix_kvm_routes *routes);

/**
 * Runs one round of what KVM does not deliver by itself: commits routes that are due, waits at most
 * `timeout_ms` milliseconds for eventfds (negative: until something happens), and delivers what they hold.
 * A VMM calls this over and over in a thread of its own, or with 0 from its own loop.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_SYSTEM.
 */
int msix_kvm_routes_run(struct msix_kvm_routes *routes,
                        int timeout_ms);

/**
 * Returns a descriptor that is readable when msix_kvm_routes_run() has something to do, for the loop of
 * the VMM. It lives as long as the owner of the routes: do not close it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_routes_fd(const struct msix_kvm_routes *routes);

/**
 * Returns in how many milliseconds msix_kvm_routes_run() has to commit routes, rounded up; -1 when nothing
 * waits. For the loop of the VMM.
 *
 * Errors: MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED; null answers -1.
 */
int msix_kvm_routes_due_ms(const struct msix_kvm_routes *routes);

/**
 * Commits and arms what waits, for all functions.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_routes_flush(struct msix_kvm_routes *routes);

/**
 * Replaces the `count` routes of pins, which belong to no function, and commits at once.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VALUE for routes
 * that cannot be kept, MSIX_ERROR_SYSTEM; the table is then as it was.
 */
int msix_kvm_routes_keep(struct msix_kvm_routes *routes,
                         const struct msix_pin_route *pins,
                         size_t count);

/**
 * Writes the counts of the calls to the kernel to `*stats`; `size` is sizeof(struct msix_route_stats).
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_routes_stats(const struct msix_kvm_routes *routes,
                          struct msix_route_stats *stats,
                          size_t size);

/**
 * Returns the length of a snapshot, bytes; 0 for what is no function.
 */
size_t msix_kvm_function_saved_len(const struct msix_kvm_function *function);

/**
 * Writes a snapshot, msix_kvm_function_saved_len() bytes, to the start of `len` bytes, with the events that
 * were still in eventfds. Sends those of them that the guest lets through: save the interrupt controllers
 * after this.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE if it does not fit,
 * MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_save(struct msix_kvm_function *function,
                           void *bytes,
                           size_t len);

/**
 * Loads a snapshot of `len` bytes, which need not be trusted: all is checked before anything changes.
 * Nothing is delivered before msix_kvm_function_resume().
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED, and the
 * MSIX_ERROR_LOAD ones.
 */
int msix_kvm_function_load(struct msix_kvm_function *function,
                           const void *bytes,
                           size_t len);

/**
 * Ends a load, once the interrupt controllers are restored: commits routes at once, then arms, then sends
 * what is pending.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_kvm_function_resume(struct msix_kvm_function *function);

/**
 * Checks a layout. `bar_sizes` are the sizes of the six BARs, bytes, 0 for one that is not there; null if
 * they are not known.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, and the MSIX_ERROR_LAYOUT ones.
 */
int msix_layout_check(const struct msix_layout *layout,
                      const uint64_t *bar_sizes);

/**
 * Lays out a BAR that holds only table and PBA, as QEMU does: up to 128 vectors in 4 KiB with the PBA at
 * 0x800; for more, the PBA follows the table. `*bar_size` becomes the size that the BAR needs, bytes;
 * `bar_size` may be null.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED, MSIX_ERROR_LAYOUT_VECTORS, MSIX_ERROR_LAYOUT_BAR.
 */
int msix_layout_exclusive_bar(struct msix_layout *layout,
                              uint32_t vectors,
                              uint32_t bar_index,
                              uint64_t *bar_size);

/**
 * Finds the structure that byte `offset` of BAR `bar_index` belongs to, one of msix_region, and writes
 * the offset in it, bytes, to `*inside`, or 0 where there is neither. A VMM sends accesses of a BAR on by
 * this.
 *
 * Errors: those of msix_layout_check() for the layout.
 */
int msix_layout_locate(const struct msix_layout *layout,
                       uint32_t bar_index,
                       uint64_t offset,
                       uint64_t *inside);

/**
 * Attaches the host to all vectors ("set vector notifiers"): from now on it is asked to arm those that may
 * be sent. Does nothing when it is attached. Effects: arm.
 *
 * Errors: those of an input.
 */
int msix_engine_attach(struct msix_engine *engine);

/**
 * Detaches the host from all vectors ("unset vector notifiers"): from now on everything is sent. Does
 * nothing when none is attached. Effects: poll by policy, disarm.
 *
 * Errors: those of an input.
 */
int msix_engine_detach(struct msix_engine *engine);

/**
 * Reports that the host could not arm or reroute `vector`. Its events must come in through
 * msix_engine_notify() until its disarm. Ignored for a vector that is not armed. No effects. Callbacks
 * may call it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_engine_report_failed(struct msix_engine *engine,
                              uint32_t vector);

/**
 * Reports that the host held events of these vectors, and has given them up: they become pending. `first`
 * is a multiple of 64, and bit k of `vectors` stands for vector `first` + k; those outside the table are
 * ignored. Callbacks may call it; the engine then learns of the events when the list is carried out.
 * Effects: send.
 *
 * Errors: those of an input but MSIX_ERROR_BUSY, MSIX_ERROR_VALUE for another `first`,
 * MSIX_ERROR_VECTOR for one past the table.
 */
int msix_engine_report_held(struct msix_engine *engine,
                            uint32_t first,
                            uint64_t vectors);

/**
 * Sets `vector` pending: msix_engine_report_held() for one vector, as a poll of a notifier does it.
 *
 * Errors: those of an input but MSIX_ERROR_BUSY, MSIX_ERROR_VECTOR.
 */
int msix_engine_set_pending(struct msix_engine *engine, uint32_t vector);

/**
 * Sets Bus Master Enable of the Command register; 0 is off. Effects: by policy disarm, or arm and send.
 *
 * Errors: those of an input.
 */
int msix_engine_set_bus_master(struct msix_engine *engine,
                               int on);

/**
 * Resets the function: MSI-X disabled, all vectors masked, messages 0, pending bits dropped, claims by
 * policy. Bus master and the host's attachment stay. Effects: disarm, drain by policy, and
 * intx_reevaluate by policy.
 *
 * Errors: those of an input.
 */
int msix_engine_reset(struct msix_engine *engine);

/**
 * Points the capability at the next one in the chain. Bits 1:0 of `offset` are cleared. No effects.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_set_next_capability(struct msix_engine *engine, uint8_t offset);

/**
 * Begins a save. Effects: poll of every vector that may have held events. Carry it out, answer, then
 * call msix_engine_save() or msix_engine_save_qemu().
 *
 * Errors: those of an input.
 */
int msix_engine_prepare_save(struct msix_engine *engine);

/**
 * Returns the length of a snapshot, bytes; 0 for what is no engine. Callbacks may call it.
 */
size_t msix_engine_saved_len(const struct msix_engine *engine);

/**
 * Writes a snapshot, msix_engine_saved_len() bytes, to the start of `len` bytes. Callbacks may call it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE if it does not fit, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_save(const struct msix_engine *engine,
                     void *bytes,
                     size_t len);

/**
 * Loads a snapshot of `len` bytes, which need not be trusted: all is checked before anything changes.
 * Nothing is armed or sent before msix_engine_resume(). No effects.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_BUSY from inside a
 * callback, and the MSIX_ERROR_LOAD ones.
 */
int msix_engine_load(struct msix_engine *engine,
                     const void *bytes,
                     size_t len);

/**
 * Returns the length of QEMU's msix field, bytes: 16 a vector and one for every 8; 0 for what is no
 * engine. Callbacks may call it.
 */
size_t msix_engine_qemu_len(const struct msix_engine *engine);

/**
 * Writes QEMU's msix field, msix_engine_qemu_len() bytes, to the start of `len` bytes: the table, then the
 * PBA. Callbacks may call it.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_SIZE if it does not fit, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_save_qemu(const struct msix_engine *engine,
                          void *bytes,
                          size_t len);

/**
 * Loads QEMU's msix field of `len` bytes, which need not be trusted; `control` is Message Control from the
 * saved config space. Claims stay as they are. Otherwise it is as msix_engine_load().
 *
 * Errors: those of msix_engine_load().
 */
int msix_engine_load_qemu(struct msix_engine *engine,
                          uint16_t control,
                          const void *bytes,
                          size_t len);

/**
 * Ends a load, once the interrupt controllers are restored. Does nothing when no load came before.
 * Effects: disarm of what was armed before the load, arm of what is wanted now, send of what is pending
 * and not masked, and the INTx ones by policy.
 *
 * Errors: those of an input.
 */
int msix_engine_resume(struct msix_engine *engine);

/**
 * Checks the invariants. 0: they hold.
 *
 * Errors: MSIX_ERROR_INVARIANT for a defect of this library, MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_check(const struct msix_engine *engine);

/**
 * Fills in a policy to start from. `name` is one of msix_policy_name.
 *
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_VALUE for another name.
 */
int msix_policy_init(struct msix_policy *policy, uint32_t name);

/**
 * Returns the number of vectors, 1 to 2048. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_vectors(const struct msix_engine *engine);

/**
 * Returns Message Control as the guest reads it: bit 15 is MSI-X Enable, bit 14 Function Mask, and bits
 * 10:0 are the vector count less 1. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_control(const struct msix_engine *engine);

/**
 * Returns whether MSI-X is enabled, 1 or 0. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_is_enabled(const struct msix_engine *engine);

/**
 * Returns whether a host is attached, 1 or 0. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_is_attached(const struct msix_engine *engine);

/**
 * Returns whether a snapshot was loaded and msix_engine_resume() is still to come, 1 or 0. Errors:
 * MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_is_loading(const struct msix_engine *engine);

/**
 * Returns Bus Master Enable as it was last set, 1 or 0. Errors: MSIX_ERROR_NULL,
 * MSIX_ERROR_NOT_INITIALIZED.
 */
int msix_engine_bus_master(const struct msix_engine *engine);

/**
 * Returns whether `vector` is masked, by its own bit or by Function Mask, whatever Enable says, 1 or 0.
 * Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_engine_is_masked(const struct msix_engine *engine,
                          uint32_t vector);

/**
 * Returns whether `vector` is pending in the PBA, 1 or 0. Errors: MSIX_ERROR_NULL,
 * MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_engine_is_pending(const struct msix_engine *engine, uint32_t vector);

/**
 * Returns whether a message of `vector` would be sent at once, 1 or 0: MSI-X is enabled, no mask is set,
 * bus master is on if the policy asks for it, and no load waits. Errors: MSIX_ERROR_NULL,
 * MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_engine_is_deliverable(const struct msix_engine *engine,
                               uint32_t vector);

/**
 * Returns whether the host was asked to arm `vector` and not to disarm it since, 1 or 0. Errors:
 * MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_engine_is_armed(const struct msix_engine *engine, uint32_t vector);

/**
 * Returns whether the host was asked to arm `vector` and could not, so that its events must come in
 * through msix_engine_notify(), 1 or 0. Errors: MSIX_ERROR_NULL, MSIX_ERROR_NOT_INITIALIZED,
 * MSIX_ERROR_VECTOR.
 */
int msix_engine_is_fallback(const struct msix_engine *engine, uint32_t vector);

/**
 * Returns how many claims `vector` has, 0 to 65535. Errors: MSIX_ERROR_NULL,
 * MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_engine_claims(const struct msix_engine *engine, uint32_t vector);

/**
 * Writes the message that `vector` sends to `*message`. Errors: MSIX_ERROR_NULL, MSIX_ERROR_MISALIGNED,
 * MSIX_ERROR_NOT_INITIALIZED, MSIX_ERROR_VECTOR.
 */
int msix_engine_message(const struct msix_engine *engine,
                        uint32_t vector,
                        struct msix_message *message);

/**
 * Returns the version of the library that is linked: major << 16 | minor << 8 | patch. Compare it with
 * MSIX_VERSION, which is that of the header.
 */
uint32_t msix_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MSIX_H */
