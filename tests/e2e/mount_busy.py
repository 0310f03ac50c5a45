#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A mounted store where everything happens at once: writers, layers that come and go, commits, and all that looks at it meanwhile."""

import json
import os
import threading
import time

import mounting
from support import image

SECONDS = float(os.environ.get("LCFS_BUSY_SECONDS", "8"))


class Busy(mounting.Case):
    size = "512M"

    def setUp(self):
        super().setUp()
        self.lcfs("import", "-q", image("oci-gzip.tar"))
        self.mount()
        self.until = time.monotonic() + SECONDS
        self.wrong = []
        self.rounds = {}

    def again(self, work):
        """A thread that does `work` until time is up; what it raises is told at the end."""
        name = work.__name__
        self.rounds[name] = 0

        def run():
            try:
                while time.monotonic() < self.until and not self.wrong:
                    work()
                    self.rounds[name] += 1
            except BaseException as error:
                self.wrong.append(f"{name}: {error!r}")

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def must(self, *args):
        done = self.run_lcfs(*args)
        if done.returncode != 0:
            raise AssertionError((args, done.returncode, done.stdout[-1000:], done.stderr[-1000:]))
        return done.stdout

    def test_what_looks_at_a_busy_store_sees_whole_states_and_right_sums(self):
        self.lcfs("layer", "create", "work", "--parent", "demo")
        work = os.path.join(self.mnt, "work")
        content = {n: os.urandom(1000 * n + n) for n in range(1, 40)}

        def write():
            for n, data in content.items():
                with open(f"{work}/file{n}", "wb") as file:
                    file.write(data)
                    if n % 10 == 0:
                        os.fsync(file.fileno())
            for n, data in content.items():
                with open(f"{work}/file{n}", "rb") as file:
                    if file.read() != data:
                        raise AssertionError(f"file{n} has other bytes")
            for n in content:
                if n % 3:
                    os.remove(f"{work}/file{n}")

        def come_and_go():
            self.must("layer", "create", "side", "--parent", "demo")
            with open(f"{self.mnt}/side/note", "wb") as file:
                file.write(b"n" * 300_000)
            self.must("layer", "rm", "side")

        def commit():
            self.must("layer", "commit", "work", "--as", "then")
            self.must("layer", "create", "above", "--parent", "then")
            self.must("layer", "rm", "above")
            self.must("layer", "rm", "--lazy", "then")

        def df():
            if not json.loads(self.must("df", "--json").splitlines()[-1])["sum_ok"]:
                raise AssertionError("the sum is wrong")

        def look():
            self.must("fsck", "-n")
            self.must("verify", "--all")
            self.must("layer", "ls")
            self.must("diff", "demo", "demo")

        threads = [self.again(each) for each in (write, come_and_go, commit, df, look)]
        for thread in threads:
            thread.join()
        self.assertEqual(self.wrong, [])
        self.assertTrue(all(self.rounds.values()), self.rounds)
        self.umount()
        self.lcfs("verify", "--all")


if __name__ == "__main__":
    mounting.need_fuse()
    mounting.main()
