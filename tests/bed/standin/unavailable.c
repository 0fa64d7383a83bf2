/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls of libxenctrl that QEMU links and a paravirtual disk backend never makes: refused. */
#include <errno.h>

#define UNAVAILABLE(name) \
    long name(void);      \
    long name(void)       \
    {                     \
        errno = ENOSYS;   \
        return -1;        \
    }

UNAVAILABLE(xc_domain_bind_pt_pci_irq)
UNAVAILABLE(xc_domain_iomem_permission)
UNAVAILABLE(xc_domain_ioport_mapping)
UNAVAILABLE(xc_domain_memory_mapping)
UNAVAILABLE(xc_domain_populate_physmap_exact)
UNAVAILABLE(xc_domain_shutdown)
UNAVAILABLE(xc_domain_unbind_msi_irq)
UNAVAILABLE(xc_domain_unbind_pt_irq)
UNAVAILABLE(xc_domain_update_msi_irq)
UNAVAILABLE(xc_get_hvm_param)
UNAVAILABLE(xc_physdev_map_pirq)
UNAVAILABLE(xc_physdev_map_pirq_msi)
UNAVAILABLE(xc_physdev_unmap_pirq)
UNAVAILABLE(xc_set_hvm_param)
