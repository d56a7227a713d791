# SPDX-License-Identifier: Apache-2.0
"""Ways to join two namespaces, by the kind of interface that each of them gets. Every one is called as
tun(one, "up0", two, "up0"), leaves both interfaces without addresses and down, and returns what close() takes down."""
import fcntl
import os
import select
import struct
import threading

from traffic import in_namespace

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


class TunWire:
    """Carries packets between the tun devices of two namespaces."""

    def __init__(self, *ends):
        self.ends = [in_namespace(namespace.path, lambda name=name: self._make(name)) for namespace, name in ends]
        self.stop, self.stopped = os.pipe()
        self.thread = threading.Thread(target=self._carry, daemon=True)
        self.thread.start()

    @staticmethod
    def _make(name):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
        return fd

    def _carry(self):
        other = dict(zip(self.ends, reversed(self.ends)))
        while True:
            for fd in select.select([*self.ends, self.stop], [], [])[0]:
                if fd == self.stop:
                    return
                try:
                    os.write(other[fd], os.read(fd, 65536))
                except OSError:  # the other one is not up yet
                    pass

    def close(self):
        os.write(self.stopped, b"x")
        self.thread.join()
        for fd in (*self.ends, self.stop, self.stopped):
            os.close(fd)


def tun(one, name_one, two, name_two):
    return TunWire((one, name_one), (two, name_two))
