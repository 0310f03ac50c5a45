#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same image in every form gives the same layers, and the tree that umoci makes of it."""

import json
import os
import subprocess

import support
from support import image

FORMS = ["docker.tar", "oci-gzip.tar", "oci-zstd.tar", "layout"]


class ImportForms(support.Case):
    def assert_same_tree(self):
        out = self.path("out")
        self.lcfs("extract", *([] if os.geteuid() == 0 else ["--rootless"]), "demo", out)
        ours, theirs = (support.without_root_times(support.listing(root)) for root in (out, image("tree")))
        self.maxDiff = 4000
        self.assertEqual(ours.keys(), theirs.keys())
        for path in ours:
            self.assertEqual(ours[path], theirs[path], path)

    def import_json(self, *args, **how):
        (result,) = (json.loads(line) for line in self.lcfs("import", "--json", *args, **how).splitlines())
        self.assertEqual(set(result), {"images", "seconds"})
        return result["images"]

    def check_image(self, found, new):
        self.assertEqual(set(found), {"names", "id", "top_layer", "layers"})
        self.assertEqual(len(found["layers"]), 3)
        self.assertEqual(found["top_layer"], found["layers"][-1]["id"])
        for layer in found["layers"]:
            self.assertEqual(set(layer), {"id", "diff_id", "chain_id", "bytes", "new"})
            self.assertEqual(layer["new"], new)
        with open(image("layout/index.json")) as file:
            manifest = json.load(file)["manifests"][0]["digest"]
        with open(image("layout/blobs/sha256/" + manifest.split(":")[1])) as file:
            config = json.load(file)["config"]["digest"]
        with open(image("layout/blobs/sha256/" + config.split(":")[1])) as file:
            diff_ids = json.load(file)["rootfs"]["diff_ids"]
        self.assertEqual(found["id"], config)
        self.assertEqual([layer["diff_id"] for layer in found["layers"]], diff_ids)

    def test_each_form_as_a_file(self):
        for form in FORMS:
            with self.subTest(form):
                (found,) = self.import_json(image(form))
                self.check_image(found, new=True)
                self.assert_same_tree()
                self.lcfs("fsck", "-n", "--data")
                os.remove(self.store)
                subprocess.run(["rm", "-rf", self.path("out")], check=True)

    def test_each_archive_from_a_pipe(self):
        for form in FORMS[:3]:
            with self.subTest(form):
                with subprocess.Popen(["cat", image(form)], stdout=subprocess.PIPE) as cat:
                    (found,) = self.import_json("-", stdin=cat.stdout)
                self.check_image(found, new=True)
                self.assert_same_tree()
                self.lcfs("fsck", "-n", "--data")
                os.remove(self.store)
                subprocess.run(["rm", "-rf", self.path("out")], check=True)

    def test_every_further_form_writes_no_layer_again(self):
        self.import_json(image(FORMS[0]))
        layers = self.lines("layer", "ls", "--json")
        for form in FORMS[1:]:
            (found,) = self.import_json(image(form))
            self.check_image(found, new=False)
        own = [layer["own_bytes"] for layer in layers]
        self.assertEqual([layer["own_bytes"] for layer in self.lines("layer", "ls", "--json")], own)

    def test_image_ls_tells_the_same_as_import(self):
        (imported,) = self.import_json(image("oci-gzip.tar"))
        (listed,) = self.lines("image", "ls", "--json")[0]["images"]
        for layer in imported["layers"]:
            layer["new"] = False
        self.assertEqual(listed, imported)

    def test_names_digests_and_prefixes(self):
        (found,) = self.import_json(image("docker.tar"))
        top = found["layers"][-1]
        hello = "/data/file-then-directory/hello"
        for name in ["localhost/demo:latest", "localhost/demo", "demo", found["id"], found["id"][7:19], top["id"],
                     top["chain_id"], top["chain_id"][7:]]:
            with self.subTest(name):
                self.assertEqual(self.lcfs("cat", name, hello), b"hello from the top layer\n")
        self.fails("cat", "nothing", hello, words=["nothing"])
        self.assertEqual(self.lcfs("cat", found["layers"][0]["id"], "/etc/motd"), b"from layer 1\n")
        self.fails("cat", found["layers"][0]["id"], hello, words=[hello])

    def test_documents_are_kept_byte_for_byte(self):
        (found,) = self.import_json(image("layout"))
        shown = self.lines("image", "show", "--json", "demo")[0]
        for option, digest in [("--config", found["id"]), ("--manifest", shown["manifest"])]:
            with open(image("layout/blobs/sha256/" + digest.split(":")[1]), "rb") as blob:
                self.assertEqual(self.lcfs("image", "show", option, "demo"), blob.read())

    def test_list_imports_nothing(self):
        self.assertIn(b"demo", self.lcfs("import", "--list", image("oci-gzip.tar")))
        self.assertFalse(os.path.exists(self.store))

    def test_removing_the_image_gives_back_all_it_took(self):
        self.mkfs()
        before = self.df()[-1]["free_bytes"]
        self.import_json(image("oci-zstd.tar"))
        self.assertLess(self.df()[-1]["free_bytes"], before)
        self.fails("layer", "rm", self.lines("layer", "ls", "--json")[0]["name"])
        self.lcfs("image", "rm", "demo")
        self.assertEqual(self.lines("layer", "ls", "--json"), [])
        after = self.df()[-1]
        self.assertAlmostEqual(after["free_bytes"] + after["history_bytes"] + after["pending_bytes"], before, delta=1 << 20)
        self.lcfs("log", "--drop", "all")  # what lcfs undo would need
        self.assertAlmostEqual(self.df()[-1]["free_bytes"], before, delta=1 << 20)

    def test_a_store_made_by_import_is_sparse_and_private(self):
        done = self.run_lcfs("import", "--size", "1G", image("oci-gzip.tar"))
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"can grow to 1.0 GiB", done.stderr)
        st = os.stat(self.store)
        self.assertEqual(st.st_size, 1 << 30)
        self.assertEqual(st.st_mode & 0o777, 0o600)
        self.assertLess(st.st_blocks * 512, 64 << 20)

    def test_quiet_and_progress(self):
        done = self.run_lcfs("import", "-q", image("oci-gzip.tar"))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))


if __name__ == "__main__":
    support.need("umoci", "skopeo")
    support.main()
