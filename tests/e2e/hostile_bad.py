#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input: code 1, one line that names archive, member and reason, no crash, and a store that is exactly as it was."""

import os
import random
import resource
import subprocess
import time

import hostile_images as h
import support
from hostile_images import Image, directory, file, hardlink, symlink, tar, whiteout

LOWER = tar(directory("etc"), file("etc/motd", b"lower\n" * 300))
UPPER = tar(file("etc/motd", b"upper\n"), whiteout("gone"))


class BadCase(h.HostileCase):
    STORE_SIZE = "16M"

    def setUp(self):
        super().setUp()
        self.import_layers(tar(file("kept", b"as it was")))
        self.before = self.df()

    def df(self):
        """What undo would need may be given up for want of room: it counts as free here."""
        lines = super().df()
        lines[-1]["free_bytes"] += lines[-1]["history_bytes"]
        lines[-1]["history_bytes"] = 0
        return lines

    def again(self):
        os.remove(self.store)
        self.mkfs(self.STORE_SIZE)
        self.import_layers(tar(file("kept", b"as it was")))
        self.before = self.df()

    def refused(self, data, *words, pipe=True, fsck=True):
        """`data`: the bytes of an archive, or its members.  Words: what the line must hold besides the archive's name."""
        if isinstance(data, list):
            data = h.archive(data)
        path = h.write(self.path("bad.tar"), data)
        text = self.fails("import", path, words=[f"import: {path}: ", *words])
        self.assert_unchanged(fsck)
        if pipe:
            with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
                self.fails("import", "-", stdin=cat.stdout, words=["import: standard input: ", *words])
            self.assert_unchanged(fsck)
        return text

    def assert_unchanged(self, fsck=True):
        self.assertEqual(self.df(), self.before)
        if fsck:
            self.lcfs("fsck", "-n", "--data")

    def refused_layer(self, layer, *words, on=(), **how):
        """A layer that is what its digests say, and wrong all the same."""
        image = Image(*on, layer)
        return self.refused(h.podman_members(image), h.sha256(layer), *words, **how)

    def tearDown(self):
        self.assertEqual(self.cat("/kept"), b"as it was")
        super().tearDown()


class CutShort(BadCase):
    def test_an_archive_cut_anywhere(self):
        rng = random.Random(1)
        image = Image(LOWER, UPPER)
        packed = Image(LOWER, UPPER, packed=[h.gz(LOWER), h.zstd(UPPER)])
        for form, members in {"podman": h.podman_members(image), "dockerd": h.dockerd_members(image), "oci": h.oci_members(packed),
                              "both": h.both_members(packed)}.items():
            whole = h.archive(members)
            end = len(whole) - 1024  # of the last member; one block of zeroes behind it, or none, will do
            cuts = {0, 1, 511, end - 512, end - 1, end + 1, end + 511, end + 513} | set(rng.sample(range(end), 8)) | set(
                512 * n for n in rng.sample(range(1, end // 512), 8))
            for cut in sorted(cuts):
                with self.subTest(form=form, cut=cut):
                    self.refused(whole[:cut], fsck=False)
            for cut in [end, end + 512]:
                self.lcfs("import", h.write(self.path("good.tar"), whole[:cut]))
                self.again()

    def test_a_compressed_archive_cut_anywhere(self):
        rng = random.Random(2)
        members = h.podman_members(Image(LOWER, UPPER))
        for packed in [h.gz(h.archive(members)), h.zstd(h.archive(members), "--check")]:
            for cut in [1, 3, 4, 9, len(packed) - 1, len(packed) - 4, len(packed) - 8, *rng.sample(range(10, len(packed)), 8)]:
                with self.subTest(cut=cut, of=len(packed)):
                    self.refused(packed[:cut], fsck=False)

    def test_a_layer_cut_anywhere(self):
        layer = tar(directory("d"), file("d/a", bytes(1000)), entry_with_long_name(), sparse_1_0(b"1\n100\n5\n", b"hello"))
        boundaries = {0, 512, 512 + 512 + 1024}  # where a header would start, and so the archive may end
        rng = random.Random(3)
        for cut in sorted({1, 511, 513, 1024, 1500, 2560, 3072, 3584, *rng.sample(range(len(layer) - 2048), 10)} - boundaries):
            with self.subTest(cut=cut):
                word = "cut short" if cut > 512 else ""  # a pipe can't tell what so little is
                self.refused_layer(layer[:cut], word, fsck=False)

    def test_a_compressed_layer_cut_anywhere(self):
        rng = random.Random(4)
        layer = tar(file("noise", rng.randbytes(5000)))
        for pack, word in [(h.gz, "gzip"), (lambda data: h.zstd(data, "--check"), "zstd")]:
            whole = pack(layer)
            for cut in [4, 9, 12, len(whole) - 1, len(whole) - 4, *rng.sample(range(13, len(whole) - 8), 5)]:
                with self.subTest(cut=cut, word=word):
                    stored = whole[:cut]
                    self.refused(h.oci_members(Image(layer, packed=[stored])), h.sha256(stored), "cut short", fsck=False)


def entry_with_long_name():
    return file("n" * 200, b"x")


def sparse_1_0(numbers, data, size=1000):
    """A pax 1.0 sparse file: its map, then its data."""
    extra = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"s"), (b"GNU.sparse.realsize", b"%d" % size)]
    return file("x", h.pad(numbers) + data, extra=extra)


class Documents(BadCase):
    def replaced(self, members, name, data):
        return [(n, data if n == name else d) for n, d in members]

    def test_a_changed_byte_in_each_member(self):
        image = Image(LOWER, UPPER, packed=[h.gz(LOWER), h.zstd(UPPER, "--check")])
        for form in ["podman", "oci"]:
            members = h.FORMS[form](image)
            for name, data in members:
                if name in ("manifest.json", "index.json", "oci-layout"):
                    continue  # nothing vouches for these
                with self.subTest(form=form, name=name):
                    at = len(data) // 2
                    changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
                    self.refused(self.replaced(members, name, changed), name)

    def test_a_missing_member(self):
        image = Image(LOWER, UPPER)
        for form, make in {"podman": h.podman_members, "dockerd": h.dockerd_members, "oci": h.oci_members}.items():
            members = make(image)
            for name, _ in members:
                if name == "oci-layout" or name == "repositories" or name.endswith(("VERSION", "/json")):
                    continue  # these are not needed
                with self.subTest(form=form, name=name):
                    word = "neither index.json nor manifest.json" if name == "index.json" else \
                        "before 1.10" if form == "dockerd" and name == "manifest.json" else \
                        "neither" if name == "manifest.json" else name
                    text = self.refused([m for m in members if m[0] != name], word)
                    if word == name:
                        self.assertIn("is not in the archive", text)

    def test_a_member_that_is_a_link_to_nothing_or_in_a_circle(self):
        members = h.podman_members(Image(LOWER))
        for target in ["nowhere", members[0][0], "../../../etc/passwd"]:
            with self.subTest(target):
                self.refused(self.replaced(members, members[0][0], target), members[0][0], "is not in the archive")

    def test_sizes_and_digests_in_descriptors(self):
        image = Image(LOWER)
        manifest = h.json.loads(image.manifest())
        layer = h.sha256(LOWER)
        for change, word in [
            ({"size": len(LOWER) + 1}, f"has {len(LOWER)} bytes, but its descriptor says {len(LOWER) + 1}"),
            ({"size": -1}, "$.layers[0].size"), ({"size": 1.5}, "$.layers[0].size"), ({"size": "12"}, "$.layers[0].size"),
            ({"size": 1 << 64}, "$.layers[0].size"), ({"size": (1 << 64) - 1}, "its descriptor says"), ({"size": None}, "$.layers[0].size"),
            ({"digest": "sha256:" + "0" * 64}, "0" * 64), ({"digest": "sha512:" + "0" * 128}, "sha512 is not supported"),
            ({"digest": "sha256:../../etc/passwd"}, "is not a digest"), ({"digest": ""}, "is not a digest"), ({"digest": 7}, "$.layers[0].digest"),
            ({"mediaType": "application/x-unheard-of"}, "application/x-unheard-of"), ({"mediaType": 3}, "$.layers[0].mediaType"),
            ({"mediaType": h.LAYER + "+gzip+encrypted"}, "encrypted layer"), ({"mediaType": h.LAYER + "+xz"}, "+xz"),
        ]:
            with self.subTest(change):
                changed = {**manifest, "layers": [{**manifest["layers"][0], **change}]}
                self.refused_manifest(image, changed, word)
        for changed, word in [
            ({**manifest, "layers": []}, "lists 0 layers"), ({**manifest, "layers": manifest["layers"] * 2}, "lists 2 layers"),
            ({**manifest, "layers": {}}, "$.layers"), ({**manifest, "config": None}, "$.config"), ({}, "$.config"),
            ({**manifest, "config": {**manifest["config"], "size": 1}}, "its descriptor says 1"),
            ({**manifest, "config": {**manifest["config"], "mediaType": "application/vnd.oci.empty.v1+json"}}, "artifact"),
            ({"schemaVersion": 1, "fsLayers": []}, "schema 1"), ([], "must be an object"),
        ]:
            with self.subTest(changed):
                self.refused_manifest(image, changed, word)
        self.assertIn(layer, [m[0][-64:] for m in h.oci_members(image)])

    def refused_manifest(self, image, manifest, word):
        text = h.as_json(manifest)
        index = h.as_json({"schemaVersion": 2, "manifests": [h.descriptor(text, h.MANIFEST)]})
        self.refused(h.oci_members(image, index=index, more=[text]), word)

    def test_wrong_diff_ids(self):
        for diff_ids, word in [
            (["sha256:" + "0" * 64, "sha256:" + h.sha256(UPPER)], "diff_id is sha256:" + "0" * 64),
            (["sha256:" + h.sha256(UPPER), "sha256:" + h.sha256(LOWER)], "diff_id"),  # the wrong way round
            (["sha256:" + h.sha256(LOWER)], "lists 2 layers"), ([], "has 0 diff_ids"), (["x", "y"], "$.rootfs.diff_ids[0]"),
            ([1, 2], "$.rootfs.diff_ids[0]"), (None, "has 0 diff_ids"), ("text", "$.rootfs.diff_ids"),
        ]:
            config = h.as_json({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
            image = Image(LOWER, UPPER, config=config)
            for form in ["podman", "dockerd", "oci", "both"]:
                with self.subTest(form=form, diff_ids=diff_ids):
                    self.refused(h.FORMS[form](image), word, fsck=False)

    def test_broken_documents(self):
        nested = b"[" * 200_000 + b"]" * 200_000
        image = Image(LOWER)
        members = h.podman_members(image)
        for text, word in {
            b"": "not valid JSON", b"{": "not valid JSON", b"[{]": "not valid JSON", b"\xff\xfe": "", b"[1e999]": "not valid JSON",
            b'["\xff"]': "not valid JSON", b"[] x": "not valid JSON", b"nul": "", nested: "nested more than", b"[" * 100_000: "nested",
            b'[{"Config":"x","unknown":' + nested + b"}]": "nested", b'[{"Config":1}]': "$[0].Config", b"[7]": "must be an object",
            b'[{"Config":"x","Layers":7}]': "$[0].Layers", b'[{"Config":"x","RepoTags":[1]}]': "$[0].RepoTags", b"[]": "contains no image",
            b'[{"Config":"../../etc/passwd","Layers":[]}]': "etc/passwd", b'[{"Config":"a\\u0000b","Layers":[]}]': "not in the archive",
            b'{"schemaVersion":2}': "registry image", b"[" + b" " * (17 << 20) + b"]": "bytes",
            b"[" + b'{"Config":"x"},' * 10_000 + b'{"Config":"x"}]': "10001 entries",
        }.items():
            with self.subTest(text[:60]):
                self.refused(self.replaced(members, "manifest.json", text), "" if word == "" else word,
                             *([] if "not a docker" in word or word == "contains no image" else ["manifest.json"] if b"Config" not in text or
                               word.startswith("$") or word in ("nested", "10001 entries") else []), fsck=False)
        members = h.oci_members(image)
        for text, word in {b"{}": "$.manifests is missing", b'{"manifests":[]}': "contains no image", b'{"manifests":[{}]}': "$.manifests[0].digest",
                           b'{"manifests":' + nested + b"}": "nested", b'"text"'.ljust(600): ""}.items():
            with self.subTest(text[:60]):
                self.refused(self.replaced(members, "index.json", text), word, fsck=False)
        for text, word in {b"{}": "imageLayoutVersion", b'{"imageLayoutVersion":"9.0"}': "9.0", b"": "oci-layout"}.items():
            with self.subTest(text[:60]):
                self.refused(self.replaced(members, "oci-layout", text), word, fsck=False)

    def test_a_config_that_says_what_it_should_not(self):
        for config, word in {b"": "not valid JSON", b"{}": "$.rootfs is missing", b"[]": "an object", b'{"rootfs":[]}': "$.rootfs",
                             b'{"os":3,"rootfs":{}}': "$.os", b'{"rootfs":{"type":"other"}}': "other",
                             b'{"a":' * 70 + b"1" + b"}" * 70: "nested more than 64"}.items():
            with self.subTest(config[:40]):
                image = Image(config=config)
                for form in ["podman", "oci"]:
                    self.refused(h.FORMS[form](image), image.id[7:], word, fsck=False)

    def test_indexes_that_lead_nowhere(self):
        image = Image(LOWER)
        blobs, inner = [], image.manifest()
        media_type = h.MANIFEST
        for _ in range(12):
            inner = h.as_json({"manifests": [h.descriptor(inner, media_type)]})
            media_type = h.INDEX
            blobs.append(inner)
        self.refused(h.oci_members(image, index=inner, more=blobs[:-1]), "nested more than 8 levels deep")
        # each index names the next twice: 2^8 manifests, or a bound
        blobs, inner = [], image.manifest()
        media_type = h.MANIFEST
        for _ in range(6):
            inner = h.as_json({"manifests": [h.descriptor(inner, media_type)] * 30})
            media_type = h.INDEX
            blobs.append(inner)
        self.refused(h.oci_members(image, index=inner, more=blobs[:-1]), "too many manifests")
        self.refused(h.oci_members(image, index=h.as_json({"manifests": [h.descriptor(b"{}", "text/plain")]})), "text/plain")
        self.refused(h.oci_members(image, index=h.as_json({"manifests": [h.descriptor(b"{}", h.MANIFEST)]})), h.sha256(b"{}"), "is not in the archive")

    def test_names_and_platforms_that_are_not_there(self):
        path = h.write_tar(self.path("bad.tar"), h.oci_members(Image(LOWER)))
        for options, words in [(["--image", "nobody"], ["bad.tar", 'no image "nobody"', "hostile:latest"]),
                               (["--platform", "plan9/mips"], ["bad.tar", "plan9/mips", "linux/amd64"])]:
            with self.subTest(options):
                self.fails("import", *options, path, words=words)
                self.assert_unchanged()
        self.fails("import", "--platform", "x", path, code=2, words=['"x"'])
        self.assert_unchanged()


class ManyLayers(BadCase):
    STORE_SIZE = "1G"

    def test_ten_thousand_layers_are_many_but_no_reason(self):
        layers = [tar(file("f%d" % (n % 20), b"%d" % n)) for n in range(10_000)]
        path = h.write_tar(self.path("many.tar"), h.podman_members(Image(*layers, names=["many:latest"])))
        for source in [path, "-"]:
            with open(path, "rb") as whole, subprocess.Popen(["cat"], stdin=whole, stdout=subprocess.PIPE) as cat:
                self.lcfs("import", "-q", source, stdin=cat.stdout)
            self.assertEqual(len(self.tree("many:latest")), 20)
            self.assertEqual(self.cat("/f19", "many:latest"), b"9999")
            self.assertEqual(len(self.lines("layer", "ls", "--json")), 10_001)
            self.again()

    def test_more_than_that_are_refused(self):
        layer = tar()
        config = h.as_json({"rootfs": {"diff_ids": ["sha256:" + h.sha256(layer)] * 16_385}})
        members = h.podman_members(Image(layer, config=config))
        self.refused(members, "$.rootfs.diff_ids", "16385")


class Entries(BadCase):
    def test_sizes_that_are_no_sizes(self):
        for field, word in [(h.base256(-1, 12), "negative"), (h.base256(1 << 62, 12), "cut short"), (h.base256((1 << 62) + 1, 12), "too large"),
                            (h.base256((1 << 63) - 1, 12), "too large"), (h.base256(1 << 64, 12), "size is too large"), (b"77777777777\0", "cut short"),
                            (b"9999\0", "octal"), (b"-1\0", "octal"), (b"0x10\0", "octal"), (b"\x80" + b"\xff" * 11, "too large")]:
            with self.subTest(field):
                self.refused_layer(tar(h.header(b"huge", size=field.ljust(12, b"\0"))), word)
                bad = h.header(b"blob", size=field.ljust(12, b"\0")) + bytes(1024)
                self.refused(bad + h.archive(h.podman_members(Image(LOWER))), "" if word == "cut short" else word)
        for value, word in [(b"-1", "size"), (b"99999999999999999999", "too large"), (b"1e3", "size"), (b"4611686018427387905", "too large"),
                            (b"4611686018427387904", "cut short")]:
            with self.subTest(value):
                self.refused_layer(tar(file("f", extra=[(b"size", value)])), word)

    def test_other_numbers_out_of_range(self):
        for bad, word in [
            (file("f", extra=[(b"uid", b"4294967295")]), "uid"), (file("f", uid=h.base256(1 << 32, 8)), "uid"), (file("f", gid=h.base256(-1, 8)), "gid"),
            (file("f", extra=[(b"gid", b"-1")]), "gid"), (file("f", extra=[(b"mtime", b"99999999999999999999")]), "mtime"),
            (file("f", extra=[(b"mtime", b"yesterday")]), "mtime"), (file("f", mode=b"abc\0\0\0\0\0"), "mode"),
            (h.entry("f", b"3", device=(h.base256(1 << 33, 8), 0)), "device major"), (h.entry("f", b"3", device=(0, h.base256(-1, 8))), "device minor"),
        ]:
            with self.subTest(word=word):
                self.refused_layer(tar(bad), word)

    def test_extended_headers_that_are_damaged(self):
        raw = lambda body, kind=b"x": h.header(b"pax", kind, len(body)) + h.pad(body) + file("f")
        for body in [b"5", b"999 a=b\n", b"6 a=b\n\0\0\0", b"0 a=b\n", b"-5 a=b\n", b"5 ab\n", b"6 =ab\n", b"7 a=b\nx", b"99999999999999999999999 a=b\n", b" a=b\n"]:
            with self.subTest(body):
                self.refused_layer(tar(raw(body)), "pax record", fsck=False)
        self.refused_layer(tar(h.header(b"pax", b"x", 2 << 20) + bytes(2 << 20) + file("f")), "extended header of 2097152 bytes")
        self.refused_layer(tar(h.header(b"pax", b"x", h.base256(-5, 12)) + file("f")), "extended header")
        self.refused_layer(tar(h.pax([(b"path", b"x")])), "ends after an extended header")
        self.refused_layer(h.pax([(b"path", b"x")]), "cut short")
        self.refused_layer(tar(h.header(b"m", b"M")), "another volume")

    def test_paths_that_lead_out_or_are_no_paths(self):
        for path in ["..", "../x", "a/../../x", "/../x", "a/..", "./..", "d/../e", "..//x"]:
            for make in [file, directory, lambda p: symlink(p, "t"), lambda p: hardlink(p, "kept"), lambda p: h.entry(p, b"6")]:
                with self.subTest(path=path):
                    self.refused_layer(tar(file("kept"), make(path)), f'entry "{path}"', "'..'", fsck=False, pipe=False)
        for bad, word in [
            (file("f", extra=[(b"path", b"a\0b")]), "NUL"), (symlink("s", "t", extra=[(b"linkpath", b"a\0b")]), "NUL"),
            (h.header(b"L", b"L", 4) + h.pad(b"a\0b\0") + file("f"), "NUL"), (file("n" * 256), "256 bytes"), (file("d/" + "n" * 256 + "/f"), "256 bytes"),
            (file("/".join(["a" * 100] * 700)), "too long"), (symlink("s", "x" * 4096), "4096 bytes"), (symlink("s", ""), "empty target"),
            (file(".", b"x"), "root"), (symlink("/", "x"), "root"), (file("", b"x"), "root"),
            (file("f", extra=[(b"SCHILY.xattr.", b"1")]), "xattr"), (file("f", extra=[(b"SCHILY.xattr." + b"n" * 256, b"1")]), "xattr"),
            (file("f", extra=[(b"SCHILY.xattr.a\0b", b"1")]), "xattr"), (file("f", extra=[(b"SCHILY.xattr.user.a", b"v" * 65537)]), "65537"),
            (file("f", extra=[(b"SCHILY.acl.access", b"user::rwx,bogus")]), "ACL"), (file("f", extra=[(b"LIBARCHIVE.xattr.user.x", b"?")]), "base64"),
            (file(".wh."), "whiteout"), (file(".wh..."), "whiteout"), (file(".wh.."), "whiteout"), (file(".wh.a/b"), "whiteout"),
        ]:
            with self.subTest(word=word, bad=bad[:40]):
                self.refused_layer(tar(bad), word, fsck=False)

    def test_links_to_nothing(self):
        lower = tar(directory("d"), file("d/f"), symlink("way", "d"))
        for entries, word in [
            ([hardlink("h", "none")], "none"), ([hardlink("h", "d/none")], "d/none"), ([hardlink("h", "d/f/x")], "d/f/x"), ([hardlink("h", "way/f")], "way/f"),
            ([hardlink("h", "d")], "directory"), ([hardlink("h", "../d/f")], "'..'"), ([hardlink("h", "")], ""), ([hardlink("h", "/")], ""),
            ([directory("n"), hardlink("h", "n")], "directory"),
            ([symlink("a", "b"), symlink("b", "a"), hardlink("h", "a/x")], "symlinks"), ([symlink("a", "b"), symlink("b", "a"), file("a/x")], "symlinks"),
            ([hardlink("h", "h2"), hardlink("h2", "h")], "h2"),
        ]:
            with self.subTest(word=word):
                self.refused_layer(tar(*entries), word, on=[lower], fsck=False)
        self.refused_layer(tar(hardlink("h", "later"), file("later")), "h: hard link to nothing: 'later'")
        self.refused_layer(tar(hardlink("h", "h")), "h: hard link to nothing: 'h'")

    def test_sparse_maps_that_do_not_add_up(self):
        def old(size, parts):
            body = b"".join(h.octal(a, 12) + h.octal(b, 12) for a, b in parts).ljust(96, b"\0")
            return h.header(b"s", b"S", sum(b for _, b in parts), magic=b"ustar  \0", rest=bytes(41) + body + b"\0" + h.octal(size, 12))
        big = (1 << 62) + 1
        for bad, word in [
            (old(100, [(0, 60), (50, 10)]) + bytes(512), "sparse map"), (old(10, [(5, 10)]) + bytes(512), "sparse map"),
            (sparse_1_0(b"1\n0\n2000\n", b"x" * 2000), "sparse map"), (sparse_1_0(b"1\n0\n5\n", b"x" * 6), "sparse map"),
            (sparse_1_0(b"9999999999\n", b""), "too many parts"), (sparse_1_0(b"-1\n", b""), "sparse map"), (sparse_1_0(b"1\n0\n", b""), "sparse map"),
            (sparse_1_0(b"x" * 600, b""), "sparse map"), (sparse_1_0(b"1\n4611686018427387904\n5\n", b"hello"), "sparse map"),
            (sparse_1_0(b"1\n0\n5\n", b"hello", size=big), "too large"), (file("s", extra=[(b"GNU.sparse.map", b"1,2,3"), (b"GNU.sparse.size", b"9")]), "offset without a length"),
            (file("s", extra=[(b"GNU.sparse.numbytes", b"3")]), "without a preceding offset"),
        ]:
            with self.subTest(word=word, bad=bad[-1024:-990]):
                self.refused_layer(tar(bad), word, fsck=False)

    def test_what_is_no_tar_or_goes_on_behind_its_end(self):
        noise = random.Random(5).randbytes(5000)
        for layer, word in [(noise, ""), (file("a") + noise[:512], "checksum"), (tar(file("a"))[:1024] + file("b"), "single block of zeroes"),
                            (h.gz(h.gz(tar(file("a")))), "")]:
            with self.subTest(word=word, layer=layer[:8]):
                self.refused_layer(layer, word, fsck=False)
        for data, word in [(b"\xfd7zXZ\0" + noise, "xz"), (b"BZh91AY" + noise, "bzip2"), (b"\x04\x22\x4d\x18" + noise, "lz4")]:
            with self.subTest(word):
                self.refused(h.oci_members(Image(LOWER, packed=[data])), h.sha256(data), word)
                self.refused(data, word)

    def test_damaged_compressed_data(self):
        rng = random.Random(6)
        layer = tar(file("noise", rng.randbytes(3000) + b"text" * 1000))
        for pack in [h.gz, lambda data: h.zstd(data, "--check")]:
            whole = pack(layer)
            for _ in range(25):
                at = rng.randrange(10, len(whole))
                stored = whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1:]
                with self.subTest(at=at, of=len(whole)):
                    self.refused(h.oci_members(Image(layer, packed=[stored])), h.sha256(stored), fsck=False, pipe=False)
        for garbage in [b"x", b"\0" * 8 + b"x", h.zstd(b"")]:
            self.refused(h.oci_members(Image(layer, packed=[h.gz(layer) + garbage])), "trailing garbage after the gzip stream")
            self.refused(h.oci_members(Image(layer, packed=[h.zstd(layer) + garbage[:9]])), *(["garbage"] if garbage[0] != 0x28 else []))

    def test_entries_mutated_at_random(self):
        """Whatever it is: taken or refused with one line, and the store stays sound."""
        rng = random.Random(7)
        good = [directory("d"), file("d/a", b"text" * 200, extra=[(b"SCHILY.xattr.user.x", b"v"), (b"mtime", b"1.5")]), hardlink("h", "d/a"), symlink("s", "d"),
                sparse_1_0(b"2\n0\n5\n600\n5\n", b"hellothere"), whiteout("d/b"), entry_with_long_name(), h.entry("c", b"3", device=(1, 3))]
        taken = 0
        for number in range(120):
            layer = bytearray(tar(*rng.sample(good, len(good))))
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(layer) - 1024)
                layer[at] = rng.choice([0, 0xff, 0x80, layer[at] ^ (1 << rng.randrange(8)), ord("7"), ord("/")])
                block = at - at % 512  # a header's checksum is made right again
                old = bytes(layer[block:block + 512])
                if old[257:262] == b"ustar":
                    layer[block + 148:block + 156] = b"%06o\0 " % (sum(old) - sum(old[148:156]) + 8 * 32)
            with self.subTest(number):
                path = h.write_tar(self.path("fuzz.tar"), h.podman_members(Image(bytes(layer), names=["fuzz:latest"])))
                done = self.run_lcfs("import", "-q", path)
                if done.returncode == 0:
                    taken += 1
                    self.assertEqual(done.stderr, b"")
                    self.lcfs("fsck", "-n", "--data")
                    self.lcfs("image", "rm", "fuzz:latest")
                    self.before = self.df()
                else:
                    self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1), done.stderr)
                    self.assert_unchanged(fsck=False)
        self.assertTrue(10 < taken < 110, taken)


class Bombs(BadCase):
    """Compressed well over a thousandfold.  What is kept in memory is bounded too: the limit is on address space."""

    def test_data_that_never_ends(self):
        big = 200 << 20
        layer = h.header(b"ones", size=big) + b"\1" * big + bytes(1024)
        for pack in [h.gz, lambda data: h.zstd(data, "-1")]:
            stored = pack(layer)
            self.assertLess(len(stored), big // 200)
            start = time.monotonic()
            self.refused(h.oci_members(Image(layer, packed=[stored])), h.sha256(stored), "store is full")
            self.assertLess(time.monotonic() - start, 60)

    def test_zeroes_without_end_take_no_space(self):
        big = 400 << 20
        layer = h.header(b"zeroes", size=big) + bytes(big) + bytes(1024)
        self.import_members(h.oci_members(Image(layer, names=["zeroes:latest"], packed=[h.zstd(layer)])))
        self.assertEqual((self.stat("/zeroes", "zeroes:latest")["size"], self.stat("/zeroes", "zeroes:latest")["blocks"]), (big, 0))
        self.lcfs("fsck", "-n", "--data")

    def test_more_entries_than_the_store_can_hold(self):
        layer = b"".join(h.header(b"f%07d" % n) for n in range(150_000)) + bytes(1024)
        stored = h.gz(layer)
        self.refused(h.oci_members(Image(layer, packed=[stored])), h.sha256(stored), "store is full")

    def test_xattrs_that_fill_the_memory(self):
        records = [(b"SCHILY.xattr.user.%d" % n, b"v" * 60_000) for n in range(15)]
        layer = h.pax(records, b"g") + b"".join(h.header(b"f%07d" % n) for n in range(4000)) + bytes(1024)  # 3.6 GB of xattrs
        self.refused_within(768 << 20, layer, "space")

    def test_paths_that_fill_the_memory(self):
        layer = b"".join(file("%05d/" % n + "a/" * 32_000) for n in range(600)) + bytes(1024)  # 19 million directories
        self.refused_within(768 << 20, layer, "space")

    def refused_within(self, memory, layer, *words):
        stored = h.zstd(layer)
        path = h.write_tar(self.path("bomb.tar"), h.oci_members(Image(layer, packed=[stored])))
        limit = lambda: resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        sanitized = b"__asan_init" in open(support.LCFS, "rb").read()  # its shadow is data too
        self.fails("import", path, words=[path, h.sha256(stored), *words], **({} if sanitized else {"preexec_fn": limit}))
        self.assert_unchanged()

    def test_a_window_that_fills_the_memory(self):
        layer = tar(file("a", b"text"))
        stored = subprocess.run(["zstd", "-q", "-c", "--ultra", "--long=31", "--no-check"], input=layer, stdout=subprocess.PIPE, check=True).stdout
        stored = stored.replace(stored[:6], b"\x28\xb5\x2f\xfd\x00\xa8", 1) if stored[4] & 0x20 else stored  # a window of 2 GiB
        self.refused(h.oci_members(Image(layer, packed=[stored])), h.sha256(stored), "zstd")


class NoArchive(BadCase):
    def test_what_is_no_archive(self):
        noise = random.Random(8).randbytes(100_000)
        for data, word in [
            (b"", "is empty"), (b"x", "only 1 bytes"), (noise, "not a tar file"), (b"\x7fELF" + noise, "not a tar file"), (b"PK\3\4" + noise, "not a tar file"), (b"#!/bin/sh\n" * 100, "not a tar file"),
            (h.gz(noise), "not a tar file"), (h.zstd(noise), "not a tar file"), (h.gz(b""), "empty"), (h.gz(h.gz(noise)), "not a tar file"), (b"\x1f\x8b" + noise, "gzip"),
            (b"\x28\xb5\x2f\xfd" + noise, "zstd"), (LOWER, "neither"), (bytes(10240), "neither"), (bytes(512), "neither"), (tar(), "neither"),
            (b"\0" * 700, "cut short"), (h.as_json({"schemaVersion": 2}).ljust(600), "not a tar file"),
        ]:
            with self.subTest(word=word, data=data[:12]):
                self.refused(data, word)

    def test_things_that_are_no_files(self):
        os.mkdir(self.path("empty"))
        os.mkfifo(self.path("fifo"))
        os.makedirs(self.path("odd/index.json"))
        os.symlink(self.path("loop"), self.path("loop"))
        for path, word in [(self.path("none"), "cannot open"), ("/dev/null", "is empty"), (self.path("empty"), "neither"), (self.path("odd"), "odd"),
                           (self.path("loop"), "cannot open"), (self.path("kept/below"), "cannot open")]:
            with self.subTest(path):
                self.fails("import", path, words=[path, word])
                self.assert_unchanged()
        with subprocess.Popen(["sh", "-c", 'exec >"$1"', "sh", self.path("fifo")]):
            self.fails("import", self.path("fifo"), words=["fifo", "is empty"])
        self.fails("import", "", words=["cannot open"])

    def test_standard_input_that_is_closed_or_half_read(self):
        done = subprocess.run(["sh", "-c", '"$0" import - <&-', support.LCFS], env=self.environment(), stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (1, 1), done.stderr)
        path = h.write_tar(self.path("image.tar"), h.podman_members(Image(LOWER)))
        with open(path, "rb") as half:
            os.lseek(half.fileno(), 700, os.SEEK_SET)
            self.fails("import", "-", stdin=half, words=["standard input"])
        self.assert_unchanged()

    def test_a_directory_whose_names_lead_out(self):
        secret = h.write(self.path("secret"), Image(LOWER).config)
        for config in ["../secret", secret, "a/../../secret", "./../secret"]:
            with self.subTest(config):
                folder = h.write_directory(self.path("layout"), [("manifest.json", h.as_json([{"Config": config, "Layers": []}])), ("a/b", b"")])
                self.fails("import", folder, words=["layout", "not in the archive"])
        self.assert_unchanged()

    def test_wrong_usage_is_code_2_and_touches_nothing(self):
        for options in [[], ["--nonsense", "x"], ["x", "y"], ["--size", "much", "x"], ["--progress", "loud", "x"], ["--image"]]:
            with self.subTest(options):
                self.fails("import", *options, code=2)
        self.assert_unchanged()


if __name__ == "__main__":
    support.need("zstd", "cat")
    support.main()
