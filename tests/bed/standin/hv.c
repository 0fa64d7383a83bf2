/* SPDX-License-Identifier: BSD-2-Clause */
/* The bed's hypervisor file: creating it, mapping it, its lock. */
#include "hv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static const size_t memory_offset = (sizeof(struct hv_shared) + 0x1fffff) & ~(size_t)0x1fffff;
static const size_t memory_size = (size_t)HV_DOMAINS * HV_PAGES * HV_PAGE;
static struct hv the_hv;

static int file_path(const char *dir, char *path, size_t size)
{
    int n = snprintf(path, size, "%s/hypervisor", dir);

    return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int hv_open_file(void)
{
    const char *dir = getenv("BLKBACKD_BED_DIR");
    char path[PATH_MAX];
    int fd;

    if (!dir)
        return -ENOENT;
    if (file_path(dir, path, sizeof(path)))
        return -ENAMETOOLONG;
    fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static uint32_t env_u32(const char *name)
{
    const char *value = getenv(name);

    return value ? (uint32_t)strtoul(value, NULL, 10) : 0;
}

static int map_file(int fd)
{
    void *s = mmap(NULL, memory_offset + memory_size, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_NORESERVE, fd, 0);

    if (s == MAP_FAILED)
        return -errno;
    madvise(s, memory_offset + memory_size, MADV_DONTDUMP);
    the_hv.s = s;
    the_hv.memory = (uint8_t *)s + memory_offset;
    the_hv.domid = (uint16_t)env_u32("BLKBACKD_BED_DOMID");
    the_hv.spin_ns = env_u32("BLKBACKD_BED_HYPERCALL_NS");
    return 0;
}

/* Mapped when the library is loaded: a descriptor can be adopted by a process that may no longer
 * open files. */
__attribute__((constructor)) static void map_at_load(void)
{
    int fd = hv_open_file();

    if (fd < 0)
        return;
    if (!map_file(fd) && the_hv.s->magic != HV_MAGIC)
        the_hv.s = NULL;
    close(fd);
}

struct hv *hv_get(void)
{
    if (!the_hv.s) {
        errno = ENOENT;
        return NULL;
    }
    return &the_hv;
}

static void init_shared(struct hv_shared *s)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&s->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    if (getrandom(&s->id, sizeof(s->id), 0) != sizeof(s->id))
        s->id = (uint32_t)getpid();
    /* xenstored's way in: an unbound port of domain 0 to itself, told by /proc/xen/xsd_port on a
     * real host */
    s->domain[0].exists = 1;
    s->domain[0].port_top = HV_XENSTORE_PORT + 1;
    s->domain[0].port[HV_XENSTORE_PORT].link = hv_link(HV_PORT_UNBOUND, 0, 0);
    s->domain[0].port[HV_XENSTORE_PORT].handle = HV_NONE;
    s->version = HV_VERSION;
    s->magic = HV_MAGIC;
}

int hv_create(const char *dir)
{
    char path[PATH_MAX];
    int fd, err;

    if (the_hv.s)
        return -EBUSY;
    if (file_path(dir, path, sizeof(path)))
        return -ENAMETOOLONG;
    if (setenv("BLKBACKD_BED_DIR", dir, 1))
        return -ENOMEM;
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    err = ftruncate(fd, (off_t)(memory_offset + memory_size)) ? -errno : map_file(fd);
    close(fd);
    if (!err)
        init_shared(the_hv.s);
    return err;
}

int64_t hv_page_offset(uint16_t domid, uint32_t page)
{
    return (int64_t)memory_offset + ((int64_t)domid * HV_PAGES + page) * HV_PAGE;
}

uint8_t *hv_page(const struct hv *hv, uint16_t domid, uint32_t page)
{
    return hv->memory + ((size_t)domid * HV_PAGES + page) * HV_PAGE;
}

void hv_lock(struct hv *hv)
{
    if (pthread_mutex_lock(&hv->s->lock) == EOWNERDEAD)
        pthread_mutex_consistent(&hv->s->lock);
}

void hv_unlock(struct hv *hv)
{
    pthread_mutex_unlock(&hv->s->lock);
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void hv_spin(const struct hv *hv)
{
    uint64_t end;

    if (!hv->spin_ns)
        return;
    end = now_ns() + hv->spin_ns;
    while (now_ns() < end)
        ;
}

bool hv_domain_alive(const struct hv *hv, uint32_t domid)
{
    return domid < HV_DOMAINS && hv->s->domain[domid].exists && !hv->s->domain[domid].dying;
}

struct hv_counters *hv_count(const struct hv *hv)
{
    return &hv->s->domain[hv->domid].count;
}
