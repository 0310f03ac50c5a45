#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lcfs diff: a changeset applied to the first layer by tar and by umoci gives the second; exit codes; JSON; a store in use."""

import json
import os
import random
import shutil
import subprocess
import tarfile
import threading

import mounting
import support
from support import listing


class Diff(mounting.Case):
    def tree(self, layer):
        return self.path("mnt/" + layer)

    def plant(self, root, rng):
        for d in range(6):
            os.makedirs(f"{root}/d{d}/sub")
            for f in range(4):
                self.write(f"{root}/d{d}/f{f}", rng.randbytes(rng.choice([0, 10, 3000, 70000])))
        os.link(f"{root}/d0/f0", f"{root}/d1/link")
        os.symlink("../d0/f1", f"{root}/d2/symlink")
        os.mknod(f"{root}/d3/null", 0o020666, os.makedev(1, 3))
        os.setxattr(f"{root}/d0/f1", "user.a", b"1\x00\xff")
        self.write(f"{root}/d1/" + "n" * 200, b"long")

    @staticmethod
    def write(path, data):
        with open(path, "wb") as file:
            file.write(data)

    def change(self, root, rng):
        """One thing that anybody might do; what can't be done is not."""
        directories, files = [root], []
        for at, subdirs, names in os.walk(root):
            directories += [os.path.join(at, d) for d in subdirs]
            files += [os.path.join(at, n) for n in names]
        new = os.path.join(rng.choice(directories), rng.choice(["f0", "f1", "sub", "d1", "x", "y", "\u00e4 b\n"]))
        file, directory = rng.choice(files), rng.choice(directories[1:] or directories)
        regular = os.path.isfile(file) and not os.path.islink(file)
        try:
            match rng.randrange(12):
                case 0:
                    self.write(new, rng.randbytes(rng.choice([1, 5000])))
                case 1:
                    os.mkdir(new)
                case 2:
                    os.unlink(file)
                case 3:
                    shutil.rmtree(directory)
                case 4:
                    os.rename(file, new)
                case 5:
                    os.rename(directory, new)
                case 6:
                    os.link(file, new, follow_symlinks=False)
                case 7:
                    os.symlink("somewhere", new)
                case 8:
                    os.chmod(rng.choice([file, directory]), 0o700 + rng.randrange(8))
                case 9:
                    os.utime(rng.choice([file, directory]), ns=(1, rng.randrange(10**18)), follow_symlinks=False)
                case 10:
                    os.setxattr(rng.choice([file, directory]), "user.x", rng.randbytes(5), follow_symlinks=False)
                case 11 if regular:
                    with open(file, "r+b") as out:
                        out.seek(rng.randrange(1 + os.path.getsize(file)))
                        out.write(rng.randbytes(3))
        except OSError:
            pass

    def differ(self, *args):
        done = self.run_lcfs("diff", *args)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return done.stdout

    def extract(self, layer, name):
        self.lcfs("extract", "-q", layer, self.path(name))
        return self.path(name)

    @staticmethod
    def by_tar(root, changeset):
        """By hand what GNU tar does not: whiteouts, what replaces something of another type, attributes that went."""
        with tarfile.open(changeset) as tar:
            for member in tar:
                directory, name = os.path.split(member.name)
                whiteout = name.startswith(".wh.")
                path = os.path.join(root, directory, name[4:] if whiteout else name)
                is_directory = os.path.isdir(path) and not os.path.islink(path)
                if is_directory and (whiteout or not member.isdir()):
                    shutil.rmtree(path)
                elif is_directory:
                    for attribute in os.listxattr(path):
                        os.removexattr(path, attribute)
                elif os.path.lexists(path):
                    os.unlink(path)
        subprocess.run(["tar", "-xpf", changeset, "-C", root, "--xattrs", "--xattrs-include=*",
                        "--exclude=.wh.*", "--numeric-owner", "--delay-directory-restore"], check=True)

    def by_umoci(self, name, *layers):
        where = self.path(name)
        run = lambda *args: subprocess.run(["umoci", *args], check=True, stdout=subprocess.DEVNULL)
        run("init", "--layout", where)
        run("new", "--image", where + ":x")
        for layer in layers:
            run("raw", "add-layer", "--image", where + ":x", layer)
        run("unpack", "--image", where + ":x", where + ".bundle")
        return where + ".bundle/rootfs"

    def test_a_changeset_applied_gives_the_other_layer(self):
        support.need("tar", "umoci")
        for seed in range(8):
            rng = random.Random(seed)
            base, a, b = (f"{name}{seed}" for name in ("base", "a", "b"))
            if self.server is None:
                self.mount()
            self.lcfs("layer", "create", base)
            self.plant(self.tree(base), rng)
            for layer in (a, b):
                self.lcfs("layer", "create", layer, "--parent", base)
            for layer, count in ((a, rng.randrange(6)), (b, rng.randrange(30))):
                for _ in range(count):
                    self.change(self.tree(layer), rng)
            changeset, again = self.path(f"{seed}.tar"), self.path(f"{seed}.again")
            self.differ("--oci", changeset, a, b)
            self.assertFalse(os.path.exists(changeset + ".partial"))
            with open(again, "wb") as out:
                out.write(self.differ("--oci", "-", a, b))
            self.assertEqual(support.sha256(changeset), support.sha256(again))
            whole = self.path(f"{seed}.whole")
            self.lcfs("layer", "create", f"empty{seed}")
            self.differ("--oci", whole, f"empty{seed}", a)
            wanted = listing(self.extract(b, f"want{seed}"))
            with self.subTest(seed=seed, by="tar"):
                root = self.extract(a, f"tar{seed}")
                self.by_tar(root, changeset)
                self.assertEqual(listing(root), wanted)
            with self.subTest(seed=seed, by="lcfs"):
                applied, flat = f"applied{seed}", f"flat{seed}"
                self.lcfs("layer", "apply", a, changeset, applied)
                self.assertEqual(self.lcfs("diff", applied, b), b"")
                self.lcfs("layer", "squash", b, "--onto", base, flat)
                self.assertEqual(self.lcfs("diff", flat, b), b"")
            with self.subTest(seed=seed, by="umoci"):
                self.assertEqual(listing(self.by_umoci(f"umoci{seed}", whole, changeset)), wanted)

    def test_a_patch_is_one_for_patch_and_git(self):
        support.need("patch")
        rng = random.Random(5)
        self.lcfs("layer", "create", "a")
        self.mount()
        lines = [f"{rng.randrange(50)}\n" for _ in range(400)]
        self.write(self.tree("a") + "/text", "".join(lines).encode())
        self.write(self.tree("a") + "/gone", b"1\n2\n")
        self.write(self.tree("a") + "/empty", b"")
        self.write(self.tree("a") + "/binary", b"\0\1")
        os.mkdir(self.tree("a") + "/one place")
        self.write(self.tree("a") + "/one place/file", b"1\n2\n3\n")
        self.lcfs("layer", "create", "b", "--parent", "a")
        for _ in range(40):
            at = rng.randrange(len(lines))
            lines[at:at + rng.randrange(3)] = [f"new {rng.random()}\n"] * rng.randrange(3)
        root = self.tree("b")
        self.write(root + "/text", "".join(lines).encode() + b"no newline")
        self.write(root + "/made \t here", b"x\n")
        self.write(root + "/empty", b"now not\n")
        self.write(root + "/binary", b"\0\2")
        os.rename(root + "/one place", root + "/another")
        self.write(root + "/another/file", b"1\n2\n3\n4\n")
        os.unlink(root + "/gone")
        patch = self.lcfs("diff", "--patch", "--exclude-times", "a", "b", code=1)
        self.assertIn(b"\n# Binary files a/binary and b/binary differ\n", b"\n" + patch)
        self.assertIn(b"# R /one place -> /another\n", patch)
        there = self.extract("a", "there")
        shutil.copytree(there, self.path("git"))
        subprocess.run(["patch", "-s", "-p1", "-d", there], input=patch, check=True)
        if shutil.which("git"):
            subprocess.run(["git", "apply", "-"], input=patch, check=True, cwd=self.path("git"),
                           env=dict(os.environ, GIT_CEILING_DIRECTORIES=self.dir))  # the build may stand in a repository
        wanted = self.extract("b", "wanted")
        for tree in [there] + ([self.path("git")] if shutil.which("git") else []):
            for name in ("text", "made \t here", "empty"):
                with open(tree + "/" + name, "rb") as got, open(wanted + "/" + name, "rb") as want:
                    self.assertEqual(got.read(), want.read(), (tree, name))
            with open(tree + "/one place/file", "rb") as got:  # a patch renames no directories
                self.assertEqual(got.read(), b"1\n2\n3\n4\n")
            self.assertFalse(os.path.exists(tree + "/gone"))

    def test_a_changeset_has_a_directory_right_before_what_is_in_it(self):
        self.lcfs("layer", "create", "a")
        self.lcfs("layer", "create", "b", "--parent", "a")
        self.mount()
        for name in ("pkg", "pkg-1.0"):
            os.mkdir(self.tree("b") + "/" + name)
            self.write(self.tree("b") + f"/{name}/file", b"x")
        names = [line.rstrip("/") for line in subprocess.run(
            ["tar", "t"], input=self.lcfs("diff", "--oci", "-", "a", "b", code=1), stdout=subprocess.PIPE, check=True).stdout.decode().split()]
        self.assertEqual(names[-4:], ["pkg", "pkg/file", "pkg-1.0", "pkg-1.0/file"])

    def test_exit_codes_and_words(self):
        self.lcfs("layer", "create", "a")
        self.lcfs("layer", "create", "b", "--parent", "a")
        self.assertEqual(self.lcfs("diff", "a", "b"), b"")
        self.mount()
        root = self.tree("b")
        os.mkdir(root + "/new")
        self.write(root + "/new/\x1b[31m", b"x")
        self.assertEqual(self.lcfs("diff", "--exclude-times", "a", "b", code=1), b"A /new\nA /new/\\x1b[31m\n")
        self.assertEqual(self.lcfs("diff", "--summary", "a", "b", "--", "/new", code=1), b"A /new and 1 below\n")
        self.fails("diff", "a", "b", "/none", code=2, words=["/none", "no such path in either layer"])
        os.symlink("new", root + "/link")
        self.assertEqual(self.lcfs("diff", "--exclude-times", "a", "b", "/link/\x1b[31m", code=1), b"A /new/\\x1b[31m\n")
        os.unlink(root + "/link")
        self.assertIn(b"total", self.lcfs("diff", "--stat", "a", "b", code=1))
        self.fails("diff", "a", "nobody", code=2, words=["nobody"])
        self.fails("diff", "a", code=2)
        self.fails("diff", "--json", "--oci", "-", "a", "b", code=2)
        self.fails("diff", "--oci", self.path("no/such"), "a", "b", code=2, words=["no/such"])
        if os.path.exists("/dev/full"):
            self.fails("diff", "--oci", "/dev/full", "a", "b", code=2)
        self.umount()
        self.assertEqual(self.lcfs("diff", "--exclude-times", "b", "a", code=1), b"D /new\nD /new/\\x1b[31m\n")

    def test_json_tells_what_changed_and_where(self):
        self.lcfs("layer", "create", "a")
        self.mount()
        self.write(self.tree("a") + "/f", b"x" * 20000)
        self.write(self.tree("a") + "/g", b"y")
        self.lcfs("layer", "create", "b", "--parent", "a")
        root = self.tree("b")
        with open(root + "/f", "r+b") as file:
            file.seek(9000)
            file.write(b"y")
        os.chmod(root + "/f", 0o600)
        os.rename(root + "/g", root + "/h")
        os.link(root + "/f", root + "/z")
        lines = [json.loads(line) for line in self.lcfs("diff", "--json", "--exclude-times", "a", "b", code=1).splitlines()]
        f, h, z = lines
        self.assertEqual((f["path"], f["kind"], f["type"], f["changes"]), ("/f", "modified", "file", ["content", "mode", "links"]))
        self.assertEqual(f["extents"], [{"offset": 8192, "bytes": 4096}])
        self.assertEqual((h["path"], h["kind"], h["from"], h["changes"]), ("/h", "renamed", "/g", []))
        self.assertEqual((z["path"], z["kind"], z["link_to"]), ("/z", "added", "/f"))

    def flip(self, at):
        with open(self.store, "r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))

    def test_damage_is_named_and_the_rest_is_told(self):
        self.lcfs("layer", "create", "a")
        self.mount()
        for name in ["first", "last", "middle"]:
            self.write(self.tree("a") + "/" + name, b"a line\n" * 3000)
        self.lcfs("layer", "create", "b", "--parent", "a")
        for name in ["first", "last", "middle"]:
            self.write(self.tree("b") + "/" + name, b"another\n" * 3000)
        self.umount()
        at = json.loads(self.lcfs("stat", "--json", "--runs", "b", "/middle"))["runs"][0]["device_offset"] + 4096
        self.flip(at)
        # Checksums tell what differs without a look at it.
        self.assertEqual(self.lcfs("diff", "--exclude-times", "a", "b", code=1), b"C /first\nC /last\nC /middle\n")
        done = self.run_lcfs("diff", "--patch", "--exclude-times", "a", "b")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        for word in [b"lcfs diff: /middle: ", b"layer 'b'", b"checksum"]:
            self.assertIn(word, done.stderr)
        self.assertIn(b"+++ b/first", done.stdout)
        self.assertIn(b"+++ b/last", done.stdout)
        self.assertNotIn(b"middle", done.stdout)
        self.fails("diff", "--oci", self.path("x.tar"), "a", "b", code=2, words=["'b'", "checksum"])
        self.assertFalse(os.path.exists(self.path("x.tar")))
        self.assertIn(b"+++ b/first", self.lcfs("diff", "--patch", "a", "b", "/first", code=1))
        self.flip(at)
        # Every block: what is compared or read is right, or named.
        blocks = os.path.getsize(self.store) // 4096
        for block in range(16, min(blocks, 400)):
            with open(self.store, "rb") as file:
                file.seek(block * 4096)
                if not any(file.read(4096)):
                    continue
            self.flip(block * 4096 + 1000)
            done = self.run_lcfs("diff", "--exclude-times", "a", "b")
            if done.returncode == 1:
                self.assertEqual((done.stdout, done.stderr), (b"C /first\nC /last\nC /middle\n", b""))
            else:
                self.assertEqual((done.returncode, done.stdout), (2, b""))
                self.assertTrue(done.stderr.startswith(b"lcfs diff: "), done.stderr)
            self.flip(block * 4096 + 1000)

    def test_source_date_epoch_is_the_latest_time(self):
        self.lcfs("layer", "create", "a")
        self.mount()
        for name, ns in (("early", 1_500_000_000), ("late", 99_000_000_000), ("before", -500_000_000)):
            self.write(self.tree("a") + "/" + name, b"")
            os.utime(self.tree("a") + "/" + name, ns=(ns, ns))
        self.lcfs("layer", "create", "empty")
        for epoch, late in ((None, 99.0), ("50", 50.0)):
            environment = self.environment() if epoch is None else dict(self.environment(), SOURCE_DATE_EPOCH=epoch)
            self.lcfs("diff", "--oci", self.path("t.tar"), "empty", "a", code=1, env=environment)
            with tarfile.open(self.path("t.tar")) as tar:
                times = {member.name: float(member.mtime) for member in tar if member.isfile()}
            self.assertEqual(times, {"early": 1.5, "late": late, "before": -0.5})
        self.fails("diff", "--oci", self.path("t.tar"), "empty", "a", code=2, env=dict(self.environment(), SOURCE_DATE_EPOCH="soon"))

    def test_a_layer_in_use_is_not_held_up(self):
        self.lcfs("layer", "create", "a")
        self.lcfs("layer", "create", "b", "--parent", "a")
        self.mount()
        stop = threading.Event()

        def busy():
            n = 0
            while not stop.is_set():
                self.write(self.tree("b") + f"/{n % 50}", b"z" * (n % 9000))
                n += 1

        writer = threading.Thread(target=busy)
        writer.start()
        try:
            for _ in range(10):
                self.differ("--oci", self.path("t.tar"), "a", "b")
                subprocess.run(["tar", "-tf", self.path("t.tar")], check=True, stdout=subprocess.DEVNULL)
        finally:
            stop.set()
            writer.join()
        self.lcfs("layer", "show", "b")


if __name__ == "__main__":
    mounting.need_fuse()
    support.main()
