# SPDX-License-Identifier: Apache-2.0
"""Ways to join two namespaces, by the kind of interface that each of them gets. Every one is called as
veth(one, "up0", two, "up0"), leaves both interfaces without addresses and down, and returns what close() takes down."""
import fcntl
import os
import select
import struct
import threading

from sluice_node import run
from traffic import in_namespace

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
VLAN = "83"
CARRIER = "under-"  # and the name of the interface that it carries


class Wire:
    """What goes with its namespaces."""

    def close(self):
        pass


def veth(one, name_one, two, name_two):
    run("ip", "link", "add", name_one, "netns", one.name, "type", "veth", "peer", "name", name_two, "netns", two.name)
    return Wire()


def vlan(one, name_one, two, name_two):
    wire = veth(one, CARRIER + name_one, two, CARRIER + name_two)
    for place, name in ((one, name_one), (two, name_two)):
        place.ip("link", "set", CARRIER + name, "up")
        place.ip("link", "add", "link", CARRIER + name, "name", name, "type", "vlan", "id", VLAN)
    return wire


def wireguard(one, name_one, two, name_two):
    """Over a pair of interfaces with addresses that are of their link only, so that they lead nowhere else."""
    wire = veth(one, CARRIER + name_one, two, CARRIER + name_two)
    ends = [(one, name_one, "169.254.83.1", run("wg", "genkey")), (two, name_two, "169.254.83.2", run("wg", "genkey"))]
    for (place, name, address, key), (_, _, other, others_key) in zip(ends, reversed(ends)):
        place.ip("addr", "add", f"{address}/30", "dev", CARRIER + name)
        place.ip("link", "set", CARRIER + name, "up")
        place.ip("link", "add", name, "type", "wireguard")
        place.run("wg", "set", name, "listen-port", "51820", "private-key", "/proc/self/fd/0", "peer",
                  run("wg", "pubkey", input=others_key).strip(), "allowed-ips", "0.0.0.0/0", "endpoint", f"{other}:51820", input=key)
    return wire


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
