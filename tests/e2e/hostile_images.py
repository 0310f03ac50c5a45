# SPDX-License-Identifier: Apache-2.0
"""Tars and image archives made byte by byte, so that the hostile_*.py tests can make what no tool would.

A tar is the sum of entries: `tar(directory("a"), file("a/b", b"text"))`.  An image is an Image; the *_members() functions give the
members of an archive as a list of (name, bytes), which a test may damage or reorder before write_tar() or write_directory().
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile

import support

BLOCK = 512
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


# ---- entries of a tar

def octal(value, size):
    return b"%0*o\0" % (size - 1, value)


def base256(value, size):
    """A number as GNU tar writes what octal digits can't say."""
    raw = bytearray((value % (1 << (8 * size))).to_bytes(size, "big"))
    raw[0] = 0xff if value < 0 else raw[0] | 0x80
    return bytes(raw)


def header(name, kind=b"0", size=0, mode=0o644, uid=0, gid=0, mtime=0, link=b"", device=(0, 0), magic=b"ustar\00000", rest=b""):
    """One header block; numbers may be given as the bytes of their field.  `rest`: what stands from byte 345 on."""
    def number(value, width):
        return value if isinstance(value, bytes) else octal(value, width)
    fields = [name.ljust(100, b"\0")[:100], number(mode, 8), number(uid, 8), number(gid, 8), number(size, 12), number(mtime, 12),
              b" " * 8, kind, link.ljust(100, b"\0")[:100], magic.ljust(8, b"\0"), b"\0" * 64, number(device[0], 8),
              number(device[1], 8), rest]
    block = b"".join(fields).ljust(BLOCK, b"\0")
    assert len(block) == BLOCK
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pad(data):
    return data + b"\0" * (-len(data) % BLOCK)


def pax(records, kind=b"x"):
    """An extended header of (key, value) pairs."""
    body = b"".join(pax_record(key, value) for key, value in records)
    return header(b"pax", kind, len(body)) + pad(body)


def pax_record(key, value):
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def entry(name, kind, data=b"", extra=(), **fields):
    """An entry with a pax header in front if its name, its link or `extra` need one."""
    name, link = os.fsencode(name), os.fsencode(fields.pop("link", b""))
    records = list(extra)
    if len(name) > 100:
        records.append((b"path", name))
    if len(link) > 100:
        records.append((b"linkpath", link))
    return (pax(records) if records else b"") + header(name, kind, len(data), link=link, **fields) + pad(data)


def file(name, data=b"", **fields):
    return entry(name, b"0", data, **fields)


def directory(name, **fields):
    return entry(name, b"5", **{"mode": 0o755, **fields})


def symlink(name, target, **fields):
    return entry(name, b"2", link=target, **fields)


def hardlink(name, target, **fields):
    return entry(name, b"1", link=target, **fields)


def whiteout(path):
    folder, name = os.path.split(path)
    return file(os.path.join(folder, ".wh." + name))


def opaque(folder):
    return file(os.path.join(folder, ".wh..wh..opq"))


def tar(*entries):
    return b"".join(entries) + b"\0" * (2 * BLOCK)


def tool_tar(program, folder, *args):
    """The tar that GNU tar or bsdtar makes of `folder`."""
    return subprocess.run([program, "-C", folder, *args, "-cf", "-", "."], check=True, stdout=subprocess.PIPE).stdout


# ---- compression

def zstd(data, *options):
    return subprocess.run(["zstd", "-q", "-c", *options], input=data, check=True, stdout=subprocess.PIPE).stdout


def gz(data):
    return gzip.compress(data, 6, mtime=0)


# ---- images

def sha256(data):
    return hashlib.sha256(data).hexdigest()


def as_json(value):
    return json.dumps(value).encode()


class Image:
    """Plain layer tars and what an image says about them; `packed`: the layers as they are stored."""

    def __init__(self, *layers, names=("hostile:latest",), platform="linux/amd64", packed=None, media_type=LAYER, config=None):
        self.layers, self.names, self.platform, self.media_type = list(layers), list(names), platform, media_type
        self.packed = list(packed if packed is not None else layers)
        os_name, architecture, *variant = platform.split("/")
        self.config = config if config is not None else as_json({
            "architecture": architecture, "os": os_name, **({"variant": variant[0]} if variant else {}), "config": {"Env": list(names)},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(layer) for layer in layers]}})

    @property
    def id(self):
        return "sha256:" + sha256(self.config)

    def manifest(self):
        return as_json({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(self.config, CONFIG),
                        "layers": [descriptor(layer, self.media_type) for layer in self.packed]})


def descriptor(data, media_type, **more):
    return {"mediaType": media_type, "digest": "sha256:" + sha256(data), "size": len(data), **more}


def platform_of(image):
    os_name, architecture, *variant = image.platform.split("/")
    return {"os": os_name, "architecture": architecture, **({"variant": variant[0]} if variant else {})}


def podman_members(*images):
    """docker-archive as podman and skopeo write it."""
    members = {}
    for image in images:
        for layer, stored in zip(image.layers, image.packed):
            members[sha256(layer) + ".tar"] = stored
        members[image.id[7:] + ".json"] = image.config
    members["manifest.json"] = as_json([{
        "Config": image.id[7:] + ".json", "RepoTags": image.names,
        "Layers": [sha256(layer) + ".tar" for layer in image.layers]} for image in images])
    return list(members.items())


def dockerd_members(image):
    """docker-archive as dockerd wrote it before version 25: a directory a layer, a layer that comes twice as a symlink."""
    members, paths, seen = [], [], {}
    for number, layer in enumerate(image.layers):
        folder = sha256(b"%d" % number + layer)
        members += [(folder + "/VERSION", b"1.0"), (folder + "/json", as_json({"id": folder}))]
        members.append((folder + "/layer.tar", "../" + seen[layer] if layer in seen else image.packed[number]))
        seen.setdefault(layer, folder + "/layer.tar")
        paths.append(folder + "/layer.tar")
    return members + [
        (image.id[7:] + ".json", image.config),
        ("manifest.json", as_json([{"Config": image.id[7:] + ".json", "RepoTags": image.names, "Layers": paths}])),
        ("repositories", as_json({"hostile": {"latest": paths[-1].split("/")[0] if paths else ""}}))]


def blob_members(*blobs):
    return [("blobs/sha256/" + sha256(blob), blob) for blob in blobs]


def oci_members(*images, index=None, more=()):
    """An OCI layout; `index`: its index.json, instead of one that names all images; `more`: further blobs."""
    members = {}
    for image in images:
        members.update(blob_members(*image.packed, image.config, image.manifest()))
    members.update(blob_members(*more))
    manifests = [descriptor(image.manifest(), MANIFEST, annotations={"org.opencontainers.image.ref.name": name})
                 for image in images for name in image.names]
    members["oci-layout"] = as_json({"imageLayoutVersion": "1.0.0"})
    members["index.json"] = index if index is not None else as_json({"schemaVersion": 2, "manifests": manifests})
    return list(members.items())


def both_members(*images):
    """As docker writes it since version 25: an OCI layout with a manifest.json; the tags are full names only there."""
    members = dict(oci_members(*images))
    index = {"schemaVersion": 2, "manifests": [descriptor(i.manifest(), MANIFEST) for i in images]}
    members["index.json"] = as_json(index)
    members["manifest.json"] = as_json([{
        "Config": "blobs/sha256/" + image.id[7:], "RepoTags": image.names,
        "Layers": ["blobs/sha256/" + sha256(layer) for layer in image.packed]} for image in images])
    return list(members.items())


FORMS = {"podman": podman_members, "dockerd": dockerd_members, "oci": oci_members, "both": both_members}


def archive(members):
    """The members as the bytes of a tar; a text is a symlink."""
    return tar(*(symlink(name, data) if isinstance(data, str) else file(name, data) for name, data in members))


def write(path, data):
    with open(path, "wb") as out:
        out.write(data)
    return path


def write_tar(path, members):
    return write(path, archive(members))


def write_directory(path, members):
    for name, data in members:
        where = os.path.join(path, name)
        os.makedirs(os.path.dirname(where), exist_ok=True)
        write(where, data)
    return path


def files_of(data):
    """{name: bytes} of the files in a tar, read by Python: a second opinion."""
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return {m.name: opened.extractfile(m).read() for m in opened if m.isfile()}


class HostileCase(support.Case):
    """Imports images that a test makes, and looks at what has come of them."""

    STORE_SIZE = "64M"

    def setUp(self):
        super().setUp()
        self.mkfs(self.STORE_SIZE)

    def import_members(self, members, *options):
        """Imports an archive file; the images of the answer."""
        return json.loads(self.lcfs("import", "--json", *options, write_tar(self.path("image.tar"), members)))["images"]

    def import_layers(self, *layers):
        """Imports an image of these plain layers and calls it hostile:latest; nothing that was there before remains."""
        image = Image(*layers)
        (found,) = self.import_members(podman_members(image))
        self.assertEqual(found["id"], image.id)
        return found

    def stat(self, path, image="hostile:latest"):
        (found,) = self.lines("stat", "--json", image, path)
        return found

    def xattrs(self, path):
        return {bytes.fromhex(x["name_hex"]) if "name_hex" in x else x["name"].encode(): bytes.fromhex(x["value_hex"])
                for x in self.stat(path)["xattrs"]}

    def cat(self, path, image="hostile:latest"):
        return self.lcfs("cat", image, path)

    def tree(self, image="hostile:latest"):
        """{path as bytes: entry} of all below the root."""
        found = self.lines("ls", "--json", "--recursive", image)
        return {bytes.fromhex(e["path_hex"]) if "path_hex" in e else e["path"].encode(): e for e in found}

    def names(self, image="hostile:latest"):
        return sorted(os.fsdecode(path) for path in self.tree(image))
