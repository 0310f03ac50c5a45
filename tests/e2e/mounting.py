# SPDX-License-Identifier: Apache-2.0
"""What tests of a mounted store share: a server of our own, that can be killed."""

import os
import subprocess
import sys
import time

import support

URING = "/sys/module/fuse/parameters/enable_uring"
TRANSPORT = os.environ.get("LCFS_TRANSPORT", "")  # for all mounts of a test; none: the default


def need_fuse():
    """Ends the test as skipped (77) where nobody can mount; in CI that is a failure."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("needs root and /dev/fuse")
        sys.exit(1 if os.environ.get("CI") else 77)
    if TRANSPORT == "uring" and not switch_on_uring():
        print("this kernel has no FUSE over io_uring")
        sys.exit(77)


def switch_on_uring():
    """False: the kernel has no FUSE over io_uring."""
    if not os.path.exists(URING):
        return False
    with open(URING, "w") as switch:
        switch.write("Y")
    return True


class Case(support.Case):
    """A store, and a server in the foreground, so that its pid is known."""

    size = "256M"

    def setUp(self):
        super().setUp()
        self.mkfs(self.size)
        self.mnt = self.path("mnt")
        os.mkdir(self.mnt)
        self.server = None
        self.log = self.path("server.log")
        self.addCleanup(self.give_up)

    def tearDown(self):
        if self.server is not None:
            self.umount()
        super().tearDown()

    def environment(self):
        return dict(super().environment(), LCFS_RUNTIME_DIR=self.path("run"))

    def give_up(self):
        subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL)
        if self.server is not None and self.server.poll() is None:
            self.server.kill()
            self.server.wait()

    def mount(self, *options, store=None):
        self.assertIsNone(self.server)
        if TRANSPORT:  # what a test asks for by itself comes later, and counts
            options = ("-o", "transport=" + TRANSPORT, *options)
        with open(self.log, "ab") as log:
            self.server = subprocess.Popen([support.LCFS, "mount", "-f", *options, store or self.store, self.mnt], env=self.environment(),
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 60
        while not (os.path.ismount(self.mnt) and self.answers()):
            if self.server.poll() is not None or time.monotonic() > until:
                self.fail("no mount: " + self.said())
            time.sleep(0.01)

    def answers(self):
        try:
            os.statvfs(self.mnt)
            return True
        except OSError:
            return False

    def said(self):
        with open(self.log, errors="replace") as log:
            return log.read()

    def umount(self):
        """umount(8), and waits until the server is gone: then all is durable."""
        for _ in range(20):  # busy: a df(1) somewhere on the machine is enough for that
            done = subprocess.run(["umount", self.mnt], stderr=subprocess.PIPE)
            if b"busy" not in done.stderr:
                break
            time.sleep(0.1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.server.wait(timeout=support.LONG), 0, self.said())
        self.server = None

    def kill(self):
        """kill -9, and takes the dead mount away."""
        self.server.kill()
        self.server.wait()
        self.server = None
        subprocess.run(["umount", "-l", self.mnt], check=True)


main = support.main
