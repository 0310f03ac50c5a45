#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the server at random moments: the store is clean, and what fsync promised is there."""

import hashlib
import os
import random
import subprocess
import sys
import time

import mounting
import support

ROUNDS = int(os.environ.get("LCFS_KILLS", "12"))

# Makes files until the mount dies; a line for each that fsync (of file and directory) said is durable.
WRITER = r"""
import hashlib, os, random, sys
root, promises, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)
out = os.open(promises, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
number = 0
try:
    os.mkdir(root)  # not its parents: they are gone when the mount is
    while True:
        name = f"{root}/{seed}-{number}"
        data = rng.randbytes(rng.choice([0, 10, 3000, 5000, 70000, 300000]))
        fd = os.open(name, os.O_CREAT | os.O_RDWR)
        os.write(fd, data)
        if rng.random() < 0.3:  # overwritten before it is promised
            data = data[:len(data) // 2] + b"changed" + data[len(data) // 2 + 7:]
            os.pwrite(fd, b"changed", len(data) // 2 if len(data) > 14 else 0)
            data = os.pread(fd, 1 << 20, 0)
        os.fsync(fd)
        os.close(fd)
        os.write(out, f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
        number += 1
except OSError as e:
    sys.exit(0 if number or e.errno else 1)
"""

# Untars, renames and deletes without any fsync: none of it is promised, all of it must be whole.
CHURN = r"""
import os, shutil, sys
root = sys.argv[1]
try:
    turn = 0
    while True:
        base = f"{root}/churn-{turn % 3}"
        shutil.rmtree(base, ignore_errors=False) if os.path.isdir(base) else None
        for name in ["", "/d", "/d/e", "/d/e/f"]:
            os.mkdir(base + name)
        for i in range(200):
            with open(f"{base}/d/{i}", "wb") as f:
                f.write(b"z" * (i * 37 % 9000))
            if i % 5 == 0:
                os.rename(f"{base}/d/{i}", f"{base}/d/e/{i}")
            if i % 7 == 0:
                os.link(f"{base}/d/e/0", f"{base}/d/e/f/{i}")
        turn += 1
except OSError:
    pass
"""


class MountCrash(mounting.Case):
    size = "1G"

    def background(self, script, *args):
        running = subprocess.Popen([sys.executable, "-c", script, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: running.poll() is None and running.kill())
        return running

    def check_promises(self, promises, root):
        kept = 0
        if not os.path.exists(promises):
            return 0
        with open(promises) as lines:
            for line in lines:
                name, digest = line.split()
                with open(name, "rb") as file:
                    self.assertEqual(hashlib.sha256(file.read()).hexdigest(), digest, name)
                kept += 1
        return kept

    def test_promises_are_kept_whenever_the_server_is_killed(self):
        seed = int(os.environ.get("LCFS_SEED", str(random.randrange(1 << 30))))
        print("LCFS_SEED =", seed)
        rng = random.Random(seed)
        self.lcfs("layer", "create", "work")
        kept = 0
        for turn in range(ROUNDS):
            with self.subTest(turn):
                self.mount()
                promises = self.path(f"promises-{turn}")
                root = f"{self.mnt}/work/files-{turn}"
                running = [self.background(WRITER, root, promises, str(turn)), self.background(CHURN, self.mnt + "/work")]
                time.sleep(rng.uniform(0.05, 1.5))
                self.kill()
                for process in running:
                    process.wait(timeout=60)
                self.lcfs("fsck", "-n", "--data", self.store)
                self.mount()
                kept += self.check_promises(promises, root)
                subprocess.run(["rm", "-rf", root], check=True)
                self.umount()
        self.assertGreater(kept, 0)
        print(kept, "promises kept")

    def test_layers_are_whole_whenever_the_server_is_killed(self):
        """Clone, commit and remove: what a command said is done, is; nothing is half done."""
        rng = random.Random(int(os.environ.get("LCFS_SEED", "1")))
        self.lcfs("layer", "create", "base")
        there = {"base"}
        number = 0
        for turn in range(max(3, ROUNDS // 3)):
            self.mount()
            churn = self.background(CHURN, self.mnt + "/base")
            until = time.monotonic() + rng.uniform(0.2, 1.5)
            while time.monotonic() < until:
                number += 1
                how = rng.randrange(3)
                if how == 0:
                    self.lcfs("layer", "create", f"n{number}")
                    there.add(f"n{number}")
                elif how == 1:
                    self.lcfs("layer", "commit", "base", "--as", f"c{number}")
                    there.add(f"c{number}")
                else:
                    loose = sorted(name for name in there if name.startswith("n"))
                    if loose:
                        name = rng.choice(loose)
                        self.lcfs("layer", "rm", name)
                        there.remove(name)
            self.kill()
            churn.wait(timeout=60)
            self.lcfs("fsck", "-n", "--data", self.store)
            self.assertEqual({line["name"] for line in self.lines("layer", "ls", "--json")}, there)


if __name__ == "__main__":
    mounting.need_fuse()
    mounting.main()
