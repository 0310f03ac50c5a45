// SPDX-License-Identifier: Apache-2.0
// Who else has the store: locks, block devices that the system uses, and what mkfs would overwrite.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>

#include "base/fd.h"
#include "device/checks.h"
#include "device/device.h"
#include "device/lock.h"
#include "device/signature.h"
#include "format/layout.h"
#include "tests/support/host.h"
#include "tests/support/support.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

std::unique_ptr<Device> must(Result<std::unique_ptr<Device>> made) {
  if (!made) FAIL(made.error().text());
  return *std::move(made);
}

std::string file_of(TempDir const& dir, std::string const& name, std::uint64_t size) {
  std::ofstream(dir.file(name)).close();
  std::filesystem::resize_file(dir.file(name), size);
  return dir.file(name);
}

// A process that has the store open until it is killed.
std::function<void(Child::Pipe&)> holder(std::string const& path, Access access) {
  return [path, access](Child::Pipe& pipe) {
    static std::unique_ptr<Device> held;
    auto device = open_device(path, access);
    pipe.say(device ? "open" : device.error().text());
    if (device) held = *std::move(device);
  };
}

void check_refused(std::string const& path, Access access, pid_t by) {
  auto const opened = open_device(path, access);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == Errc::kBusy);
  CHECK(opened.error().text() == path + ": in use by pid " + std::to_string(by));
}

void write_magic(std::string const& path, std::uint64_t block) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(block * kBlockSize));
  std::array<char, kSuperMagic.size()> magic{};
  std::memcpy(magic.data(), kSuperMagic.data(), magic.size());
  file.write(magic.data(), magic.size());
}

std::string signature(std::string const& path) {
  auto const found = foreign_signature(path);
  if (!found) return "error: " + found.error().text();
  return *found ? **found : "nothing";
}

std::string use(std::string const& path) {
  auto const found = kernel_use(path);
  if (!found) return "error: " + found.error().text();
  auto const mounted = is_mounted(path);
  REQUIRE(mounted);
  CHECK(*mounted == found->has_value());
  return *found ? **found : "nothing";
}

}  // namespace

TEST_CASE(
    "lock: writers exclude all others, readers only writers, and the refused one is told the pid") {
  struct Case {
    Access first, second;
    bool together;
  };
  static constexpr Case kCases[] = {
      {Access::kReadWrite, Access::kReadWrite, false},
      {Access::kReadWrite, Access::kReadOnly, false},
      {Access::kReadOnly, Access::kReadWrite, false},
      {Access::kReadOnly, Access::kReadOnly, true},
      {Access::kReadWrite, Access::kReadOnlyNoLock, true},
      {Access::kReadOnlyNoLock, Access::kReadWrite, true},
  };
  TempDir dir;
  std::string const file = file_of(dir, "store", kMiB);
  auto check = [](std::string const& path) {
    for (auto const& c : kCases) {
      CAPTURE(path);
      CAPTURE(static_cast<int>(c.first));
      CAPTURE(static_cast<int>(c.second));
      Child other(holder(path, c.first));
      REQUIRE(other.hear() == "open");
      if (c.together)
        CHECK(open_device(path, c.second));
      else
        check_refused(path, c.second, other.pid());
      other.kill();  // -9: no chance to unlock
      CHECK(open_device(path, c.second));
    }
  };
  check(file);
  if (!can_use_host()) return;
  LoopDevice loop(dir.file("backing"), 8 * kMiB);
  check(loop.path());
}

TEST_CASE(
    "lock: a store that was just created is locked, and a second opener in the same process is "
    "refused too") {
  TempDir dir;
  auto const device = must(create_file_device(dir.file("store"), kMiB));
  check_refused(dir.file("store"), Access::kReadOnly, ::getpid());
  check_refused(dir.file("store"), Access::kReadWrite, ::getpid());
}

TEST_CASE("lock: closing another descriptor of the file does not drop it") {
  TempDir dir;
  auto const device = must(create_file_device(dir.file("store"), kMiB));
  { std::ifstream look(dir.file("store")); }
  CHECK(open_device(dir.file("store"), Access::kReadOnlyNoLock));
  check_refused(dir.file("store"), Access::kReadWrite, ::getpid());
}

TEST_CASE("lock: when the process that took it has left it to a child, the child is named") {
  TempDir dir;
  std::string const path = file_of(dir, "store", kMiB);
  Child parent([&path](Child::Pipe& pipe) {
    auto const device = open_device(path, Access::kReadWrite);
    pid_t const pid = ::fork();
    if (pid == 0) {
      for (;;) ::pause();
    }
    pipe.say(device ? std::to_string(pid) : device.error().text());
    ::_exit(0);
  });
  pid_t const heir = static_cast<pid_t>(std::stol(parent.hear()));
  parent.kill();
  check_refused(path, Access::kReadWrite, heir);
  ::kill(heir, SIGKILL);
}

TEST_CASE("lock: nobody to be seen is another process; nobody at all is nobody") {
  CHECK(in_use("s", std::nullopt).text() == "s: in use by another process");
  TempDir dir;
  std::string const path = file_of(dir, "store", kMiB);
  Fd const fd = open_fd(path, 0);
  CHECK(lock_holder(fd.get()) == std::nullopt);
}

TEST_CASE(
    "block device: its size is the device's, it is always backed, and discard reaches what is "
    "below") {
  if (!can_use_host()) return;
  TempDir dir;
  LoopDevice loop(dir.file("backing"), 8 * kMiB);
  auto device = must(open_device(loop.path(), Access::kReadWrite));
  CHECK(device->name() == loop.path());
  CHECK(device->size() == 8 * kMiB);
  CHECK(device->always_backed());
  AlignedBuffer data(4 * kMiB);
  std::memset(data.data(), 'x', data.size());
  REQUIRE(device->write(kMiB, data.span()));
  REQUIRE(device->flush());
  auto allocated = [&dir] {
    struct stat st {};
    REQUIRE(::stat(dir.file("backing").c_str(), &st) == 0);
    return static_cast<std::uint64_t>(st.st_blocks) * 512;
  };
  CHECK(allocated() == 4 * kMiB);
  REQUIRE(device->discard(kMiB, 3 * kMiB));
  CHECK(allocated() == kMiB);
  AlignedBuffer rest(kMiB);
  REQUIRE(device->read(4 * kMiB, rest.span()));
  CHECK(std::memcmp(rest.data(), data.data(), rest.size()) == 0);
  CHECK(device->reserve(0, kMiB));
  CHECK(device->release(0, kMiB));
}

TEST_CASE("block device: one whose sectors are larger than a block is used without direct I/O") {
  if (!can_use_host()) return;
  TempDir dir;
  std::unique_ptr<LoopDevice> loop;
  try {
    loop = std::make_unique<LoopDevice>(dir.file("backing"), 8 * kMiB, 16384);
  } catch (std::exception const& e) {
    MESSAGE("skipped: this kernel has no such loop devices: "
            << e.what());  // they came with Linux 6.15
    return;
  }
  auto device = must(open_device(loop->path(), Access::kReadWrite));
  AlignedBuffer block(kBlockSize);
  AlignedBuffer got(kBlockSize);
  for (std::uint64_t n = 0; n < 8; ++n) {
    std::memset(block.data(), static_cast<int>('a' + n), block.size());
    REQUIRE(device->write(n * 3 * kBlockSize, block.span()));
    REQUIRE(device->read(n * 3 * kBlockSize, got.span()));
    CHECK(std::memcmp(got.data(), block.data(), got.size()) == 0);
  }
  CHECK(device->flush());
  CHECK(device->discard(kBlockSize, kBlockSize));
}

TEST_CASE(
    "block device: a mounted one is refused to a writer, and one that we have can't be mounted") {
  if (!can_use_host()) return;
  TempDir dir;
  LoopDevice loop(dir.file("backing"), 16 * kMiB);
  REQUIRE(run("mkfs.ext4 -q " + loop.path()).ok);
  {
    Mount mounted("ext4", loop.path(), "rw");
    auto const refused = open_device(loop.path(), Access::kReadWrite);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::kBusy);
    CHECK(refused.error().text() == loop.path() + ": is mounted or in use by the system");
  }
  auto const device = must(open_device(loop.path(), Access::kReadWrite));
  CHECK_FALSE(run("mount -t ext4 " + loop.path() + " " + dir.path().string()).ok);
}

TEST_CASE("probe: a foreign signature is named, with its label") {
  struct Case {
    char const* tool;
    char const* command;  // $F is the file
    std::uint64_t size;
    char const* what;
  };
  static constexpr Case kCases[] = {
      {"mkfs.ext4", "mkfs.ext4 -q -L 'a label' $F", 16 * kMiB, "ext4 filesystem (label a label)"},
      {"mkfs.ext4", "mkfs.ext4 -q $F", 16 * kMiB, "ext4 filesystem"},
      {"mkfs.xfs", "mkfs.xfs -q $F", 512 * kMiB, "xfs filesystem"},
      {"mkswap", "mkswap -L sw $F", 16 * kMiB, "swap signature (label sw)"},
      {"dd",
       "printf '\\000\\000\\000\\000\\203\\000\\000\\000\\000\\010\\000\\000\\350\\003\\000\\000' |"
       " dd of=$F bs=1 seek=446 conv=notrunc && printf '\\125\\252' | dd of=$F bs=1 seek=510 "
       "conv=notrunc",
       16 * kMiB, "dos partition table"},
      {"true", "true", 0, "nothing"},
      {"true", "true", 512, "nothing"},
      {"true", "true", 16 * kMiB, "nothing"},
      {"dd", "dd if=/dev/urandom of=$F bs=1M count=1 conv=notrunc", 2 * kMiB, "nothing"},
  };
  bool const host = can_use_host();
  for (auto const& c : kCases) {
    CAPTURE(std::string(c.command));
    if (!have_tool(c.tool)) continue;
    TempDir dir;
    std::string const path = file_of(dir, "image", c.size);
    auto const made = run("F=" + path + "; " + c.command);
    REQUIRE_MESSAGE(made.ok, made.output);
    CHECK(signature(path) == c.what);
    if (!host || c.size < kMiB) continue;
    LoopDevice loop(path, c.size);
    CHECK(signature(loop.path()) == c.what);
  }
}

TEST_CASE(
    "probe: a store is known by either slot, and by no slot that a foreign mkfs has outlived") {
  TempDir dir;
  for (std::uint64_t block : kSlotBlock) {
    std::string const path = file_of(dir, "slot" + std::to_string(block), 16 * kMiB);
    write_magic(path, block);
    CHECK(signature(path) == "lcfs store");
  }
  if (!have_tool("mkfs.ext4")) return;
  // A store whose contents look like a file system; then one that was overwritten by mkfs.
  std::string const path = file_of(dir, "both", 16 * kMiB);
  REQUIRE(run("mkfs.ext4 -q " + path).ok);
  write_magic(path, 8);
  CHECK(signature(path) == "ext4 filesystem");
  write_magic(path, 0);
  CHECK(signature(path) == "lcfs store");
  REQUIRE(run("mkfs.ext4 -q -F " + path).ok);
  CHECK(signature(path) == "ext4 filesystem");
}

TEST_CASE("probe: what can't be probed is an error that names it") {
  TempDir dir;
  for (auto const& path : {dir.path().string(), dir.file("missing"), std::string("/dev/null")}) {
    auto const sig = foreign_signature(path);
    REQUIRE_FALSE(sig);
    CHECK(sig.error().path == path);
    CHECK_FALSE(kernel_use(path));
    CHECK_FALSE(is_mounted(path));
  }
}

TEST_CASE("probe: a file or device that the kernel uses is told, with the place") {
  if (!can_use_host() || !have_tool("mkfs.ext4")) return;
  TempDir dir;
  std::string const file = dir.file("with a space");
  std::string const link = dir.file("link");
  std::string device;
  {
    file_of(dir, "with a space", 16 * kMiB);
    std::filesystem::create_symlink(file, link);
    CHECK(use(file) == "nothing");
    LoopDevice loop(link, 16 * kMiB);
    device = loop.path();
    CHECK(use(file) == "attached to " + device);
    CHECK(use(link) == "attached to " + device);
    CHECK(use(device) == "nothing");
    REQUIRE(run("mkfs.ext4 -q " + device).ok);
    Mount mounted("ext4", device, "rw");
    CHECK(use(device) == "mounted at " + mounted.path());
    CHECK(use(file) == "attached to " + device + ", which is mounted at " + mounted.path());
  }
  CHECK(use(file) == "nothing");
}
