#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Imports that are killed, stopped, raced or out of space, and things that are no store: nothing is lost, nothing hangs."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
import unittest

import hostile_images as h
import support
from hostile_images import Image, directory, file, tar

needs_root = unittest.skipUnless(os.geteuid() == 0, "needs root to mount, or to become somebody else")
MiB = 1 << 20


def noise(seed, size):
    return random.Random(seed).randbytes(size)


class Crash(h.HostileCase):
    STORE_SIZE = "256M"

    def start(self, *args, **how):
        return subprocess.Popen([support.LCFS, *args], env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)

    def images(self):
        return [name for image in self.lines("image", "ls", "--json")[0]["images"] for name in image["names"]]

    def big_image(self, name="big:latest"):
        """Three layers with large files, small files and whiteouts; about 24 MiB."""
        base = tar(directory("d"), *(file("d/%d" % n, noise(n, 3 * MiB + n)) for n in range(4)), *(file("d/s%d" % n, noise(n, 900)) for n in range(2000)))
        middle = tar(*(h.whiteout("d/s%d" % n) for n in range(0, 2000, 3)), *(file("e/s%d" % n, b"%d" % n) for n in range(2000)))
        return Image(base, middle, tar(file("d/0", noise(9, 8 * MiB)), h.opaque("e")), names=[name])

    def assert_big(self):
        tree = self.tree("big:latest")
        self.assertEqual(len(tree), 1 + 4 + 2000 - 667 + 1)
        self.assertEqual(self.cat("/d/0", "big:latest"), noise(9, 8 * MiB))
        self.assertEqual(self.cat("/d/s1999", "big:latest"), noise(1999, 900))


class Killed(Crash):
    def test_killed_at_random_moments(self):
        self.import_layers(tar(file("base", b"base")))
        image = self.big_image()
        packed = Image(*image.layers, names=image.names, packed=[h.gz(image.layers[0]), h.zstd(image.layers[1]), image.layers[2]])
        sources = [h.write_tar(self.path("plain.tar"), h.podman_members(image)), h.write_tar(self.path("oci.tar"), h.oci_members(packed))]
        start = time.monotonic()
        self.lcfs("import", sources[1])
        length = time.monotonic() - start
        self.lcfs("image", "rm", "big:latest")
        rng = random.Random(1)
        killed = 0
        for number in range(30):
            before = self.df()
            running = self.start("import", "-q", sources[number % 2])
            time.sleep(rng.random() * length * (1.1 if number % 2 else 0.7))
            running.send_signal(signal.SIGKILL)
            running.communicate()
            with self.subTest(number):
                self.lcfs("fsck", "-n", "--data")
                self.assertEqual(self.cat("/base"), b"base")
                if "big:latest" not in self.images():
                    killed += 1
                    self.assertEqual(self.df(), before)
                    self.assertLess(running.returncode, 0)
                    if number % 3:  # the next import works, or the next but one
                        continue
                    self.lcfs("import", "-q", sources[1 - number % 2])
                self.assert_big()
                self.lcfs("image", "rm", "big:latest")
        self.assertGreater(killed, 10)
        self.lcfs("import", "-q", sources[0])
        self.assert_big()

    def test_killed_while_it_makes_the_store(self):
        source = h.write_tar(self.path("image.tar"), h.podman_members(Image(tar(file("f", noise(1, 4 * MiB))))))
        rng = random.Random(2)
        for number in range(30):
            os.remove(self.store)
            running = self.start("import", "-q", source)
            time.sleep(rng.random() * 0.03)
            running.kill()
            running.communicate()
            with self.subTest(number):
                self.lcfs("import", "-q", source)  # whatever is there: it is a store, or is made one
                self.lcfs("fsck", "-n", "--data")
                self.assertEqual(self.cat("/f"), noise(1, 4 * MiB))

    def test_stopped_by_signals_in_the_middle_of_a_file(self):
        source = h.write_tar(self.path("image.tar"), h.podman_members(self.big_image()))
        before = self.df()
        rng = random.Random(3)
        stopped = 0
        for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] * 4:
            running = self.start("import", "-q", source)
            time.sleep(0.02 + rng.random() * 0.1)
            running.send_signal(number)
            _, text = running.communicate(timeout=60)
            with self.subTest(number):
                if running.returncode == 0:  # it was faster
                    os.remove(self.store)
                    self.mkfs(self.STORE_SIZE)
                    before = self.df()
                    continue
                if running.returncode == -number:  # before it listened
                    continue
                stopped += 1
                self.assertEqual((running.returncode, text.count(b"\n")), (1, 1), text)
                self.assertIn(b"interrupted", text)
                self.assertEqual(self.df(), before)
                self.lcfs("fsck", "-n", "--data")
        self.assertGreater(stopped, 0)
        self.lcfs("import", "-q", source)
        self.assert_big()

    def test_two_imports_at_once(self):
        sources = [h.write_tar(self.path(name + ".tar"), h.podman_members(Image(tar(file(name, noise(n, 6 * MiB))), names=[name + ":latest"])))
                   for n, name in enumerate(["one", "two"])]
        losers = 0
        for _ in range(5):
            both = [self.start("import", "-q", source) for source in sources]
            texts = [running.communicate(timeout=60)[1].decode() for running in both]
            codes = [running.returncode for running in both]
            self.assertIn(0, codes)
            if 1 in codes:
                losers += 1
                loser = codes.index(1)
                # The winner may end between the refusal and the look for its pid: then there is no pid to tell.
                self.assertRegex(texts[loser], f"in use by (pid {both[1 - loser].pid}|another process)")
                self.assertEqual(texts[loser].count("\n"), 1)
            self.assertEqual(self.images(), [name + ":latest" for name, code in zip(["one", "two"], codes) if code == 0])
            self.lcfs("fsck", "-n", "--data")
            os.remove(self.store)
            self.mkfs(self.STORE_SIZE)
        self.assertGreater(losers, 0)


class Full(Crash):
    def fits(self, size, layer, entries):
        """Imports into a store of `size`: all or nothing."""
        os.remove(self.store)
        self.mkfs(size)
        before = self.df()
        path = h.write_tar(self.path("full.tar"), h.podman_members(Image(layer, names=["full:latest"])))
        done = self.run_lcfs("import", "-q", path)
        self.lcfs("fsck", "-n", "--data")
        self.assertIn(done.returncode, (0, 1), done.stderr)
        if done.returncode == 0:
            self.assertEqual(done.stderr, b"")
            self.assertEqual(len(self.tree("full:latest")), entries)
            self.lcfs("image", "rm", "full:latest")  # works, however full
            return True
        text = done.stderr.decode()
        self.assertEqual(text.count("\n"), 1, text)
        self.assertIn(f"import: {path}: {h.sha256(layer)}", text)
        self.assertIn("store is full", text)
        self.assertEqual(self.df(), before)
        small = h.write_tar(self.path("small.tar"), h.podman_members(Image(tar(file("s", b"small")), names=["small:latest"])))
        self.lcfs("import", "-q", small)
        self.assertEqual(self.cat("/s", "small:latest"), b"small")
        return False

    def test_data_around_the_size_of_the_store(self):
        for size in [16, 32, 64]:
            fitted = []
            for percent in [50, 85, 90, 94, 97, 100, 130]:
                with self.subTest(size=size, percent=percent):
                    fitted.append(self.fits(f"{size}M", tar(file("f", noise(size, size * MiB * percent // 100))), 1))
            self.assertEqual((fitted[0], fitted[1], fitted[-1]), (True, True, False))

    def test_metadata_around_the_size_of_the_store(self):
        fitted = []
        headers = [h.header(b"f%090d" % n) for n in range(64_000)]
        for count in [10_000, 20_000, 25_000, 30_000, 40_000, 64_000]:
            with self.subTest(count=count):
                fitted.append(self.fits("16M", tar(*headers[:count]), count))
        self.assertEqual((fitted[0], fitted[-1]), (True, False))

    def test_whiteouts_on_a_store_that_is_nearly_full(self):
        count = 12_000
        base = tar(directory("d"), *(h.header(b"d/f%090d" % n) for n in range(count)))
        filler = Image(tar(file("filler", noise(4, 5 * MiB))), names=["filler:latest"])
        os.remove(self.store)
        self.mkfs("16M")
        for name, image in {"base": Image(base, names=["base:latest"]), "filler": filler}.items():
            done = self.run_lcfs("import", "-q", h.write_tar(self.path(name + ".tar"), h.podman_members(image)))
            self.assertEqual(done.returncode, 0, done.stderr)
        before = self.df()
        upper = tar(*(h.whiteout("d/f%090d" % n) for n in range(0, count, 2)), *(h.header(b"d/f%090d" % n) for n in range(1, count, 2)))
        path = h.write_tar(self.path("upper.tar"), h.podman_members(Image(base, upper, names=["upper:latest"])))
        done = self.run_lcfs("import", "-q", path)
        self.lcfs("fsck", "-n", "--data")
        if done.returncode == 0:
            self.assertEqual(len(self.tree("upper:latest")), 1 + count // 2)
        else:
            self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
            self.assertIn(b"store is full", done.stderr)
            self.assertEqual(self.df(), before)
        self.lcfs("image", "rm", "filler:latest")
        self.assertEqual(len(self.tree("base:latest")), 1 + count)

    def test_many_images_until_it_is_full(self):
        os.remove(self.store)
        self.mkfs("16M")
        count = 0
        while True:
            before = self.df()
            path = h.write_tar(self.path("one.tar"), h.podman_members(Image(tar(file("f", noise(count, 2 * MiB))), names=[f"n{count}:latest"])))
            done = self.run_lcfs("import", "-q", path)
            if done.returncode != 0:
                break
            count += 1
            self.assertLess(count, 8)
        self.assertGreater(count, 4)
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        self.assertEqual(self.df(), before)
        self.lcfs("image", "rm", "n0:latest")
        self.lcfs("import", "-q", path)
        self.assertEqual(len(self.images()), count)

    @contextlib.contextmanager
    def mounted(self, kind):
        """A host filesystem of 64 MiB."""
        where = self.path(kind)
        os.mkdir(where)
        if kind == "tmpfs":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", where], check=True)
        else:
            image = self.path(kind + ".img")
            with open(image, "wb") as out:
                out.truncate(64 * MiB)
            subprocess.run(["mkfs." + kind, "-q", "-m", "0", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, where], check=True)
        try:
            yield where
        finally:
            subprocess.run(["umount", where], check=True)

    @needs_root
    def test_a_host_filesystem_that_is_full(self):
        outside = [h.write_tar(self.path(f"{name}.tar"), h.podman_members(Image(*layers, names=[name + ":latest"]))) for name, layers in {
            "base": [tar(file("base", b"base"))], "large": [tar(*(file("f%d" % n, noise(n, 20 * MiB)) for n in range(4)))],
            "fits": [tar(file("f", noise(7, 10 * MiB)))]}.items()]
        for kind in ["tmpfs", "ext4"]:
            with self.subTest(kind), self.mounted(kind) as host:
                store = host + "/store"
                run = lambda *args, **how: self.lcfs(*args, "--store", store, **how)
                self.lcfs("mkfs", "-q", "--size", "10G", store)
                run("import", "-q", outside[0])
                for _ in range(2):
                    before, room = run("df", "--json"), os.statvfs(host).f_bfree * os.statvfs(host).f_frsize
                    text = self.fails("import", "-q", "--store", store, outside[1], words=["large.tar", "No space left on device"])
                    self.assertEqual(run("df", "--json"), before, text)
                    self.lcfs("fsck", "-n", "--data", store)
                    self.assertAlmostEqual(os.statvfs(host).f_bfree * os.statvfs(host).f_frsize, room, delta=MiB)
                run("import", "-q", outside[2])
                self.assertEqual(run("cat", "fits:latest", "/f"), noise(7, 10 * MiB))
                self.assertEqual(run("cat", "base:latest", "/base"), b"base")
                # A store that the import itself makes goes again.
                self.fails("import", "-q", "--size", "10G", "--store", host + "/new/store", outside[1], words=["No space left on device"])
                self.assertEqual(sorted(set(os.listdir(host)) - {"lost+found"}), ["store"])
                self.lcfs("fsck", "-n", "--data", store)

    @needs_root
    def test_no_room_even_for_an_empty_store(self):
        source = h.write_tar(self.path("image.tar"), h.podman_members(Image(tar(file("f")))))
        with self.mounted("tmpfs") as host:
            h.write(host + "/filler", bytes(64 * MiB - 65536))
            with contextlib.suppress(OSError), open(host + "/rest", "wb", buffering=0) as rest:
                while True:
                    rest.write(bytes(4096))
            self.fails("import", "-q", "--store", host + "/store", source, words=["/store", "No space left on device"])
            self.assertEqual(sorted(os.listdir(host)), ["filler", "rest"])


class NoStore(Crash):
    def setUp(self):
        super().setUp()
        self.source = h.write_tar(self.path("image.tar"), h.podman_members(Image(tar(file("f", b"text")), names=["f:latest"])))

    def test_things_that_are_no_store(self):
        os.mkfifo(self.path("fifo"))
        os.mkdir(self.path("folder"))
        os.symlink("nowhere/store", self.path("dangling"))
        os.symlink("loop", self.path("loop"))
        for path in [self.path("fifo"), self.path("folder"), "/dev/null", "/dev/zero", self.path("image.tar/store"), self.path("loop"), "/proc/version", "/"]:
            for args in [["import", "-q", "--store", path, self.source], ["df", "--store", path], ["mkfs", "-q", "--size", "16M", path]]:
                with self.subTest(args[:1] + [path]):
                    done = subprocess.run([support.LCFS, *args], stderr=subprocess.PIPE, stdout=subprocess.PIPE, timeout=20)
                    text = done.stderr.decode()
                    self.assertEqual((done.returncode, text.count("\n")), (1, 1), text)
                    self.assertIn(path, text)
            done = subprocess.run([support.LCFS, "fsck", "-n", "--data", path], stderr=subprocess.PIPE, stdout=subprocess.PIPE, timeout=20)
            self.assertIn(done.returncode, (4, 8), path)

    def test_a_file_that_is_something_else_is_never_touched(self):
        other = {"letters": b"dear reader\n" * 5000, "empty": b"", "short": b"x", "zeroes": bytes(1 << 20), "tar": tar(file("f", b"x" * 100_000)),
                 "large": noise(1, 20 * MiB), "magic": b"LCFS" + noise(2, 70_000)}
        for name, data in other.items():
            path = h.write(self.path(name), data)
            before = os.stat(path)
            for args in [["import", "-q", "--store", path, self.source], ["import", "--size", "1G", "--store", path, self.source], ["df", "--store", path],
                         ["ls", "--store", path, "x"], ["image", "rm", "--store", path, "x"], ["layer", "create", "--store", path, "x"]]:
                with self.subTest(name=name, args=args[:1]):
                    self.fails(*args, words=[path])
                    with open(path, "rb") as now:
                        self.assertEqual(now.read(), data)
                    after = os.stat(path)
                    self.assertEqual((after.st_mtime_ns, after.st_size, after.st_blocks, after.st_mode), (before.st_mtime_ns, before.st_size, before.st_blocks, before.st_mode))

    def test_a_store_that_is_cut_or_damaged_is_refused_and_left_alone(self):
        self.lcfs("import", "-q", self.source)
        with open(self.store, "rb") as whole:
            data = whole.read(8 * MiB)
        for name, damaged in {"cut": data[:MiB], "superblocks": bytes(65536) + data[65536:]}.items():
            with self.subTest(name):
                path = h.write(self.path(name), damaged)
                self.fails("import", "-q", "--store", path, self.source, words=[path])
                with open(path, "rb") as now:
                    self.assertEqual(now.read(), damaged)

    def as_nobody(self, *args):
        program = self.path("lcfs")
        if not os.path.exists(program):
            shutil.copy(support.LCFS, program)
        os.chmod(self.dir, 0o755)
        return subprocess.run([program, *args], user=65534, group=65534, extra_groups=[], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                              env={"PATH": "/usr/bin:/bin", "LCFS_STORE": self.store, "HOME": self.dir}, cwd="/", timeout=60)

    @needs_root
    def test_a_store_without_the_permission_to_write_it(self):
        self.lcfs("import", "-q", self.source)
        before = support.sha256(self.store)
        for mode, readable in [(0o444, True), (0o400, False), (0o222, False)]:
            os.chmod(self.store, mode)
            with self.subTest(oct(mode)):
                done = self.as_nobody("import", "-q", self.source)
                self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1), done.stderr)
                self.assertIn(b"ermission denied", done.stderr)
                done = self.as_nobody("cat", "f:latest", "/f")
                self.assertEqual((done.returncode, done.stdout), (0, b"text") if readable else (1, b""))
        self.assertEqual(support.sha256(self.store), before)

    @needs_root
    def test_a_path_without_permission(self):
        closed = self.path("closed")
        os.mkdir(closed, 0o700)
        open_dir = self.path("plain")
        os.mkdir(open_dir, 0o755)
        for path in [closed + "/store", closed + "/deep/store", open_dir + "/store", open_dir + "/deep/store"]:
            with self.subTest(path):
                done = self.as_nobody("import", "-q", "--store", path, self.source)
                self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1), done.stderr)
                self.assertIn(b"ermission denied", done.stderr)
        self.assertEqual((os.listdir(closed), os.listdir(open_dir)), ([], []))

    @needs_root
    def test_a_store_on_a_filesystem_that_is_read_only(self):
        self.lcfs("import", "-q", self.source)
        host = self.path("ro")
        os.mkdir(host)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", host], check=True)
        try:
            subprocess.run(["cp", "--sparse=always", self.store, host + "/store"], check=True)
            subprocess.run(["mount", "-o", "remount,ro", host], check=True)
            for args in [["import", "-q", "--store", host + "/store", self.source], ["import", "-q", "--store", host + "/new/store", self.source]]:
                self.fails(*args, words=[host, "Read-only file system"])
            self.assertEqual(self.lcfs("cat", "--store", host + "/store", "f:latest", "/f"), b"text")
            self.lcfs("fsck", "-n", "--data", host + "/store")
        finally:
            subprocess.run(["umount", host], check=True)


if __name__ == "__main__":
    support.need("zstd", "cp")
    support.main()
