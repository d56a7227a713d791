# SPDX-License-Identifier: Apache-2.0
"""TCP segments by a raw socket: nobody of the sender's own stack waits for an answer."""
import socket
import struct

SYN, RST = 2, 4


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
