# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: the program, images made by real tools, and listings of trees.

ctest sets LCFS (the program), LCFS_IMAGES (what scripts/make-image made) and LCFS_SOURCE.
"""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

LCFS = os.environ.get("LCFS", "lcfs")
IMAGES = os.environ.get("LCFS_IMAGES", "")
SOURCE = os.environ.get("LCFS_SOURCE", "")
LONG = 600  # seconds; a sanitizer build on a busy machine is slow


class Case(unittest.TestCase):
    """A directory and a store of its own; every test ends with a clean fsck and a df that adds up."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="lcfs-e2e-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.store = self.path("store.lcfs")

    def tearDown(self):
        if os.path.exists(self.store):
            self.lcfs("fsck", "-n", "--data", self.store)
            self.assertTrue(self.df()[-1]["sum_ok"])

    def path(self, name):
        return os.path.join(self.dir, name)

    def environment(self):
        return dict(os.environ, LCFS_STORE=self.store)

    def run_lcfs(self, *args, **how):
        how.setdefault("env", self.environment())
        return subprocess.run([LCFS, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LONG, **how)

    def lcfs(self, *args, code=0, **how):
        """Standard output of a run that must end with `code`."""
        done = self.run_lcfs(*args, **how)
        self.assertEqual(done.returncode, code, (args, done.stdout[-2000:], done.stderr[-2000:]))
        return done.stdout

    def fails(self, *args, code=1, words=(), **how):
        """A run that must fail, with one line on standard error that holds all `words`."""
        done = self.run_lcfs(*args, **how)
        text = done.stderr.decode("utf-8", "replace")
        self.assertEqual(done.returncode, code, (args, text))
        self.assertRegex(text, "^lcfs( [a-z ]+)?: ")
        self.assertEqual(text.count("\n"), 1, text)
        for word in words:
            self.assertIn(word, text)
        return text

    def lines(self, *args):
        return [json.loads(line) for line in self.lcfs(*args).splitlines()]

    def df(self):
        return self.lines("df", "--json")

    def mkfs(self, size="256M"):
        self.lcfs("mkfs", "-q", "--size", size, self.store)


def image(name):
    return os.path.join(IMAGES, name)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def xattrs(path):
    try:
        return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    except OSError:
        return {}


def listing(root):
    """{path: attributes} of all below `root`; links between names as the first path of the group."""
    root = os.fsencode(root)
    found, groups = {}, {}
    todo = [b""]
    while todo:
        at = todo.pop()
        path = os.path.join(root, at) if at else root
        st = os.lstat(path)
        entry = {
            "mode": oct(st.st_mode), "uid": st.st_uid, "gid": st.st_gid, "mtime": st.st_mtime_ns, "xattrs": xattrs(path),
        }
        if stat.S_ISREG(st.st_mode):
            entry.update(size=st.st_size, sha256=sha256(path))
        elif stat.S_ISLNK(st.st_mode):
            entry["target"] = os.readlink(path)
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            entry["rdev"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
        elif stat.S_ISDIR(st.st_mode):
            todo += [os.path.join(at, name) for name in os.listdir(path)]
        if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
            entry["nlink"] = st.st_nlink
            groups.setdefault(st.st_ino, []).append(at)
        found[at] = entry
    for names in groups.values():
        for name in names:
            found[name]["same_as"] = min(names)
    return found


def without_root_times(tree):
    """The tools that make images disagree about the root directory's mode and mtime."""
    tree[b""].pop("mode")
    tree[b""].pop("mtime")
    return tree


def need(*tools):
    """Ends the test as skipped (77) if a tool is missing; in CI that is a failure."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        print("missing:", *missing)
        sys.exit(1 if os.environ.get("CI") else 77)


def main():
    unittest.main(verbosity=2)
