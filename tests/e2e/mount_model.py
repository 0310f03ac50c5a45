#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writers with a model each, on a mounted store whose layers are committed, cloned, squashed, removed, brought back and, in the end, lost in a kill -9.

A frozen layer must be one state of its writer's history between the begin and the end of the commit; a layer after a kill one between the last
sync and the kill; and neither may ever change."""

import errno
import os
import random
import stat
import threading
import time

import mounting

SECONDS = float(os.environ.get("LCFS_MODEL_SECONDS", "4"))  # a round
ROUNDS = int(os.environ.get("LCFS_MODEL_ROUNDS", "3"))
DEAD = {errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ENODEV, errno.EINTR}
FULL = {errno.ENOSPC, errno.EDQUOT}


class Model:
    """A tree: names, what they name, and what is in it.  Values are never changed in place, so that a copy is cheap."""

    def __init__(self, names=None, inodes=None):
        self.names = dict(names or {})    # path: number
        self.inodes = dict(inodes or {})  # number: (kind, mode, content or target, xattr)

    def copy(self):
        return Model(self.names, self.inodes)

    def paths(self, kind):
        return [p for p, n in self.names.items() if self.inodes[n][0] == kind]

    def tree(self):
        links = {}
        for number in self.names.values():
            links[number] = links.get(number, 0) + 1
        return {p: (*self.inodes[n], links[n] if self.inodes[n][0] != "d" else 0) for p, n in self.names.items()}

    def apply(self, op):
        what, path, *rest = op
        if what in ("create", "mkdir", "symlink"):
            number, value = rest
            self.names[path] = number
            self.inodes[number] = value
        elif what == "write":
            offset, data = rest
            kind, mode, old, xattr = self.inodes[self.names[path]]
            old = old.ljust(offset, b"\0")
            self.inodes[self.names[path]] = (kind, mode, old[:offset] + data + old[offset + len(data):], xattr)
        elif what == "truncate":
            kind, mode, old, xattr = self.inodes[self.names[path]]
            self.inodes[self.names[path]] = (kind, mode, old[:rest[0]].ljust(rest[0], b"\0"), xattr)
        elif what == "chmod":
            kind, _, old, xattr = self.inodes[self.names[path]]
            self.inodes[self.names[path]] = (kind, rest[0], old, xattr)
        elif what == "setxattr":
            kind, mode, old, _ = self.inodes[self.names[path]]
            self.inodes[self.names[path]] = (kind, mode, old, rest[0])
        elif what == "link":
            self.names[rest[0]] = self.names[path]
        elif what in ("unlink", "rmdir"):
            del self.names[path]
        elif what == "rename":
            moved = {p: n for p, n in self.names.items() if p == path or p.startswith(path + "/")}
            for p in moved:
                del self.names[p]
            for p, n in moved.items():
                self.names[rest[0] + p[len(path):]] = n


def do(root, op):
    """The system call; returns the operation as it came out (a write may be shorter)."""
    what, path, *rest = op
    at = os.path.join(root, path)
    if what == "create":
        os.close(os.open(at, os.O_CREAT | os.O_EXCL | os.O_WRONLY, rest[1][1]))
    elif what == "mkdir":
        os.mkdir(at, rest[1][1])
    elif what == "symlink":
        os.symlink(rest[1][2], at)
    elif what == "write":
        fd = os.open(at, os.O_WRONLY)
        try:
            return (what, path, rest[0], rest[1][:os.pwrite(fd, rest[1], rest[0])])
        finally:
            os.close(fd)
    elif what == "truncate":
        os.truncate(at, rest[0])
    elif what == "chmod":
        os.chmod(at, rest[0])
    elif what == "setxattr":
        os.setxattr(at, "user.x", rest[0])
    elif what == "link":
        os.link(at, os.path.join(root, rest[0]))
    elif what == "rename":
        os.rename(at, os.path.join(root, rest[0]))
    else:
        (os.unlink if what == "unlink" else os.rmdir)(at)
    return op


def look(root):
    """The tree as it is, in a Model's form."""
    out = {}
    pending = [""]
    while pending:
        directory = pending.pop()
        for entry in os.scandir(os.path.join(root, directory)):
            path = directory + entry.name
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode):
                out[path] = ("l", 0o777, os.readlink(entry.path), None, info.st_nlink)
                continue
            names = os.listxattr(entry.path)
            xattr = os.getxattr(entry.path, "user.x") if "user.x" in names else None
            if entry.is_dir(follow_symlinks=False):
                out[path] = ("d", info.st_mode & 0o7777, None, xattr, 0)
                pending.append(path + "/")
            else:
                with open(entry.path, "rb") as file:
                    out[path] = ("f", info.st_mode & 0o7777, file.read(), xattr, info.st_nlink)
    return out


def difference(a, b):
    paths = [p for p in sorted(a.keys() | b.keys()) if a.get(p) != b.get(p)]

    def brief(v):
        return v if v is None or v[0] != "f" else (*v[:2], f"{len(v[2])} bytes", *v[3:])

    return [(p, brief(a.get(p)), brief(b.get(p))) for p in paths[:5]]


class Writer:
    """One layer's writer.  `log` holds what was begun since `base`; the first `done` of it have a result (None: refused)."""

    def __init__(self, name, seed, base):
        self.name, self.random, self.model = name, random.Random(seed), base.copy()
        self.mutex = threading.Lock()
        self.base, self.log, self.done = base.copy(), [], 0
        self.number = seed * 1_000_000
        self.refused = 0

    def mark(self):
        with self.mutex:
            return self.model.copy(), self.done

    def since(self, mark):
        """All states that there were from `mark` on until now, the one under way included."""
        model, at = mark
        with self.mutex:
            begun = len(self.log)
        while True:
            with self.mutex:
                if self.done >= begun or self.stopped:
                    break
            time.sleep(0.001)
        yield model
        with self.mutex:
            ops = self.log[at:begun]
        for op in ops:
            if op is not None:
                model = model.copy()
                model.apply(op)
                yield model

    def durable(self, mark):
        """Whatever is lost now, it is nothing before `mark`."""
        model, at = mark
        with self.mutex:
            self.base = model
            self.log, self.done = self.log[at:], self.done - at

    def next(self):
        r, m = self.random, self.model
        files, directories = m.paths("f"), m.paths("d")
        self.number += 1
        new = (r.choice(directories) + "/" if directories and r.random() < 0.7 else "") + f"n{self.number}"
        if len(m.names) > 120 or (files and r.random() < 0.12):
            path = r.choice(sorted(m.names))
            if m.inodes[m.names[path]][0] != "d":
                return ("unlink", path)
            return ("rmdir", path) if not any(p.startswith(path + "/") for p in m.names) else ("chmod", path, r.choice([0o700, 0o755]))
        what = r.random()
        if not files or what < 0.2:
            return ("create", new, self.number, ("f", r.choice([0o600, 0o644, 0o755]), b"", None))
        if what < 0.25:
            return ("mkdir", new, self.number, ("d", 0o755, None, None))
        if what < 0.28:
            return ("symlink", new, self.number, ("l", 0o777, f"to{self.number}", None))
        path = r.choice(files)
        if what < 0.60:
            # One request each: the kernel cuts what begins inside a page.
            offset, size = (4096 * r.randrange(8), r.randrange(1, 50000)) if r.random() < 0.6 else (r.randrange(3000), r.randrange(1, 1000))
            return ("write", path, offset, r.randbytes(size))
        if what < 0.68:
            return ("truncate", path, r.randrange(60000))
        if what < 0.76:
            return ("chmod", path, r.choice([0o600, 0o640, 0o777]))
        if what < 0.82:
            return ("setxattr", path, r.randbytes(r.randrange(1, 200)))
        if what < 0.88:
            return ("link", path, new)
        old = r.choice(sorted(m.names))
        return ("rename", old, new) if not new.startswith(old + "/") else ("chmod", path, 0o644)

    def run(self, mnt, until):
        self.stopped = False
        try:
            while time.monotonic() < until():
                op = self.next()
                with self.mutex:
                    self.log.append(op)
                try:
                    result = do(f"{mnt}/{self.name}", op)
                except OSError as error:
                    if error.errno in DEAD:
                        return  # it may have been done, or not
                    if error.errno not in FULL:
                        raise AssertionError((self.name, op[:2], error)) from error
                    result = None
                    self.refused += 1
                with self.mutex:
                    self.log[self.done] = result
                    self.done += 1
                    if result is not None:
                        self.model.apply(result)
        finally:
            self.stopped = True


class Modelled(mounting.Case):
    size = "256M"

    def check(self, writer, states, where, what):
        """One of the states is what is there; returns it."""
        actual, nearest = look(where), None
        for state in states:
            tree = state.tree()
            if tree == actual:
                return state
            here = difference(tree, actual)
            nearest = here if nearest is None or len(here) <= len(nearest) else nearest
        self.fail(f"{what}: no state of {writer}'s: (path, model, there): {nearest}")

    def attempt(self, *args):
        """A command that may meet a full store, or a name that has gone; True: done."""
        done = self.run_lcfs(*args)
        if done.returncode == 0:
            return True
        text = (done.stdout + done.stderr).decode(errors="replace")
        self.assertTrue(any(t in text for t in ("full", "in use", "based on it", "no restore point", "history")), (args, text))
        self.refused += 1
        return False

    def commit(self, r, writers, frozen):
        writer = r.choice(writers)
        name = f"c{len(self.names)}"
        self.names.append(name)
        mark = writer.mark()
        if not self.attempt("layer", "commit", writer.name, "--as", name):
            return
        state = self.check(writer.name, writer.since(mark), f"{self.mnt}/{name}", f"commit {name}")
        frozen[name] = state.tree()
        for w in writers:  # a commit is a checkpoint, but promises nothing of other layers
            if w is writer:
                w.durable(mark)

    def change(self, r, writers, frozen, removed):
        what = r.random()
        if what < 0.45 or len(frozen) < 2:
            self.commit(r, writers, frozen)
        elif what < 0.55:
            name = r.choice(sorted(frozen))
            flat = f"s{len(self.names)}"
            self.names.append(flat)
            if self.attempt("layer", "squash", name, flat):
                self.assertEqual(difference(frozen[name], look(f"{self.mnt}/{flat}")), [], f"squash {name} {flat}")
                frozen[flat] = frozen[name]
        elif what < 0.70:
            clone, name = f"w{len(self.names)}", r.choice(sorted(frozen))
            self.names.append(clone)
            if self.attempt("layer", "create", clone, "--parent", name):
                self.assertEqual(difference(frozen[name], look(f"{self.mnt}/{clone}")), [], f"clone {clone} of {name}")
                self.attempt("layer", "rm", clone)
        elif what < 0.85:
            name = r.choice(sorted(frozen))
            if r.random() < 0.5 and self.attempt("layer", "rm", name):
                removed[name] = frozen.pop(name)
            elif name in frozen and self.attempt("layer", "rm", "--lazy", name):
                del frozen[name]  # its children stand on it still
        elif what < 0.90 and removed:
            name = list(removed)[-1]
            if self.attempt("undo", "--layer", name):
                frozen[name] = removed.pop(name)
                self.assertEqual(difference(frozen[name], look(f"{self.mnt}/{name}")), [], f"undo --layer {name}")
        elif what < 0.95:
            marks = [(w, w.mark()) for w in writers]
            self.lcfs("sync")
            for w, mark in marks:
                w.durable(mark)
        else:
            name = r.choice(sorted(frozen))
            self.attempt("verify", name)

    def live(self, seed):
        print("LCFS_SEED =", seed)
        r = random.Random(seed)
        self.names, self.refused = [], 0
        writers = [Writer(f"work{i}", seed + i, Model()) for i in range(3)]
        for w in writers:
            self.lcfs("layer", "create", w.name)
        frozen, removed = {}, {}
        for turn in range(ROUNDS):
            self.mount()
            end = [time.monotonic() + SECONDS]
            wrong = []

            def guarded(work, *args):
                try:
                    work(*args)
                except BaseException as error:
                    wrong.append(error)
                    end[0] = 0

            threads = [threading.Thread(target=guarded, args=(w.run, self.mnt, lambda: end[0])) for w in writers]
            for t in threads:
                t.start()
            changes = 0

            def all_changes():
                nonlocal changes
                while time.monotonic() < end[0]:
                    self.change(r, writers, frozen, removed)
                    changes += 1

            guarded(all_changes)
            if kill := r.random() < 0.7:
                self.kill()  # in the midst of what they do
            end[0] = 0
            for t in threads:
                t.join()
            if wrong:
                raise wrong[0]
            self.assertGreater(changes, 3)
            if not kill:
                self.umount()
            self.lcfs("fsck", "-n", "--data", self.store)
            for line in self.lines("log", "--json"):
                if line["before"] is not None:  # what is listed is there
                    self.lcfs("undo", "--dry-run", str(line["generation"]))
            self.mount()
            for name, tree in frozen.items():
                self.assertEqual(difference(tree, look(f"{self.mnt}/{name}")), [], f"{name}, frozen")
            for w in writers:
                mark = (w.base, 0) if kill else w.mark()
                w.model = self.check(w.name, w.since(mark), f"{self.mnt}/{w.name}", f"round {turn}, {'killed' if kill else 'unmounted'}")
                w.base, w.log, w.done = w.model.copy(), [], 0
            removed.clear()  # what a kill left of history is not modelled
            self.umount()
            print(f"round {turn}: {changes} changes, {sum(w.number % 1_000_000 for w in writers)} operations, "
                  f"{self.refused + sum(w.refused for w in writers)} refused, {len(frozen)} frozen layers")

    def test_every_layer_is_a_state_of_its_writers_history(self):
        self.live(int(os.environ.get("LCFS_SEED", str(random.randrange(1 << 30)))))


class Small(Modelled):
    """The same where there is hardly room."""

    size = "24M"


if __name__ == "__main__":
    mounting.need_fuse()
    mounting.main()
