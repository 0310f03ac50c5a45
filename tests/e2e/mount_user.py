#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An ordinary user, who mounts through fusermount3: makes a store, a layer, files; others see nothing; commands reach the server."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile

import mounting
import support

USER = pwd.getpwnam("nobody").pw_uid  # fusermount3 wants one with a name


class User(support.Case):
    def setUp(self):
        super().setUp()
        self.home = tempfile.mkdtemp(prefix="lcfs-user-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.home)
        os.chown(self.home, USER, USER)
        self.program = shutil.copy(support.LCFS, self.home)  # the build's folder may be closed to others
        os.chmod(self.program, 0o755)
        os.mkdir(os.path.join(self.home, "m"))
        os.chown(os.path.join(self.home, "m"), USER, USER)

    def sh(self, script, fails=False):
        environment = dict(self.environment(), HOME=self.home, LCFS_RUNTIME_DIR=self.home + "/run", LCFS=self.program)
        done = subprocess.run(["setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "bash", "-ec", script], cwd=self.home,
                              env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=support.LONG)
        text = done.stdout.decode(errors="replace")
        self.assertEqual(done.returncode != 0, fails, text)
        return text

    def test_a_user_mounts_and_works_without_root(self):
        self.sh("$LCFS mkfs -q --size 256M s; $LCFS layer create --store s w; $LCFS mount s m")
        try:
            self.sh("echo hello >m/w/f; mkdir -m 700 m/w/d; ln m/w/f m/w/d/g; dd if=/dev/zero of=m/w/d/z bs=1M count=4 status=none")
            self.assertEqual(os.stat(self.home).st_uid, USER)
            with open("/proc/self/mounts") as mounts:
                line = [l for l in mounts if " fuse.lcfs " in l and self.home in l][0]
            self.assertIn("nosuid,nodev", line)
            with self.assertRaises(PermissionError):  # not even root, who did not ask for the mount
                os.listdir(os.path.join(self.home, "m"))
            self.sh(f"$LCFS layer commit --store s w --as x; cat m/x/d/g; test $(stat -c %u:%h m/w/f) = {USER}:2")
            self.assertIn("hello", self.sh("$LCFS cat --store s x /f"))
            self.sh("$LCFS layer rm --store s w; $LCFS layer ls --store s | grep -q x")
        finally:
            self.sh("$LCFS umount m")
        self.assertIn("clean", self.sh("$LCFS fsck -n s"))


if __name__ == "__main__":
    mounting.need_fuse()
    support.need("setpriv", "fusermount3", "unshare")
    # /dev/fuse is open to users where udev runs; here that is so in a mount namespace of our own.
    if os.environ.get("LCFS_TEST_NAMESPACE") != "yes":
        os.environ["LCFS_TEST_NAMESPACE"] = "yes"
        with tempfile.TemporaryDirectory() as folder:
            node = os.path.join(folder, "fuse")
            os.mknod(node, 0o20666, os.stat("/dev/fuse").st_rdev)
            os.chmod(node, 0o666)
            sys.exit(subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$1" /dev/fuse && shift && exec "$@"', "sh", node, sys.executable,
                                     "-B", *sys.argv]).returncode)
    mounting.main()
