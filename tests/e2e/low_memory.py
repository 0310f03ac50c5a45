#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""With too little memory a command says so, with the exit code of a failure, and the store is as it was; with enough it works."""

import hashlib
import io
import json
import resource
import tarfile
import unittest

import support
from support import image

MIB = 1 << 20


class LowMemory(support.Case):
    def limited(self, limit, *args):
        return self.run_lcfs(*args, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))

    def least(self):
        """Address space in which the program starts at all: below it the dynamic linker gives up, which is not ours."""
        for limit in range(8, 400, 4):
            if self.limited(limit * MIB, "--version").returncode == 0:
                return limit
        self.fail("it does not even start")

    def sweep(self, code, *args, step):
        """Ever more memory until it works; how often it did not."""
        failed, limit = 0, self.least() + 1
        while True:
            done = self.limited(limit * MIB, *args)
            text = done.stderr.decode("utf-8", "replace")
            if done.returncode == 0:
                return failed
            self.assertEqual(done.returncode, code, (limit, args, text))
            self.assertTrue(text.startswith("lcfs"), (limit, text))
            self.assertRegex(text, "memory", (limit, text))
            failed += 1
            self.lcfs("fsck", "-n", "--data", self.store)
            self.assertLess(limit, 4000)
            limit += step

    def test_import(self):
        self.mkfs()
        before = self.df()
        self.assertGreater(self.sweep(1, "import", "-q", image("docker.tar"), step=8), 1)
        self.lcfs("image", "rm", "demo")
        self.assertGreater(self.sweep(1, "import", "-q", image("oci-gzip.tar"), step=8), 1)
        self.assertNotEqual(self.df(), before)
        self.assertEqual(self.lcfs("cat", "demo", "/etc/motd"), b"from layer 2\n")

    def many_files(self, count):
        """A docker-archive of one layer with `count` empty files."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            for i in range(count):
                tar.addfile(tarfile.TarInfo(f"d{i // 1000}/a-name-that-is-not-short-{i}"))
        digest = hashlib.sha256(layer.getvalue()).hexdigest()
        config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]}}).encode()
        manifest = json.dumps([{"Config": "config.json", "RepoTags": ["many:1"], "Layers": ["layer.tar"]}]).encode()
        with tarfile.open(self.path("many.tar"), "w") as tar:
            for name, data in (("config.json", config), ("layer.tar", layer.getvalue()), ("manifest.json", manifest)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return self.path("many.tar")

    def test_fsck(self):
        self.mkfs()
        self.lcfs("import", "-q", self.many_files(60000))
        before = self.df()
        self.assertGreater(self.sweep(8, "fsck", "-f", "-n", "--data", self.store, step=2), 0)
        self.assertGreater(self.sweep(8, "fsck", "-y", self.store, step=2), 0)
        self.assertEqual(self.df(), before)


if __name__ == "__main__":
    unittest.main()
