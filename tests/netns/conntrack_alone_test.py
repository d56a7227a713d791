#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The connection table without the daemon: new connections come all the time, many more than it has room for, half of them
to a Service. None is refused, what lives stays, and the counters of who has how many are right.

    conntrack_alone_test.py BUILD_FOLDER [unittest options]
        SLUICE_SECONDS: how long, default 26; SLUICE_RATE: new connections a second, default 240; SLUICE_DAEMON=1: a control
        run, with the daemon
"""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "lib"))
import sluice_test  # noqa: E402
from conntrack import conntrack_entries, conntrack_uses  # noqa: E402
from segments import open_and_reset  # noqa: E402
from service_test import service, slice_of  # noqa: E402
from sluice_node import Node, wait_for  # noqa: E402
from traffic import Echo, TcpStream, in_namespace, tcp_reaches  # noqa: E402

BUILD = ""
SECONDS = float(os.environ.get("SLUICE_SECONDS", 26))
RATE = float(os.environ.get("SLUICE_RATE", 240))
CLUSTER_IP, TARGET, CLOSED_PORT = "10.96.0.1", 8080, 9000
# A connection that is reset is remembered for ten seconds. With one or two entries each, those take less than a half of the
# table, and come to more than all of it by the end of the test.
MAX = int(RATE * 10 * 1.5 * 2.2)
SERVICE_PORTS = 32


class ConntrackAloneTest(sluice_test.SluiceTest):
    """Two pods that open connections and reset them, one that serves."""

    @classmethod
    def setUpClass(cls):
        cls.node = Node(BUILD, "alone", "10.83.7.0/24")
        cls.node.begin(*cls.options())
        cls.clients = [cls.node.add_pod("x", name) for name in ("one", "two")]
        cls.server = cls.node.add_pod("x", "server")
        cls.echo = Echo(cls.server, TARGET)
        cls.node.write_pod("x", "server", address=cls.server.address)
        slices = slice_of("web", cls.server.address)
        slices["ports"] = [{"name": f"tcp{n}", "protocol": "TCP", "port": TARGET} for n in range(SERVICE_PORTS)]
        cls.node.write("service-web", service("web", CLUSTER_IP, ports=[
            {"name": f"tcp{n}", "protocol": "TCP", "port": 80 + n, "targetPort": TARGET} for n in range(SERVICE_PORTS)]), slices)
        cls.node.settle()
        wait_for("the server", lambda: tcp_reaches(cls.clients[0], cls.server.address, TARGET))

    @classmethod
    def options(cls):
        return (f"--conntrack-max={MAX}",)

    @classmethod
    def tearDownClass(cls):
        cls.echo.close()
        cls.node.kill_daemon(signal.SIGTERM)
        cls.node.delete()

    def drops(self):
        return self.node.get("/v1/status")["packets"]["drops"]

    def table(self):
        """(uses by owner, all, entries), at a moment when they agree; packets that are on their way make a difference."""
        pins = f"{self.node.bpffs}/sluice/v1"

        def agree():
            uses, every = conntrack_uses(pins)
            return (uses, every) if every == sum(uses.values()) == conntrack_entries(pins) else None
        return wait_for("counters and entries to agree", agree, 5, 0.1)

    def open_and_reset(self, client, rate, until, told):
        """By turns to the Service and to the pod itself."""
        targets = [(CLUSTER_IP, 80, SERVICE_PORTS), (self.server.address, CLOSED_PORT, SERVICE_PORTS)]
        told.append(in_namespace(client.path, lambda: open_and_reset(client.address, targets, rate, until)))

    def test_a_table_lives_without_the_daemon(self):
        stream = TcpStream(self.clients[0], self.server.address, TARGET)
        before = self.drops()
        if "SLUICE_DAEMON" not in os.environ:
            self.node.kill_daemon()
        most, told = 0, []
        until = time.monotonic() + SECONDS
        threads = [threading.Thread(target=self.open_and_reset, args=(client, RATE / 2, until, told)) for client in self.clients]
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            most = max(most, conntrack_uses(f"{self.node.bpffs}/sluice/v1")[1])
            time.sleep(1)
        for thread in threads:
            thread.join()
        uses, every = self.table()
        if "SLUICE_DAEMON" not in os.environ:
            self.node.start_daemon(*self.options())
        after = self.drops()
        refused = {reason: after.get(reason, 0) - before.get(reason, 0)
                   for reason in ("CT_FULL", "CT_BUDGET", "CT_BUSY") if after.get(reason, 0) != before.get(reason, 0)}
        print(f"\n  {sum(told)} connections, refused {refused or 'none'}; of {MAX} entries {most} in use at most, {every} at the end")
        self.assertEqual({}, refused)
        self.assertGreater(sum(told) * 1.5, MAX, "the table never had to make room")
        self.assertGreater(every, MAX // 4)
        self.assertEqual(2, len(uses), "one owner a client")
        self.assertFalse(stream.stalled(1.0))
        self.assertEqual(0, stream.end()["resets"], "a connection that lived was lost")


if __name__ == "__main__":
    sluice_test.main(sys.modules[__name__])
