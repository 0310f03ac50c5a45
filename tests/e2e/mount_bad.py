#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A full store, a device that fails, damaged blocks, names too long: errors that say so, and nothing lost."""

import errno
import json
import os
import subprocess
import time
import unittest

import mounting
import support


def fill(path, piece=1 << 20):
    """Writes until there is no room; how much went in."""
    written = 0
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    block = os.urandom(piece)
    try:
        while True:
            written += os.write(fd, block)
    except OSError as e:
        return written, e.errno
    finally:
        os.close(fd)


class MountBad(mounting.Case):
    size = "64M"

    def setUp(self):
        super().setUp()
        self.lcfs("layer", "create", "a")

    def raises(self, number, call, *args):
        with self.assertRaises(OSError) as caught:
            call(*args)
        self.assertEqual(caught.exception.errno, number, caught.exception)

    def test_a_full_store(self):
        self.mount()
        precious = self.mnt + "/a/precious"
        with open(precious, "wb") as file:
            file.write(b"precious" * 10000)
        written, number = fill(self.mnt + "/a/big")
        self.assertEqual(number, errno.ENOSPC)
        self.assertGreater(written, 40 << 20)
        subprocess.run(["sync", "-f", self.mnt], check=True)
        small = 0  # what is left over takes small files, until that ends too
        while True:
            try:
                with open(f"{self.mnt}/a/small-{small}", "wb") as file:
                    file.write(b"s" * 5000)
                small += 1
                self.assertLess(small, 10000)
            except OSError as e:
                self.assertEqual(e.errno, errno.ENOSPC)
                break
        with open(precious, "rb") as file:
            self.assertEqual(file.read(), b"precious" * 10000)
        os.remove(self.mnt + "/a/big")  # deleting works on a full store
        fd = os.open(self.mnt + "/a/again", os.O_CREAT | os.O_WRONLY)
        for _ in range(30):
            os.write(fd, b"again" * 200000)
        os.fsync(fd)
        os.close(fd)
        self.assertEqual(os.stat(self.mnt + "/a/again").st_size, 30000000)
        fill(self.mnt + "/a/big")
        for _ in range(5):
            os.remove(self.mnt + "/a/big")
            with open(self.mnt + "/a/big", "wb") as file:
                file.write(b"x" * (8 << 20))

    def test_a_layer_with_a_quota(self):
        self.lcfs("layer", "create", "q", "--quota", "8M")
        self.mount()
        shown = os.statvfs(self.mnt + "/q")
        self.assertEqual(shown.f_blocks * shown.f_frsize, 8 << 20)
        written, number = fill(self.mnt + "/q/big")
        self.assertEqual(number, errno.EDQUOT)
        self.assertGreater(written, 4 << 20)
        with open(self.mnt + "/a/other", "wb") as file:  # another layer is not concerned
            file.write(b"x" * (16 << 20))
        # Again and again: its space comes back when the kernel tells that it forgot the file, which it does not wait for.
        for _ in range(20):
            os.remove(self.mnt + "/q/big")
            with open(self.mnt + "/q/big", "wb") as file:
                file.write(b"x" * (4 << 20))

    def test_a_damaged_block_is_an_error_and_never_wrong_data(self):
        self.mount()
        for name in ["good", "bad"]:
            with open(f"{self.mnt}/a/{name}", "wb") as file:
                file.write(name.encode() * 20000)
        self.umount()
        run = json.loads(self.lcfs("stat", "--json", "--runs", "a", "/bad"))["runs"][0]
        where = run["device_offset"] + 5000
        with open(self.store, "r+b") as device:
            device.seek(where)
            before = device.read(1)
            device.seek(where)
            device.write(bytes([before[0] ^ 1]))
        self.mount()
        with open(self.mnt + "/a/good", "rb") as file:
            self.assertEqual(file.read(), b"good" * 20000)
        with open(self.mnt + "/a/bad", "rb") as file:
            self.raises(errno.EIO, file.read)
        self.assertGreater(json.loads(self.lcfs("stats", "--json"))["checksum_failures"], 0)
        self.assertIn("checksum", self.said())
        self.umount()
        with open(self.store, "r+b") as device:
            device.seek(where)
            device.write(before)

    def test_a_device_that_fails(self):
        """A store on a loop device whose file can't grow: writes fail below the store, which keeps its last checkpoint."""
        host, loop = self.path("host"), None
        os.mkdir(host)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24M", "tmpfs", host], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", host])
        subprocess.run(["truncate", "-s", "128M", host + "/disk"], check=True)
        loop = subprocess.run(["losetup", "--find", "--show", host + "/disk"], check=True, stdout=subprocess.PIPE).stdout.decode().strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", loop])
        self.lcfs("mkfs", "-q", loop)
        self.lcfs("layer", "create", "--store", loop, "w")
        self.mount(store=loop)
        with open(self.mnt + "/w/kept", "wb") as file:
            file.write(b"kept" * 1000)
            file.flush()
            os.fsync(file.fileno())
        fd = os.open(self.mnt + "/w/lost", os.O_CREAT | os.O_WRONLY)
        number = 0
        try:
            for _ in range(64):
                os.write(fd, os.urandom(1 << 20))
            os.fsync(fd)
        except OSError as e:
            number = e.errno
        self.assertIn(number, [errno.EIO, errno.EROFS, errno.ENOSPC])  # EROFS: a checkpoint in the background met it first; ENOSPC: as loop devices say it
        with self.assertRaises(OSError):  # nobody is told that what is lost is durable
            os.fsync(fd)
        os.close(fd)
        with open(self.mnt + "/w/kept", "rb") as file:
            self.assertEqual(file.read(), b"kept" * 1000)
        self.assertIn("lcfs", self.said())
        self.server.terminate()
        self.server.wait(timeout=60)
        self.server = None
        self.assertEqual(self.lcfs("cat", "--store", loop, "w", "/kept"), b"kept" * 1000)
        self.lcfs("fsck", "-n", "--data", loop)

    def test_names_and_sizes_at_their_limits(self):
        self.mount()
        root = self.mnt + "/a"
        with open(f"{root}/{'n' * 255}", "w"):
            pass
        self.raises(errno.ENAMETOOLONG, os.mkdir, f"{root}/{'n' * 256}")
        fd = os.open(root + "/sparse", os.O_CREAT | os.O_RDWR)
        os.pwrite(fd, b"x", (1 << 40) + 4097)
        self.assertEqual(os.pread(fd, 3, (1 << 40) + 4096), b"\0x")
        self.raises(errno.EFBIG, os.ftruncate, fd, (1 << 63) - 1)
        os.close(fd)
        for size, offset in [(1, 4095), (4097, 1), (8193, 12289), (100001, 3)]:
            data = os.urandom(size)
            fd = os.open(root + "/unaligned", os.O_CREAT | os.O_RDWR)
            os.pwrite(fd, data, offset)
            self.assertEqual(os.pread(fd, size, offset), data)
            os.close(fd)

    def test_thousands_of_open_files_and_names(self):
        self.mount()
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (10000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        open_files = []
        for i in range(5000):
            fd = os.open(f"{self.mnt}/a/{i}", os.O_CREAT | os.O_RDWR)
            os.write(fd, str(i).encode())
            open_files.append(fd)
        for i in range(5000):
            os.unlink(f"{self.mnt}/a/{i}")
        for i, fd in enumerate(open_files):
            self.assertEqual(os.pread(fd, 10, 0), str(i).encode())
            os.close(fd)
        self.assertEqual(os.listdir(self.mnt + "/a"), [])

    def test_a_removed_layer_serves_its_open_files(self):
        self.lcfs("layer", "create", "gone")
        self.mount()
        fd = os.open(self.mnt + "/gone/file", os.O_CREAT | os.O_RDWR)
        os.write(fd, b"still here")
        self.lcfs("layer", "rm", "gone")
        self.assertFalse(os.path.exists(self.mnt + "/gone"))
        self.assertEqual(os.pread(fd, 100, 0), b"still here")
        os.pwrite(fd, b"and more", 10)
        self.assertEqual(os.pread(fd, 100, 0), b"still hereand more")
        self.lcfs("layer", "create", "gone")  # the name is free again
        self.assertEqual(os.listdir(self.mnt + "/gone"), [])
        os.close(fd)

    def test_frozen_layers_cannot_be_changed(self):
        self.lcfs("layer", "create", "f")
        self.mount()
        with open(self.mnt + "/f/file", "w") as file:
            file.write("kept")
        self.lcfs("layer", "freeze", "f")
        self.raises(errno.EROFS, os.mkdir, self.mnt + "/f/dir")
        self.raises(errno.EROFS, os.unlink, self.mnt + "/f/file")
        self.raises(errno.EROFS, os.chmod, self.mnt + "/f/file", 0)
        self.raises(errno.EROFS, os.open, self.mnt + "/f/file", os.O_WRONLY | os.O_TRUNC)
        self.raises(errno.EROFS, os.open, self.mnt + "/f/new", os.O_WRONLY | os.O_CREAT)
        fd = os.open(self.mnt + "/f/file", os.O_RDWR)
        self.raises(errno.EROFS, os.pwrite, fd, b"x", 0)
        os.close(fd)
        with open(self.mnt + "/f/file") as file:
            self.assertEqual(file.read(), "kept")
        self.umount()
        self.mount("--layer", "f")
        self.raises(errno.EROFS, os.open, self.mnt + "/file", os.O_RDWR)


if __name__ == "__main__":
    mounting.need_fuse()
    mounting.main()
