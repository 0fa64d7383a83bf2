# SPDX-License-Identifier: BSD-2-Clause
"""The bed: xenstored, domains, backends and a frontend of ours, without a hypervisor."""
