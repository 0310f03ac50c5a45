#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stores damaged on disk, and every command of doc/recovery.md."""

import io
import json
import os
import re
import shlex
import subprocess
import tarfile
import unittest

import support

BLOCK = 4096


def archive(path, files):
    """A docker-archive of one layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    import hashlib
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]}}).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": ["debian:12"], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in (("manifest.json", manifest), ("config.json", config), ("layer.tar", layer.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


class Repair(support.Case):
    def setUp(self):
        super().setUp()
        self.archive = self.path("debian.tar")
        self.files = {"etc/motd": b"hello\n" * 2000, "bin/big": bytes(i * i % 251 for i in range(300_000)), "etc/small": b"x"}
        archive(self.archive, self.files)
        self.mkfs("64M")
        self.lcfs("import", "-q", self.archive)
        with open(os.path.join(support.SOURCE, "doc", "recovery.md")) as file:
            self.told = re.findall(r"^    (lcfs .*)$", file.read(), re.M)

    def doc(self, command, code=0):
        """Runs a command just as the page has it, but for the paths."""
        self.assertIn(command, self.told)
        words = [{"/srv/images.lcfs": self.store, "debian.tar": self.archive}.get(w, w) for w in shlex.split(command)[1:]]
        Repair.run_told.add(command)
        return self.lcfs(*words, code=code).decode()

    run_told = set()

    def dd(self, block, data=None, count=1):
        source = self.path("dd.in")
        with open(source, "wb") as file:
            file.write(b"\xa5" * BLOCK * count if data is None else data)
        subprocess.run(["dd", "if=" + source, "of=" + self.store, "bs=%d" % BLOCK, "seek=%d" % block, "conv=notrunc", "status=none"], check=True)

    def data_block(self, path):
        runs = self.lines("stat", "--json", "--runs", "debian:12", path)[0]["runs"]
        return runs[0]["device_offset"] // BLOCK

    def test_superblock(self):
        self.assertIn("clean", self.doc("lcfs fsck -p /srv/images.lcfs"))
        for block in (0, 8):
            self.dd(block)
            self.assertIn("repair: slot", self.doc("lcfs fsck -p /srv/images.lcfs", code=1))
            self.assertIn("clean", self.doc("lcfs fsck -p /srv/images.lcfs"))

    def test_a_store_that_was_cut_short(self):
        size = os.path.getsize(self.store)
        os.truncate(self.store, 48 << 20)  # where nothing was
        self.fails("fsck", "-y", self.store, words=["the store is cut short", "truncate -s"], code=8)
        self.fails("fsck", "-y", "--search", self.store, words=["the store is cut short", "truncate -s"], code=8)
        self.fails("ls", "debian:12", "/", words=["the store is cut short"])
        os.truncate(self.store, size)
        self.doc("lcfs fsck -y /srv/images.lcfs")
        self.lcfs("fsck", "-n", "--data", self.store)
        for path, data in self.files.items():
            self.assertEqual(self.lcfs("cat", "debian:12", "/" + path), data)

    def test_both_superblocks(self):
        with open(self.store, "rb") as file:
            copy = file.read(16 * BLOCK)
        self.dd(0)
        self.dd(8)
        self.fails("fsck", "-y", words=["--search"], code=8)
        self.dd(0, copy)
        self.lcfs("fsck", "-n", "--data")

    def test_the_first_64_KiB_are_gone(self):
        for data in (None, bytes(16 * BLOCK)):
            self.dd(0, data, count=16)
            self.fails("fsck", "-n", words=["not an lcfs store", "--search"], code=8)
            self.fails("ls", "debian:12", "/", words=["not an lcfs store"])
            found = self.doc("lcfs fsck -n --search /srv/images.lcfs", code=4)
            self.assertRegex(found, "a whole store tree was found: that of generation [0-9]+ .* with 1 layers and 1 images")
            self.assertIn("repair: found", self.doc("lcfs fsck -y --search /srv/images.lcfs", code=1))
            self.lcfs("fsck", "-n", "--data")
            for path, content in self.files.items():
                self.assertEqual(self.lcfs("cat", "debian:12", "/" + path), content)

    def test_both_store_trees_are_gone(self):
        self.lcfs("layer", "create", "kept")
        self.lcfs("layer", "create", "last")
        with open(self.store, "rb") as file:
            for slot in (0, 8):
                file.seek(slot * BLOCK + 0xa0)
                self.dd(int.from_bytes(file.read(8), "little"), count=4)
        self.fails("fsck", "-y", words=["--search"], code=8)
        report = [json.loads(line) for line in self.lcfs("fsck", "-y", "--search", "--json", code=1).splitlines()]
        self.assertEqual([line["repair"] for line in report if "repair" in line], ["found"])
        self.lcfs("fsck", "-n", "--data")
        for path, content in self.files.items():
            self.assertEqual(self.lcfs("cat", "debian:12", "/" + path), content)
        self.lcfs("layer", "create", "--parent", "debian:12", "after")

    def test_full(self):
        self.lcfs("layer", "create", "scratch")
        self.assertTrue(self.doc("lcfs df --store /srv/images.lcfs"))
        self.assertIn("scratch", self.doc("lcfs layer ls --store /srv/images.lcfs"))
        self.doc("lcfs layer rm --store /srv/images.lcfs scratch")
        self.assertIn("layer rm scratch", self.doc("lcfs log --store /srv/images.lcfs"))
        self.doc("lcfs undo --store /srv/images.lcfs --layer scratch")
        self.assertIn("scratch", self.doc("lcfs layer ls --store /srv/images.lcfs"))
        self.doc("lcfs layer rm --store /srv/images.lcfs scratch")
        self.doc("lcfs grow --store /srv/images.lcfs 128M")

    def test_data_is_healed_from_the_archive(self):
        for path in ("/bin/big", "/etc/motd"):
            self.dd(self.data_block(path))
        self.assertIn("/bin/big", self.doc("lcfs fsck -n --data /srv/images.lcfs", code=4))
        self.fails("cat", "debian:12", "/bin/big")
        self.assertIn("healed", self.doc("lcfs fsck -y --heal-from debian.tar /srv/images.lcfs", code=1))
        for path, data in self.files.items():
            self.assertEqual(self.lcfs("cat", "debian:12", "/" + path), data)

    def test_damage_that_goes_on_is_told_once(self):
        block = self.data_block("/bin/big")
        self.dd(block + 2, count=3)
        self.dd(block + 6)
        told = [line for line in self.lcfs("fsck", "-n", "--data", code=4).decode().splitlines() if line.startswith("error: data")]
        self.assertEqual(len(told), 2, told)
        self.assertTrue(told[0].endswith("; the same applies to the next 2 blocks"), told)
        self.assertEqual(sum("finding" in line for line in map(json.loads, self.lcfs("fsck", "-n", "--data", "--json", code=4).splitlines())), 4)
        self.lcfs("fsck", "-y", "--heal-from", self.archive, code=1)

    def test_unreadable_files_stay_until_told(self):
        self.dd(self.data_block("/bin/big"))
        self.lcfs("fsck", "-y", "--data", code=4)
        self.fails("cat", "debian:12", "/bin/big")
        out = self.doc("lcfs fsck -y --remove-unreadable /srv/images.lcfs", code=1)
        self.assertIn("/bin/big", out)
        self.assertEqual(self.lines("image", "ls", "--json"), [{"images": []}])
        self.doc("lcfs import --store /srv/images.lcfs debian.tar")
        for path, data in self.files.items():
            self.assertEqual(self.lcfs("cat", "debian:12", "/" + path), data)

    def test_metadata_anywhere(self):
        """Every block in use, one after the other: whatever it was, the store is clean afterwards."""
        with open(self.store, "rb") as file:
            whole = file.read()
        used = [b for b in range(16, len(whole) // BLOCK) if any(whole[b * BLOCK:(b + 1) * BLOCK])]
        for block in used:
            with self.subTest(block=block):
                self.dd(0, whole[:(used[-1] + 1) * BLOCK])
                self.dd(block)
                found = self.run_lcfs("fsck", "-n", "--data").returncode
                self.assertIn(found, (0, 4))  # 0: only the older checkpoint used it
                done = self.run_lcfs("fsck", "-y", "--remove-unreadable")
                self.assertEqual(done.returncode, 1 if found else 0, done.stdout + done.stderr)
                self.lcfs("fsck", "-n", "--data")
        self.dd(0, whole[:(used[-1] + 1) * BLOCK])
        self.assertIn("clean", self.doc("lcfs fsck -y /srv/images.lcfs"))

    def test_exit_codes(self):
        self.lcfs("fsck", code=8)  # no terminal
        self.lcfs("fsck", "-n", "-y", code=16)
        self.assertEqual(self.lcfs("fsck", "-a", "-C0", "-f", "-v", self.store).count(b"clean"), 1)
        self.dd(8 * (1 - self.lines("fsck", "-n", "--json")[-1]["slot"]))
        self.lcfs("fsck", "-n", code=4)
        reader, writer = os.pipe()
        link = self.path("fsck.lcfs")
        os.symlink(support.LCFS, link)
        done = subprocess.run([link, "-a", "-C", str(writer), self.store], pass_fds=[writer], stdout=subprocess.PIPE, timeout=support.LONG)
        os.close(writer)
        with os.fdopen(reader) as file:
            self.assertRegex(file.read(), r"^1 \d+ \d+ ")
        self.assertEqual(done.returncode, 1)

    def test_zz_every_command_of_the_page_was_run(self):
        self.assertEqual(set(self.told) - Repair.run_told, set())


if __name__ == "__main__":
    unittest.main()
