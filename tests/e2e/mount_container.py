#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Containers run on what is mounted: programs of an image in clones of it, many at once; one is committed and goes on."""

import os
import subprocess

import mounting
import support
from support import image


class MountContainer(mounting.Case):
    size = "512M"

    def setUp(self):
        super().setUp()
        self.lcfs("import", "-q", image("oci-gzip.tar"))
        self.lcfs("layer", "create", "work", "--parent", "demo")

    def chroot(self, root, script):
        return subprocess.run(["chroot", root, "/bin/busybox", "sh", "-c", script], check=True, stdout=subprocess.PIPE).stdout.decode()

    def test_the_mount_shows_what_extract_writes(self):
        self.lcfs("extract", "-q", "demo", self.path("tree"))
        self.mount("--layer", "demo")
        self.assertEqual(support.listing(self.mnt), support.listing(self.path("tree")))

    def test_ten_clones_at_once_and_one_of_them_committed(self):
        self.mount()
        names = [f"c{i}" for i in range(10)]
        for name in names:
            self.lcfs("layer", "create", name, "--parent", "demo")
        script = "mkdir -p /made; i=0; while [ $i -lt 100 ]; do echo {0} $i >/made/$i; i=$((i+1)); done; rm -rf /etc; cat /made/99"
        running = [subprocess.Popen(["chroot", f"{self.mnt}/{name}", "/bin/busybox", "sh", "-c", script.replace("{0}", name)],
                                    stdout=subprocess.PIPE) for name in names]
        for name, process in zip(names, running):
            self.assertEqual(process.communicate()[0].decode(), f"{name} 99\n")
            self.assertEqual(process.returncode, 0)
        self.lcfs("layer", "commit", "c3", "--as", "snapshot")
        self.chroot(f"{self.mnt}/c3", "echo later >/made/later")
        for name in names:
            self.assertEqual(sorted(os.listdir(f"{self.mnt}/{name}/made")), sorted([str(i) for i in range(100)] + (["later"] if name == "c3" else [])))
            self.assertFalse(os.path.exists(f"{self.mnt}/{name}/etc"))
            with open(f"{self.mnt}/{name}/made/5") as file:
                self.assertEqual(file.read(), f"{name} 5\n")
        self.assertTrue(os.path.exists(f"{self.mnt}/work/etc/motd"))  # nothing leaks into another clone
        with open(f"{self.mnt}/snapshot/made/7") as file:
            self.assertEqual(file.read(), "c3 7\n")
        self.assertFalse(os.path.exists(f"{self.mnt}/snapshot/made/later"))
        self.umount()
        self.assertEqual(self.lcfs("cat", "snapshot", "/made/42"), b"c3 42\n")
        self.assertEqual(self.lcfs("cat", "c3", "/made/later"), b"later\n")

    def test_a_layer_is_the_upper_directory_of_overlayfs(self):
        self.lcfs("layer", "create", "upper")
        self.lcfs("extract", "-q", "demo", self.path("lower"))
        self.mount()
        root, merged = self.mnt + "/upper", self.path("merged")
        for name in [root + "/u", root + "/w", merged]:
            os.mkdir(name)
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={self.path('lower')},upperdir={root}/u,workdir={root}/w", merged], check=True)
        try:
            os.remove(merged + "/etc/motd")
            os.rename(merged + "/bin/busybox", merged + "/bin/moved")
            os.mkdir(merged + "/new")
            self.assertFalse(os.path.exists(merged + "/etc/motd"))
            self.assertTrue(os.path.exists(merged + "/bin/moved"))
        finally:
            subprocess.run(["umount", merged], check=True)
        whiteout = os.stat(root + "/u/etc/motd")
        self.assertEqual((whiteout.st_rdev, whiteout.st_mode & 0o170000), (0, 0o020000))

    def test_mmap_of_two_processes_is_coherent_with_write(self):
        self.mount()
        path = self.mnt + "/work/shared"
        with open(path, "wb") as file:
            file.write(b"a" * 8192)
        code = ("import mmap, os, sys\nf = os.open(sys.argv[1], os.O_RDWR)\nm = mmap.mmap(f, 8192)\nassert m[:1] == b'a'\n"
                "m[5000:5004] = b'mmap'\nprint('ready', flush=True)\nsys.stdin.readline()\nassert m[10:15] == b'write', m[10:15]\n")
        child = subprocess.Popen(["python3", "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(child.stdout.readline(), b"ready\n")
        with open(path, "r+b", buffering=0) as file:
            file.seek(5000)
            self.assertEqual(file.read(4), b"mmap")
            file.seek(10)
            file.write(b"write")
        child.communicate(b"go\n")
        self.assertEqual(child.returncode, 0)


if __name__ == "__main__":
    mounting.need_fuse()
    support.need("busybox")
    mounting.main()
