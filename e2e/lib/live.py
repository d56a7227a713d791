# SPDX-License-Identifier: Apache-2.0
"""The generation in force on a node, read where the packets read it: the pinned map `live`, mapped into memory. To look
costs nothing on either side, so it can be looked at all the time."""
import contextlib
import ctypes
import mmap
import os
import platform
import struct
import time

from traffic import LIBC

BPF_OBJ_GET = 7
SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]


class ObjGet(ctypes.Structure):
    _fields_ = [("pathname", ctypes.c_uint64), ("bpf_fd", ctypes.c_uint32), ("file_flags", ctypes.c_uint32)]


class Live:
    """Of one node; outlives daemons, as the map does."""

    def __init__(self, cluster, node):
        path = ctypes.c_char_p(f"{cluster.pins(node)}/live".encode())
        request = ObjGet(ctypes.cast(path, ctypes.c_void_p).value, 0, 0)
        fd = LIBC.syscall(SYS_BPF, BPF_OBJ_GET, ctypes.byref(request), ctypes.sizeof(request))
        if fd < 0:
            raise OSError(ctypes.get_errno(), f"bpf(BPF_OBJ_GET, {path.value.decode()})")
        try:
            self.memory = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(fd)

    def generation(self):
        return struct.unpack_from("=Q", self.memory)[0] >> 32

    def wait_beyond(self, generation, seconds):
        """Until a newer generation is in force; its number."""
        end = time.monotonic() + seconds
        while (now := self.generation()) <= generation:
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for a generation beyond {generation}")
            time.sleep(0.0005)
        return now

    def close(self):
        self.memory.close()


@contextlib.contextmanager
def live_generations(cluster):
    """node -> Live"""
    with contextlib.ExitStack() as stack:
        yield {node: stack.enter_context(contextlib.closing(Live(cluster, node))) for node in cluster.nodes}
