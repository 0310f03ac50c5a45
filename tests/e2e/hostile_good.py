#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every form of archive and every kind of entry that is allowed comes out as its specification says."""

import itertools
import json
import os
import random
import stat
import struct
import subprocess
import threading
import unittest

import hostile_images as h
import support
from hostile_images import Image, directory, file, hardlink, opaque, symlink, tar, whiteout

needs_root = unittest.skipUnless(os.geteuid() == 0, "needs root to make such files")

LOWER = tar(directory("etc"), file("etc/motd", b"lower\n"), file("gone", b"x"), directory("full"), file("full/old", b"y"))
UPPER = tar(file("etc/motd", b"upper\n"), whiteout("gone"), opaque("full"), file("full/new", b"z"))
NAMES = ["/etc", "/etc/motd", "/full", "/full/new"]


class Forms(h.HostileCase):
    """Each test uses stores of its own, so that no layer is there already."""

    def fresh(self):
        os.remove(self.store)
        self.mkfs(self.STORE_SIZE)

    def assert_right(self, found, image):
        self.assertEqual((found["id"], [layer["new"] for layer in found["layers"]]), (image.id, [True] * len(image.layers)))
        self.assertEqual([layer["bytes"] for layer in found["layers"]], [len(layer) for layer in image.layers])
        self.assertEqual(self.names(found["id"]), NAMES)
        self.assertEqual(self.cat("/etc/motd", found["id"]), b"upper\n")

    def from_pipe(self, data, *options):
        """Imports from a pipe that is fed by a thread: it can't seek."""
        ours, theirs = os.pipe()
        def feed():
            with os.fdopen(theirs, "wb") as pipe:
                pipe.write(data)
        feeder = threading.Thread(target=feed)
        feeder.start()
        with os.fdopen(ours, "rb") as pipe:
            answer = self.lcfs("import", "--json", *options, "-", stdin=pipe)
        feeder.join()
        return json.loads(answer)["images"]

    def test_each_form_as_a_file(self):
        image = Image(LOWER, UPPER)
        for form, members in h.FORMS.items():
            with self.subTest(form):
                (found,) = self.import_members(members(image))
                self.assertEqual(found["names"], image.names)
                self.assert_right(found, image)
                self.fresh()

    def test_a_layout_directory(self):
        for form in ["oci", "both", "podman"]:
            with self.subTest(form):
                image = Image(LOWER, UPPER)
                folder = h.write_directory(self.path(form), h.FORMS[form](image))
                (found,) = json.loads(self.lcfs("import", "--json", folder))["images"]
                self.assert_right(found, image)
                self.fresh()

    def test_a_pipe_with_the_documents_anywhere(self):
        image = Image(LOWER, UPPER)
        for form, make in h.FORMS.items():
            members = make(image)
            documents = [m for m in members if isinstance(m[1], str) or m[1][:1] in b"{["]
            layers = [m for m in members if m not in documents]
            for order, ordered in {
                "first": documents + layers, "last": layers + documents, "middle": layers[:1] + documents + layers[1:],
                "backwards": members[::-1],
            }.items():
                with self.subTest(form=form, order=order):
                    (found,) = self.from_pipe(h.archive(ordered))
                    self.assert_right(found, image)
                    self.fresh()

    def test_compressed_layers_whatever_their_media_type_says(self):
        for name, pack in {
            "gzip": h.gz,
            "gzip members": lambda data: b"".join(h.gz(data[at:at + 700]) for at in range(0, len(data), 700)),
            "gzip and zeroes": lambda data: h.gz(data) + b"\0" * 512,
            "gzip of nothing in front": lambda data: h.gz(b"") + h.gz(data) + h.gz(b""),
            "zstd": h.zstd,
            "zstd frames": lambda data: b"".join(h.zstd(data[at:at + 700]) for at in range(0, len(data), 700)),
            "zstd with checksums": lambda data: h.zstd(data, "--check", "-19"),
            "zstd behind a skippable frame": lambda data: struct.pack("<II", 0x184d2a50, 5) + b"hello" + h.zstd(data),
        }.items():
            for media_type in [h.LAYER, h.LAYER + "+gzip", h.LAYER + "+zstd"]:
                with self.subTest(name=name, media_type=media_type):
                    image = Image(LOWER, UPPER, packed=[pack(LOWER), pack(UPPER)], media_type=media_type)
                    members = h.oci_members(image)
                    (found,) = self.import_members(members)
                    self.assert_right(found, image)
                    self.fresh()
                    (found,) = self.from_pipe(h.archive(members))
                    self.assert_right(found, image)
                    self.fresh()

    def test_an_archive_that_is_compressed_itself(self):
        image = Image(LOWER, UPPER)
        for name, data in {"gz": h.gz(h.archive(h.podman_members(image))), "zst": h.zstd(h.archive(h.oci_members(image)))}.items():
            with self.subTest(name):
                path = h.write(self.path("image.tar." + name), data)
                (found,) = json.loads(self.lcfs("import", "--json", path))["images"]
                self.assert_right(found, image)
                self.fresh()

    def test_a_layer_that_comes_twice(self):
        again = tar(file("etc/motd", b"upper\n"))
        image = Image(LOWER, again, tar(file("etc/motd", b"other\n")), again)
        self.assertTrue(any(isinstance(data, str) for _, data in h.dockerd_members(image)))  # a symlink to the first
        for form, make in h.FORMS.items():
            for how in [self.import_members, lambda members: self.from_pipe(h.archive(members))]:
                with self.subTest(form=form, how=how):
                    (found,) = how(make(image))
                    self.assertEqual(len({layer["id"] for layer in found["layers"]}), 4)
                    self.assertEqual(self.cat("/etc/motd"), b"upper\n")
                    self.fresh()

    def test_layers_without_any_entry(self):
        image = Image(LOWER, tar(), b"\0" * 10240, b"\0" * 512, UPPER)
        for form, make in h.FORMS.items():
            for how in [self.import_members, lambda members: self.from_pipe(h.archive(members))]:
                with self.subTest(form=form, how=how):
                    (found,) = how(make(image))
                    self.assert_right(found, image)
                    self.fresh()

    def test_an_image_without_layers(self):
        (found,) = self.import_members(h.podman_members(Image()))
        self.assertEqual((found["top_layer"], found["layers"]), (None, []))

    def several(self):
        return [Image(LOWER, names=["one:latest"]), Image(LOWER, UPPER, names=["two:1", "two:2"]), Image(UPPER, names=["three:latest"])]

    def test_all_images_of_an_archive(self):
        images = self.several()
        for form in ["podman", "oci", "both"]:
            with self.subTest(form):
                found = self.import_members(h.FORMS[form](*images))
                self.assertEqual([(f["names"], f["id"]) for f in found], [(i.names, i.id) for i in images])
                new = sum(layer["new"] for f in found for layer in f["layers"])
                self.assertEqual(new, 3)  # LOWER is in two images
                self.assertEqual(len(self.lines("layer", "ls", "--json")), 3)
                self.assertEqual(self.names("two:1"), NAMES)
                self.fresh()

    def test_only_the_images_asked_for(self):
        members = h.podman_members(*self.several())
        found = self.import_members(members, "--image", "two:2")
        self.assertEqual([f["names"] for f in found], [["two:1", "two:2"]])
        found = self.import_members(members, "--image", "docker.io/library/one", "--image", "three:latest")
        self.assertEqual([f["names"] for f in found], [["one:latest"], ["three:latest"]])

    def test_list_tells_all_images_and_imports_none(self):
        images = self.several()
        for form in ["podman", "oci", "both"]:
            with self.subTest(form):
                path = h.write_tar(self.path("several.tar"), h.FORMS[form](*images))
                listed = json.loads(self.lcfs("import", "--list", "--json", path))["images"]
                self.assertEqual([(x["names"], x["id"], x["platform"], x["layers"], x["bytes"]) for x in listed],
                                 [(i.names, i.id, i.platform, len(i.layers), sum(map(len, i.layers))) for i in images])
        self.assertEqual(self.lines("image", "ls", "--json"), [{"images": []}])

    def platforms(self):
        return {name: Image(tar(file(name.replace("/", "-"))), platform=name, names=["many:latest"])
                for name in ["linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", "windows/amd64"]}

    def test_the_platform_asked_for_out_of_nested_indexes(self):
        images = self.platforms()
        inner = h.as_json({"schemaVersion": 2, "mediaType": h.INDEX, "manifests": [
            h.descriptor(i.manifest(), h.MANIFEST, platform=h.platform_of(i)) for i in images.values()]})
        middle = h.as_json({"schemaVersion": 2, "manifests": [h.descriptor(inner, h.INDEX)]})
        top = h.as_json({"schemaVersion": 2, "manifests": [
            h.descriptor(middle, h.INDEX, annotations={"io.containerd.image.name": "docker.io/library/many:latest"})]})
        members = h.oci_members(*images.values(), index=top, more=[inner, middle])
        for platform, wanted in {"linux/arm64": "linux/arm64/v8", "linux/arm64/v8": "linux/arm64/v8", "linux/arm": "linux/arm/v7",
                                 "linux/arm/v6": "linux/arm/v6", "linux/amd64": "linux/amd64", "windows/amd64": "windows/amd64"}.items():
            with self.subTest(platform):
                (found,) = self.import_members(members, "--platform", platform)
                self.assertEqual((found["id"], found["names"]), (images[wanted].id, ["docker.io/library/many:latest"]))

    def test_the_platform_asked_for_out_of_a_flat_index(self):
        images = self.platforms()
        index = h.as_json({"schemaVersion": 2, "manifests": [
            h.descriptor(i.manifest(), h.MANIFEST, platform=h.platform_of(i), annotations={"org.opencontainers.image.ref.name": "many"})
            for i in images.values()]})
        (found,) = self.import_members(h.oci_members(*images.values(), index=index), "--platform", "linux/arm64")
        self.assertEqual(found["id"], images["linux/arm64/v8"].id)

    def test_what_is_there_already_is_not_written_again(self):
        image = Image(LOWER, UPPER)
        self.import_members(h.podman_members(image))
        (found,) = self.import_members(h.oci_members(Image(LOWER, UPPER, LOWER, packed=[h.gz(x) for x in (LOWER, UPPER, LOWER)])))
        self.assertEqual([layer["new"] for layer in found["layers"]], [False, False, True])


class Whiteouts(h.HostileCase):
    LOWER = [directory("d"), file("d/a", b"lower a"), file("d/b", b"lower b"), directory("d/sub"), file("d/sub/c"), file("top")]

    def test_order_in_the_layer_means_nothing(self):
        upper = [whiteout("d/a"), file("d/a", b"new"), whiteout("d/sub"), directory("d/sub"), file("d/sub/own"), whiteout("top")]
        orders = [o for o in itertools.permutations(upper) if o.index(upper[3]) < o.index(upper[4])]  # else it was implied first
        for order in random.Random(4).sample(orders, 60):
            self.import_layers(tar(*self.LOWER), tar(*order))
            self.assertEqual(self.names(), ["/d", "/d/a", "/d/b", "/d/sub", "/d/sub/own"])
            self.assertEqual(self.cat("/d/a"), b"new")

    def test_opaque_hides_all_below_but_nothing_of_its_layer(self):
        for upper in [[opaque("d"), file("d/own")], [file("d/own"), opaque("d")], [file("d/own"), directory("d"), opaque("./d/")]]:
            self.import_layers(tar(*self.LOWER), tar(*upper))
            self.assertEqual(self.names(), ["/d", "/d/own", "/top"])

    def test_opaque_root(self):
        self.import_layers(tar(*self.LOWER), tar(file("own"), opaque("")))
        self.assertEqual(self.names(), ["/own"])

    def test_a_whiteout_of_nothing_there_is_no_error(self):
        self.import_layers(tar(whiteout("never"), opaque("none"), *self.LOWER), tar(whiteout("d/x/y"), whiteout("top/below"), opaque("top")))
        self.assertEqual(self.names(), ["/d", "/d/a", "/d/b", "/d/sub", "/d/sub/c", "/top"])

    def test_a_whiteout_acts_below_its_own_layer_only(self):
        self.import_layers(tar(*self.LOWER), tar(whiteout("d")), tar(file("d/again")))
        self.assertEqual(self.names(), ["/d", "/d/again", "/top"])
        self.assertEqual(self.stat("/d")["mode"], "0755")

    def test_a_character_device_0_0_is_a_device(self):
        self.import_layers(tar(*self.LOWER), tar(h.entry("d/a", b"3", device=(0, 0), mode=0)))
        found = self.stat("/d/a")
        self.assertEqual((found["type"], found["rdev"], found["mode"]), ("char", {"major": 0, "minor": 0}, "0000"))


class Links(h.HostileCase):
    def assert_same_file(self, *paths):
        found = [self.stat(path) for path in paths]
        self.assertEqual({f["inode"] for f in found}, {found[0]["inode"]})
        self.assertEqual({f["nlink"] for f in found}, {len(paths)})

    def test_hard_links_in_a_layer(self):
        self.import_layers(tar(file("a", b"text" * 2000), hardlink("d/b", "a"), hardlink("/c", "./d/b"), symlink("s", "x"), hardlink("s2", "s")))
        self.assert_same_file("/a", "/d/b", "/c")
        self.assert_same_file("/s", "/s2")
        self.assertEqual(self.cat("/c"), b"text" * 2000)

    def test_hard_links_to_lower_layers(self):
        big = random.Random(1).randbytes(100_000)
        lower = tar(directory("d"), file("d/big", big, mode=0o640, uid=7), symlink("d/s", "t"), h.entry("d/pipe", b"6"))
        self.import_layers(lower, tar(hardlink("n/big", "d/big"), hardlink("s", "/d/s"), hardlink("pipe", "./d/pipe")),
                           tar(hardlink("d/third", "n/big")))
        self.assert_same_file("/d/big", "/n/big", "/d/third")
        self.assert_same_file("/d/s", "/s")
        self.assert_same_file("/d/pipe", "/pipe")
        self.assertEqual(self.cat("/d/third"), big)
        self.assertEqual((self.stat("/d/third")["uid"], self.stat("/d/third")["mode"]), (7, "0640"))
        self.assertEqual(self.lines("layer", "ls", "--json")[0]["state"], "frozen")

    def test_a_hard_link_outlives_the_whiteout_of_what_it_names(self):
        for upper in [[hardlink("b", "d/a"), whiteout("d/a")], [whiteout("d/a"), hardlink("b", "d/a")],
                      [whiteout("d"), hardlink("b", "d/a")], [opaque("d"), hardlink("d/b", "d/a"), hardlink("b", "d/b")]]:
            self.import_layers(tar(directory("d"), file("d/a", b"kept")), tar(*upper))
            self.assertEqual(self.cat("/b"), b"kept")
            self.assertNotIn("/d/a", self.names())

    def test_a_link_over_what_it_names(self):
        self.import_layers(tar(file("a", b"kept"), hardlink("b", "a")), tar(hardlink("a", "a"), hardlink("b", "a")))
        self.assert_same_file("/a", "/b")
        self.assertEqual(self.cat("/b"), b"kept")

    def test_one_name_of_a_lower_file_is_replaced(self):
        self.import_layers(tar(file("a", b"old"), hardlink("b", "a"), hardlink("c", "a")), tar(file("a", b"new")), tar(whiteout("c")))
        self.assertEqual((self.cat("/a"), self.cat("/b")), (b"new", b"old"))
        self.assert_same_file("/b")

    def test_a_symlink_of_a_lower_layer_is_never_followed(self):
        lower = tar(directory("real"), file("real/x", b"safe"), symlink("way", "real"), symlink("up", ".."), symlink("abs", "/real"))
        self.import_layers(lower, tar(file("way/x", b"1"), file("up/y", b"2"), whiteout("abs/x"), opaque("abs"), file("abs/x", b"3")))
        self.assertEqual(self.names(), ["/abs", "/abs/x", "/real", "/real/x", "/up", "/up/y", "/way", "/way/x"])
        self.assertEqual([self.cat(p) for p in ("/real/x", "/way/x", "/up/y", "/abs/x")], [b"safe", b"1", b"2", b"3"])
        self.assertEqual([self.stat(p)["type"] for p in ("/way", "/up", "/abs")], ["directory"] * 3)

    def test_a_whiteout_does_not_follow_a_symlink_either(self):
        self.import_layers(tar(directory("real"), file("real/x"), symlink("way", "real")), tar(whiteout("way/x"), opaque("way")))
        self.assertEqual(self.names(), ["/real", "/real/x", "/way"])

    def test_nothing_leaves_by_symlinks_of_the_layer_itself(self):
        self.import_layers(tar(symlink("out", "/../../.."), symlink("etc", "/etc2"), file("out/x", b"1"), file("etc/y", b"2")))
        self.assertEqual(self.names(), ["/etc", "/etc2", "/etc2/y", "/out", "/x"])

    def test_long_symlinks(self):
        targets = {"s1": b"x" * 101, "s2": b"/y" * 2000, "s3": b"z" * 4095, "s4": bytes(range(1, 256))}
        self.import_layers(tar(*(symlink(name, os.fsdecode(target)) for name, target in targets.items())))
        for name, target in targets.items():
            found = self.stat("/" + name)
            self.assertEqual(bytes.fromhex(found["target_hex"]) if "target_hex" in found else found["target"].encode(), target)
            self.assertEqual(found["size"], len(target))


class Replacing(h.HostileCase):
    THINGS = {
        "file": [file("p", b"f")], "directory": [directory("p", mode=0o711), file("p/in", b"i")], "symlink": [symlink("p", "elsewhere")],
        "fifo": [h.entry("p", b"6")], "char": [h.entry("p", b"3", device=(1, 3))], "block": [h.entry("p", b"4", device=(7, 0))],
    }

    def test_anything_replaces_anything_in_one_layer_and_across(self):
        for (was, old), (now, new) in itertools.product(self.THINGS.items(), repeat=2):
            expected = ["/p", "/p/in"] if now == "directory" else ["/p"]
            for layers in [[tar(*old, *new)], [tar(*old), tar(*new)], [tar(*new), tar(*old), tar(*new)]]:
                with self.subTest(was=was, now=now, layers=len(layers)):
                    self.import_layers(*layers)
                    self.assertEqual(self.stat("/p")["type"], now)
                    self.assertEqual(self.names(), expected)

    def test_a_directory_that_was_a_file_in_between_is_empty(self):
        self.import_layers(tar(directory("p"), file("p/lower")), tar(file("p"), directory("p"), file("p/own")))
        self.assertEqual(self.names(), ["/p", "/p/own"])

    def test_the_last_of_several_entries_wins(self):
        self.import_layers(tar(file("a", b"1" * 9000), file("./a", b"2", mode=0o600), file("/a", b"three", uid=3),
                               directory("d", mode=0o700), file("d/x"), directory("./d/", mode=0o751, gid=4)))
        self.assertEqual(self.cat("/a"), b"three")
        self.assertEqual((self.stat("/a")["uid"], self.stat("/a")["mode"], self.stat("/a")["nlink"]), (3, "0644", 1))
        self.assertEqual((self.stat("/d")["mode"], self.stat("/d")["gid"]), ("0751", 4))
        self.assertEqual(self.names(), ["/a", "/d", "/d/x"])

    def test_missing_parents_are_0755_of_root_or_what_is_below(self):
        self.import_layers(tar(directory("old", mode=0o700, uid=5, mtime=77)), tar(file("old/x"), file("new/deep/y", uid=9)))
        found = {path: self.stat(path) for path in ("/old", "/new", "/new/deep")}
        self.assertEqual({p: (f["mode"], f["uid"], f["gid"]) for p, f in found.items()},
                         {"/old": ("0700", 5, 0), "/new": ("0755", 0, 0), "/new/deep": ("0755", 0, 0)})
        self.assertEqual(found["/old"]["mtime"], {"sec": 77, "nsec": 0})

    def test_a_directory_entry_changes_the_attributes_of_a_lower_one(self):
        lower = directory("d", mode=0o700, uid=5, mtime=1, extra=[(b"SCHILY.xattr.user.old", b"1")])
        self.import_layers(tar(lower, file("d/x")), tar(directory("d", mode=0o1777, gid=6, mtime=2, extra=[(b"SCHILY.xattr.user.new", b"2")])))
        found = self.stat("/d")
        self.assertEqual((found["mode"], found["uid"], found["gid"], found["mtime"]["sec"]), ("1777", 0, 6, 2))
        self.assertEqual(self.xattrs("/d"), {b"user.new": b"2"})
        self.assertEqual(self.names(), ["/d", "/d/x"])

    def test_the_root_has_attributes_too(self):
        for name in ["./", ".", "/"]:
            with self.subTest(name):
                self.import_layers(tar(directory(name, mode=0o711, uid=3, mtime=5), file("x")))
                found = self.stat("/")
                self.assertEqual((found["mode"], found["uid"], found["mtime"]["sec"]), ("0711", 3, 5))


class Attributes(h.HostileCase):
    def test_types_modes_owners_and_devices(self):
        top = 0xfffffffe
        self.import_layers(tar(
            h.entry("null", b"3", device=(1, 3), mode=0o666), h.entry("disk", b"4", device=(h.base256(4095, 8), h.base256(1048575, 8))),
            h.entry("huge", b"3", device=(h.base256(0xffffffff, 8), h.base256(0xffffffff, 8))), h.entry("pipe", b"6", mode=0o620),
            file("suid", b"s", mode=0o4755), file("sgid", mode=0o2755), directory("sticky", mode=0o1777), file("all", mode=0o7777),
            file("pax-ids", extra=[(b"uid", b"%d" % top), (b"gid", b"%d" % (top - 1))]),
            file("binary-ids", uid=h.base256(top, 8), gid=h.base256(2_097_152, 8)), h.entry("contiguous", b"7", b"data"),
            h.entry("unknown", b"Q", b"data"), h.entry("nul-type", b"\0", b"data"), h.entry("v7-directory/", b"0")))
        tree = {path.decode()[1:]: e for path, e in self.tree().items()}
        self.assertEqual({n: e["mode"] for n, e in tree.items() if e["mode"][0] != "0"},
                         {"suid": "4755", "sgid": "2755", "sticky": "1777", "all": "7777"})
        self.assertEqual({n: tuple(e["rdev"].values()) for n, e in tree.items() if "rdev" in e},
                         {"null": (1, 3), "disk": (4095, 1048575), "huge": (0xffffffff, 0xffffffff)})
        self.assertEqual({n: e["type"] for n, e in tree.items() if e["type"] != "file"}, {
            "null": "char", "disk": "block", "huge": "char", "pipe": "fifo", "sticky": "directory", "v7-directory": "directory"})
        self.assertEqual({n: (e["uid"], e["gid"]) for n, e in tree.items() if e["uid"]},
                         {"pax-ids": (top, top - 1), "binary-ids": (top, 2_097_152)})
        self.assertEqual([self.cat("/" + n) for n in ("contiguous", "unknown", "nul-type")], [b"data"] * 3)

    def test_times(self):
        far = 0x7fffffffffffffff
        times = {  # as written: as it must be
            b"1700000000.123456789": (1700000000, 123456789), b"-1": (-1, 0), b"-1.5": (-2, 500_000_000), b"-0.000000001": (-1, 999_999_999),
            b"0.1": (0, 100_000_000), b"253402300800": (253402300800, 0), b"%d" % far: (far, 0), b"-%d" % far: (-far, 0),
            b"1.9999999999": (1, 999_999_999), b"5.": (5, 0),
        }
        self.import_layers(tar(*(file("f%d" % n, extra=[(b"mtime", t)]) for n, t in enumerate(times)),
                               file("binary", mtime=h.base256(-5, 12)), file("far", mtime=h.base256(1 << 40, 12)),
                               file("octal", mtime=0o77777777777)))
        tree = self.tree()
        found = [tuple(tree[b"/f%d" % n]["mtime"].values()) for n in range(len(times))]
        self.assertEqual(found, list(times.values()))
        self.assertEqual([tree[n]["mtime"]["sec"] for n in (b"/binary", b"/far", b"/octal")], [-5, 1 << 40, 0o77777777777])

    def test_xattrs_of_all_namespaces(self):
        capability = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
        acl = struct.pack("<I" + "HHI" * 5, 2, 1, 7, 0xffffffff, 2, 4, 1000, 4, 5, 0xffffffff, 16, 5, 0xffffffff, 32, 4, 0xffffffff)
        wanted = {
            b"user.text": b"value", b"user.empty": b"", b"user.nul": b"a\0b\n=c", b"trusted.x": b"t", b"security.capability": capability,
            b"security.selinux": b"label\0", b"system.posix_acl_access": acl, b"user." + b"n" * 250: b"long name", b"user.=%=": b"odd",
            b"user.\xff\xfe": b"bytes", b"user.big": bytes(range(256)) * 256, b"no-namespace": b"1",
        }
        records = [(b"SCHILY.xattr." + name.replace(b"%", b"%25").replace(b"=", b"%3D"), value) for name, value in wanted.items()]
        self.import_layers(tar(file("f", b"x", extra=records), directory("d", extra=records), symlink("s", "t", extra=records),
                               h.entry("p", b"6", extra=records), file("none")))
        for path in ["/f", "/d", "/s", "/p"]:
            self.assertEqual(self.xattrs(path), wanted)
        self.assertEqual(self.xattrs("/none"), {})

    def test_xattrs_as_libarchive_writes_them(self):
        self.import_layers(tar(file("f", extra=[(b"LIBARCHIVE.xattr.user.a%3Db", b"AAECAw=="), (b"LIBARCHIVE.xattr.user.e", b"")])))
        self.assertEqual(self.xattrs("/f"), {b"user.a=b": b"\0\1\2\3", b"user.e": b""})

    def test_acls_as_text(self):
        access = struct.pack("<I" + "HHI" * 6, 2, 1, 6, 0xffffffff, 2, 7, 4294967294, 4, 4, 0xffffffff, 8, 1, 100, 16, 7, 0xffffffff, 32, 0, 0xffffffff)
        default = struct.pack("<I" + "HHI" * 5, 2, 1, 7, 0xffffffff, 4, 5, 0xffffffff, 8, 4, 50, 16, 5, 0xffffffff, 32, 0, 0xffffffff)
        self.import_layers(tar(
            file("gnu", extra=[(b"SCHILY.acl.access", b"user::rw-\nuser:4294967294:rwx\ngroup::r--\ngroup:100:--x\nmask::rwx\nother::---\n")]),
            file("star", extra=[(b"SCHILY.acl.access", b"user::rw-,user:joe:rwx:4294967294,group::r--,group:staff:--x:100,mask::rwx,other::---")]),
            directory("d", extra=[(b"SCHILY.acl.default", b"user::rwx\ngroup::r-x\t#effective:r-x\ngroup:50:r--\nother::---\n")]),
            file("plain", extra=[(b"SCHILY.acl.access", b"user::rw-\ngroup::r--\nother::r--\n")])))
        self.assertEqual(self.xattrs("/gnu"), {b"system.posix_acl_access": access})
        self.assertEqual(self.xattrs("/star"), {b"system.posix_acl_access": access})
        self.assertEqual(self.xattrs("/d"), {b"system.posix_acl_default": default})
        self.assertEqual(self.xattrs("/plain"), {})  # it says no more than the mode

    def test_global_headers_hold_until_the_next(self):
        self.import_layers(tar(
            h.pax([(b"comment", b"of git"), (b"uid", b"7"), (b"SCHILY.xattr.user.g", b"1")], b"g"), file("a"), file("b", extra=[(b"uid", b"8")]),
            h.pax([(b"uid", b"")], b"g"), file("c", uid=9), h.pax([(b"mtime", b"3.5")], b"g"), file("d", extra=[(b"gid", b"4")])))
        self.assertEqual([self.stat(p)["uid"] for p in ("/a", "/b", "/c")], [7, 8, 9])
        self.assertEqual(self.xattrs("/b"), {b"user.g": b"1"})
        self.assertEqual(self.stat("/d")["mtime"], {"sec": 3, "nsec": 500_000_000})


class Names(h.HostileCase):
    def test_names_of_any_bytes_and_255_of_them(self):
        names = [bytes([b]) * 3 for b in range(1, 256) if b not in b"/."] + [b"n" * 255, b"\xff" * 255, b"...", b"-rf", b" ", b"a\nb"]
        names += [bytes(b for b in range(1, 256) if b != 0x2f)]
        self.import_layers(tar(*(file(os.fsdecode(b"d/" + n), b"<" + n) for n in names)))
        tree = self.tree()
        self.assertEqual(set(tree), {b"/d"} | {b"/d/" + n for n in names})
        for name in names[::20] + names[-6:]:
            self.assertEqual(self.lcfs("cat", "hostile:latest", b"/d/" + name), b"<" + name)

    def test_paths_far_longer_than_the_kernel_takes(self):
        deep = "/".join(["e" * 200] * 300)  # 60,000 bytes
        self.import_layers(tar(file(deep + "/f", b"deep")), tar(whiteout(deep + "/none"), file(deep + "/g", b"deeper")))
        self.assertEqual(len(self.tree()), 302)
        short = "/".join(["e" * 200] * 300)
        self.assertEqual(max(len(path) for path in self.tree()), len(short) + 3)

    def test_prefixes_and_slashes_mean_nothing(self):
        self.import_layers(tar(*(file(name) for name in ["a", "./b", "/c", ".//./d", "//e", "x/./f", "x//g", "././/x/h"]), directory("./x/y//")))
        self.assertEqual(self.names(), ["/a", "/b", "/c", "/d", "/e", "/x", "/x/f", "/x/g", "/x/h", "/x/y"])

    def test_names_in_every_header_there_is(self):
        ustar = h.header(b"tail", rest=b"some/prefix".ljust(155, b"\0"))
        gnu_long = h.header(b"././@LongLink", b"L", 301, magic=b"ustar  \0") + h.pad(b"d/" + b"l" * 200 + b"/" + b"m" * 97 + b"\0")
        gnu_link = h.header(b"././@LongLink", b"K", 201, magic=b"ustar  \0") + h.pad(b"t" * 200 + b"\0")
        v7 = h.header(b"v7", magic=b"", rest=b"no prefix here")
        self.import_layers(tar(ustar, gnu_long, h.header(b"cut", magic=b"ustar  \0"), gnu_link, h.header(b"link", b"2", link=b"cut"), v7,
                               h.header(b"full-hundred".ljust(100, b"h"))))
        self.assertEqual(self.names(), sorted(["/some", "/some/prefix", "/some/prefix/tail", "/d", "/d/" + "l" * 200,
                                               "/d/" + "l" * 200 + "/" + "m" * 97, "/link", "/v7", "/" + "full-hundred".ljust(100, "h")]))
        self.assertEqual(self.stat("/link")["target"], "t" * 200)

    def test_many_names_in_one_directory(self):
        count = 20_000
        self.import_layers(tar(*(file("d/%05d" % n) for n in range(count))), tar(*(whiteout("d/%05d" % n) for n in range(0, count, 2))))
        self.assertEqual(self.stat("/d")["size"], count // 2)
        self.assertEqual(len(self.tree()), count // 2 + 1)


class RealTools(h.HostileCase):
    """What GNU tar and bsdtar make of real files comes out again as it was."""

    STORE_SIZE = "128M"

    def make_tree(self, fifo=True):
        root = self.path("tree")
        subprocess.run(["rm", "-rf", root], check=True)
        os.makedirs(root + "/dir/sub", 0o750)
        path = lambda name: os.path.join(root, name)
        h.write(path("dir/file"), b"text\n")
        h.write(path("dir/big"), random.Random(2).randbytes(300_000))
        h.write(path("n" * 90), b"long name")
        os.symlink("dir/file", path("link"))
        os.link(path("dir/file"), path("hard"))
        if fifo:
            os.mkfifo(path("pipe"))
        os.chmod(path("dir/big"), 0o4711)
        self.set_times(root)
        return root

    def set_times(self, root):
        for folder, _, names in os.walk(root, topdown=False):
            for path in [os.path.join(folder, name) for name in names] + [folder]:
                os.utime(path, (1_500_000_000, 1_500_000_000), follow_symlinks=False)

    def assert_round_trip(self, layer, root, **drop):
        out = self.path("out")
        subprocess.run(["rm", "-rf", out], check=True)
        self.import_layers(layer)
        self.lcfs("extract", *([] if os.geteuid() == 0 else ["--rootless"]), "hostile:latest", out)
        self.maxDiff = None
        ours, theirs = support.listing(out), support.listing(root)
        for tree in (ours, theirs):
            for found in tree.values():
                for key in drop.get("drop", ()):
                    found.pop(key, None)
        self.assertEqual(ours, theirs)

    def test_each_format_of_each_tool(self):
        for program, formats in {"tar": ["v7", "oldgnu", "gnu", "ustar", "posix"], "bsdtar": ["v7", "ustar", "gnutar", "pax", "paxr"]}.items():
            for form in formats:
                with self.subTest(program=program, form=form):
                    root = self.make_tree(fifo=form != "v7")
                    self.assert_round_trip(h.tool_tar(program, root, "--format=" + form), root)

    @needs_root
    def test_all_that_root_can_make(self):
        root = self.make_tree()
        path = lambda name: os.path.join(root, name)
        os.mknod(path("null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(path("loop"), 0o660 | stat.S_IFBLK, os.makedev(7, 300))
        os.chown(path("dir/big"), 100_000, 4_000_000_000)
        os.chmod(path("dir/big"), 0o6755)
        os.setxattr(path("dir/file"), "user.name", b"value")
        os.setxattr(path("dir/file"), "user.empty", b"")
        os.setxattr(path("dir/file"), "trusted.overlay.x", b"t\0t")
        os.setxattr(path("dir/big"), "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
        subprocess.run(["setfacl", "-m", "u:1234:rwx,g:5678:r", path("dir/file")], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", path("dir/sub")], check=True)
        self.set_times(root)
        # bsdtar writes -1.5 as -2.5: whole seconds before 1970 here, parts of one in test_times
        for name, when in {"dir/file": 1_234_567_890_123_456_789, "dir/sub": -1_500_000_000 * 10**9, "n" * 90: (1 << 33) * 10**9 + 1}.items():
            os.utime(path(name), ns=(0, when))
        for program, options in {"tar": ["--format=posix", "--xattrs", "--xattrs-include=*", "--acls"], "bsdtar": ["--format=pax", "--xattrs", "--acls"]}.items():
            with self.subTest(program):
                self.assert_round_trip(h.tool_tar(program, root, *options), root)

    def test_sparse_files_of_all_kinds(self):
        root = self.path("sparse")
        os.mkdir(root)
        rng = random.Random(3)
        with open(root + "/islands", "wb") as out:  # more than fit one header, or one extension block
            for n in range(60):
                out.seek(n * 131072)
                out.write(rng.randbytes(4096 + n))
            out.truncate(100 << 20)
        with open(root + "/hole", "wb") as out:
            out.truncate(5_000_001)
        with open(root + "/tail", "wb") as out:
            out.seek(7 << 20)
            out.write(b"end")
        with open(root + "/unaligned", "wb") as out:
            out.write(b"start")
            out.seek(1_000_003)
            out.write(b"x" * 5000)
        h.write(root + "/dense", rng.randbytes(20_000))
        h.write(root + "/" + "s" * 150, b"not sparse")
        self.set_times(root)
        for options in [["--format=gnu"], ["--format=oldgnu"], ["--format=posix", "--sparse-version=0.0"],
                        ["--format=posix", "--sparse-version=0.1"], ["--format=posix", "--sparse-version=1.0"]]:
            with self.subTest(options):
                layer = h.tool_tar("tar", root, "-S", *options)
                self.assertLess(len(layer), 1 << 20)
                self.assert_round_trip(layer, root)
                islands, hole = self.stat("/islands"), self.stat("/hole")
                self.assertEqual((islands["size"], hole["size"], hole["blocks"]), (100 << 20, 5_000_001, 0))
                self.assertLessEqual(islands["blocks"], 60 * 2)
        self.assert_round_trip(h.tool_tar("bsdtar", root, "--format=pax"), root)


if __name__ == "__main__":
    support.need("tar", "bsdtar", "zstd", "setfacl")
    support.main()
