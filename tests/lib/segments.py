# SPDX-License-Identifier: Apache-2.0
"""TCP segments by a raw socket: nobody of the sender's own stack waits for an answer."""
import socket
import struct
import time

SYN, RST = 2, 4
FIRST_PORT, PORTS = 2000, 60000


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff


class Segments:
    """From an address, by a socket of the calling thread's network namespace."""

    def __init__(self, source):
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.source = source

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def send(self, port, target, flags, sequence=1):
        """`target`: (address, port)"""
        header = struct.pack("!HHIIBBHHH", port, target[1], sequence, 0, 5 << 4, flags, 1024, 0, 0)
        addresses = socket.inet_aton(self.source) + socket.inet_aton(target[0])
        whole = checksum(addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(header)) + header)
        self.raw.sendto(header[:16] + struct.pack("!H", whole) + header[18:], (target[0], 0))


def open_and_reset(source, targets, rate, until):
    """Opens so many connections a second, each reset at once, to the targets in turns: (address, first port, number of ports).
    No two have the same addresses and ports. How many they were. `until`: as time.monotonic() tells it."""
    begin, made = time.monotonic(), 0
    with Segments(source) as segments:
        while time.monotonic() < until:
            if made >= (time.monotonic() - begin) * rate:
                time.sleep(0.002)
                continue
            address, first, count = targets[made % len(targets)]
            number = made // len(targets)
            if number >= PORTS * count:
                raise ValueError(f"{address} has no more than {count} ports: there would be two equal connections")
            port, target = FIRST_PORT + number % PORTS, (address, first + number // PORTS)
            segments.send(port, target, SYN)
            segments.send(port, target, RST, 2)
            made += 1
    return made
