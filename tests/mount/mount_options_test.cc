// SPDX-License-Identifier: Apache-2.0
// Mount options from their text, and lines of the mount table.
#include <doctest/doctest.h>
#include <sys/mount.h>

#include <string>

#include "mount/mount_table.h"
#include "mount/options.h"

using namespace lcfs;
using namespace lcfs::mount;

namespace {

MountOptions parsed(std::string const& list, bool sloppy = false) {
  MountOptions options;
  auto const done = parse_options(list, sloppy, options);
  CAPTURE(list);
  REQUIRE_MESSAGE(done, (done ? "" : done.error().text()));
  return options;
}

}  // namespace

TEST_CASE("mount options: what was said, and nothing else") {
  auto const none = parsed("");
  CHECK(none.vfs.set == 0);
  CHECK(none.vfs.cleared == 0);
  CHECK_FALSE(none.read_only());
  CHECK(none.control);
  CHECK(none.pseudo);
  CHECK(none.verify_data);
  CHECK_FALSE(none.writeback);

  auto const all = parsed(
      "ro,nosuid,nodev,noexec,sync,dirsync,layer=debian:12,transport=uring,threads=4,clone_fd,no_"
      "writeback,node_cache="
      "8M,"
      "dirty=1G,checkpoint=30,no_pseudo,no_verify,control=no,allow_other,default_permissions,"
      "relatime");
  CHECK(all.vfs.set ==
        (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC));
  CHECK(all.read_only());
  CHECK(all.layer == "debian:12");
  CHECK(all.transport == TransportKind::kUring);
  CHECK(all.threads == 4);
  CHECK(all.clone_fd == true);
  CHECK(all.writeback == false);
  CHECK(all.node_cache == 8u << 20);
  CHECK(all.dirty_data == 1u << 30);
  CHECK(all.checkpoint == 30u);
  CHECK_FALSE(all.pseudo);
  CHECK_FALSE(all.verify_data);
  CHECK_FALSE(all.control);
  CHECK(all.allow_other);
  CHECK(all.atime == Atime::kRelative);
}

TEST_CASE("mount options: the later of two counts") {
  CHECK_FALSE(parsed("ro,rw").read_only());
  CHECK(parsed("rw,ro").read_only());
  CHECK(parsed("clone_fd,no_clone_fd").clone_fd == false);
  CHECK(parsed("relatime,noatime").atime == Atime::kNever);
  CHECK(parsed("noatime,strictatime").atime == Atime::kAlways);
  CHECK(parsed("noatime").vfs.has(MS_NOATIME));
  CHECK_FALSE(parsed("noatime,relatime").vfs.has(MS_NOATIME));
  MountOptions two;
  REQUIRE(parse_options("ro,threads=2", false, two));
  REQUIRE(parse_options("rw", false, two));
  CHECK_FALSE(two.read_only());
  CHECK(two.threads == 2);
}

TEST_CASE("mount options: what fstab holds for others is skipped") {
  auto const options = parsed(
      "defaults,_netdev,nofail,auto,noauto,user,users,user=joe,owner,x-systemd.automount,x-a=b,"
      "comment=c d,,ro");
  CHECK(options.read_only());
}

TEST_CASE("mount options: anything else is an error that names it, and nothing changes") {
  struct Row {
    char const* list;
    char const* word;
  };
  for (auto const& row : {Row{"ro,nonsense", "\"nonsense\""},
                          {"layer=", "layer"},
                          {"layer", "layer"},
                          {"transport=tcp", "\"tcp\""},
                          {"threads=0", "threads"},
                          {"threads=257", "threads"},
                          {"threads=4x", "\"4x\""},
                          {"threads=", "threads"},
                          {"checkpoint=-1", "checkpoint"},
                          {"at=0", "generation"},
                          {"at=x", "generation"},
                          {"node_cache=lots", "node_cache"},
                          {"dirty=", "dirty"},
                          {"control=maybe", "\"maybe\""},
                          {"ro=1", "ro"},
                          {"clone_fd=yes", "clone_fd"}}) {
    CAPTURE(std::string{row.list});
    MountOptions options;
    auto const done = parse_options(row.list, false, options);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == Errc::kInvalid);
    CHECK(done.error().message.find(row.word) != std::string::npos);
    CHECK_FALSE(options.read_only());
  }
  CHECK(parsed("nonsense,ro,other=1", true).read_only());
  MountOptions options;
  CHECK_FALSE(parse_options("threads=x", true, options));  // known, and wrong
}

TEST_CASE(
    "mount options: what a server was asked for as text, and back; a remount that wants something "
    "else is told of it") {
  for (std::string const list :
       {"",
        "layer=debian:12,transport=uring,threads=4,clone_fd,no_writeback,node_cache=8388608,dirty="
        "1024,checkpoint=30,no_pseudo,no_verify,no_killpriv_v2,control=no",
        "at=7,transport=dev,no_clone_fd,writeback,relatime", "strictatime"})
    CHECK(own_text(parsed(list)) == list);
  auto const had = parsed("layer=a,threads=4,writeback,checkpoint=30,relatime");
  for (std::string const same :
       {"", "layer=a", "threads=4,writeback", "no_clone_fd", "transport=auto",
        "checkpoint=30,ro,noexec,relatime", "control=yes"})
    CHECK_MESSAGE(fixed_change(parsed(same), had).empty(), same);
  for (std::string const other :
       {"layer=b", "at=3", "transport=dev", "threads=5", "clone_fd", "no_writeback",
        "node_cache=8M", "dirty=8M", "checkpoint=31", "no_pseudo", "no_verify", "no_killpriv_v2",
        "control=no", "noatime", "strictatime"}) {
    auto const name = other == "no_writeback" ? "writeback" : other.substr(0, other.find('='));
    CHECK(fixed_change(parsed(other), had) == name);
  }
}

TEST_CASE("mount options: the VFS' part as text, and back") {
  CHECK(vfs_text(parsed("")) == "rw,suid,dev");
  CHECK(vfs_text(parsed("ro,nosuid,noexec,sync")) == "ro,nosuid,dev,noexec,sync");
  CHECK(vfs_text(parsed("nodiratime,noatime")) ==
        "rw,suid,dev,noatime");  // libfuse refuses that word
  CHECK(vfs_flags_of("rw,relatime") == MS_RELATIME);
  CHECK(vfs_flags_of("ro,nosuid,nodev,noatime") == (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME));
  CHECK(parsed("remount,rw,suid").vfs.over(MS_RDONLY | MS_NOSUID | MS_NODEV) == MS_NODEV);
}

TEST_CASE("mount table: lines as the kernel writes them") {
  auto const entry = parse_mount_line(
      R"(36 35 0:52 / /mnt/a\040b\134c ro,nosuid,nodev,relatime shared:7 master:1 - fuse.lcfs /srv/my\040store rw,user_id=0)");
  REQUIRE(entry);
  CHECK(entry->device == "0:52");
  CHECK(entry->directory == "/mnt/a b\\c");
  CHECK(entry->source == "/srv/my store");
  CHECK(entry->type == kFsType);
  CHECK(entry->flags == (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_RELATIME));
  REQUIRE(parse_mount_line("1 2 3:4 / /x rw - ext4 /dev/sda1 rw"));
  for (char const* line : {"", "36", "36 35 0:52 / /mnt rw", "36 35 0:52 / /mnt rw -",
                           "36 35 052 / /mnt rw - t s o", "a b c d e f g"})
    CHECK_FALSE(parse_mount_line(line));
  CHECK(lcfs_mounts());
}
