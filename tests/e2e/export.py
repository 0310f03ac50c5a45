#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""lcfs export: images come out as they went in, skopeo, umoci (and podman and ctr, where they are) take them under the same id, and what fails
leaves nothing behind; on a mounted store too."""

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time

import mounting
import support
from support import image, listing, without_root_times


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Archive:
    """An oci-archive: its documents, by way of the index."""

    def __init__(self, path):
        with tarfile.open(path) as tar:
            self.members = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
        for name, data in self.members.items():
            if name.startswith("blobs/sha256/"):
                assert digest(data) == "sha256:" + name.rpartition("/")[2], name
        self.index = json.loads(self.members["index.json"])
        self.manifest_digest = self.index["manifests"][0]["digest"]
        self.manifest = json.loads(self.blob(self.manifest_digest))
        self.config = json.loads(self.blob(self.manifest["config"]["digest"]))

    def blob(self, name):
        return self.members["blobs/" + name.replace(":", "/")]

    @property
    def id(self):
        return self.manifest["config"]["digest"]

    @property
    def diff_ids(self):
        return self.config["rootfs"]["diff_ids"]


class Export(mounting.Case):
    def setUp(self):
        super().setUp()
        self.out = self.path("out.tar")

    def imported(self, name, *archive):
        self.lcfs("import", "-q", image(name) if not archive else archive[0])
        found = self.lines("image", "ls", "--json")[0]["images"]
        return found[-1]

    def export(self, *args, code=0):
        """What a run says with --json."""
        return json.loads(self.lcfs("export", "--json", "-o", self.out, *args, code=code))

    def test_every_form_and_compression_keeps_id_and_diff_ids(self):
        for name in ["docker.tar", "oci-gzip.tar", "oci-zstd.tar"]:
            os.unlink(self.store)
            self.mkfs()
            was = self.imported(name)
            for compress in ["original", "gzip", "zstd", "none"]:
                with self.subTest(archive=name, compress=compress):
                    said = self.export("--compress", compress, was["id"])["images"][0]
                    self.assertEqual(said["id"], was["id"])
                    self.assertEqual([l["diff_id"] for l in said["layers"]], [l["diff_id"] for l in was["layers"]])
                    archive = Archive(self.out)
                    self.assertEqual(archive.id, was["id"])
                    self.assertEqual(archive.manifest_digest, said["manifest"])
                    self.assertEqual([l["digest"] for l in archive.manifest["layers"]], [l["digest"] for l in said["layers"]])
                    self.again(was)
                    self.export("--format", "docker", "--compress", compress, was["id"])
                    self.again(was)

    def again(self, was):
        """The archive in another store is the same image, on the same layers."""
        store = self.path("again.lcfs")
        new = json.loads(self.lcfs("import", "--json", "--store", store, self.out))["images"][0]
        self.assertEqual(new["id"], was["id"])
        self.assertEqual([l["chain_id"] for l in new["layers"]], [l["chain_id"] for l in was["layers"]])
        self.lcfs("fsck", "-n", store)
        os.unlink(store)

    def test_a_round_trip_through_a_fresh_store_and_back_gives_the_same_bytes(self):
        environment = dict(self.environment(), SOURCE_DATE_EPOCH="1700000000")
        other, again = self.path("other.lcfs"), self.path("again.tar")
        for name in ["docker.tar", "oci-gzip.tar", "oci-zstd.tar"]:
            os.unlink(self.store)
            self.mkfs()
            was = self.imported(name)
            for form in ["oci", "docker"]:
                with self.subTest(archive=name, form=form):
                    if os.path.exists(other):
                        os.unlink(other)
                    said = json.loads(self.lcfs("export", "--json", "--format", form, "-o", self.out, was["names"][0], env=environment))["images"][0]
                    new = json.loads(self.lcfs("import", "--json", "--store", other, self.out))["images"][0]
                    self.assertEqual(new["id"], was["id"])
                    tagged = lambda names: [n if ":" in n else n + ":latest" for n in names]  # as a docker-archive must have them
                    self.assertEqual(tagged(new["names"]), tagged(was["names"]))
                    for key in ["diff_id", "chain_id"]:
                        self.assertEqual([l[key] for l in new["layers"]], [l[key] for l in was["layers"]])
                    # What claims to be the manifest that came is that, byte by byte, in both stores.
                    claims = {l["identical"] for l in said["layers"]} == {"manifest"}
                    manifest = self.lcfs("image", "show", "--manifest", "--store", other, new["id"])
                    if form == "oci":
                        self.assertEqual(digest(manifest), said["manifest"])
                    if form == "oci" and claims:
                        self.assertEqual(manifest, self.lcfs("image", "show", "--manifest", was["id"]))
                    self.lcfs("export", "-q", "--store", other, "--format", form, "-o", again, new["names"][0], env=environment)
                    self.assertEqual(support.sha256(again), support.sha256(self.out))
                    self.lcfs("fsck", "-n", "--data", other)

    def test_the_layers_of_a_docker_archive_come_out_bit_by_bit(self):
        was = self.imported("docker.tar")
        self.export("--format", "docker", was["id"])
        layers = {}
        for path in [image("docker.tar"), self.out]:
            with tarfile.open(path) as tar:
                wanted = json.load(tar.extractfile("manifest.json"))[0]
                layers[path] = [tar.extractfile(name).read() for name in [wanted["Config"], *wanted["Layers"]]]
        self.assertEqual(layers[self.out], layers[image("docker.tar")])

    def test_blobs_that_python_made_come_out_with_their_manifest(self):
        with tarfile.open(image("oci-gzip.tar")) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
        source = Archive(image("oci-gzip.tar"))
        layers = []
        for level, layer in zip([9, 6, 1], source.manifest["layers"]):
            packed = gzip.compress(gzip.decompress(source.blob(layer["digest"])), level, mtime=12345)
            layers.append(dict(layer, digest=digest(packed), size=len(packed)))
            members["blobs/sha256/" + digest(packed)[7:]] = packed
        manifest = json.dumps(dict(source.manifest, layers=layers, annotations={"kept": "yes"}), indent=7).encode()
        members["blobs/sha256/" + digest(manifest)[7:]] = manifest
        descriptor = dict(source.index["manifests"][0], digest=digest(manifest), size=len(manifest))
        members["index.json"] = json.dumps(dict(source.index, manifests=[descriptor])).encode()
        made = self.path("made.tar")
        with tarfile.open(made, "w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        was = self.imported("made", made)
        said = self.export(was["id"])["images"][0]
        self.assertEqual([l["identical"] for l in said["layers"]], ["manifest"] * 3)
        self.assertEqual(Archive(self.out).blob(said["manifest"]), manifest)
        # Anew: the annotations stay.
        self.export("--compress", "zstd", was["id"])
        self.assertEqual(Archive(self.out).manifest["annotations"], {"kept": "yes"})

    def test_skopeo_and_umoci_take_it(self):
        support.need("skopeo", "umoci")
        was = self.imported("oci-gzip.tar")
        inspect = lambda source: json.loads(subprocess.run(["skopeo", "inspect", "--raw", "--config", source], check=True, stdout=subprocess.PIPE).stdout)
        for compress in ["gzip", "zstd", "none"]:
            self.lcfs("export", "-q", "-o", self.out, "--compress", compress, "demo")
            self.assertEqual(inspect("oci-archive:" + self.out)["rootfs"]["diff_ids"], [l["diff_id"] for l in was["layers"]])
            subprocess.run(["skopeo", "copy", "-q", "oci-archive:" + self.out, "dir:" + self.path("copied")], check=True)
            self.lcfs("export", "-q", "-o", self.out, "--format", "docker", "--compress", compress, "demo")
            self.assertEqual(inspect("docker-archive:" + self.out)["rootfs"]["diff_ids"], [l["diff_id"] for l in was["layers"]])
        layout, bundle = self.path("layout"), self.path("bundle")
        self.lcfs("export", "-q", "-o", layout + "/", "--compress", "gzip", "demo")
        subprocess.run(["umoci", "unpack", "--image", layout + ":demo", bundle], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertEqual(without_root_times(listing(bundle + "/rootfs")), without_root_times(listing(image("tree"))))

    def test_podman_and_ctr_show_the_same_id(self):
        was = self.imported("oci-gzip.tar")
        runroot = self.short_path()
        for form in ["oci", "docker"]:
            self.lcfs("export", "-q", "-o", self.out, "--format", form, "demo")
            if shutil.which("podman"):
                podman = ["podman", "--root", self.path("pod"), "--runroot", runroot + "/run", "--storage-driver", "vfs"]
                subprocess.run([*podman, "load", "-q", "-i", self.out], check=True, stdout=subprocess.DEVNULL)
                shown = subprocess.run([*podman, "images", "--no-trunc", "-q"], check=True, stdout=subprocess.PIPE).stdout.decode().split()
                self.assertEqual(shown, [was["id"]])
                subprocess.run([*podman, "rmi", "-a", "-f"], check=True, stdout=subprocess.DEVNULL)
            if shutil.which("ctr") and shutil.which("containerd"):
                self.ctr(was)

    def short_path(self):
        """podman's runroot and containerd's sockets must not be deep."""
        path = tempfile.mkdtemp(prefix="lcfs-", dir="/tmp")
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return path

    def ctr(self, was):
        where = self.short_path()
        with open(where + "/config.toml", "w") as file:
            file.write(f'version = 2\nroot = "{where}/root"\nstate = "{where}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                       f'[grpc]\naddress = "{where}/sock"\n[ttrpc]\naddress = "{where}/ttrpc"\n')
        daemon = subprocess.Popen(["containerd", "-c", where + "/config.toml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 60
            while not os.path.exists(where + "/sock") and time.monotonic() < until:
                time.sleep(0.1)
            ctr = ["ctr", "-a", where + "/sock"]
            subprocess.run([*ctr, "images", "import", "--no-unpack", "--base-name", "local/demo", self.out], check=True, stdout=subprocess.DEVNULL)
            blobs = subprocess.run([*ctr, "content", "ls", "-q"], check=True, stdout=subprocess.PIPE).stdout.decode().split()
            self.assertIn(was["id"], blobs)
        finally:
            daemon.terminate()
            daemon.wait()
            shutil.rmtree(where, ignore_errors=True)

    def test_a_layer_that_was_made_here(self):
        support.need("skopeo")
        self.imported("oci-gzip.tar")
        self.lcfs("layer", "create", "work", "--parent", "demo")
        self.mount()
        with open(self.path("mnt/work/etc/motd"), "w") as file:
            file.write("changed\n")
        os.unlink(self.path("mnt/work/etc/conf.d/1.conf"))
        said = self.export("work")["images"][0]  # by the server, of a layer that is being written to
        self.assertEqual([l["identical"] for l in said["layers"]][-1], "content")
        first = support.sha256(self.out)
        self.export("work")
        self.assertEqual(support.sha256(self.out), first)
        other = self.path("other.lcfs")
        self.lcfs("import", "-q", "--store", other, self.out)
        self.lcfs("extract", "-q", "--store", other, "work", self.path("tree"))
        self.assertEqual(listing(self.path("tree")), listing(self.path("mnt/work")))
        self.umount()

    def test_mounted_or_not_the_bytes_are_the_same(self):
        self.imported("oci-zstd.tar")
        plain = self.lcfs("export", "--compress", "none", "demo")
        packed = self.lcfs("export", "demo")
        self.mount()
        self.assertEqual(self.lcfs("export", "--compress", "none", "demo"), plain)
        self.assertEqual(self.lcfs("export", "demo"), packed)
        self.lcfs("export", "-q", "-o", "relative.tar", "demo", cwd=self.dir)
        with open(self.path("relative.tar"), "rb") as file:
            self.assertEqual(file.read(), packed)
        # A reader that goes away ends it, and the server lives.
        with subprocess.Popen([support.LCFS, "export", "--compress", "none", "demo"], env=self.environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as run:
            run.stdout.read(100)
            run.stdout.close()
            run.stderr.read()
            self.assertNotEqual(run.wait(), 0)
        self.lcfs("image", "ls")
        self.umount()

    def test_a_damaged_store_gives_no_archive(self):
        self.imported("oci-gzip.tar")
        runs = json.loads(self.lcfs("stat", "--json", "--runs", "demo", "/bin/busybox"))["runs"]
        with open(self.store, "r+b") as file:
            file.seek(runs[0]["device_offset"] + 5)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        for args in [["-o", self.out], ["-o", self.path("layout/")], ["-o", self.out, "--format", "docker", "--compress", "zstd"]]:
            self.fails("export", "-q", *args, "demo", words=["/bin/busybox", "checksum"])
        self.fails("export", "-q", "demo", words=["/bin/busybox", "checksum"])
        self.assertEqual(sorted(os.listdir(self.dir)), ["mnt", "store.lcfs"])
        os.unlink(self.store)

    def test_a_full_disk_leaves_nothing(self):
        self.imported("docker.tar")
        host = self.path("small")
        os.mkdir(host)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3M", "tmpfs", host], check=True)
        try:
            self.lcfs("export", "--compress", "zstd", "-q", "-o", host + "/a.tar", "demo")
            there = os.listdir(host)
            kept = support.sha256(host + "/a.tar")
            for args in [["-o", host + "/a.tar"], ["-o", host + "/b.tar", "--format", "docker"], ["-o", host + "/layout/"]]:
                self.fails("export", "-q", "--compress", "none", *args, "demo", words=["No space left"])
                self.assertEqual(os.listdir(host), there)
            self.assertEqual(support.sha256(host + "/a.tar"), kept)
            # Where a pipe's layers wait.
            done = self.run_lcfs("export", "-q", "--compress", "gzip", "demo", env=dict(self.environment(), TMPDIR=host))
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"No space left", done.stderr)
            self.assertEqual(os.listdir(host), there)
        finally:
            subprocess.run(["umount", host], check=True)

    def kill_exports(self, to):
        """Exports that are killed sooner or later; for each whether it was before the end."""
        for wait in [0.005, 0.02, 0.05]:
            run = subprocess.Popen([support.LCFS, "export", "-q", "--compress", "gzip", "-o", to, "demo"], env=self.environment())
            time.sleep(wait)
            run.send_signal(signal.SIGKILL)
            yield run.wait() != 0

    def test_killed_it_leaves_nothing(self):
        self.imported("docker.tar")
        os.mkdir(self.path("to"))
        for killed in self.kill_exports(self.path("to/a.tar")):
            if killed:
                self.assertEqual(os.listdir(self.path("to")), [])
            else:
                os.unlink(self.path("to/a.tar"))

    def test_killed_on_its_way_into_a_directory_it_is_in_nobodys_way(self):
        self.imported("docker.tar")
        for killed in self.kill_exports(self.path("layout/")):
            if killed:
                self.assertFalse(os.path.exists(self.path("layout")))
        if os.path.exists(self.path("layout")):
            shutil.rmtree(self.path("layout"))
        self.lcfs("export", "-q", "--compress", "gzip", "-o", self.path("layout/"), "demo")
        self.assertIn("index.json", os.listdir(self.path("layout")))

    def test_an_erofs_image_as_the_man_page_says(self):
        support.need("mkfs.erofs")
        with open(os.path.join(support.SOURCE, "man/lcfs-export.8")) as page:
            self.assertIn(".Dl mkfs.erofs debian.erofs /mnt/debian", page.read())
        self.imported("docker.tar")
        self.lcfs("layer", "create", "made", "--parent", "demo")
        self.mount()
        subprocess.run(["mkfs.erofs", self.path("made.erofs"), self.path("mnt/made")], check=True, stdout=subprocess.DEVNULL)
        wanted = listing(self.path("mnt/made"))
        self.assertIn(b"etc/motd", wanted)
        tree = self.path("tree")
        os.mkdir(tree)
        with open("/proc/filesystems") as known:
            if "erofs" not in known.read():
                self.skipTest("this kernel has no erofs to judge the image")
        subprocess.run(["mount", "-t", "erofs", "-o", "loop,ro", self.path("made.erofs"), tree], check=True)
        try:
            self.assertEqual(listing(tree), wanted)
        finally:
            subprocess.run(["umount", tree], check=True)
        self.umount()

    def test_bad_requests(self):
        self.imported("docker.tar")
        self.fails("export", "-o", self.out, "nobody", words=["nobody"])
        self.fails("export", "-o", self.path("no/where.tar"), "demo", words=["no/where.tar"])
        self.fails("export", "-o", self.dir, "--format", "docker", "demo", words=["docker-archive"])
        self.fails("export", "-o", self.dir, "demo", words=["is not empty"])
        self.fails("export", "--format", "floppy", "demo", code=2)
        master, slave = os.openpty()
        try:
            done = subprocess.run([support.LCFS, "export", "demo"], env=self.environment(), stdout=slave, stderr=subprocess.PIPE)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"terminal", done.stderr)
        finally:
            os.close(master)
            os.close(slave)
        self.assertFalse(os.path.exists(self.out))


if __name__ == "__main__":
    mounting.need_fuse()
    support.main()
