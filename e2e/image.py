#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a one-layer image archive that `ctr images import` reads, from files of this machine.

image.py [--busybox] OUT.tar REFERENCE[,REFERENCE...] CONFIG_JSON SOURCE:TARGET...

CONFIG_JSON is the entrypoint as a list, or {"Entrypoint": [...], "Cmd": [...]}. Shared libraries of each SOURCE come
along; --busybox adds /bin/busybox with its applets, but those that a TARGET stands in the place of.
"""
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Layer:
    """A tar archive in memory; each path is added once, with its parent folders."""

    def __init__(self):
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.buffer, mode="w")
        self.seen = set()

    def folder(self, path):
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name and name not in self.seen:
                self.seen.add(name)
                info = tarfile.TarInfo(name)
                info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                self.tar.addfile(info)

    def file(self, target, data, mode=0o644):
        target = target.lstrip("/")
        if target in self.seen:
            return
        self.folder(os.path.dirname(target))
        self.seen.add(target)
        info = tarfile.TarInfo(target)
        info.size, info.mode = len(data), mode
        self.tar.addfile(info, io.BytesIO(data))

    def program(self, source, target):
        self.copy(source, target)
        for word in subprocess.run(["ldd", source], capture_output=True, text=True, check=False).stdout.split():
            if word.startswith("/"):
                self.copy(word, word)

    def copy(self, source, target):
        with open(source, "rb") as file:
            self.file(target, file.read(), os.stat(source).st_mode & 0o777)

    def busybox(self):
        self.copy("/bin/busybox", "bin/busybox")
        for applet in subprocess.check_output(["/bin/busybox", "--list"], text=True).split():
            if "bin/" + applet not in self.seen:
                info = tarfile.TarInfo("bin/" + applet)
                info.type, info.linkname = tarfile.SYMTYPE, "/bin/busybox"
                self.tar.addfile(info)

    def close(self):
        self.tar.close()
        return self.buffer.getvalue()


def write_archive(out, references, config, layer):
    image = json.dumps({
        "architecture": ARCHITECTURE, "os": "linux",
        "config": {**(config if isinstance(config, dict) else {"Entrypoint": config}), "Env": [PATH]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        "history": [{"created_by": "image.py"}]}).encode()
    name = hashlib.sha256(image).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": references, "Layers": ["layer.tar"]}]
    with tarfile.open(out, "w") as archive:
        for member, data in ((name, image), ("layer.tar", layer), ("manifest.json", json.dumps(manifest).encode())):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def main(args):
    busybox = "--busybox" in args
    args = [a for a in args if a != "--busybox"]
    if len(args) < 3:
        sys.exit(__doc__)
    out, references, config = args[0], args[1].split(","), json.loads(args[2])
    layer = Layer()
    for path in ("tmp", "etc", "proc", "sys", "dev", "run", "var", "root"):
        layer.folder(path)
    for pair in args[3:]:
        layer.program(*pair.split(":"))
    if busybox:
        layer.busybox()
    layer.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    layer.file("etc/group", b"root:x:0:\n")
    write_archive(out, references, config, layer.close())


main(sys.argv[1:])
