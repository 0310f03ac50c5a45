#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `cmake --install` puts there works from there; and the default store of an ordinary user."""

import os
import shutil
import stat
import subprocess
import unittest

import support
from support import image


class Installed(support.Case):
    def test_program_links_and_man_pages(self):
        subprocess.run(["cmake", "--install", os.environ["LCFS_BUILD"], "--prefix", "/usr"], check=True, stdout=subprocess.DEVNULL,
                       env=dict(os.environ, DESTDIR=self.path("root")))
        usr = self.path("root/usr")
        for name in ["mkfs.lcfs", "fsck.lcfs", "mount.lcfs", "mount.fuse.lcfs"]:
            self.assertEqual(os.readlink(os.path.join(usr, "sbin", name)), "../bin/lcfs")
        subprocess.run([usr + "/sbin/mkfs.lcfs", "-q", "--size", "16M", self.store], check=True)
        subprocess.run([usr + "/sbin/fsck.lcfs", "-n", self.store], check=True, stdout=subprocess.DEVNULL)
        pages = os.listdir(usr + "/share/man/man8")
        self.assertEqual(sorted(pages), sorted(n for n in os.listdir(support.SOURCE + "/man") if n.endswith(".8")))
        for completion in ["bash-completion/completions/lcfs", "zsh/site-functions/_lcfs", "fish/vendor_completions.d/lcfs.fish"]:
            with open(f"{usr}/share/{completion}") as file:
                self.assertIn("__complete", file.read())
        # As bash does it; names with a ":" are several words to it.
        self.lcfs("layer", "create", "work")
        script = f"""PATH={usr}/bin:$PATH; source {usr}/share/bash-completion/completions/lcfs
            COMP_LINE='lcfs layer show wo'; COMP_POINT=${{#COMP_LINE}}; _lcfs; echo "${{COMPREPLY[*]}}\""""
        done = subprocess.run(["bash", "-c", script], env=self.environment(), stdout=subprocess.PIPE, check=True)
        self.assertEqual(done.stdout, b"work\n")
        if shutil.which("groff"):
            for page in pages:
                if page.startswith("lcfs"):
                    done = subprocess.run(["groff", "-mandoc", "-Tutf8", "-ww", "-z", f"{usr}/share/man/man8/{page}"], stderr=subprocess.PIPE)
                    self.assertEqual(done.stderr, b"", page)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_default_store_of_an_ordinary_user(self):
        home = self.path("home")
        os.mkdir(home)
        os.chown(home, 65534, 65534)
        os.chmod(self.dir, 0o755)
        archive = os.path.join(home, "image.tar")
        shutil.copyfile(image("oci-gzip.tar"), archive)
        program = os.path.join(home, "lcfs")
        shutil.copy(support.LCFS, program)
        env = {"HOME": home, "PATH": "/usr/bin:/bin"}

        def as_nobody(*args):
            return subprocess.run([program, *args], env=env, user=65534, group=65534, extra_groups=[], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=support.LONG, cwd=home)

        self.assertEqual(as_nobody("import", archive + ".none").returncode, 1)
        self.assertFalse(os.path.exists(home + "/.local"))
        done = as_nobody("import", archive)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.store = home + "/.local/share/lcfs/store.lcfs"
        for path in ["/.local", "/.local/share", "/.local/share/lcfs"]:
            self.assertEqual(stat.S_IMODE(os.stat(home + path).st_mode), 0o700)
        self.assertEqual(as_nobody("cat", "demo", "/etc/motd").stdout, b"from layer 2\n")

        # What such a user can't make is named, and the rest is there.
        done = as_nobody("extract", "-q", "demo", home + "/out")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"lcfs extract: /data/null: ", done.stderr)
        with open(home + "/out/etc/motd") as file:
            self.assertEqual(file.read(), "from layer 2\n")
        done = as_nobody("extract", "--rootless", "-q", "demo", home + "/out2")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertFalse(os.path.exists(home + "/out2/data/null"))


if __name__ == "__main__":
    support.need("umoci", "skopeo", "cmake")
    support.main()
