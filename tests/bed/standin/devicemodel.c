/* SPDX-License-Identifier: BSD-2-Clause */
/* Stand-in for libxendevicemodel.so.1: there is no device model on the bed. */
#include <errno.h>

#define UNAVAILABLE(name) \
    long name(void);      \
    long name(void)       \
    {                     \
        errno = ENOSYS;   \
        return -1;        \
    }

UNAVAILABLE(xendevicemodel_create_ioreq_server)
UNAVAILABLE(xendevicemodel_destroy_ioreq_server)
UNAVAILABLE(xendevicemodel_get_ioreq_server_info)
UNAVAILABLE(xendevicemodel_inject_event)
UNAVAILABLE(xendevicemodel_inject_msi)
UNAVAILABLE(xendevicemodel_map_io_range_to_ioreq_server)
UNAVAILABLE(xendevicemodel_map_mem_type_to_ioreq_server)
UNAVAILABLE(xendevicemodel_map_pcidev_to_ioreq_server)
UNAVAILABLE(xendevicemodel_modified_memory)
UNAVAILABLE(xendevicemodel_restrict)
UNAVAILABLE(xendevicemodel_set_ioreq_server_state)
UNAVAILABLE(xendevicemodel_set_isa_irq_level)
UNAVAILABLE(xendevicemodel_set_mem_type)
UNAVAILABLE(xendevicemodel_set_pci_intx_level)
UNAVAILABLE(xendevicemodel_set_pci_link_route)
UNAVAILABLE(xendevicemodel_track_dirty_vram)
UNAVAILABLE(xendevicemodel_unmap_io_range_from_ioreq_server)
UNAVAILABLE(xendevicemodel_unmap_pcidev_from_ioreq_server)
UNAVAILABLE(xendevicemodel_shutdown)
UNAVAILABLE(xendevicemodel_pin_memory_cacheattr)
UNAVAILABLE(xendevicemodel_relocate_memory)
UNAVAILABLE(xendevicemodel_modified_memory_bulk)
UNAVAILABLE(xendevicemodel_nr_vcpus)
UNAVAILABLE(xendevicemodel_set_irq_level)

/* QEMU opens one at start and makes no call for a paravirtual machine. */
void *xendevicemodel_open(void *logger, unsigned int open_flags);
void *xendevicemodel_open(void *logger, unsigned int open_flags)
{
    static int handle;

    (void)logger;
    (void)open_flags;
    return &handle;
}

int xendevicemodel_close(void *dmod);
int xendevicemodel_close(void *dmod)
{
    (void)dmod;
    return 0;
}
