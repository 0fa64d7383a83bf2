/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the compiled code loads from a ring. Every access to the ring's memory faults, is noted and
 * carried out alone: what a second load finds may be something else, so there is only one of each
 * word, and none of the words that are only written.
 */
#include "ring.h"
#include "testing.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

#define PAGE_BYTES 4096U
#define TRAP_FLAG  0x100
#define WRITE_FLAG 2 /* of a page fault's error code */

static uint8_t *ring_page;
static unsigned loads[PAGE_BYTES], stores[PAGE_BYTES];

static void on_access(int number, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;
    const size_t at = (size_t)((uint8_t *)info->si_addr - ring_page);
    (void)number;

    if (at >= PAGE_BYTES)
        _exit(99);
    if (machine->uc_mcontext.gregs[REG_ERR] & WRITE_FLAG)
        stores[at]++;
    else
        loads[at]++;
    (void)mprotect(ring_page, PAGE_BYTES, PROT_READ | PROT_WRITE);
    machine->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void after_access(int number, siginfo_t *info, void *context)
{
    ucontext_t *machine = context;
    (void)number;
    (void)info;

    (void)mprotect(ring_page, PAGE_BYTES, PROT_NONE);
    machine->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void watch(bool on)
{
    const struct sigaction access = {.sa_sigaction = on_access, .sa_flags = SA_SIGINFO};
    const struct sigaction step = {.sa_sigaction = after_access, .sa_flags = SA_SIGINFO};

    /* cmocka has a handler of its own in each test. */
    assert_int_equal(sigaction(SIGSEGV, &access, NULL), 0);
    assert_int_equal(sigaction(SIGTRAP, &step, NULL), 0);
    memset(loads, 0, sizeof(loads));
    memset(stores, 0, sizeof(stores));
    assert_int_equal(mprotect(ring_page, PAGE_BYTES, on ? PROT_NONE : PROT_READ | PROT_WRITE), 0);
}

static unsigned sum(const unsigned *counts, size_t from, size_t to)
{
    unsigned total = 0;

    for (size_t i = from; i < to; i++)
        total += counts[i];
    return total;
}

static struct ring new_ring(enum blkif_abi abi)
{
    struct ring ring;

    assert_int_equal(mprotect(ring_page, PAGE_BYTES, PROT_READ | PROT_WRITE), 0);
    memset(ring_page, 0, PAGE_BYTES);
    assert_int_equal(ring_init(&ring, ring_page, abi, 0), 0);
    ((struct ring_shared *)ring_page)->req_prod = 32;
    return ring;
}

/* Words of 8 bytes where slots are aligned to that, else of 4. */
static void expect_words_loaded_once(enum blkif_abi abi, size_t word)
{
    struct ring ring = new_ring(abi);
    struct ring_slot slot;
    unsigned found[PAGE_BYTES], stored;

    for (uint32_t n = 0; n < 32; n++) {
        const size_t first = BLKIF_RING_HEADER_BYTES + n * ring.slot_bytes;

        watch(true);
        ring_copy_slot(&ring, 0, &slot);
        memcpy(found, loads, sizeof(found));
        stored = sum(stores, 0, PAGE_BYTES);
        watch(false);
        assert_int_equal(stored, 0);
        assert_int_equal(sum(found, 0, PAGE_BYTES), ring.slot_bytes / word);
        for (size_t i = 0; i < ring.slot_bytes; i += word)
            assert_int_equal(found[first + i], 1);
        ring_consume(&ring, 1);
    }
}

static void xsa_166_each_word_of_a_slot_is_loaded_once(void **state)
{
    (void)state;
    expect_words_loaded_once(BLKIF_ABI_NATIVE, 8);
    expect_words_loaded_once(BLKIF_ABI_X86_32, 4);
}

static void xsa_478_the_producer_is_loaded_once(void **state)
{
    struct ring ring = new_ring(BLKIF_ABI_NATIVE);
    uint32_t available = 0;
    unsigned all, producer;
    (void)state;

    watch(true);
    const int error = ring_available(&ring, &available);
    all = sum(loads, 0, PAGE_BYTES);
    producer = loads[offsetof(struct ring_shared, req_prod)];
    watch(false);
    assert_int_equal(error, 0);
    assert_int_equal(available, 32);
    assert_int_equal(producer, 1);
    assert_int_equal(all, 1);
}

static void answers_load_nothing_but_whether_to_notify(void **state)
{
    struct ring ring = new_ring(BLKIF_ABI_NATIVE);
    unsigned all, event;
    (void)state;

    watch(true);
    ring_consume(&ring, 1);
    ring_put_response(&ring, 7, 0, 0, 1);
    ring_publish(&ring);
    (void)ring_must_notify(&ring, 0);
    all = sum(loads, 0, PAGE_BYTES);
    event = loads[offsetof(struct ring_shared, rsp_event)];
    watch(false);
    assert_int_equal(all, event);
    assert_int_equal(event, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xsa_166_each_word_of_a_slot_is_loaded_once),
        cmocka_unit_test(xsa_478_the_producer_is_loaded_once),
        cmocka_unit_test(answers_load_nothing_but_whether_to_notify),
    };
    const char *preload = getenv("LD_PRELOAD");

    /* What valgrind or a sanitizer make of the code is of no interest. */
    if (SANITIZED || (preload && strstr(preload, "vgpreload")))
        return 77;
    ring_page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring_page == MAP_FAILED)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
