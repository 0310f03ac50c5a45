#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An import that is stopped, killed, or out of space leaves the store as it was, and the next one works."""

import os
import signal
import subprocess
import time

import support
from support import image


class ImportKilled(support.Case):
    def setUp(self):
        super().setUp()
        self.mkfs("64M")
        self.before = self.df()

    def half_import(self):
        """A running import that has been given half of the archive and waits for the rest."""
        running = subprocess.Popen([support.LCFS, "import", "-"], env=self.environment(), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with open(image("docker.tar"), "rb") as file:
            running.stdin.write(file.read(os.path.getsize(image("docker.tar")) * 2 // 3))
        running.stdin.flush()
        time.sleep(0.5)
        return running

    def then_it_works(self):
        self.assertEqual(self.df(), self.before)
        self.lcfs("fsck", "-n", "--data")
        self.lcfs("import", image("docker.tar"))
        self.assertEqual(self.lcfs("cat", "demo", "/etc/motd"), b"from layer 2\n")

    def test_stopped_by_a_signal(self):
        for number in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
            with self.subTest(number):
                running = self.half_import()
                running.send_signal(number)
                # The pipe stays open: it must not wait for more input.
                self.assertEqual(running.wait(timeout=60), 1)
                text = running.stderr.read().decode()
                self.assertEqual(text.count("\n"), 1, text)
                running.communicate()
                self.assertEqual(self.df(), self.before)
        self.then_it_works()

    def test_killed(self):
        running = self.half_import()
        running.kill()
        running.communicate()
        self.then_it_works()

    def test_killed_at_many_moments(self):
        for delay in [0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3]:
            running = subprocess.Popen([support.LCFS, "import", "-q", image("oci-gzip.tar")], env=self.environment())
            time.sleep(delay)
            running.kill()
            done = running.wait() == 0
            found = self.lines("image", "ls", "--json")[0]["images"]
            self.lcfs("fsck", "-n", "--data")
            if found:  # it was durable before the signal came, or it isn't there at all
                self.assertEqual(self.lcfs("cat", "demo", "/etc/motd"), b"from layer 2\n")
                break
            self.assertFalse(done)
            self.assertEqual(self.df(), self.before)

    def test_in_use(self):
        running = self.half_import()
        self.fails("import", image("oci-gzip.tar"), words=[f"in use by pid {running.pid}"])
        self.fails("df", words=[f"in use by pid {running.pid}"])
        self.fails("mkfs", "-f", "--size", "64M", self.store, words=["in use"])
        running.kill()
        running.communicate()
        self.then_it_works()

    def test_a_store_that_is_too_small(self):
        small = self.path("small.lcfs")
        self.lcfs("mkfs", "-q", "--size", "16M", small)
        big = self.path("big")
        with open(big, "wb") as file:
            file.write(os.urandom(24 << 20))
        self.one_layer_archive("big.tar", big)
        before = self.lines("df", "--json", "--store", small)
        self.fails("import", "--store", small, self.path("big.tar"), words=["big.tar"])
        self.assertEqual(self.lines("df", "--json", "--store", small), before)
        self.lcfs("fsck", "-n", "--data", small)

    def one_layer_archive(self, name, *files):
        subprocess.run(["tar", "-C", self.dir, "-cf", self.path("layer.tar"), *map(os.path.basename, files)], check=True)
        digest = support.sha256(self.path("layer.tar"))
        with open(self.path("config.json"), "w") as file:
            file.write('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' % digest)
        with open(self.path("manifest.json"), "w") as file:
            file.write('[{"Config":"config.json","RepoTags":["big:latest"],"Layers":["layer.tar"]}]')
        subprocess.run(["tar", "-C", self.dir, "-cf", self.path(name), "layer.tar", "config.json", "manifest.json"], check=True)


if __name__ == "__main__":
    support.need("umoci", "skopeo")
    support.main()
