#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The binaries that are installed on nodes bear the marks of a hardened build.

    hardening_test.py SLUICED SLUICECTL SLUICE_CNI
"""
import re
import subprocess
import sys
import unittest


class Binary:
    def __init__(self, path):
        self.path = path
        self.header, self.segments, self.dynamic = (self.readelf(option) for option in ("-h", "-l", "-d"))
        self.is_dynamic = "There is no dynamic section" not in self.dynamic
        # As "puts@GLIBC_2.2.5 (3)" in what is linked dynamically.
        self.symbols = set(re.findall(r"\s(\w+)(?:@\S+)?(?:\s\(\d+\))?$", self.readelf("-s"), re.MULTILINE))

    def readelf(self, option):
        return subprocess.run(["readelf", "-W", option, self.path], capture_output=True, text=True, check=True).stdout

    def own_calls(self, callees):
        """Which of these Sluice's own functions call: a static C library calls some by itself."""
        function, found = "", set()
        with subprocess.Popen(["objdump", "-dC", "--no-show-raw-insn", self.path], stdout=subprocess.PIPE, text=True) as code:
            for line in code.stdout:
                if line.endswith(">:\n"):
                    function = line
                elif "<sluice::" in function and "call" in line:
                    found.update(callee for callee in callees if callee in line)
        return found

    def flags_of(self, segment):
        """Of each such segment, for example "RW"."""
        return [flags.replace(" ", "") for flags in
                re.findall(rf"^\s+{segment}\s+(?:0x\w+\s+){{5}}([RWE ]{{3}})", self.segments, re.MULTILINE)]


class HardeningTest(unittest.TestCase):
    def test_no_memory_is_both_written_and_executed(self):
        for binary in BINARIES:
            with self.subTest(binary.path):
                self.assertEqual(["RW"], binary.flags_of("GNU_STACK"))
                loaded = binary.flags_of("LOAD")
                self.assertIn("RE", loaded)
                self.assertFalse([flags for flags in loaded if "W" in flags and "E" in flags])

    def test_what_is_relocated_is_read_only_afterwards(self):
        for binary in BINARIES:
            with self.subTest(binary.path):
                self.assertEqual(["R"], binary.flags_of("GNU_RELRO"))
                if binary.is_dynamic:
                    self.assertRegex(binary.dynamic, r"\(FLAGS\)\s+.*BIND_NOW", "symbols are bound before main()")

    def test_addresses_are_random(self):
        # sluice-cni, which is static, has a fixed address: cni/CMakeLists.txt says why.
        for binary in filter(lambda each: each.is_dynamic, BINARIES):
            with self.subTest(binary.path):
                self.assertRegex(binary.header, r"Type:\s+DYN")
                self.assertRegex(binary.dynamic, r"\(FLAGS_1\)\s+.*\bPIE\b")

    def test_an_overrun_ends_the_program(self):
        checked = re.compile(r"__(mem|str|sn?printf|vsn?printf|read|recv)\w*_chk")
        guards = {"__stack_chk_fail": "stack protector", "__glibcxx_assert_fail": "an index beyond a container's end"}
        for binary in BINARIES:
            with self.subTest(binary.path):
                calls = binary.own_calls(guards)
                for guard, what in guards.items():
                    self.assertIn(guard, calls, what)
                self.assertTrue(any(map(checked.fullmatch, binary.symbols)), "functions that know the size of their target")


if __name__ == "__main__":
    BINARIES = [Binary(path) for path in sys.argv[1:4]]
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
