# SPDX-License-Identifier: Apache-2.0
"""Traffic that runs for as long as something else happens, in a process of its own so that neither slows the other."""
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


class Streams:
    """Numbered UDP packets and long TCP connections between hosts. `flows`: (source, target) pairs."""

    def __init__(self, udp=(), tcp=(), rate=1000):
        plan = {"rate": rate,
                "udp": [[s.path, t.path, t.address, 7000 + i] for i, (s, t) in enumerate(udp)],
                "tcp": [[s.path, t.path, t.address, 7100 + i] for i, (s, t) in enumerate(tcp)]}
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "streams.py"), json.dumps(plan)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the streams did not start: exit {self.process.wait()}")

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def progress(self):
        """Rounds of each TCP connection so far."""
        return self.ask("progress")

    def end(self):
        """{"udp": [{"sent", "lost", …}], "tcp": [{"rounds", "resets", …}]}"""
        try:
            return self.ask("end")
        finally:
            self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def verdict(report, name, result, flowed=True):
    """Nothing lost, nothing reset, and something was sent at all."""
    lost = sum(u["lost"] for u in result["udp"])
    resets = sum(t["resets"] for t in result["tcp"])
    sent = sum(u["sent"] for u in result["udp"])
    rounds = min((t["rounds"] for t in result["tcp"]), default=1)
    gap = max([s["max_gap_ms"] for s in result["udp"] + result["tcp"]], default=0)
    report.check(f"{name}: no packet lost, no connection reset", lost == 0 and resets == 0 and
                 (sent > 0 or not result["udp"]) and (rounds > 0 or not flowed), result)
    report.note(f"{sent} packets sent, {lost} lost; {len(result['tcp'])} connections, {resets} reset; "
                f"longest pause {gap:.1f} ms")


def main(plan):
    from traffic import Echo, TcpStream, UdpStream

    class Place:
        def __init__(self, path):
            self.path = path

    echoes = [Echo(Place(target), port) for _, target, _, port in plan["tcp"]]
    tcp = [TcpStream(Place(source), address, port) for source, _, address, port in plan["tcp"]]
    udp = [UdpStream(Place(source), Place(target), address, port, plan["rate"])
           for source, target, address, port in plan["udp"]]
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            print(json.dumps({"udp": [s.end() for s in udp], "tcp": [s.end() for s in tcp]}), flush=True)
            break
        print(json.dumps([s.rounds for s in tcp]), flush=True)
    for echo in echoes:
        echo.close()


if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), "tests", "lib"))
    main(json.loads(sys.argv[1]))
