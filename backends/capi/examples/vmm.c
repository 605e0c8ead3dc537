/* A toy virtual machine monitor in C: one processor, one device with MSI-X, delivery by KVM. x86-64 Linux.
 *
 * Its guest programs vector 0, rings the device's doorbell and waits for the interrupt, so many times as the
 * first argument says; then it masks the vector, rings three times, reads the pending bit, and unmasks. The
 * monitor prints what the guest counted and what KVM was asked for.
 *
 *   cc vmm.c $(pkg-config --cflags --libs msix) -lpthread -o vmm && ./vmm 1000
 */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <msix.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where firmware put the device: BAR 0 has its doorbell, BAR 1 the table and the PBA. */
#define REGISTERS 0xe0000000u
#define TABLE 0xe0100000u
#define SLOT 4
#define CAPABILITY 0x40

/* Guest memory: interrupt vectors, words that are counted in, the program, its stack. */
#define MEMORY 0x8000
#define RINGS 0x500
#define TAKEN 0x504
#define PENDING 0x508
#define PROGRAM 0x1000
#define STACK 0x7000
#define VECTOR 0x40

/* Real mode; FS reaches all 4 GiB. */
__asm__(".pushsection .rodata\n"
        ".intel_syntax noprefix\n"
        ".code16\n"
        ".globl guest, guest_handler, guest_end\n"
        "guest:\n"
        /* The entry of vector 0, as any driver writes it, then MSI-X Enable, then the mask. */
        "  mov edi, 0xe0100000\n"
        "  mov dword ptr fs:[edi], 0xfee00000\n"
        "  mov dword ptr fs:[edi + 4], 0\n"
        "  mov dword ptr fs:[edi + 8], 0x40\n"
        "  mov dx, 0xcf8\n"
        "  mov eax, 0x80002040\n"
        "  out dx, eax\n"
        "  mov dx, 0xcfe\n"
        "  mov ax, 0x8000\n"
        "  out dx, ax\n"
        "  mov dword ptr fs:[edi + 12], 0\n"
        "  xor esi, esi\n"
        "1:\n"
        "  cmp esi, dword ptr [0x500]\n"
        "  jae 2f\n"
        "  inc esi\n"
        "  call ring\n"
        "  call wait\n"
        "  jmp 1b\n"
        /* Masked: three rings are one pending bit, and one interrupt later. */
        "2:\n"
        "  mov dword ptr fs:[edi + 12], 1\n"
        "  call ring\n"
        "  call ring\n"
        "  call ring\n"
        "  mov eax, dword ptr fs:[edi + 0x800]\n"
        "  mov dword ptr [0x508], eax\n"
        "  mov dword ptr fs:[edi + 12], 0\n"
        "  inc esi\n"
        "  call wait\n"
        "  out 0xf5, al\n"
        "  hlt\n"
        "ring:\n"
        "  mov ebx, 0xe000000c\n"
        "  mov dword ptr fs:[ebx], 0\n"
        "  ret\n"
        /* Waits until ESI interrupts were taken. */
        "wait:\n"
        "  cli\n"
        "  cmp dword ptr [0x504], esi\n"
        "  jae 3f\n"
        "  sti\n" /* takes effect after HLT began */
        "  hlt\n"
        "  jmp wait\n"
        "3:\n"
        "  ret\n"
        "guest_handler:\n"
        "  push ebx\n"
        "  inc dword ptr [0x504]\n"
        "  mov ebx, 0xfee000b0\n" /* EOI */
        "  mov dword ptr fs:[ebx], 0\n"
        "  pop ebx\n"
        "  iret\n"
        "guest_end:\n"
        ".code64\n"
        ".att_syntax\n"
        ".popsection\n");
extern const unsigned char guest[], guest_handler[], guest_end[];

static msix_kvm_routes *routes;
static msix_kvm_function *function;
static msix_layout layout;
static uint32_t config_address;
static unsigned long rings;
static atomic_int ended;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Ends the program if the library or the system said no. */
static int ok(int answer, const char *what)
{
    if (answer < 0) {
        fprintf(stderr, "%s: %s\n", what, msix_strerror(answer));
        exit(1);
    }
    return answer;
}

static int system_ok(int answer, const char *what)
{
    if (answer < 0) {
        die(what);
    }
    return answer;
}

/* The thread of what KVM does not deliver by itself. */
static void *deliver(void *unused)
{
    while (!atomic_load(&ended)) {
        ok(msix_kvm_routes_run(routes, 5), "routes");
    }
    return unused;
}

static void access_memory(struct kvm_run *run)
{
    uint64_t address = run->mmio.phys_addr, inside;
    int region = MSIX_REGION_NONE;
    if (address >= TABLE) {
        region = ok(msix_layout_locate(&layout, 1, address - TABLE, &inside), "layout");
    }
    if (!run->mmio.is_write) {
        memset(run->mmio.data, 0xff, sizeof run->mmio.data);
    }
    if (region == MSIX_REGION_TABLE && run->mmio.is_write) {
        ok(msix_kvm_function_write_table(function, inside, run->mmio.data, run->mmio.len), "table");
    } else if (region == MSIX_REGION_TABLE) {
        ok(msix_kvm_function_read_table(function, inside, run->mmio.data, run->mmio.len), "table");
    } else if (region == MSIX_REGION_PBA && !run->mmio.is_write) {
        ok(msix_kvm_function_read_pba(function, inside, run->mmio.data, run->mmio.len), "PBA");
    } else if (address == REGISTERS + 12 && run->mmio.is_write) {
        /* The doorbell: the device has an event. */
        rings++;
        ok(msix_kvm_function_notify(function, 0), "notify");
    }
}

/* Ports of config space, of which the guest writes Message Control. Returns 0 when the guest is done. */
static int access_port(struct kvm_run *run)
{
    const unsigned char *data = (const unsigned char *)run + run->io.data_offset;
    unsigned port = run->io.port;
    if (run->io.direction != KVM_EXIT_IO_OUT) {
        return 1;
    }
    if (port == 0xcf8 && run->io.size == 4) {
        memcpy(&config_address, data, 4);
    } else if (port >= 0xcfc && port <= 0xcff && (config_address >> 11 & 0x1f) == SLOT) {
        unsigned at = (config_address & 0xfc) + (port - 0xcfc);
        if (at >= CAPABILITY && at < CAPABILITY + 12) {
            ok(msix_kvm_function_write_msix(function, at - CAPABILITY, data, run->io.size), "config");
        }
    }
    return port != 0xf5;
}

static void make_function(int vm)
{
    static const unsigned char command[2] = { 6, 0 }; /* memory and bus master, as firmware sets them */
    msix_kvm_options options = { sizeof options, MSIX_IRQCHIP_FULL, MSIX_KVM_MAX_ROUTES, 0 };
    msix_kvm_config config;
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    ok(msix_layout_exclusive_bar(&layout, 1, 1, NULL), "layout");
    config.msix = layout;
    ok(msix_policy_init(&config.policy, MSIX_POLICY_NAME_SPEC), "policy");
    ok(msix_kvm_routes_new(vm, &options, &routes), "routes");
    ok(msix_kvm_function_new(routes, &config, &function), "function");
    ok(msix_kvm_function_claim(function, 0), "claim");
    ok(msix_kvm_function_write_command(function, 0, command, 2), "command");
}

static void *make_memory(int vm, uint32_t wanted)
{
    struct kvm_userspace_memory_region region = { 0, 0, 0, MEMORY, 0 };
    uint16_t handler = (uint16_t)(PROGRAM + (guest_handler - guest));
    unsigned char *memory =
        mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        die("mmap");
    }
    memcpy(memory + PROGRAM, guest, (size_t)(guest_end - guest));
    memcpy(memory + 4 * VECTOR, &handler, 2);
    memcpy(memory + RINGS, &wanted, 4);
    region.userspace_addr = (uintptr_t)memory;
    system_ok(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    return memory;
}

static int make_processor(int vm)
{
    int vcpu = system_ok(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    struct kvm_regs registers;
    struct kvm_sregs special;
    struct kvm_lapic_state apic;
    struct kvm_segment *segments[5];
    int i;
    system_ok(ioctl(vcpu, KVM_GET_LAPIC, &apic), "KVM_GET_LAPIC");
    apic.regs[0xf1] |= 1; /* the local APIC is enabled in its spurious vector register */
    system_ok(ioctl(vcpu, KVM_SET_LAPIC, &apic), "KVM_SET_LAPIC");
    system_ok(ioctl(vcpu, KVM_GET_SREGS, &special), "KVM_GET_SREGS");
    segments[0] = &special.cs;
    segments[1] = &special.ds;
    segments[2] = &special.es;
    segments[3] = &special.ss;
    segments[4] = &special.fs;
    for (i = 0; i < 5; i++) {
        segments[i]->base = 0;
        segments[i]->selector = 0;
    }
    special.fs.limit = 0xffffffff;
    special.fs.g = 1;
    system_ok(ioctl(vcpu, KVM_SET_SREGS, &special), "KVM_SET_SREGS");
    memset(&registers, 0, sizeof registers);
    registers.rip = PROGRAM;
    registers.rsp = STACK;
    registers.rflags = 2;
    system_ok(ioctl(vcpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");
    return vcpu;
}

/* Runs the guest until it is done. */
static void run_guest(struct kvm_run *run, int vcpu)
{
    for (;;) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0) {
            if (errno != EINTR) {
                die("KVM_RUN");
            }
            continue;
        }
        switch (run->exit_reason) {
        case KVM_EXIT_MMIO:
            access_memory(run);
            break;
        case KVM_EXIT_IO:
            if (!access_port(run)) {
                return;
            }
            break;
        default:
            fprintf(stderr, "exit %u\n", run->exit_reason);
            exit(1);
        }
    }
}

static void report(const unsigned char *memory)
{
    msix_route_stats stats;
    msix_vector_counters vector;
    uint32_t taken, pending;
    memcpy(&taken, memory + TAKEN, 4);
    memcpy(&pending, memory + PENDING, 4);
    ok(msix_kvm_routes_stats(routes, &stats, sizeof stats), "stats");
    printf("%lu rings, %u interrupts, PBA %#x while masked\n", rings, taken, pending);
    printf("KVM: %llu commits, %llu irqfds, %llu messages from userspace, %llu failures\n",
           (unsigned long long)stats.commits, (unsigned long long)stats.assigns,
           (unsigned long long)stats.signals, (unsigned long long)stats.failures);
    ok(msix_kvm_function_vector_counters(function, &vector, 1, sizeof vector), "counters");
    printf("vector 0: %llu events given to KVM, %llu taken while masked, %llu messages sent\n",
           (unsigned long long)vector.given, (unsigned long long)vector.pending,
           (unsigned long long)vector.sent);
}

int main(int count, char **arguments)
{
    uint32_t wanted = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 0) : 1000;
    int kvm = system_ok(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm"), vm, vcpu, size;
    unsigned char *memory;
    struct kvm_run *run;
    pthread_t thread;
    alarm(60); /* a guest that hangs ends the program */
    vm = system_ok(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    system_ok(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
    system_ok(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    memory = make_memory(vm, wanted);
    vcpu = make_processor(vm);
    size = system_ok(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED) {
        die("mmap");
    }
    make_function(vm);
    if (pthread_create(&thread, NULL, deliver, NULL) != 0) {
        die("pthread_create");
    }
    run_guest(run, vcpu);
    atomic_store(&ended, 1);
    pthread_join(thread, NULL);
    report(memory);
    msix_kvm_function_free(function);
    msix_kvm_routes_free(routes);
    return 0;
}
