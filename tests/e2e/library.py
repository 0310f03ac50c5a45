#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lcfs as a library: the example works, also when it is built against what `--component devel` installs."""

import os
import shutil
import subprocess
import unittest

import support
from support import image

EMBED = os.environ["LCFS_EMBED"]
DEVEL = "LCFS_DEVEL" in os.environ
SOURCE = support.SOURCE + "/example/embed.cc"


class Library(support.Case):
    def run_embed(self, program, *args):
        done = subprocess.run([program, image("oci-gzip.tar"), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=support.LONG)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def check_output(self, program):
        code, out, err = self.run_embed(program, "etc/motd")
        self.assertEqual((code, err), (0, ""))
        lines = out.splitlines()
        self.assertEqual(lines[-1], "from layer 2")
        self.assertIn("13\tetc/motd", lines)
        self.assertIn("25\tdata/file-then-directory/hello", lines)

    def test_example(self):
        self.check_output(EMBED)
        code, _, err = self.run_embed(EMBED, "etc/none")
        self.assertEqual((code, err), (1, "embed: No such file or directory\n"))

    def test_example_with_a_store(self):
        self.mkfs()
        code, out, err = self.run_embed(EMBED, "etc/motd", self.store)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(self.lcfs("cat", "demo", "/etc/motd").decode(), out[-13:])

    @unittest.skipUnless(DEVEL, "a build with sanitizers has no devel component")
    def test_devel_component(self):
        prefix = self.path("prefix")
        subprocess.run(["cmake", "--install", os.environ["LCFS_BUILD"], "--prefix", prefix, "--component", "devel"],
                       check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(sorted(os.listdir(prefix)), ["include", "lib"])
        moved = self.path("moved")
        os.rename(prefix, moved)
        found = [directory for directory, _, names in os.walk(moved) if "lcfs.pc" in names]
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "lcfs"], check=True, stdout=subprocess.PIPE,
                               env=dict(os.environ, PKG_CONFIG_PATH=found[0])).stdout.decode().split()
        compiler = ["g++", "-std=c++20", "-Wall", "-Wextra", "-Werror"]

        elsewhere = self.path("elsewhere")
        os.mkdir(elsewhere)
        shutil.copy(SOURCE, elsewhere)
        subprocess.run([*compiler, "embed.cc", *flags, "-o", "embed"], check=True, cwd=elsewhere)
        self.check_output(elsewhere + "/embed")

        # Each header needs only headers that are installed too.
        include = moved + "/include/lcfs"
        headers = sorted(os.path.relpath(os.path.join(directory, name), include)
                         for directory, _, names in os.walk(include) for name in names)
        self.assertIn("engine/store.h", headers)
        with open(elsewhere + "/all.cc", "w") as file:
            file.writelines(f'#include "{name}"\n' for name in headers)
        subprocess.run([*compiler, "-fsyntax-only", "all.cc", *flags], check=True, cwd=elsewhere)

    @unittest.skipUnless(DEVEL, "a build with sanitizers has no devel component")
    def test_plain_install_has_no_devel_component(self):
        subprocess.run(["cmake", "--install", os.environ["LCFS_BUILD"], "--prefix", self.path("plain")], check=True,
                       stdout=subprocess.DEVNULL)
        self.assertEqual(sorted(os.listdir(self.path("plain"))), ["bin", "sbin", "share"])


if __name__ == "__main__":
    support.need("umoci", "skopeo", "cmake", "g++", "pkg-config")
    support.main()
