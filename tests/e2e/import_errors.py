#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bad input: one line that names archive and reason, code 1, and a store that is exactly as it was."""

import io
import json
import os
import shutil
import tarfile

import support
from support import image


class ImportErrors(support.Case):
    def setUp(self):
        super().setUp()
        self.mkfs("64M")
        self.before = self.df()

    def refused(self, source, *words, **how):
        text = self.fails("import", source, words=words, **how)
        self.assertEqual(self.df(), self.before)
        self.assertEqual(self.lines("image", "ls", "--json"), [{"images": []}])
        return text

    def layout_copy(self):
        shutil.rmtree(self.path("layout"), ignore_errors=True)
        return shutil.copytree(image("layout"), self.path("layout"))

    def archive(self, name, members):
        path = self.path(name)
        with tarfile.open(path, "w") as tar:
            for member, data in members:
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    def test_what_is_no_archive(self):
        path = self.path("noise")
        with open(path, "wb") as file:
            file.write(os.urandom(100_000))
        self.refused(path, "noise")
        self.refused(self.path("none"), "none")
        self.refused("/dev/null", "/dev/null")
        self.refused(self.dir, self.dir)
        empty = self.path("empty")
        open(empty, "w").close()
        self.refused(empty, "empty")
        with open(empty) as nothing:
            self.refused("-", stdin=nothing)

    def test_a_tar_that_holds_no_image(self):
        self.refused(self.archive("plain.tar", [("file", b"x")]), "plain.tar")

    def test_broken_documents(self):
        for number, text in enumerate([b"", b"{", b"[]", b"[{}]", b"null", b"[" * 100_000, b'[{"Config":"x","Layers":["../../etc/passwd"]}]',
                                       b'[{"Config":"missing.json","Layers":[]}]']):
            with self.subTest(text[:40]):
                self.refused(self.archive(f"{number}.tar", [("manifest.json", text)]), f"{number}.tar")

    def test_archives_cut_short(self):
        for form in ["docker.tar", "oci-gzip.tar", "oci-zstd.tar"]:
            size = os.path.getsize(image(form))
            for part in [1, 511, 512, 5_000, size // 3, size // 2, size - 20_000]:
                with self.subTest(form=form, part=part):
                    path = self.path("cut.tar")
                    with open(image(form), "rb") as whole, open(path, "wb") as cut:
                        cut.write(whole.read(part))
                    self.refused(path, "cut.tar")
                    with open(path, "rb") as pipe:
                        self.refused("-", stdin=pipe)

    def test_a_changed_byte_in_each_blob(self):
        blobs = os.listdir(image("layout/blobs/sha256"))
        for blob in blobs:
            with self.subTest(blob):
                layout = self.layout_copy()
                path = os.path.join(layout, "blobs/sha256", blob)
                os.chmod(path, 0o600)
                with open(path, "r+b") as file:
                    file.seek(os.path.getsize(path) // 2)
                    byte = file.read(1)
                    file.seek(-1, os.SEEK_CUR)
                    file.write(bytes([byte[0] ^ 1]))
                self.refused(layout, blob[:12])

    def test_a_missing_blob(self):
        for blob in os.listdir(image("layout/blobs/sha256")):
            with self.subTest(blob):
                layout = self.layout_copy()
                os.remove(os.path.join(layout, "blobs/sha256", blob))
                self.refused(layout, blob[:12])

    def test_a_wrong_diff_id(self):
        with tarfile.open(image("docker.tar")) as tar:
            members = [(m, tar.extractfile(m).read() if m.isfile() else None) for m in tar.getmembers()]
        path = self.path("wrong.tar")
        with tarfile.open(path, "w") as tar:
            for member, data in members:
                if member.name.endswith(".json") and member.name != "manifest.json" and "/" not in member.name:
                    config = json.loads(data)
                    config["rootfs"]["diff_ids"][1] = "sha256:" + "0" * 64
                    data = json.dumps(config).encode()
                    member.size = len(data)
                tar.addfile(member, io.BytesIO(data) if data is not None else None)
        self.refused(path, "wrong.tar")

    def test_a_name_or_platform_that_is_not_there(self):
        self.refused_options("--image", "nobody", words=["nobody"])
        self.refused_options("--platform", "plan9/mips", words=[])

    def refused_options(self, *options, words):
        self.fails("import", *options, image("oci-gzip.tar"), words=words)
        self.assertEqual(self.df(), self.before)

    def test_wrong_usage_is_2(self):
        self.fails("import", code=2)
        self.fails("import", "--nonsense", "x", code=2)
        self.assertEqual(self.df(), self.before)

    def test_a_file_that_is_no_store_is_never_touched(self):
        other = self.path("letters")
        with open(other, "w") as file:
            file.write("dear reader\n" * 10_000)
        before = (support.sha256(other), os.stat(other).st_mtime_ns)
        self.fails("import", "--store", other, image("oci-gzip.tar"), words=["letters", "not an lcfs store"])
        self.assertEqual((support.sha256(other), os.stat(other).st_mtime_ns), before)

    def test_a_store_that_was_made_for_it_goes_again(self):
        new = self.path("deep/new/store")
        self.run_lcfs("import", "--store", new, self.path("none"))
        self.assertFalse(os.path.exists(self.path("deep")))


if __name__ == "__main__":
    support.need("umoci", "skopeo")
    support.main()
