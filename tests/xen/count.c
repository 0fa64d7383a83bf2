// SPDX-License-Identifier: BSD-2-Clause
//
// A plugin for QEMU's emulation that counts what each CPU of the emulated Xen host executes:
// instructions of programs, of Linux and of the hypervisor, system calls, and hypercalls by their
// number. Counts do not depend on what else this machine does.
//
//     qemu-system-x86_64 -plugin ./count.so,out=PATH[,profile=on] ...
//
// PATH is a file that is mapped while the host runs: struct header, then struct cpu_counters for
// each of CPUS CPUs, then, with profile=on, PROFILE_SLOTS times struct block. tests/xen/counters.py
// reads it. Counting costs about as much as the emulation itself, so it goes on and off with the
// header's first word, as soon as a CPU of the host is idle.
//
// What is declared here of QEMU's plugin interface (its version 1) is what is used of it: Debian
// has no package with the header.

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
typedef uint64_t plugin_id;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
                                           void (*call)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block,
                                          void (*call)(unsigned, void *), int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            void (*call)(unsigned, void *), int flags, void *data);
void qemu_plugin_register_vcpu_idle_cb(plugin_id id, void (*call)(plugin_id, unsigned));
void qemu_plugin_reset(plugin_id id, void (*call)(plugin_id));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

// QEMU looks for these two.
extern int qemu_plugin_version;
int qemu_plugin_install(plugin_id id, const struct qemu_info_t *info, int argc, char **argv);

int qemu_plugin_version = 1;

#define CPUS          4
#define HYPERCALLS    64
#define PROFILE_SLOTS (1U << 20)
// What a call-back may touch of the CPU: nothing.
#define NO_REGISTERS 0

enum area { PROGRAMS, LINUX, XEN, AREAS };

struct header {
    _Atomic uint64_t wanted;   // the reader sets it to 1 and 0
    _Atomic uint64_t counting; // what it was at the last change
    uint64_t unused[6];
};

struct cpu_counters {
    uint64_t instructions[AREAS];
    uint64_t syscalls;
    uint64_t hypercalls[HYPERCALLS];
    uint64_t spins;
    uint64_t unused[3]; // whole cache lines: each CPU has a thread
};

// A piece of code without branches into it.
struct block {
    uint64_t address;
    uint64_t instructions;
    uint64_t executed[CPUS];
};

static struct header *header;
static struct cpu_counters *counters;
// The last small number that Linux put into %eax, by CPU: before a hypercall its number.
static unsigned last_number[CPUS];
// Whether the last block ended with "pause".
static bool paused[CPUS];
static struct block *profile; // NULL when there is none
static pthread_mutex_t profile_lock = PTHREAD_MUTEX_INITIALIZER;

// Where x86 Xen places itself: 0xffff8000... to 0xffff87ff... (xen/arch/x86/include/asm/config.h).
static enum area area_of(uint64_t address)
{
    if (address < UINT64_C(0x800000000000)) {
        return PROGRAMS;
    }
    return address < UINT64_C(0xffff880000000000) ? XEN : LINUX;
}

// Area and number of instructions of a block, in a pointer: nothing is allocated.
static void *packed(enum area area, size_t instructions)
{
    return (void *)(instructions * AREAS + area); // NOLINT(performance-no-int-to-ptr)
}

// Waiting for another CPU, as for a lock, lasts as long as this machine wants: "pause" and what
// follows it up to the next branch, the look whether it is over, are no work.
static bool is_waiting(unsigned cpu)
{
    const bool waiting = paused[cpu];
    paused[cpu] = false;
    return waiting;
}

static void on_pause(unsigned cpu, void *data)
{
    (void)data;
    if (cpu < CPUS) {
        counters[cpu].spins++;
        paused[cpu] = true;
    }
}

static void on_block(unsigned cpu, void *data)
{
    const uintptr_t value = (uintptr_t)data;
    if (cpu < CPUS && !is_waiting(cpu)) {
        counters[cpu].instructions[value % AREAS] += value / AREAS;
    }
}

static void on_profiled_block(unsigned cpu, void *data)
{
    struct block *block = data;
    if (cpu < CPUS && !is_waiting(cpu)) {
        counters[cpu].instructions[area_of(block->address)] += block->instructions;
        block->executed[cpu]++;
    }
}

static void on_syscall(unsigned cpu, void *data)
{
    (void)data;
    if (cpu < CPUS) {
        counters[cpu].syscalls++;
    }
}

static void on_number(unsigned cpu, void *data)
{
    if (cpu < CPUS) {
        last_number[cpu] = (unsigned)(uintptr_t)data;
    }
}

static void on_hypercall(unsigned cpu, void *data)
{
    (void)data;
    if (cpu < CPUS) {
        counters[cpu].hypercalls[last_number[cpu]]++;
    }
}

// The block's entry, NULL when the table is full. The same code is translated again and again.
static struct block *profile_entry(uint64_t address, uint64_t instructions)
{
    struct block *found = NULL;
    pthread_mutex_lock(&profile_lock);
    uint64_t slot = (address * UINT64_C(0x9e3779b97f4a7c15)) >> 44;
    for (unsigned probes = 0; probes < 64 && !found; probes++, slot++) {
        struct block *block = &profile[slot % PROFILE_SLOTS];
        if (block->instructions == 0) {
            block->address = address;
            block->instructions = instructions;
        }
        if (block->address == address && block->instructions == instructions) {
            found = block;
        }
    }
    pthread_mutex_unlock(&profile_lock);
    return found;
}

// "pause", and calls: a PV guest's program enters its kernel, and the kernel the hypervisor, by the
// same instruction, the latter with the hypercall's number in %eax ("mov $NUMBER,%eax").
static void look_for(struct qemu_plugin_insn *insn)
{
    const size_t size = qemu_plugin_insn_size(insn);
    const uint8_t *code = qemu_plugin_insn_data(insn);
    const enum area area = area_of(qemu_plugin_insn_vaddr(insn));
    uint32_t number = 0;
    if (size == 2 && code[0] == 0xf3 && code[1] == 0x90) {
        qemu_plugin_register_vcpu_insn_exec_cb(insn, on_pause, NO_REGISTERS, NULL);
    } else if (size == 2 && code[0] == 0x0f && code[1] == 0x05) {
        qemu_plugin_register_vcpu_insn_exec_cb(insn, area == PROGRAMS ? on_syscall : on_hypercall,
                                               NO_REGISTERS, NULL);
    } else if (size == 5 && code[0] == 0xb8 && area == LINUX) {
        memcpy(&number, code + 1, sizeof(number));
        if (number < HYPERCALLS) {
            void *data = (void *)(uintptr_t)number; // NOLINT(performance-no-int-to-ptr)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_number, NO_REGISTERS, data);
        }
    }
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    const size_t instructions = qemu_plugin_tb_n_insns(block);
    const uint64_t address = qemu_plugin_tb_vaddr(block);
    struct block *entry = profile ? profile_entry(address, instructions) : NULL;
    if (entry) {
        qemu_plugin_register_vcpu_tb_exec_cb(block, on_profiled_block, NO_REGISTERS, entry);
    } else {
        qemu_plugin_register_vcpu_tb_exec_cb(block, on_block, NO_REGISTERS,
                                             packed(area_of(address), instructions));
    }
    for (size_t i = 0; i < instructions; i++) {
        look_for(qemu_plugin_tb_get_insn(block, i));
    }
}

static void on_idle(plugin_id id, unsigned cpu);

// Registers what the header wants. Everything that was registered is gone after a reset, and with
// it the code that was translated.
static void begin(plugin_id id)
{
    atomic_store(&header->counting, atomic_load(&header->wanted));
    qemu_plugin_register_vcpu_idle_cb(id, on_idle);
    if (atomic_load(&header->counting)) {
        qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    }
}

static void on_idle(plugin_id id, unsigned cpu)
{
    static atomic_bool resetting;
    (void)cpu;
    if (atomic_load(&header->wanted) == atomic_load(&header->counting)) {
        atomic_store(&resetting, false);
    } else if (!atomic_exchange(&resetting, true)) {
        qemu_plugin_reset(id, begin);
    }
}

// Maps the file; returns 0, or -1.
static int map(const char *path, bool profiled)
{
    const size_t base = sizeof(struct header) + CPUS * sizeof(struct cpu_counters);
    const size_t size = base + (profiled ? PROFILE_SLOTS * sizeof(struct block) : 0);
    const int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) {
        return -1;
    }
    void *memory = MAP_FAILED;
    if (ftruncate(file, (off_t)size) == 0) {
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    close(file);
    if (memory == MAP_FAILED) {
        return -1;
    }
    header = memory;
    counters = (struct cpu_counters *)(header + 1);
    profile = profiled ? (struct block *)(counters + CPUS) : NULL;
    return 0;
}

int qemu_plugin_install(plugin_id id, const struct qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    const char *path = NULL;
    bool profiled = false;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            path = argv[i] + 4;
        }
        profiled = profiled || strcmp(argv[i], "profile=on") == 0;
    }
    if (!path || map(path, profiled) < 0) {
        return -1;
    }
    begin(id);
    return 0;
}
