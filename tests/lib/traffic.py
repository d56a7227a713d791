# SPDX-License-Identifier: Apache-2.0
"""Sockets inside other network namespaces, and streams whose losses are counted."""
import ctypes
import os
import socket
import struct
import threading
import time

from deadline import deadline

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE = 33  # past net.core.rmem_max, which is small on a machine that nobody has tuned


def in_namespace(path, function):
    """Calls the function on a thread that has joined the namespace; sockets it makes stay there."""
    box = {}

    def body():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if LIBC.setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {path}")
            finally:
                os.close(fd)
            box["value"] = function()
        except BaseException as error:  # handed to the caller
            box["error"] = error

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    return box["value"]


def bound(namespace, kind, port, address="0.0.0.0"):
    def make():
        s = socket.socket(socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((address, port))
        if kind == socket.SOCK_STREAM:
            s.listen(128)
        return s
    return in_namespace(namespace.path, make)


class Echo:
    """Answers TCP and UDP on a port of a namespace with what it got; `peers` are the clients' addresses."""

    def __init__(self, namespace, port):
        self.tcp = bound(namespace, socket.SOCK_STREAM, port)
        self.udp = bound(namespace, socket.SOCK_DGRAM, port)
        self.peers = []
        self.ended = False
        for target in (self._tcp, self._udp):
            threading.Thread(target=target, daemon=True).start()

    def _tcp(self):
        while True:
            try:
                connection, peer = self.tcp.accept()
            except OSError:
                return
            self.peers.append(peer[0])
            threading.Thread(target=self._serve, args=(connection, peer), daemon=True).start()

    def answer(self, data, peer):
        return data

    def goes_on(self):
        """Does a connection stay open after an answer?"""
        return True

    def _serve(self, connection, peer):
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(self.answer(data, peer))
                    if not self.goes_on():
                        return
            except OSError:
                pass

    def _udp(self):
        while not self.ended:
            try:
                data, peer = self.udp.recvfrom(65536)
                if peer is None:  # shut down
                    return
                self.peers.append(peer[0])
                self.udp.sendto(self.answer(data, peer), peer)
            except OSError:
                if self.ended:
                    return

    def close(self):
        self.ended = True
        for s in (self.tcp, self.udp):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


def tcp_reaches(namespace, address, port, seconds=1.0):
    """Does a new connection get its bytes back?"""
    def attempt():
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
            s.settimeout(deadline(seconds))
            try:
                s.connect((address, port))
                s.sendall(b"sluice")
                return s.recv(16) == b"sluice"
            except OSError:
                return False
    return in_namespace(namespace.path, attempt)


def udp_reaches(namespace, address, port, seconds=1.0, size=6, tries=1):
    def attempt():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(deadline(seconds) / tries)
            s.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER = DONT: large datagrams are fragmented
            data = os.urandom(size)
            for _ in range(tries):
                try:
                    s.sendto(data, (address, port))
                    if s.recv(65536) == data:
                        return True
                except OSError:
                    pass
            return False
    return in_namespace(namespace.path, attempt)


def ping(namespace, address, *options):
    """Fails unless each echo request is answered; one, if the options do not say -c."""
    namespace.run("ping", "-c", "1", "-W", f"{deadline(1):g}", *options, address)


def udp_is_refused(namespace, address, port, seconds):
    """Does the answer to a datagram come back that nobody listens there (ICMP port unreachable)?"""
    def attempt():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(deadline(seconds))
            s.connect((address, port))
            s.send(b"x")
            try:
                s.recv(1)
            except ConnectionRefusedError:
                return True
            except TimeoutError:
                pass
            return False
    return in_namespace(namespace.path, attempt)


# A limit, and how much takes how long through it.
RATE = 8_000_000  # bits a second
BURST = 2_000_000  # bits; more than one segment that the kernel has not cut yet
SIZE = (RATE + BURST) // 8  # bytes, which take LEAST at least
LEAST = 1.0  # seconds


def limits(*directions):
    """The value of the CNI capability `bandwidth`; `directions`: ingress, egress."""
    return {f"{d}{what}": value for d in directions for what, value in (("Rate", RATE), ("Burst", BURST))}


def transfer(source, target, address, size, port=9000):
    """Seconds from the first packet of a new TCP connection until so many bytes have arrived."""
    listener = bound(target, socket.SOCK_STREAM, port)
    received = threading.Event()

    def receive():
        connection, _ = listener.accept()
        with connection:
            left = size
            while left > 0:
                left -= len(connection.recv(1 << 16))
            received.set()

    threading.Thread(target=receive, daemon=True).start()
    begin = time.monotonic()
    with in_namespace(source.path, lambda: socket.create_connection((address, port), deadline(10))) as sender, listener:
        sender.settimeout(deadline(60))
        sender.sendall(bytes(size))
        if not received.wait(deadline(60)):
            raise TimeoutError(f"{size} bytes did not arrive within a minute")
        return time.monotonic() - begin


class UdpStream:
    """Numbered datagrams at a steady rate; counts what the receiver missed, got twice, and its longest gap."""

    def __init__(self, sender, receiver, address, port, rate=1000):
        self.receiver = bound(receiver, socket.SOCK_DGRAM, port)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        self.receiver.settimeout(0.2)
        self.sender = bound(sender, socket.SOCK_DGRAM, 0)
        self.target, self.rate = (address, port), rate
        self.sent = 0
        self.seen = {}
        self.max_gap = 0.0
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self._receive, self._send)]
        for thread in self.threads:
            thread.start()

    def _send(self):
        begin = time.monotonic()
        while not self.ended.is_set():
            wait = begin + self.sent / self.rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self.sender.sendto(struct.pack("!Q", self.sent), self.target)
            self.sent += 1

    def _receive(self):
        last = None
        quiet_since_end = 0
        while quiet_since_end < 3:
            try:
                data = self.receiver.recv(64)
            except TimeoutError:
                quiet_since_end += self.ended.is_set()
                continue
            now = time.monotonic()
            if last is not None:
                self.max_gap = max(self.max_gap, now - last)
            last = now
            number = struct.unpack("!Q", data)[0]
            self.seen[number] = self.seen.get(number, 0) + 1

    def end(self):
        self.ended.set()
        for thread in reversed(self.threads):
            thread.join()
        self.sender.close()
        self.receiver.close()
        return {"sent": self.sent, "lost": self.sent - len(self.seen),
                "duplicates": sum(n - 1 for n in self.seen.values()), "max_gap_ms": round(self.max_gap * 1000, 2)}


class TcpStream:
    """One long connection to an Echo: a question every `pause` seconds, which must be answered in order."""

    def __init__(self, client, address, port, pause=0.01):
        def connect():
            return socket.create_connection((address, port), timeout=deadline(5))
        self.socket = in_namespace(client.path, connect)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0.1)
        self.pause = pause
        self.rounds, self.resets = 0, 0
        self.last_answer = time.monotonic()
        self.max_gap = 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        question = b"?" * 32
        try:
            while not self.ended.is_set():
                self.socket.sendall(question)
                got = 0
                while got < len(question) and not self.ended.is_set():
                    try:
                        data = self.socket.recv(len(question) - got)
                    except TimeoutError:
                        continue
                    if not data:
                        raise ConnectionResetError("closed by the other side")
                    got += len(data)
                now = time.monotonic()
                self.max_gap = max(self.max_gap, now - self.last_answer)
                self.last_answer = now
                self.rounds += got == len(question)
                time.sleep(self.pause)
        except OSError:
            self.resets += 1

    def stalled(self, seconds):
        return time.monotonic() - self.last_answer > deadline(seconds)

    def end(self):
        self.ended.set()
        self.thread.join()
        self.socket.close()
        return {"rounds": self.rounds, "resets": self.resets, "max_gap_ms": round(self.max_gap * 1000, 2)}
