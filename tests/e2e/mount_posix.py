#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What programs and kernels expect of a file system, on a mounted layer: owners and ACLs, special files, whiteouts and overlayfs,
file handles, files without names, long names, holes, privileges, xattrs, locks, shared memory, big and busy directories."""

import collections
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import traceback

import mounting
import support

ENTRIES = int(os.environ.get("LCFS_ENTRIES", "100000"))  # of the big directory
USER = 54321  # somebody without privileges
BLOCK = 4096

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(old, new, flags):
    check(LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def link_fd(fd, path):
    check(LIBC.linkat(fd, b"", AT_FDCWD, os.fsencode(path), AT_EMPTY_PATH))


def fallocate(fd, mode, offset, length):
    check(LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def handle_of(path):
    handle, mount = Handle(bytes=128), ctypes.c_int()
    check(LIBC.name_to_handle_at(AT_FDCWD, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0))
    return handle


def open_handle(mount, handle, flags=os.O_RDONLY):
    return check(LIBC.open_by_handle_at(mount, ctypes.byref(handle), flags))


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")


def put(path, data=b"", mode=0o644):
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode)
    with open(fd, "wb") as file:
        file.write(data)


def get(path):
    with open(path, "rb") as file:
        return file.read()


def stat_only(what, path):
    """stat(1) asks the kernel for what it shows and no more."""
    return subprocess.run(["stat", "-c", what, path], stdout=subprocess.PIPE, check=True).stdout.strip()


def born(path):
    return stat_only("%.9W", path)


def permissions(path):
    return stat_only("%a", path)


class Posix(mounting.Case):
    options = "transport=dev"
    size = "2G"

    def setUp(self):
        super().setUp()
        self.lcfs("layer", "create", "a")
        self.inodes = self.count()
        old = os.umask(0o022)
        self.addCleanup(os.umask, old)
        self.remount()

    def remount(self):
        if self.server is not None:
            self.umount()
        self.mount("--layer", "a", "-o", self.options)

    def at(self, name):
        return os.path.join(self.mnt, name)

    def count(self):
        """Inodes of the store, as fsck finds them."""
        words = self.lcfs("fsck", "-n", "--data", self.store).decode().split()
        return int(words[words.index("inodes,") - 1])

    def raises(self, number, call, *args, **how):
        with self.assertRaises(OSError) as caught:
            call(*args, **how)
        self.assertEqual(errno.errorcode[caught.exception.errno], errno.errorcode[number])

    def as_user(self, call, uid=USER, groups=()):
        """`call` in a process of another user, that stands in the mount."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.chdir(self.mnt)
                os.setgroups(list(groups))
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                call()
                code = 0
            except BaseException:  # the parent fails for it
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def acl(self, path, *, default=False):
        text = subprocess.run(["getfacl", "-cEnp", "-d" if default else "-a", path], stdout=subprocess.PIPE, check=True).stdout
        return text.decode().split()

    def setfacl(self, *args):
        subprocess.run(["setfacl", *args], check=True)

    # Owners, modes, ACLs -------------------------------------------------------------------------------------

    def test_new_files_are_the_callers(self):
        os.chmod(self.mnt, 0o1777)

        def make():
            os.umask(0o027)
            put("file", b"x", 0o666)
            os.mkdir("directory", 0o777)
            os.symlink("target", "link")
            os.mkfifo("fifo", 0o666)
            os.close(os.open("other", os.O_CREAT | os.O_WRONLY, 0o4777))

        self.as_user(make)
        for name, mode in [("file", 0o640), ("directory", 0o750), ("link", 0o777), ("fifo", 0o640), ("other", 0o4750)]:
            st = os.lstat(self.at(name))
            self.assertEqual((st.st_uid, st.st_gid, oct(stat.S_IMODE(st.st_mode))), (USER, USER, oct(mode)), name)

    def test_set_group_id_of_directories_is_inherited(self):
        os.mkdir(self.at("d"))
        os.chown(self.at("d"), 0, 777)
        os.chmod(self.at("d"), 0o2777)
        self.as_user(lambda: (put("d/f"), os.mkdir("d/sub")))
        self.assertEqual(os.stat(self.at("d/f")).st_gid, 777)
        sub = os.stat(self.at("d/sub"))
        self.assertEqual((sub.st_gid, oct(sub.st_mode)), (777, oct(stat.S_IFDIR | 0o2755)))

    def test_default_acl(self):
        d = self.at("d")
        os.mkdir(d)
        self.setfacl("-d", "-m", f"u:{USER}:rwx,g::rx", d)
        os.umask(0o077)  # has no say where there is a default ACL
        put(d + "/file", b"x", 0o666)
        os.mkdir(d + "/sub", 0o777)
        access = ["user::rw-", f"user:{USER}:rwx", "group::r-x", "mask::rw-", "other::r--"]
        default = ["user::rwx", f"user:{USER}:rwx", "group::r-x", "mask::rwx", "other::r-x"]
        for again in range(2):
            self.assertEqual(self.acl(d + "/file"), access)
            self.assertEqual(oct(os.stat(d + "/file").st_mode), oct(stat.S_IFREG | 0o664))
            self.assertEqual(self.acl(d + "/sub"), default)
            self.assertEqual(self.acl(d + "/sub", default=True), default)
            self.assertEqual(self.acl(d + "/file", default=True), [])
            if again == 0:
                self.remount()
        # One that a mode can say: there is no ACL, and still no umask.
        self.setfacl("-k", d)
        self.setfacl("-d", "-m", "u::rwx,g::rw,o::-", d)
        put(d + "/plain", b"x", 0o666)
        self.assertEqual(oct(os.stat(d + "/plain").st_mode), oct(stat.S_IFREG | 0o660))
        self.assertNotIn("system.posix_acl_access", os.listxattr(d + "/plain"))
        # None any more: the umask counts.
        self.setfacl("-k", d)
        put(d + "/masked", b"x", 0o666)
        self.assertEqual(oct(os.stat(d + "/masked").st_mode), oct(stat.S_IFREG | 0o600))
        fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o666)
        self.assertEqual(oct(os.fstat(fd).st_mode), oct(stat.S_IFREG | 0o600))
        os.close(fd)

    def test_acl_and_mode(self):
        f = self.at("f")
        put(f, b"secret", 0o600)
        os.chmod(self.mnt, 0o755)
        self.as_user(lambda: self.raises(errno.EACCES, os.open, "f", os.O_RDONLY))
        self.setfacl("-m", f"u:{USER}:rw", f)
        self.assertEqual(oct(os.stat(f).st_mode), oct(stat.S_IFREG | 0o660))  # the mask
        self.as_user(lambda: put("f", b"changed"))
        os.chmod(f, 0o640)
        self.assertEqual(self.acl(f), ["user::rw-", f"user:{USER}:rw-", "group::---", "mask::r--", "other::---"])
        self.as_user(lambda: self.raises(errno.EACCES, os.open, "f", os.O_WRONLY))
        self.as_user(lambda: self.assertEqual(get("f"), b"changed"))
        self.as_user(lambda: self.raises(errno.EACCES, os.open, "f", os.O_RDONLY), uid=USER + 1)
        self.setfacl("-b", f)
        self.assertEqual(os.listxattr(f), [])
        self.assertEqual(oct(os.stat(f).st_mode), oct(stat.S_IFREG | 0o600))
        self.raises(errno.EINVAL, os.setxattr, f, "system.posix_acl_access", b"\2\0\0\0nonsense")
        self.raises(errno.EACCES, os.setxattr, f, "system.posix_acl_default",
                    struct.pack("<IHHIHHIHHI", 2, 1, 7, 0xffffffff, 4, 5, 0xffffffff, 0x20, 5, 0xffffffff))

    def test_setting_an_acl_takes_set_group_id_from_strangers(self):
        f = self.at("f")
        put(f)
        os.chown(f, USER, 777)
        os.chmod(f, 0o2755)
        self.as_user(lambda: self.setfacl("-m", "u:5:r", "f"))
        self.assertEqual(os.stat(f).st_mode & stat.S_ISGID, 0)
        os.chmod(f, 0o2755)
        self.as_user(lambda: self.setfacl("-m", "u:6:r", "f"), groups=[777])
        self.assertNotEqual(os.stat(f).st_mode & stat.S_ISGID, 0)

    # Privileges ----------------------------------------------------------------------------------------------

    def test_privileges_are_lost(self):
        f = self.at("f")

        def fresh():
            put(f, b"x" * 10000)
            os.chown(f, 0, 0)
            os.setxattr(f, "security.capability", CAPABILITY)
            os.chmod(f, 0o6777)
            self.assertEqual(os.stat(f).st_mode & 0o6000, 0o6000)

        def write(flags=0):
            fd = os.open("f", os.O_WRONLY | flags)
            os.pwrite(fd, b"y", 5) if not flags else os.pwrite(fd, mmap.mmap(-1, BLOCK), 0)
            os.close(fd)

        def with_fd(call):
            fd = os.open("f", os.O_RDWR)
            call(fd)
            os.close(fd)

        ways = {
            "write": write,
            "direct": lambda: write(os.O_DIRECT),
            "truncate": lambda: os.truncate("f", 3),
            "ftruncate": lambda: with_fd(lambda fd: os.ftruncate(fd, 20000)),
            "open": lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)),
            "fallocate": lambda: with_fd(lambda fd: fallocate(fd, 0, 0, 30000)),
            "punch": lambda: with_fd(lambda fd: fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, 5000)),
        }
        for name, way in ways.items():
            with self.subTest(name):
                fresh()
                self.assertEqual(permissions(f), b"6777")
                self.as_user(way)
                self.assertEqual(permissions(f), b"777")
                self.assertEqual(oct(os.stat(f).st_mode), oct(stat.S_IFREG | 0o777))
                self.assertNotIn("security.capability", os.listxattr(f))
        # Without execution by the group, set-group-ID goes where the caller is not of that group.
        for name, way in ways.items():
            for uid, gid, groups, left in [(USER, 0, (), b"666"), (USER, USER, (), b"2666"), (USER, USER + 1, (7, USER + 1), b"2666")]:
                with self.subTest(name, gid=gid, groups=groups):
                    put(f, b"x" * 10000)
                    os.chown(f, 0, gid)
                    os.chmod(f, 0o6666)
                    self.as_user(way, uid, groups)
                    self.assertEqual(permissions(f), left)
        # Root's writes keep the bits, not the capabilities.
        fresh()
        with open(f, "r+b") as file:
            file.write(b"y")
        self.assertEqual(oct(os.stat(f).st_mode), oct(stat.S_IFREG | 0o6777))
        self.assertNotIn("security.capability", os.listxattr(f))
        # chown takes them from everybody's, and leaves locks of groups and directories alone.
        fresh()
        os.chown(f, USER, -1)
        self.assertEqual(oct(os.stat(f).st_mode), oct(stat.S_IFREG | 0o777))
        self.assertNotIn("security.capability", os.listxattr(f))
        os.mkdir(self.at("d"))
        os.chmod(self.at("d"), 0o6777)
        os.chown(self.at("d"), USER, USER)
        self.assertEqual(oct(os.stat(self.at("d")).st_mode), oct(stat.S_IFDIR | 0o6777))

    def test_trusted_xattrs_are_roots(self):
        f = self.at("f")
        put(f)
        os.chmod(f, 0o666)
        for name in ("trusted.t", "security.s", "user.u"):
            os.setxattr(f, name, b"v")

        def stranger():
            self.assertEqual(sorted(os.listxattr("f")), ["security.s", "user.u"])
            self.raises(errno.ENODATA, os.getxattr, "f", "trusted.t")
            self.raises(errno.EPERM, os.setxattr, "f", "trusted.t", b"w")
            self.raises(errno.EPERM, os.removexattr, "f", "trusted.t")
            self.raises(errno.EPERM, os.setxattr, "f", "security.s", b"w")
            os.setxattr("f", "user.u", b"w")

        self.as_user(stranger)
        self.assertEqual(sorted(os.listxattr(f)), ["security.s", "trusted.t", "user.u"])
        self.assertEqual(os.getxattr(f, "user.u"), b"w")

    def test_xattrs(self):
        f = self.at("f")
        put(f, b"data")
        big = os.urandom(65536)
        os.setxattr(f, "user.big", big)
        self.raises(errno.E2BIG, os.setxattr, f, "user.more", big + b"x")
        self.raises(errno.EEXIST, os.setxattr, f, "user.big", b"", os.XATTR_CREATE)
        self.raises(errno.ENODATA, os.setxattr, f, "user.none", b"", os.XATTR_REPLACE)
        self.raises(errno.ENODATA, os.getxattr, f, "user.none")
        self.raises(errno.ENODATA, os.removexattr, f, "user.none")
        self.raises(errno.EOPNOTSUPP, os.setxattr, f, "strange.name", b"")
        os.setxattr(f, "user.empty", b"")
        os.setxattr(f, "user." + "n" * 250, b"long")
        many = {f"user.{i}": os.urandom(i) for i in range(200)}
        for name, value in many.items():
            os.setxattr(f, name, value)
        os.symlink("nowhere", self.at("l"))
        self.raises(errno.EPERM, os.setxattr, self.at("l"), "user.x", b"", follow_symlinks=False)
        os.setxattr(self.at("l"), "trusted.x", b"of the link", follow_symlinks=False)
        for again in range(2):
            self.assertEqual(os.getxattr(f, "user.big"), big)
            self.assertEqual(set(os.listxattr(f)), {"user.big", "user.empty", "user." + "n" * 250, *many})
            for name, value in many.items():
                self.assertEqual(os.getxattr(f, name), value)
            self.assertEqual(os.getxattr(self.at("l"), "trusted.x", follow_symlinks=False), b"of the link")
            if again == 0:
                self.remount()
        os.setxattr(f, "user.big", b"small", os.XATTR_REPLACE)
        self.assertEqual(os.getxattr(f, "user.big"), b"small")
        for name in os.listxattr(f):
            os.removexattr(f, name)
        self.assertEqual(os.listxattr(f), [])

    # Names ---------------------------------------------------------------------------------------------------

    def test_special_files(self):
        made = {"zero": (stat.S_IFCHR, 0, 0), "null": (stat.S_IFCHR, 1, 3), "wide": (stat.S_IFCHR, 4095, 1048575),
                "block": (stat.S_IFBLK, 7, 259), "fifo": (stat.S_IFIFO, 0, 0)}
        for name, (kind, major, minor) in made.items():
            os.mknod(self.at(name), kind | 0o644, os.makedev(major, minor))
        cwd = os.getcwd()
        os.chdir(self.mnt)
        self.addCleanup(os.chdir, cwd)
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("socket")
            server.listen()
            client.connect("socket")
        os.chdir(cwd)
        self.assertEqual(get(self.at("null")), b"")  # devices work: nothing says nodev
        for again in range(2):
            for name, (kind, major, minor) in made.items():
                st = os.lstat(self.at(name))
                self.assertEqual((stat.S_IFMT(st.st_mode), st.st_rdev), (kind, os.makedev(major, minor)), name)
            self.assertTrue(stat.S_ISSOCK(os.lstat(self.at("socket")).st_mode))
            if again == 0:
                self.remount()

    def test_renames(self):
        a, b, c = (self.at(name) for name in "abc")
        put(a, b"a")
        put(b, b"b")
        self.raises(errno.EEXIST, renameat2, a, b, NOREPLACE)
        renameat2(a, c, NOREPLACE)
        self.assertEqual(sorted(os.listdir(self.mnt)), ["b", "c"])
        renameat2(b, c, EXCHANGE)
        self.assertEqual((get(b), get(c)), (b"a", b"b"))
        os.mkdir(a)
        put(a + "/inside", b"i")
        renameat2(a, b, EXCHANGE)
        self.assertEqual((get(a), get(b + "/inside")), (b"a", b"i"))
        self.raises(errno.EINVAL, os.rename, b, b + "/deeper")
        os.rename(a, b + "/inside")  # over it
        self.assertEqual(get(b + "/inside"), b"a")
        self.raises(errno.EISDIR, os.rename, c, b)
        self.raises(errno.ENOTEMPTY, os.rename, self.made("d"), b)
        self.raises(errno.EINVAL, renameat2, b, c, 8)

    def settle(self, file):
        """Before blocks are looked at."""

    def made(self, name):
        os.mkdir(self.at(name))
        return self.at(name)

    def test_whiteouts(self):
        put(self.at("old"), b"x")
        put(self.at("there"), b"y")
        os.chown(self.at("old"), USER, USER)
        renameat2(self.at("old"), self.at("new"), WHITEOUT)
        renameat2(self.at("new"), self.at("there"), WHITEOUT)
        self.raises(errno.EINVAL, renameat2, self.at("there"), self.at("old"), WHITEOUT | EXCHANGE)
        self.raises(errno.EEXIST, renameat2, self.at("there"), self.at("old"), WHITEOUT | NOREPLACE)
        for again in range(2):
            for name in ("old", "new"):
                st = os.lstat(self.at(name))
                self.assertEqual((st.st_mode, st.st_rdev, st.st_uid, st.st_nlink), (stat.S_IFCHR, 0, 0, 1))
            self.assertEqual(get(self.at("there")), b"x")
            if again == 0:
                self.remount()
        os.unlink(self.at("old"))

    def test_upper_of_an_overlay(self):
        lower, merged = self.path("lower"), self.path("merged")
        for name in (lower, merged, self.at("upper"), self.at("work")):
            os.mkdir(name)
        for name in ("d", "d/deep", "gone", "opaque"):
            os.mkdir(os.path.join(lower, name))
        for name in ("d/file", "d/deep/file", "gone/file", "opaque/file", "change", "remove", "move", "link"):
            put(os.path.join(lower, name), name.encode())
        upper = self.at("upper")
        overlay = ["mount", "-t", "overlay", "overlay", "-o",
                   f"lowerdir={lower},upperdir={upper},workdir={self.at('work')},redirect_dir=on", merged]
        with open(self.path("messages"), "wb") as messages:
            mounted = subprocess.run(overlay, stderr=messages).returncode
        if mounted != 0 and b"unknown filesystem" in get(self.path("messages")) and not os.environ.get("CI"):
            self.skipTest("this kernel has no overlayfs")
        self.assertEqual(mounted, 0, get(self.path("messages")))
        self.addCleanup(subprocess.run, ["umount", "-l", merged], stderr=subprocess.DEVNULL)

        def m(name):
            return os.path.join(merged, name)

        os.unlink(m("remove"))
        subprocess.run(["rm", "-r", m("opaque"), m("gone")], check=True)
        os.mkdir(m("opaque"))
        put(m("opaque/new"), b"new")
        os.rename(m("move"), m("d/moved"))
        os.rename(m("d"), m("renamed"))
        with open(m("change"), "ab") as file:
            file.write(b"d")
        os.link(m("link"), m("renamed/linked"))
        os.mknod(m("fifo"), stat.S_IFIFO | 0o600)
        os.setxattr(m("change"), "user.x", b"y")
        put(m("temporary"), b"t")
        os.unlink(m("temporary"))
        want = {"opaque", "opaque/new", "renamed", "renamed/file", "renamed/moved", "renamed/deep", "renamed/deep/file",
                "renamed/linked", "change", "link", "fifo"}

        def seen():
            found = set()
            for root, directories, files in os.walk(merged):
                found.update(os.path.relpath(os.path.join(root, name), merged) for name in directories + files)
            return found

        self.assertEqual(seen(), want)
        subprocess.run(["umount", merged], check=True)
        self.remount()  # what it wrote says the same to the next one
        for name in ("remove", "gone", "move"):
            st = os.lstat(os.path.join(upper, name))
            self.assertEqual((stat.S_IFMT(st.st_mode), st.st_rdev), (stat.S_IFCHR, 0), name)
        self.assertEqual(os.getxattr(os.path.join(upper, "opaque"), "trusted.overlay.opaque"), b"y")
        self.assertIn("trusted.overlay.redirect", os.listxattr(os.path.join(upper, "renamed")))
        subprocess.run(overlay, check=True)
        self.assertEqual(seen(), want)
        self.assertEqual((get(m("change")), get(m("renamed/moved")), get(m("opaque/new"))), (b"changed", b"move", b"new"))
        self.assertEqual(os.getxattr(m("change"), "user.x"), b"y")
        subprocess.run(["umount", merged], check=True)

    @contextlib.contextmanager
    def overlay(self):
        """An overlay at "merged" of the mount, whose upper is there too: the way to other places is root's."""
        lower, merged = self.path("lower"), self.at("merged")
        for name in (lower, merged, self.at("upper"), self.at("work")):
            os.mkdir(name)
        with open(self.path("messages"), "wb") as messages:
            mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                                      f"lowerdir={lower},upperdir={self.at('upper')},workdir={self.at('work')}", merged], stderr=messages).returncode
        if mounted != 0 and b"unknown filesystem" in get(self.path("messages")) and not os.environ.get("CI"):
            self.skipTest("this kernel has no overlayfs")
        self.assertEqual(mounted, 0, get(self.path("messages")))
        try:
            yield
        finally:
            subprocess.run(["umount", merged], check=True)

    def test_writers_through_an_overlay_lose_set_user_id(self):
        """overlayfs asks for everything as root: what counts is who writes."""
        def write(path):
            with open(path, "r+b") as file:
                file.write(b"other")

        def reserve(path):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, 100000)

        with self.overlay():
            name, below = self.at("merged/tool"), self.at("upper/tool")
            for how in (write, lambda path: os.truncate(path, 3), reserve):
                put(name, b"tool of root")
                for by_root, mode in ((True, 0o6777), (False, 0o777)):
                    os.chmod(name, 0o6777)
                    if by_root:
                        how(name)
                    else:
                        self.as_user(lambda: how("merged/tool"))
                    for path in (below, name):
                        self.assertEqual(oct(stat.S_IMODE(os.stat(path).st_mode)), oct(mode))
                os.unlink(name)

    def test_what_is_run_of_an_overlay_with_no_killpriv_v2(self):
        self.umount()
        self.mount("--layer", "a", "-o", self.options + ",no_killpriv_v2")
        with self.overlay():
            name = self.at("merged/id")
            shutil.copy(shutil.which("id"), name)
            os.chmod(name, 0o6777)

            def change():
                run = ["merged/id", "-u"]
                self.assertEqual(subprocess.run(run, stdout=subprocess.PIPE, check=True).stdout, b"0\n")
                with open("merged/id", "ab") as file:
                    file.write(b"x")
                self.assertEqual(subprocess.run(run, stdout=subprocess.PIPE, check=True).stdout, b"%d\n" % USER)

            self.as_user(change)

    def test_hard_links(self):
        one, two = self.made("one"), self.made("two")
        put(one + "/f", b"f")
        before = os.stat(one + "/f")
        time.sleep(0.02)
        for i in range(50):
            os.link(one + "/f", f"{two if i % 2 else one}/{i}")
        after = os.stat(one + "/f")
        self.assertEqual((after.st_nlink, after.st_ino, after.st_mtime_ns), (51, before.st_ino, before.st_mtime_ns))
        self.assertGreater(after.st_ctime_ns, before.st_ctime_ns)
        os.unlink(one + "/f")
        self.remount()
        with open(two + "/1", "r+b") as file:
            file.write(b"g")
        self.assertEqual({os.stat(f"{two if i % 2 else one}/{i}").st_nlink for i in range(50)}, {50})
        self.assertEqual({get(f"{two if i % 2 else one}/{i}") for i in range(50)}, {b"g"})
        self.assertEqual({os.stat(f"{two if i % 2 else one}/{i}").st_ino for i in range(50)}, {before.st_ino})
        os.rename(one + "/0", two + "/1")  # two names of one file: nothing happens
        self.assertEqual(os.stat(one + "/0").st_nlink, 50)
        self.raises(errno.EPERM, os.link, one, two + "/one")
        self.assertEqual((os.stat(one).st_nlink, os.stat(self.mnt).st_nlink), (2, 4))

    def test_long_names_and_paths(self):
        root = os.fsencode(self.mnt)
        names = [b"n" * 255, bytes(range(1, 47)) + bytes(range(48, 256)), "\u00fc\u0308".encode() * 63, b"\xff", b" ", b"\n", b"..."]
        for name in names:
            put(os.path.join(root, name), name)
        self.raises(errno.ENAMETOOLONG, put, os.path.join(root, b"n" * 256))
        os.symlink(b"t" * 4095, os.path.join(root, b"link"))
        self.assertEqual(set(os.listdir(root)), {*names, b"link"})
        # 4095 bytes from here down.
        part = b"p" * 255
        old = os.getcwd()
        self.addCleanup(os.chdir, old)
        os.chdir(self.mnt)
        for _ in range(15):
            os.mkdir(part)
            os.chdir(part)
        os.chdir(self.mnt)
        path = b"/".join([part] * 15 + [b"f" * 255])
        self.assertEqual(len(path), 4095)
        put(path, b"far down")
        self.assertEqual(get(path), b"far down")
        self.raises(errno.ENAMETOOLONG, os.stat, path + b"f")
        os.chdir(old)
        self.remount()
        for name in names:
            self.assertEqual(get(os.path.join(root, name)), name)
        self.assertEqual(os.readlink(os.path.join(root, b"link")), b"t" * 4095)
        os.chdir(self.mnt)
        self.assertEqual(get(path), b"far down")
        os.chdir(old)

    def test_handles(self):
        d = self.made("d")
        put(d + "/f", b"data")
        os.mkdir(d + "/sub")
        handles = {name: handle_of(os.path.join(self.mnt, name)) for name in ("d", "d/f", "d/sub")}
        mount = os.open(self.mnt, os.O_RDONLY)
        for _ in range(2):
            fd = open_handle(mount, handles["d/f"], os.O_RDWR)
            self.assertEqual(os.read(fd, 10), b"data")
            self.assertEqual(os.fstat(fd).st_ino, os.stat(d + "/f").st_ino)
            os.close(fd)
            fd = open_handle(mount, handles["d/sub"], os.O_RDONLY | os.O_DIRECTORY)
            self.assertEqual(os.fstat(fd).st_ino, os.stat(d + "/sub").st_ino)
            up = os.open("..", os.O_RDONLY, dir_fd=fd)
            self.assertEqual(os.listdir(up), os.listdir(d))
            os.close(up)
            os.close(fd)
            drop_caches()
        os.rename(d + "/f", d + "/g")
        drop_caches()
        os.close(open_handle(mount, handles["d/f"]))
        os.unlink(d + "/g")
        self.raises(errno.ESTALE, open_handle, mount, handles["d/f"])
        drop_caches()
        self.raises(errno.ESTALE, open_handle, mount, handles["d/f"])
        os.close(mount)

    # Files without names -------------------------------------------------------------------------------------

    def test_tmpfile(self):
        fd = os.open(self.mnt, os.O_TMPFILE | os.O_RDWR, 0o640)
        self.assertEqual(os.fstat(fd).st_nlink, 0)
        os.write(fd, b"x" * 10000)
        drop_caches()
        self.assertEqual(os.pread(fd, 20000, 0), b"x" * 10000)
        link_fd(fd, self.at("named"))
        self.assertEqual(os.fstat(fd).st_nlink, 1)
        os.close(fd)
        fd = os.open(self.mnt, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o640)
        self.raises(errno.ENOENT, link_fd, fd, self.at("never"))
        os.write(fd, b"lost")
        os.close(fd)
        fds = [os.open(self.mnt, os.O_TMPFILE | os.O_RDWR) for _ in range(50)]
        for fd in fds:
            os.write(fd, b"y" * 5000)
        for fd in fds:
            os.close(fd)
        self.remount()
        self.assertEqual(get(self.at("named")), b"x" * 10000)
        self.assertEqual(os.listdir(self.mnt), ["named"])
        self.umount()
        self.assertEqual(self.count(), self.inodes + 1)

    def test_unlinked_but_open(self):
        f, d = self.at("f"), self.made("d")
        put(f, b"0123456789" * 1000)
        fd, again = os.open(f, os.O_RDWR), os.open(f, os.O_RDONLY)
        inside = os.open(d, os.O_RDONLY)
        os.unlink(f)
        os.rmdir(d)
        drop_caches()
        self.assertEqual(os.fstat(fd).st_nlink, 0)
        self.assertEqual(os.pread(again, 10, 9990), b"0123456789")
        os.pwrite(fd, b"more", 20000)
        os.ftruncate(fd, 30000)
        os.fsync(fd)
        os.fchmod(fd, 0o600)
        os.setxattr(fd, "user.x", b"y")
        self.assertEqual(os.getxattr(fd, "user.x"), b"y")
        self.assertEqual(os.fstat(again).st_size, 30000)
        self.assertEqual(os.pread(again, 4, 20000), b"more")
        self.assertEqual(os.listdir(inside), [])
        self.raises(errno.ENOENT, os.open, "new", os.O_CREAT | os.O_WRONLY, dir_fd=inside)
        self.raises(errno.ENOENT, link_fd, fd, f)
        put(f, b"another")
        put(self.at("over"), b"over")
        third = os.open(f, os.O_RDONLY)
        os.rename(self.at("over"), f)
        drop_caches()
        self.assertEqual((os.read(third, 10), get(f)), (b"another", b"over"))
        for one in (fd, again, inside, third):
            os.close(one)
        self.umount()
        self.assertEqual(self.count(), self.inodes + 1)

    # Data ----------------------------------------------------------------------------------------------------

    def seeks(self, fd, offset, whence, want):
        """want: None if there is nothing more."""
        if want is None:
            self.raises(errno.ENXIO, os.lseek, fd, offset, whence)
        else:
            self.assertEqual(os.lseek(fd, offset, whence), want)

    def test_holes(self):
        f = self.at("f")
        fd = os.open(f, os.O_CREAT | os.O_RDWR)
        os.pwrite(fd, b"a" * BLOCK, 10 * BLOCK)
        os.pwrite(fd, b"b" * BLOCK, 100 * BLOCK)
        os.ftruncate(fd, 200 * BLOCK)
        for what in ("fresh", "synced", "mounted again"):
            with self.subTest(what):
                self.seeks(fd, 0, os.SEEK_DATA, 10 * BLOCK)
                self.seeks(fd, 0, os.SEEK_HOLE, 0)
                self.seeks(fd, 10 * BLOCK + 5, os.SEEK_DATA, 10 * BLOCK + 5)
                self.seeks(fd, 10 * BLOCK, os.SEEK_HOLE, 11 * BLOCK)
                self.seeks(fd, 11 * BLOCK, os.SEEK_DATA, 100 * BLOCK)
                self.seeks(fd, 100 * BLOCK, os.SEEK_HOLE, 101 * BLOCK)
                self.seeks(fd, 101 * BLOCK, os.SEEK_DATA, None)
                self.seeks(fd, 200 * BLOCK, os.SEEK_HOLE, None)
                self.settle(fd)
                self.assertEqual(os.fstat(fd).st_blocks * 512, 2 * BLOCK)
            os.fsync(fd)
            if what == "synced":
                os.close(fd)
                self.remount()
                fd = os.open(f, os.O_RDWR)
        fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 10 * BLOCK + 100, BLOCK)
        self.assertEqual(os.pread(fd, 200, 10 * BLOCK), b"a" * 100 + bytes(100))
        fallocate(fd, KEEP_SIZE | PUNCH_HOLE, 0, 11 * BLOCK)
        self.seeks(fd, 0, os.SEEK_DATA, 100 * BLOCK)
        fallocate(fd, ZERO_RANGE, 100 * BLOCK + 1, 200 * BLOCK)
        self.assertEqual(os.fstat(fd).st_size, 300 * BLOCK + 1)
        self.assertEqual(os.pread(fd, 3, 100 * BLOCK), b"b\0\0")
        fallocate(fd, 0, 0, 400 * BLOCK)
        self.assertEqual(os.fstat(fd).st_size, 400 * BLOCK)
        fallocate(fd, KEEP_SIZE, 0, 500 * BLOCK)
        self.assertEqual(os.fstat(fd).st_size, 400 * BLOCK)
        os.close(fd)

    def test_blocks(self):
        data = os.urandom(1 << 20)
        f = self.at("f")
        put(f, data)
        self.settle(f)
        self.assertEqual(os.stat(f).st_blocks, 2048)  # before it has any
        with open(f, "r+b") as file:
            file.write(data[:5000])
            file.flush()
            self.settle(f)
            self.assertEqual(os.stat(f).st_blocks, 2048)
            os.fsync(file.fileno())
        self.assertEqual(os.stat(f).st_blocks, 2048)
        put(self.at("small"), b"one that tar must not take for a hole")
        self.assertEqual(os.stat(self.at("small")).st_blocks, 1)
        put(self.at("zeroes"), bytes(1 << 20))
        os.truncate(self.at("zeroes"), 1 << 30)
        self.remount()
        self.assertEqual([os.stat(self.at(name)).st_blocks for name in ("f", "small", "zeroes")], [2048, 1, 0])
        self.assertEqual(get(self.at("small")), b"one that tar must not take for a hole")

    def test_copy_file_range(self):
        data = os.urandom(3 << 20)
        put(self.at("from"), data)
        with open(self.at("from"), "rb") as source, open(self.at("to"), "w+b") as target:
            left = len(data)
            while left:
                left -= os.copy_file_range(source.fileno(), target.fileno(), left)
            self.assertEqual(os.copy_file_range(source.fileno(), target.fileno(), 10), 0)
            os.copy_file_range(source.fileno(), target.fileno(), 1000, 777, 5)
        self.assertEqual(get(self.at("to")), data[:5] + data[777:1777] + data[1005:])

    def test_direct_io(self):
        f = self.at("f")
        put(f, b"x" * 65536)
        fd = os.open(f, os.O_RDWR | os.O_DIRECT)
        buffer = mmap.mmap(-1, 8192)
        self.assertEqual(os.preadv(fd, [buffer], 4096), 8192)
        self.assertEqual(bytes(buffer), b"x" * 8192)
        buffer[:] = b"y" * 8192
        self.assertEqual(os.pwrite(fd, buffer, 4096), 8192)
        os.close(fd)
        self.assertEqual(get(f), b"x" * 4096 + b"y" * 8192 + b"x" * (65536 - 12288))

    def test_shared_memory(self):
        f = self.at("f")
        put(f, bytes(4 * BLOCK))
        to_child, to_parent = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                fd = os.open(f, os.O_RDWR)
                shared = mmap.mmap(fd, 4 * BLOCK)
                assert to_parent.recv(1) == b"1"
                assert os.pread(fd, 6, BLOCK - 3) == b"parent" and shared[BLOCK - 3:BLOCK + 3] == b"parent"
                os.pwrite(fd, b"written", 2 * BLOCK - 4)
                shared[10:16] = b"mapped"
                to_parent.send(b"2")
                code = 0
            except BaseException:  # the parent fails for it
                traceback.print_exc()
            finally:
                os._exit(code)
        with open(f, "r+b") as file:
            shared = mmap.mmap(file.fileno(), 4 * BLOCK)
            shared[BLOCK - 3:BLOCK + 3] = b"parent"
            to_child.send(b"1")
            to_child.settimeout(60)
            self.assertEqual(to_child.recv(1), b"2")
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            self.assertEqual(shared[2 * BLOCK - 4:2 * BLOCK + 3], b"written")
            self.assertEqual(os.pread(file.fileno(), 6, 10), b"mapped")
            before = os.fstat(file.fileno())
            time.sleep(0.02)
            shared[0:1] = b"!"
            shared.flush()
            self.assertGreater(os.fstat(file.fileno()).st_mtime_ns, before.st_mtime_ns)
            shared.close()
        self.remount()
        want = bytearray(4 * BLOCK)
        want[0:1], want[10:16], want[BLOCK - 3:BLOCK + 3], want[2 * BLOCK - 4:2 * BLOCK + 3] = b"!", b"mapped", b"parent", b"written"
        self.assertEqual(get(f), bytes(want))
        to_child.close()
        to_parent.close()

    def test_a_program_runs(self):
        program = self.at("true")
        put(program, get("/bin/true"), 0o755)
        subprocess.run([program], check=True)
        self.raises(errno.ETXTBSY, self.write_while_running, self.at("sleep"))
        self.remount()
        subprocess.run([program], check=True)

    def write_while_running(self, program):
        put(program, get("/bin/sleep"), 0o755)
        with subprocess.Popen([program, "60"]) as running:
            try:
                os.open(program, os.O_WRONLY)
            finally:
                running.send_signal(signal.SIGKILL)

    def fill(self, fd, block):
        for _ in range(4096):
            os.write(fd, block)

    def test_a_full_store(self):
        """Told when it is written to, and what was accepted finds its place."""
        fd = os.open(self.at("f"), os.O_CREAT | os.O_WRONLY)
        block = os.urandom(1 << 20)
        self.raises(errno.ENOSPC, self.fill, fd, block)
        self.filled(fd)

    def filled(self, fd):
        os.fsync(fd)
        self.assertGreater(os.fstat(fd).st_size, 1900 << 20)
        os.close(fd)
        left = os.statvfs(self.mnt)
        self.assertLess(left.f_bavail * left.f_frsize, 100 << 20)
        os.unlink(self.at("f"))
        self.remount()
        left = os.statvfs(self.mnt)
        self.assertGreater(left.f_bavail * left.f_frsize, 1900 << 20)
        block = os.urandom(100 << 20)
        put(self.at("again"), block)
        self.remount()
        self.assertEqual(get(self.at("again")), block)

    # Times ---------------------------------------------------------------------------------------------------

    def test_times(self):
        f = self.at("f")
        put(f, b"x")
        when = born(f)
        self.assertAlmostEqual(float(when), time.time(), delta=60)
        times = [(1, 999999999), (-1, 1), (1 << 33, 123456789), (0, 0)]
        for second, part in times:
            ns = second * 10**9 + part
            os.utime(f, ns=(ns, ns + 1))
            drop_caches()
            st = os.stat(f)
            self.assertEqual((st.st_atime_ns, st.st_mtime_ns), (ns, ns + 1))
        os.utime(f, ns=(123, 456))
        before = os.stat(f)
        time.sleep(0.02)  # the kernel's clock for files ticks
        os.chmod(f, 0o600)
        after = os.stat(f)
        self.assertEqual((after.st_atime_ns, after.st_mtime_ns), (123, 456))
        self.assertGreater(after.st_ctime_ns, before.st_ctime_ns)
        above = os.stat(self.mnt)
        time.sleep(0.02)
        os.rename(f, self.at("g"))
        self.assertGreater(os.stat(self.mnt).st_mtime_ns, above.st_mtime_ns)
        with open(self.at("g"), "ab") as file:
            file.write(b"y")
        self.assertGreater(os.stat(self.at("g")).st_mtime_ns, after.st_ctime_ns)
        self.remount()
        self.assertEqual(born(self.at("g")), when)
        subprocess.run(["stat", self.at(".lcfs")], stdout=subprocess.DEVNULL, check=True)  # has no time of birth

    # Locks ---------------------------------------------------------------------------------------------------

    def test_locks(self):
        f = self.at("f")
        put(f, bytes(100))
        with open(f, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            fcntl.lockf(file, fcntl.LOCK_EX, 10, 50)

            def other():
                with open("f", "r+b") as mine:
                    self.raises(errno.EWOULDBLOCK, fcntl.flock, mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    self.raises(errno.EAGAIN, fcntl.lockf, mine, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 59)
                    fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 50, 0)
                    fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 40, 60)

            os.chmod(f, 0o666)
            self.as_user(other)
            fcntl.flock(file, fcntl.LOCK_UN)
            fcntl.lockf(file, fcntl.LOCK_UN, 10, 50)
            # One that waits gets it when the other lets go.
            pid = os.fork()
            if pid == 0:
                with open(f, "r+b") as mine:
                    fcntl.flock(mine, fcntl.LOCK_EX)
                    os.pwrite(mine.fileno(), b"!", 0)
                    time.sleep(0.3)
                    os._exit(0)
            while os.pread(file.fileno(), 1, 0) != b"!":
                time.sleep(0.01)
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)

    # Directories ---------------------------------------------------------------------------------------------

    def test_listing_while_others_change(self):
        d = self.made("d")
        stay = {f"stays-{i}" for i in range(2000)}
        for name in stay:
            put(os.path.join(d, name))
        stop = threading.Event()

        def churn():
            turn = 0
            while not stop.is_set():
                put(f"{d}/comes-{turn}")
                if turn >= 300:
                    os.unlink(f"{d}/comes-{turn - 300}")
                turn += 1

        worker = threading.Thread(target=churn)
        worker.start()
        try:
            for _ in range(15):
                with os.scandir(d) as entries:
                    seen = collections.Counter(entry.name for entry in entries)
                self.assertEqual({name for name in seen if name.startswith("stays-")}, stay)
                self.assertEqual(max(seen.values()), 1)
        finally:
            stop.set()
            worker.join()
        # Emptied by one that lists it: one walk is enough.
        with os.scandir(d) as entries:
            for entry in entries:
                os.unlink(entry.path)
        os.rmdir(d)

    def test_a_big_directory(self):
        d = self.made("d")
        names = {f"{i:x}-{'name' * (i % 9)}" for i in range(ENTRIES)}
        for name in names:
            os.close(os.open(f"{d}/{name}", os.O_CREAT | os.O_WRONLY | os.O_EXCL))
        for again in range(2):
            found = os.listdir(d)
            self.assertEqual(len(found), len(names))
            self.assertEqual(set(found), names)
            self.raises(errno.ENOTEMPTY, os.rmdir, d)
            if again == 0:
                self.remount()
        for name in sorted(names)[::ENTRIES // 1000]:
            self.assertEqual(os.stat(f"{d}/{name}").st_size, 0)
        with os.scandir(d) as entries:
            for entry in entries:
                os.unlink(entry.path)
        self.assertEqual(os.listdir(d), [])
        os.rmdir(d)
        self.umount()
        self.assertEqual(self.count(), self.inodes)


class AllLayers(mounting.Case):
    """The root shows the layers: nothing can be made there, and each layer is a file system of its own."""

    def setUp(self):
        super().setUp()
        for name in ("a", "b"):
            self.lcfs("layer", "create", name)
        self.mount()

    raises = Posix.raises

    def test_layers(self):
        a, b = os.path.join(self.mnt, "a"), os.path.join(self.mnt, "b")
        self.assertEqual(sorted(os.listdir(self.mnt)), ["a", "b"])
        put(a + "/f", b"data")
        new = os.path.join(self.mnt, "new")
        self.raises(errno.EPERM, os.mkdir, new)
        self.raises(errno.EPERM, put, new)
        self.raises(errno.EPERM, os.symlink, "target", new)
        self.raises(errno.EPERM, os.open, self.mnt, os.O_TMPFILE | os.O_RDWR)
        self.raises(errno.EPERM, os.rmdir, a)
        self.raises(errno.EPERM, os.rename, a, new)
        self.raises(errno.EPERM, os.rename, a + "/f", new)
        self.raises(errno.EPERM, os.link, a + "/f", new)
        self.raises(errno.EPERM, os.chmod, self.mnt, 0o700)
        self.raises(errno.EPERM, os.setxattr, self.mnt, "user.x", b"")
        self.raises(errno.ENOENT, os.stat, new)
        self.raises(errno.EXDEV, os.rename, a + "/f", b + "/f")
        self.raises(errno.EXDEV, os.link, a + "/f", b + "/f")
        self.raises(errno.EPERM, put, os.path.join(self.mnt, ".lcfs", "new"))
        self.raises(errno.EPERM, os.truncate, os.path.join(self.mnt, ".lcfs", "layers.json"), 0)
        with open(a + "/f", "rb") as source, open(b + "/f", "wb") as target:
            self.assertEqual(os.copy_file_range(source.fileno(), target.fileno(), 100), 4)
        self.assertEqual(get(b + "/f"), b"data")
        # A clone has the same files, which are not the same to those who look at their numbers.
        self.lcfs("layer", "freeze", "a")
        self.lcfs("layer", "create", "c", "--parent", "a")
        c = os.path.join(self.mnt, "c")
        self.assertEqual(get(c + "/f"), b"data")
        self.assertNotEqual(os.stat(a + "/f").st_ino, os.stat(c + "/f").st_ino)
        put(c + "/f", b"changed")
        self.assertEqual((get(a + "/f"), get(b + "/f"), get(c + "/f")), (b"data", b"data", b"changed"))
        self.raises(errno.EROFS, os.mkdir, a + "/new")
        self.raises(errno.EROFS, os.truncate, a + "/f", 0)
        self.raises(errno.EROFS, os.unlink, a + "/f")


class WithWriteback(Posix):
    options = "transport=dev,writeback"
    test_writers_through_an_overlay_lose_set_user_id = None  # the kernel writes it later, for nobody
    test_a_big_directory = None

    def seeks(self, fd, offset, whence, want):
        """All of a file is data: what the kernel has not handed over, too."""
        size = os.fstat(fd).st_size
        super().seeks(fd, offset, whence, None if offset >= size else offset if whence == os.SEEK_DATA else size)

    def test_no_data_is_taken_for_a_hole(self):
        with open(self.at("f"), "w+b", buffering=0) as file:
            file.truncate(100 * BLOCK)
            os.pwrite(file.fileno(), b"x", 50 * BLOCK)
            at = os.lseek(file.fileno(), 0, os.SEEK_DATA)
            self.assertLessEqual(at, 50 * BLOCK)

    def settle(self, file):
        os.sync()  # until then only the kernel knows,
        time.sleep(1.1)  # and it asks for blocks once a second

    def fill(self, fd, block):
        super().fill(fd, block)
        os.fsync(fd)

    def filled(self, fd):
        with contextlib.suppress(OSError):  # it may tell again
            os.close(fd)
        super().filled(os.open(self.at("f"), os.O_WRONLY))


class OverIoUring(Posix):
    options = "transport=uring"
    test_a_big_directory = None

    def setUp(self):
        if not mounting.switch_on_uring():
            self.skipTest("this kernel has no FUSE over io_uring")
        super().setUp()


if __name__ == "__main__":
    mounting.need_fuse()
    support.need("setfacl", "getfacl", "stat")
    mounting.main()
