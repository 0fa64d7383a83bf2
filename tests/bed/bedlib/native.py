# SPDX-License-Identifier: BSD-2-Clause
"""libbedfront through ctypes: repeats the structures and functions of frontend/front.h."""

import ctypes as c
import os

u8, u16, u32, u64, i16, i64 = c.c_uint8, c.c_uint16, c.c_uint32, c.c_uint64, c.c_int16, c.c_int64


class Segment(c.Structure):
    _fields_ = [("ref", u32), ("first", u8), ("last", u8), ("pad", u16)]


class Request(c.Structure):
    _fields_ = [("id", u64), ("sector", u64), ("nr_sectors", u64), ("op", u8), ("byte1", u8), ("handle", u16),
                ("segments", u32), ("segment", c.POINTER(Segment)), ("slots", u32), ("indirect_refs", u32),
                ("indirect_ref", u32 * 8)]


class Response(c.Structure):
    _fields_ = [("id", u64), ("op", u8), ("pad", u8), ("status", i16), ("pad2", u32)]


class Exercise(c.Structure):
    _fields_ = [("model", c.POINTER(u8)), ("base", u64), ("sectors", u64), ("seed", u64), ("requests", u32),
                ("depth", u32), ("max_segments", u32), ("max_indirect", u32), ("weight_read", u32),
                ("weight_write", u32), ("weight_flush", u32), ("weight_barrier", u32), ("weight_discard", u32),
                ("discard_unit", u32), ("discard_flag", u32), ("timeout_ms", u32), ("tolerate_errors", u32),
                ("alignment", u32), ("pool", c.c_void_p), ("readonly", u32), ("shuffle", u32), ("reads", u32),
                ("writes", u32), ("flushes", u32), ("barriers", u32), ("discards", u32), ("indirect", u32),
                ("multi_block", u32), ("errors", u32), ("reordered", u32), ("bytes", u64),
                ("message", c.c_char * 256)]


class Bench(c.Structure):
    _fields_ = [("sectors", u64), ("seed", u64), ("write", u32), ("sequential", u32), ("size", u32), ("depth", u32),
                ("max_segments", u32), ("milliseconds", u32), ("indirect", u32), ("ios", u64), ("nanoseconds", u64), ("errors", u64),
                ("mean_us", c.c_double), ("p50_us", c.c_double), ("p99_us", c.c_double)]


HISTORY_QUEUES = 8


class History(c.Structure):
    _fields_ = [("queue", c.c_void_p * HISTORY_QUEUES), ("pool", c.c_void_p), ("sectors", u64), ("seed", u64),
                ("requests", u64), ("queues", u32), ("depth", u32), ("max_segments", u32), ("max_indirect", u32),
                ("weight_read", u32), ("weight_write", u32), ("weight_flush", u32), ("weight_barrier", u32),
                ("weight_discard", u32), ("discard_unit", u32), ("alignment", u32), ("readonly", u32),
                ("timeout_ms", u32), ("image", c.c_int32), ("stop", u32), ("pad", u32), ("answered", u64),
                ("reads", u64), ("writes", u64), ("flushes", u64), ("barriers", u64), ("discards", u64),
                ("indirect", u64), ("multi_block", u64), ("outside", u64), ("torn", u64), ("overlapping", u64),
                ("message", c.c_char * 256)]


COUNTERS = ("notifies", "deliveries", "unmasks", "map_calls", "mapped_pages", "unmap_calls", "unmapped_pages",
            "copy_calls", "copy_segments", "copy_bytes", "copy_errors", "map_errors")

_FUNCTIONS = {
    "bed_create": (c.c_int, c.c_char_p),
    "bed_domain_create": (c.c_int, u32, c.c_char_p),
    "bed_domain_destroy": (c.c_int, u32),
    "bed_domain_set": (c.c_int, u32, c.c_bool, c.c_bool, u32),
    "bed_reap": (c.c_int,),
    "bed_counters": (c.c_int, u32, c.POINTER(u64), u32),
    "bed_mapped": (i64, u32),
    "bed_port_state": (c.c_int, u32, u32),
    "bed_grant": (i64, u32, u32, u32, c.c_bool),
    "bed_grant_alias": (i64, u32, u32, u32, c.c_bool),
    "bed_grant_end": (c.c_int, u32, u32),
    "bed_page": (c.POINTER(u8), u32, u32),
    "front_slot_size": (u32, u32),
    "front_queue_new": (c.c_void_p, u32, u32, u32, u32),
    "front_queue_free": (c.c_int, c.c_void_p),
    "front_queue_slots": (u32, c.c_void_p),
    "front_queue_ref": (u32, c.c_void_p, u32),
    "front_queue_port": (u32, c.c_void_p),
    "front_fd": (c.c_int, c.c_void_p),
    "front_queue_free_slots": (u32, c.c_void_p),
    "front_queue_memory": (c.POINTER(u8), c.c_void_p),
    "front_put": (c.c_int, c.c_void_p, c.POINTER(Request)),
    "front_put_raw": (c.c_int, c.c_void_p, c.c_char_p, u32),
    "front_push": (c.c_int, c.c_void_p),
    "front_push_slots": (c.c_int, c.c_void_p, u32),
    "front_remember_slots": (c.c_int, c.c_void_p, u64, u32),
    "front_slots_of": (u32, u32),
    "front_notify": (c.c_int, c.c_void_p),
    "front_take": (c.c_int, c.c_void_p, c.POINTER(Response)),
    "front_wait": (c.c_int, c.c_void_p, u32),
    "front_pool_new": (c.c_void_p, u32, u32, u32, c.c_bool),
    "front_pool_free": (c.c_int, c.c_void_p),
    "front_pool_pages": (u32, c.c_void_p),
    "front_pool_ref": (u32, c.c_void_p, u32, c.c_bool),
    "front_exercise": (c.c_int, c.c_void_p, c.POINTER(Exercise)),
    "front_history_fill": (None, c.POINTER(u8), u64),
    "front_history": (c.c_int, c.c_void_p),
    "front_bench": (c.c_int, c.c_void_p, c.POINTER(Bench)),
}


def load(lib_dir):
    """The library with its functions' types set."""
    lib = c.CDLL(os.path.join(lib_dir, "libbedfront.so"), use_errno=True)
    for name, (result, *args) in _FUNCTIONS.items():
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = args
    return lib


def check(value):
    """Raises OSError for -errno."""
    if value < 0:
        raise OSError(-value, os.strerror(-value))
    return value
