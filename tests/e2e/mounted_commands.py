#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One spelling, mounted or not: commands on a store that lcfs mount serves; lcfs umount; and mount(8)'s helper."""

import errno
import os
import signal
import subprocess
import threading
import time
import unittest

import mounting
import support
from support import image


class Mounted(support.Case):
    def setUp(self):
        super().setUp()
        self.mkfs()
        self.lcfs("import", "-q", image("oci-gzip.tar"))
        self.lcfs("layer", "create", "work", "--parent", "demo")
        self.mnt = self.path("mnt")
        os.mkdir(self.mnt)
        self.addCleanup(self.give_up)

    def tearDown(self):
        if os.path.ismount(self.mnt):
            self.lcfs("umount", self.mnt)
        super().tearDown()

    def give_up(self):
        subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL)

    def environment(self):
        return dict(super().environment(), LCFS_RUNTIME_DIR=self.path("run"))

    def mount(self, *options):
        self.lcfs("mount", *options, self.store, self.mnt)

    def options(self):
        with open("/proc/self/mountinfo") as table:
            return [line.split()[5].split(",") for line in table if line.split()[4] == self.mnt][-1]

    def test_the_same_answers(self):
        queries = [["image", "ls", "--json"], ["layer", "ls"], ["layer", "show", "work"], ["ls", "-lR", "demo"], ["cat", "work", "/etc/motd"],
                   ["stat", "--json", "--runs", "demo", "/etc/motd"], ["layer", "rm", "-n", "work"]]
        before = [self.lcfs(*query) for query in queries]
        self.mount()
        for query, answer in zip(queries, before):
            self.assertEqual(self.lcfs(*query), answer, query)
        self.assertTrue(self.df()[-1]["sum_ok"])
        self.lcfs("fsck", "-n", "--data")
        self.fails("fsck", code=8, words=[f"mounted at {self.mnt} by pid"])
        self.fails("mkfs", "-f", self.store, words=["in use by pid"])

    def test_changes_are_seen_at_once(self):
        self.mount()
        with open(self.mnt + "/work/new", "w") as file:
            file.write("through the mount")
        self.assertEqual(self.lcfs("cat", "work", "/new"), b"through the mount")
        self.lcfs("layer", "commit", "work", "--as", "monday")
        os.remove(self.mnt + "/work/new")
        self.assertEqual(self.lcfs("cat", "monday", "/new"), b"through the mount")
        self.lcfs("layer", "create", "side", "--parent", "demo", "--quota", "1M")
        self.assertIn("side", os.listdir(self.mnt))
        self.lcfs("layer", "rename", "side", "other")
        self.assertIn("other", os.listdir(self.mnt))
        self.lcfs("layer", "rm", "other")
        self.assertNotIn("other", os.listdir(self.mnt))
        self.lcfs("sync")
        self.lcfs("grow", "300M")
        self.lcfs("stats", "--json", "work")
        with open(image("docker.tar"), "rb") as pipe:
            self.lcfs("import", "-q", "-", stdin=pipe)
        self.lcfs("extract", "-q", "work", self.path("out"))
        self.assertTrue(os.path.exists(self.path("out/etc/motd")))

    def test_a_removed_layer_goes_when_its_last_file_is_closed(self):
        self.lcfs("layer", "create", "gone")
        self.mount()
        os.makedirs(self.mnt + "/gone/a/b")
        for name in ("top", "a/b/deep", "a/b/unused"):
            with open(f"{self.mnt}/gone/{name}", "wb") as file:
                file.write(os.urandom(2_000_000))
        self.lcfs("sync")
        held = [open(f"{self.mnt}/gone/{name}", "rb") for name in ("top", "a/b/deep")]
        inside = os.open(self.mnt + "/gone/a", os.O_RDONLY)
        self.lcfs("layer", "rm", "gone")
        time.sleep(0.5)
        self.assertGreater(self.df()[-1]["removed_bytes"], 6_000_000)
        os.stat("b/unused", dir_fd=inside)  # known again, though it was not when the layer went
        for file in held:
            self.assertEqual(len(file.read()), 2_000_000)
            file.close()
        os.close(inside)
        until = time.monotonic() + 20
        while self.df()[-1]["removed_bytes"] > 0:
            self.assertLess(time.monotonic(), until, self.df()[-1])
            time.sleep(0.1)
        self.lcfs("undo", "--layer", "gone")
        self.assertEqual(os.path.getsize(self.mnt + "/gone/a/b/deep"), 2_000_000)

    def test_an_import_that_is_killed_leaves_nothing(self):
        self.mount()
        before = self.lcfs("layer", "ls")
        for number in [signal.SIGINT, signal.SIGKILL]:
            client = subprocess.Popen([support.LCFS, "import", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment())
            with open(image("docker.tar"), "rb") as whole:
                client.stdin.write(whole.read(20_000))
            client.stdin.flush()
            time.sleep(0.3)
            client.send_signal(number)
            client.wait(timeout=support.LONG)
            self.assertNotEqual(client.returncode, 0)
            if number == signal.SIGINT:
                self.assertEqual(client.returncode, 1)
                self.assertIn(b"interrupted", client.stderr.read())
            client.stdin.close()
            client.stderr.close()
            self.assertEqual(self.lcfs("layer", "ls"), before)

    def test_a_reader_that_goes_away(self):
        self.mount()
        done = subprocess.run(f"{support.LCFS} ls -lR demo | head -1", shell=True, env=self.environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=support.LONG)
        self.assertEqual(done.stderr, b"")
        self.assertEqual(done.stdout.count(b"\n"), 1)

    def test_umount(self):
        self.mount()
        with open(self.mnt + "/work/held", "w") as file:
            file.write("x" * 100_000)
            file.flush()
            self.fails("umount", self.mnt, words=["in use"])
        self.lcfs("umount", self.mnt)
        self.assertEqual(os.listdir(self.path("run")), [])
        self.assertEqual(len(self.lcfs("cat", "work", "/held")), 100_000)  # and nobody has the store
        self.fails("umount", self.mnt, words=["no lcfs store is mounted here"])
        self.fails("umount", self.store, words=["not mounted"])
        self.mount()
        self.lcfs("umount", self.store)
        self.assertFalse(os.path.ismount(self.mnt))

    def test_umount_waits_for_whoever_only_looks(self):
        self.mount()
        seen = os.open(self.mnt, os.O_RDONLY)  # as a df(1), a find or a completion may have it for a moment
        threading.Timer(0.1, os.close, (seen,)).start()
        self.lcfs("umount", self.mnt)

    def test_umount_of_a_dead_server(self):
        self.mount()
        with open("/proc/locks") as locks:
            inode = f":{os.stat(self.store).st_ino}"
            pid = [int(line.split()[4]) for line in locks if inode in line][0]
        os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)
        self.lcfs("layer", "ls")  # its socket is still there, and nobody listens
        self.lcfs("umount", self.mnt)
        self.mount()

    def test_a_store_in_use_cannot_be_mounted(self):
        os.mkdir(self.path("other"))
        self.mount()
        self.fails("mount", self.store, self.path("other"), words=[f"lcfs mount: {self.store}: in use by pid"])

    def test_a_store_is_one_whether_by_its_file_or_by_a_loop_device(self):
        loop = subprocess.run(["losetup", "-f", "--show", self.store], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        self.addCleanup(subprocess.run, ["losetup", "-d", loop])
        self.mount()
        self.fails("layer", "create", "--store", loop, "x", words=["in use by pid"])
        self.lcfs("umount", self.mnt)
        self.lcfs("mount", loop, self.mnt)
        self.fails("layer", "create", "--store", self.store, "x", words=["in use by pid"])
        self.fails("fsck", "-y", self.store, words=["in use by pid"], code=8)
        self.lcfs("umount", self.mnt)
        self.lcfs("layer", "create", "x")

    def test_options_of_mount(self):
        for word in ["ro", "nosuid", "nodev", "noexec", "sync", "dirsync", "noatime", "nodiratime", "relatime", "strictatime"]:
            with self.subTest(word):
                self.mount("-o", word)
                self.assertTrue(os.path.exists(self.mnt + "/work/etc/motd"))
                self.lcfs("umount", self.mnt)

    def test_a_mount_of_a_read_only_store_stays_read_only(self):
        self.mount("-o", "ro")
        self.assertEqual(os.getxattr(self.mnt + "/work", "user.lcfs.access"), b"ro")
        self.fails("mount", "-o", "remount,rw", self.store, self.mnt, words=["read-only"])
        self.assertIn("ro", self.options())
        with self.assertRaises(OSError) as refused:
            open(self.mnt + "/work/new", "w")
        self.assertEqual(refused.exception.errno, errno.EROFS)

    def test_a_read_only_mount_right_after_umount(self):
        for i in range(5):
            self.mount()
            with open(f"{self.mnt}/work/new{i}", "wb") as file:
                file.write(os.urandom(1 << 20))
            subprocess.run(["umount", self.mnt], check=True)  # mount(8)'s: it does not wait for the server
            self.mount("-o", "ro")
            self.assertEqual(os.stat(f"{self.mnt}/work/new{i}").st_size, 1 << 20)
            self.lcfs("umount", self.mnt)

    def test_attributes_tell_what_lcfs_knows_of_a_file(self):
        self.mount()
        motd = self.mnt + "/work/etc/motd"

        def origin():
            return os.getxattr(motd, "user.lcfs.layer").decode()

        brought_by = origin()
        self.assertNotEqual(brought_by, "work")
        self.assertIn(brought_by, [layer["name"] for layer in self.lines("layer", "ls", "--json")])
        self.assertFalse([name for name in os.listxattr(motd) if name.startswith("user.lcfs")])
        self.lcfs("layer", "create", "above", "--parent", "demo")
        self.assertEqual(os.getxattr(self.mnt + "/above/etc/motd", "user.lcfs.layer").decode(), brought_by)
        with open(motd, "ab") as file:
            file.write(b"x" * 5000)
            file.flush()
            os.fsync(file.fileno())
        self.assertEqual(origin(), "work")
        extents = os.getxattr(motd, "user.lcfs.extents").decode().splitlines()
        self.assertEqual(sum(int(line.split()[2]) for line in extents), -(-os.stat(motd).st_size // 4096) * 4096)
        self.assertEqual({line.split()[3] for line in extents}, {"work"})
        self.assertEqual(os.getxattr(motd, "user.lcfs.access"), b"rw")

    def test_a_file_is_no_place_to_mount(self):
        with open(self.path("file"), "w") as file:
            file.write("mine")
        self.addCleanup(subprocess.run, ["umount", "-l", self.path("file")], stderr=subprocess.DEVNULL)
        self.fails("mount", self.store, self.path("file"), words=["not a directory"])
        with open(self.path("file")) as file:
            self.assertEqual(file.read(), "mine")

    def test_copy_file_range_takes_privileges_away(self):
        self.mount("-o", "suid")
        source, target = self.mnt + "/work/source", self.mnt + "/work/target"
        for path in (source, target):
            with open(path, "wb") as file:
                file.write(b"x" * 10)
            os.chmod(path, 0o6777)
        ends = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
        child = os.fork()
        if child == 0:  # what counts is who copies, not who opened
            os.setgroups([])
            os.setresgid(1001, 1001, 1001)
            os.setresuid(1001, 1001, 1001)
            os._exit(0 if os.copy_file_range(*ends, 5) == 5 else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        for end in ends:
            os.close(end)
        self.assertEqual(os.stat(target).st_mode & 0o7777, 0o777)
        self.assertEqual(os.stat(source).st_mode & 0o7777, 0o6777)

    def test_the_helper_of_mount(self):
        helper = self.path("mount.fuse.lcfs")
        os.symlink(support.LCFS, helper)

        def run(*args):
            return subprocess.run([helper, *args], env=self.environment(), stderr=subprocess.PIPE, timeout=support.LONG)

        self.assertEqual(run(self.store).returncode, 1)
        self.assertEqual(run(self.store, self.mnt, "-o", "nonsense").returncode, 1)
        self.assertEqual(run(self.path("none"), self.mnt).returncode, 32)
        self.assertEqual(run(self.store, self.path("none")).returncode, 32)
        done = run(self.store, self.mnt, "-o", "rw,noexec,nofail,layer=work", "-t", "fuse.lcfs")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn("noexec", self.options())
        self.assertTrue(os.path.exists(self.mnt + "/etc/motd"))
        done = run(self.store, self.mnt, "-o", "rw,noexec,user_id=0,group_id=0,allow_other,max_read=131072,remount,ro")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertIn("ro", self.options())
        self.assertIn("noexec", self.options())
        self.lcfs("mount", "-o", "remount,rw,exec", self.store, self.mnt)
        self.assertIn("rw", self.options())
        self.assertNotIn("noexec", self.options())

    def test_a_remount_by_mount_8_says_all_that_is_to_be(self):
        helper = self.path("mount.lcfs")
        os.symlink(support.LCFS, helper)
        self.mount("-o", "nosuid,nodev,noexec")
        for words, left in [("rw,noexec,remount", {"noexec"}), ("rw,nosuid,nodev,remount", {"nosuid", "nodev"}), ("rw,remount", set())]:
            done = subprocess.run([helper, self.store, self.mnt, "-o", words], env=self.environment(), stderr=subprocess.PIPE, timeout=support.LONG)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertEqual(left, {word for word in self.options() if word.startswith("no")}, words)

    def test_a_remount_changes_nothing_of_the_server(self):
        self.mount("-o", "threads=3,no_verify")
        self.lcfs("mount", "-o", "remount,threads=3,no_verify,nosuid,no_writeback", self.store, self.mnt)
        self.assertIn("nosuid", self.options())
        for word, name in [("writeback", "writeback"), ("threads=4", "threads"), ("layer=work", "layer"), ("control=no", "control")]:
            self.fails("mount", "-o", "remount,suid," + word, self.store, self.mnt, words=[f"a remount cannot change the mount option {name}"])
        self.assertIn("nosuid", self.options())
        self.lcfs("umount", self.mnt)
        self.mount("-o", "no_pseudo")  # then it does not tell what it was asked for, and fstab(5) says it again
        self.lcfs("mount", "-o", "remount,no_pseudo,ro", self.store, self.mnt)
        self.assertIn("ro", self.options())

    def test_a_server_that_listens_elsewhere_is_told_of(self):
        self.mount()
        elsewhere = dict(self.environment(), LCFS_RUNTIME_DIR=self.path("elsewhere"))
        done = subprocess.run([support.LCFS, "layer", "ls", "--store", self.store], env=elsewhere, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        for word in [f"mounted at {self.mnt}", "in use by pid", self.path("elsewhere"), "LCFS_RUNTIME_DIR"]:
            self.assertIn(word.encode(), done.stderr)


if __name__ == "__main__":
    support.need("umoci", "skopeo")
    mounting.need_fuse()
    unittest.main(verbosity=2)
