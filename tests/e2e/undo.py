#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lcfs log, undo, verify, why and df: on a real image, offline and mounted; a damaged block is found; wrong use is told."""

import json
import os
import subprocess
import time

import mounting
import support


class Undo(mounting.Case):
    def names(self):
        return {layer["name"] for layer in self.lines("layer", "ls", "--json")}

    def kept(self):
        return self.lines("log", "--json")

    def import_small(self):
        self.lcfs("import", "-q", support.image("docker.tar"))
        return json.loads(self.lcfs("image", "ls", "--json"))["images"][0]["names"][0]

    def test_remove_and_undo(self):
        name = self.import_small()
        before = self.lcfs("ls", "-R", "--json", name, "/")
        self.lcfs("image", "rm", name)
        self.assertEqual(self.names(), set())
        self.assertGreater(self.df()[-1]["history_bytes"], 1 << 20)
        generation = self.kept()[0]["generation"]
        self.assertEqual(self.kept()[0]["before"], "image rm " + name)
        self.assertEqual(self.lcfs("ls", "-R", "--json", "--at", str(generation), name, "/"), before)
        self.lcfs("undo")
        self.assertEqual(self.lcfs("ls", "-R", "--json", name, "/"), before)
        self.lcfs("undo", "--steps", "1")
        self.assertEqual(self.names(), set())
        # Given up, it is free at once, in the file too.
        self.lcfs("log", "--drop", "all")
        self.assertEqual(self.df()[-1]["history_bytes"], 0)
        self.assertLess(os.stat(self.store).st_blocks * 512, 2 << 20)

    def test_what_would_be_lost_is_asked_for(self):
        self.lcfs("layer", "create", "web")
        self.lcfs("layer", "rename", "web", "shop")
        plan = self.lines("undo", "-n", "--steps", "2", "--json")
        self.assertEqual(plan[0], {"layer": "shop", "becomes": "gone", "named": None, "loses_changes": True})
        self.assertEqual(plan[-1]["done"], False)
        self.fails("undo", "--steps", "2", words=["shop", "--yes"])
        self.lcfs("undo")  # only the name
        self.assertEqual(self.names(), {"web"})
        self.fails("undo", "999", words=["999", "lcfs log"])
        self.fails("undo", "--steps", "50", words=["lcfs log"])
        self.fails("undo", "--layer", "nobody", words=["nobody"])
        self.fails("undo", "--layer", "web", words=["web"])
        self.fails("ls", "--at", "999", "web", "/", words=["999"])
        self.fails("undo", "--as", "x", code=2)
        self.fails("log", "--drop", "some", code=2)

    def test_a_removed_imported_layer_comes_back_with_its_tar(self):
        name = self.import_small()
        top = [layer["name"] for layer in self.lines("layer", "ls", "--json") if layer["children"] == 0][0]
        self.lcfs("export", "-q", name, "-o", self.path("before.tar"), "--format", "docker")
        self.lcfs("image", "rm", name)
        self.lcfs("undo", "--layer", top)
        self.lcfs("fsck", "-n", "--data", self.store)
        told = self.lines("export", "--json", top, "-o", self.path("after.tar"), "--format", "docker")
        self.assertIn("diff_id", json.dumps(told))
        self.assertNotIn('"identical": "content"', json.dumps(told))

    def test_keep(self):
        self.lcfs("log", "--keep", "2")
        for n in range(5):
            self.lcfs("layer", "create", f"l{n}")
        self.assertEqual([line["before"] for line in self.kept()], ["layer create l4", "layer create l3", None])
        self.lcfs("log", "--keep", "0")
        self.lcfs("layer", "create", "more")
        self.assertEqual(len(self.kept()), 1)

    def test_verify(self):
        name = self.import_small()
        self.lcfs("verify", "-q", name)
        self.lcfs("verify", "--digest")
        layers = self.lines("verify", "--json")
        self.assertTrue(layers[-1]["sound"])
        self.assertEqual({line["digest_check"] for line in layers[:-1]}, {"same"})
        self.assertEqual({line["diff_id"] for line in layers[:-1]}, {"same"})
        run = self.lines("stat", "--runs", "--json", name, "/bin/busybox")
        at = run[0]["runs"][0]["device_offset"] + 100
        with open(self.store, "r+b") as store:
            store.seek(at)
            byte = store.read(1)
            store.seek(at)
            store.write(bytes([byte[0] ^ 1]))
        lines = [json.loads(line) for line in self.lcfs("verify", name, "--json", code=4).splitlines()]
        self.assertIn(lines[0]["path"], ("/bin/busybox", "/bin/hard-link"))  # two names of it
        self.assertEqual(lines[0]["offset"], at // 4096 * 4096)
        self.assertFalse(lines[-1]["sound"])
        archive = support.image("docker.tar")
        piped = subprocess.run(f"cat {archive} | {support.LCFS} import --heal -", shell=True, env=self.environment(), stderr=subprocess.PIPE)
        self.assertEqual(piped.returncode, 1)
        self.assertIn(b"save the archive to a file first", piped.stderr)
        report = json.loads(self.lcfs("import", "--heal", "--json", archive))
        self.assertEqual((report["damaged"], report["healed"]), (1, 1))
        self.lcfs("verify", "-q")
        with open(self.store, "rb") as store:
            store.seek(at)
            self.assertEqual(store.read(1), byte)
        report = json.loads(self.lcfs("import", "--heal", "--json", archive))
        self.assertEqual((report["damaged"], report["healed"], report["verified_layers"]), (0, 0, 3))

    def test_why(self):
        name = self.import_small()
        self.lcfs("layer", "create", "web", "--parent", name)
        versions = self.lines("why", "--json", "web", "/bin/busybox")
        self.assertEqual(versions[0]["change"], "added")
        self.assertEqual(versions[0]["image"], name)
        self.fails("why", "web", "/no/such", words=["/no/such"])
        self.assertIn(b"added", self.lcfs("why", "web", "/bin/busybox"))

    def test_why_follows_links_to_directories_but_not_the_last(self):
        self.lcfs("layer", "create", "base")
        self.mount()
        os.makedirs(self.path("mnt/base/usr/bin"))
        os.symlink("usr/bin", self.path("mnt/base/bin"))
        for name in ("tool", "other"):
            with open(self.path(f"mnt/base/usr/bin/{name}"), "w") as file:
                file.write(name)
        os.symlink("tool", self.path("mnt/base/usr/bin/alias"))
        self.umount()
        direct = self.lines("why", "--json", "base", "/usr/bin/tool")
        self.assertEqual(self.lines("why", "--json", "base", "/bin/tool"), direct)
        self.assertNotEqual(self.lines("why", "--json", "base", "/bin/alias"), direct)
        self.fails("why", "base", "/bin/tool/x", words=["/bin/tool/x"])

    def test_df_adds_up(self):
        self.import_small()
        lines = self.df()
        sum_ = lines[-1]
        self.assertEqual(
            sum_["total_bytes"],
            sum(sum_[key + "_bytes"] for key in ("reserved", "store_tree", "layers", "history", "pending", "free")),
        )
        self.assertEqual(sum_["layers_bytes"], sum(line["own_bytes"] for line in lines[:-1]) + sum_["removed_bytes"])

    def bring_back(self):
        """As soon as the kernel has forgotten the files of the removed layer."""
        for _ in range(100):
            done = self.run_lcfs("undo", "--layer", "web")
            if b"still in use" not in done.stderr:
                break
            time.sleep(0.1)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_mounted(self):
        self.lcfs("layer", "create", "web")
        self.mount()
        with open(self.path("mnt/web/file"), "wb") as file:
            file.write(b"x" * 300_000)
        self.lcfs("verify", "-q")
        self.lcfs("layer", "rm", "web")
        self.assertFalse(os.path.exists(self.path("mnt/web")))
        self.fails("undo", words=["mounted", "--layer"])
        self.fails("ls", "--at", str(self.kept()[0]["generation"]), "web", "/", words=["--at"])
        self.bring_back()
        with open(self.path("mnt/web/file"), "rb") as file:
            self.assertEqual(file.read(), b"x" * 300_000)
        with open(self.path("mnt/web/file"), "ab") as file:
            file.write(b"more")
        before_rm, before_back = self.kept()[1]["generation"], self.kept()[0]["generation"]
        self.umount()
        self.mount("--at", str(before_back))
        self.assertFalse(os.path.exists(self.path("mnt/web")))
        self.lcfs("umount", self.mnt)  # as a store as it was is unmounted, too
        self.assertEqual(self.server.wait(timeout=support.LONG), 0, self.said())
        self.server = None
        self.lcfs("layer", "create", "again")  # nobody has it
        self.lcfs("layer", "rm", "again")
        before_rm, before_back = self.kept()[3]["generation"], self.kept()[2]["generation"]
        self.mount("-o", f"at={before_rm}")
        with open(self.path("mnt/web/file"), "rb") as file:
            self.assertEqual(file.read(), b"x" * 300_000)
        with self.assertRaises(OSError):
            open(self.path("mnt/web/new"), "wb").close()
        self.umount()
        self.assertEqual(self.lines("ls", "--json", "web", "/")[0]["size"], 300_004)


if __name__ == "__main__":
    mounting.need_fuse()
    mounting.main()
