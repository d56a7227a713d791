# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom: thousands of connection attempts at once, each from its own network namespace.

Servers answer `clientip` with the address they see the client under, as agnhost's netexec does on UDP; SCTP is spoken
by hand on raw sockets (INIT answered by INIT ACK), because many kernels are built without it.
"""
import ctypes
import errno
import itertools
import os
import random
import selectors
import socket
import struct
import threading
import time

from traffic import CLONE_NEWNET, LIBC, in_namespace

QUESTION = b"clientip\n"
SCTP = 132
SCTP_INIT, SCTP_INIT_ACK = 1, 2
SCTP_CLIENT_PORT = 40000
SCTP_TAGS = itertools.count(random.randrange(1 << 31))  # names an attempt: an answer to an earlier one does not count
UDP_AGAIN = 0.25  # seconds after which an unanswered datagram is sent again


def sctp_packet(source_port, destination_port, verification, chunk, tag):
    """Common header (without checksum: nothing on the way looks at it) and an INIT-like chunk of 20 bytes."""
    return struct.pack("!HHIIBBHIIHHI", source_port, destination_port, verification, 0, chunk, 0, 20, tag, 65535, 1, 1, 1)


def sctp_parse(packet):
    """(source port, destination port, verification tag, chunk type, initiate tag) of a received IPv4 packet, or None."""
    header = (packet[0] & 15) * 4
    if len(packet) < header + 20:
        return None
    source, destination, verification = struct.unpack_from("!HHI", packet, header)
    return source, destination, verification, packet[header + 12], struct.unpack_from("!I", packet, header + 16)[0]


def sockets_in(path, makers):
    """Calls each maker on one thread inside the namespace."""
    return in_namespace(path, lambda: [make() for make in makers])


class Servers:
    """Answers on every given port of every given host, from one thread."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.wake, self.woken = os.pipe()
        self.selector.register(self.wake, selectors.EVENT_READ, self._stop)
        self.lock = threading.Lock()
        self.ended = False
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def add(self, host, tcp=(), udp=(), sctp=()):
        def listener(port):
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("0.0.0.0", port))
            s.listen(512)
            return s

        def datagram(port):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("0.0.0.0", port))
            return s

        makers = [lambda p=p: listener(p) for p in tcp] + [lambda p=p: datagram(p) for p in udp]
        handlers = [self._accept] * len(tcp) + [self._datagram] * len(udp)
        if sctp:
            makers.append(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, SCTP))
            handlers.append(lambda s: self._sctp(s, sctp))
        for s, handler in zip(sockets_in(host.path, makers), handlers):
            s.setblocking(False)
            with self.lock:
                self.selector.register(s, selectors.EVENT_READ, handler)

    def _serve(self):
        while not self.ended:
            for key, _ in self.selector.select(0.5):
                try:
                    key.data(key.fileobj)
                except BlockingIOError:
                    pass
                except OSError:
                    self._drop(key.fileobj)

    def _stop(self, _):
        self.ended = True

    def _drop(self, s):
        if s.type == socket.SOCK_STREAM and s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0:
            self.selector.unregister(s)
            s.close()

    def _accept(self, s):
        connection, _ = s.accept()
        connection.setblocking(False)
        self.selector.register(connection, selectors.EVENT_READ, self._stream)

    def _stream(self, s):
        data = s.recv(65536)
        if not data:
            raise ConnectionResetError
        s.send(s.getpeername()[0].encode() if data == QUESTION else data)

    @staticmethod
    def _datagram(s):
        data, peer = s.recvfrom(65536)
        s.sendto(peer[0].encode() if data == QUESTION else data, peer)

    @staticmethod
    def _sctp(s, ports):
        packet, peer = s.recvfrom(65536)
        parsed = sctp_parse(packet)
        if parsed and parsed[1] in ports and parsed[3] == SCTP_INIT:
            s.sendto(sctp_packet(parsed[1], parsed[0], parsed[4], SCTP_INIT_ACK, 1), (peer[0], 0))

    def close(self):
        os.write(self.woken, b"x")
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            if key.fileobj != self.wake:
                key.fileobj.close()
        self.selector.close()
        os.close(self.wake)
        os.close(self.woken)


class Attempt:
    """One question from one host to one (protocol, address, port); `answer` is what came back, or None."""

    def __init__(self, source, protocol, address, port):
        self.source, self.protocol, self.address, self.port = source, protocol, address, port
        self.answer, self.failure = None, "timeout"
        self.socket = None
        self.tag = next(SCTP_TAGS) & 0xffffffff if protocol == "sctp" else 0

    def start(self):
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_RAW}[self.protocol]
        self.socket = socket.socket(socket.AF_INET, kind, SCTP if self.protocol == "sctp" else 0)
        self.socket.setblocking(False)
        if self.protocol == "tcp":
            # A reset at the end: no TIME_WAIT to run into.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            self.socket.connect((self.address, self.port if self.protocol != "sctp" else 0))
            self.send()
        except BlockingIOError:
            pass
        except OSError as error:
            self.fail(error)

    def send(self):
        data = QUESTION if self.protocol != "sctp" else sctp_packet(SCTP_CLIENT_PORT, self.port, 0, SCTP_INIT, self.tag)
        self.socket.send(data)

    def fail(self, error):
        self.failure = errno.errorcode.get(error.errno, str(error))

    def events(self):
        return selectors.EVENT_WRITE if self.protocol == "tcp" else selectors.EVENT_READ

    def ready(self, mask):
        """True when there is nothing more to wait for."""
        try:
            if mask & selectors.EVENT_WRITE:
                error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, os.strerror(error))
                self.send()
                return False
            data = self.socket.recv(65536)
            if self.protocol == "sctp":
                parsed = sctp_parse(data)
                if not parsed or parsed[:4] != (self.port, SCTP_CLIENT_PORT, self.tag, SCTP_INIT_ACK):
                    return False
                data = b"INIT ACK"
            self.answer, self.failure = data, None
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            self.fail(error)
            return self.protocol == "tcp"


def enter(path):
    with open(path, "rb") as file:
        if LIBC.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {path}")


def run(attempts, seconds, expected=None, least=0.0):
    """Makes all attempts at once and waits until each is answered or refused, or the time is over. With `expected`, those
    that should be answered, no longer than for them, but `least` seconds for the others."""
    thread = threading.Thread(target=_run, args=(attempts, seconds, expected, least))
    thread.start()
    thread.join()
    return attempts


def _run(attempts, seconds, expected, least):
    selector = selectors.DefaultSelector()
    waiting = set()
    for source in {a.source for a in attempts}:
        enter(source.path)
        for attempt in (a for a in attempts if a.source is source):
            attempt.start()
            selector.register(attempt.socket, attempt.events(), attempt)
            waiting.add(attempt)
    missing = set(attempts if expected is None else expected)
    begin = time.monotonic()
    again = begin + UDP_AGAIN
    while waiting and (now := time.monotonic()) < begin + seconds and (missing or now < begin + least):
        if now >= again:
            again = now + UDP_AGAIN
            for attempt in waiting:
                if attempt.protocol != "tcp":
                    try:
                        attempt.send()
                    except OSError as error:
                        attempt.fail(error)
        until = begin + (seconds if missing else least)
        for key, mask in selector.select(max(0, min(until, again) - now)):
            if key.data.ready(mask):
                waiting.discard(key.data)
                missing.discard(key.data)
                selector.unregister(key.fileobj)
            elif mask & selectors.EVENT_WRITE:
                selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
    for attempt in attempts:
        attempt.socket.close()
    selector.close()
