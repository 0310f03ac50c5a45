// SPDX-License-Identifier: Apache-2.0
// The suppliers of blocks: what all promise, and what files and block devices do to the host.
#include "device/device.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "format/layout.h"
#include "tests/support/faulty_device.h"
#include "tests/support/host.h"
#include "tests/support/recording_device.h"
#include "tests/support/support.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

// Bytes that differ from block to block and from seed to seed.
AlignedBuffer pattern(std::size_t size, unsigned seed) {
  AlignedBuffer buffer(size);
  for (std::size_t i = 0; i < size; ++i)
    buffer.data()[i] = static_cast<std::byte>(seed * 31 + i * 7 + i / kBlockSize);
  return buffer;
}

bool holds(Device& device, std::uint64_t offset, AlignedBuffer const& expected) {
  AlignedBuffer got(expected.size());
  auto const status = device.read(offset, got.span());
  if (!status) MESSAGE(status.error().text());
  return status && std::memcmp(got.data(), expected.data(), got.size()) == 0;
}

AlignedBuffer zeroes(std::size_t size) {
  AlignedBuffer buffer(size);
  std::fill(buffer.span().begin(), buffer.span().end(), std::byte{0});
  return buffer;
}

std::uint64_t allocated(std::string const& path) {
  struct stat st {};
  REQUIRE(::stat(path.c_str(), &st) == 0);
  return static_cast<std::uint64_t>(st.st_blocks) * 512;
}

std::unique_ptr<Device> must(Result<std::unique_ptr<Device>> made) {
  if (!made) FAIL(made.error().text());
  return *std::move(made);
}

constexpr std::uint64_t kSize = 8 * kMiB;

// Calls the test with each supplier in turn, kSize bytes large.
void with_each_supplier(std::function<void(Device&)> const& test) {
  TempDir dir;
  auto with = [&test](char const* kind, Device& device) {
    CAPTURE(std::string(kind));
    REQUIRE(device.size() == kSize);
    test(device);
  };
  with("memory", *make_memory_device(kSize));
  with("file", *must(create_file_device(dir.file("plain"), kSize)));
  {
    must(create_file_device(dir.file("again"), kSize)).reset();
    with("file, opened again", *must(open_device(dir.file("again"), Access::kReadWrite)));
  }
  with("recording", *std::make_unique<RecordingDevice>(make_memory_device(kSize)));
  with("faulty, at rest", *std::make_unique<FaultyDevice>(make_memory_device(kSize)));
  if (!can_use_host()) return;
  {
    // ramfs has neither O_DIRECT nor fallocate.
    Mount host("ramfs", "none", "mode=700");
    with("file on ramfs", *must(create_file_device(host.file("store"), kSize)));
  }
  {
    LoopDevice loop(dir.file("backing"), kSize);
    with("block", *must(open_device(loop.path(), Access::kReadWrite)));
  }
}

}  // namespace

TEST_CASE("aligned buffer: its memory is aligned to a block, whatever its size") {
  for (std::size_t size :
       {std::size_t{1}, std::size_t{4095}, std::size_t{4096}, std::size_t{100000}}) {
    AlignedBuffer buffer(size);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % kBlockSize == 0);
    CHECK(buffer.span().size() == size);
    CHECK(bool(buffer));
  }
  CHECK_FALSE(bool(AlignedBuffer()));
}

TEST_CASE("device: what was written is read back, in any division into parts") {
  with_each_supplier([](Device& device) {
    auto const data = pattern(5 * kMiB, 1);
    REQUIRE(device.write(kBlockSize, data.span()));
    CHECK(holds(device, kBlockSize, data));

    // More parts than one system call takes, of one and two blocks, some empty.
    auto const other = pattern(5 * kMiB, 2);
    std::vector<iovec> parts;
    for (std::size_t at = 0, n = 0; at < other.size(); ++n) {
      std::size_t const length = std::min<std::size_t>(n % 3 * kBlockSize, other.size() - at);
      parts.push_back({const_cast<std::byte*>(other.data()) + at, length});
      at += length;
    }
    REQUIRE(parts.size() > 1024);
    REQUIRE(device.write(2 * kMiB, parts));
    CHECK(holds(device, 2 * kMiB, other));
    CHECK(device.flush());
    CHECK(holds(device, 2 * kMiB, other));

    auto const last = pattern(kBlockSize, 3);
    REQUIRE(device.write(kSize - kBlockSize, last.span()));
    CHECK(holds(device, kSize - kBlockSize, last));
  });
}

TEST_CASE("device: arguments that break the contract are refused, named, and change nothing") {
  struct Case {
    char const* name;
    std::uint64_t offset;
    std::uint64_t length;
    char const* words;
  };
  static constexpr Case kCases[] = {
      {"offset inside a block", 512, kBlockSize, "not made of whole blocks"},
      {"length inside a block", 0, 512, "not made of whole blocks"},
      {"ends behind the end", kSize - kBlockSize, 2 * kBlockSize, "ends beyond"},
      {"starts behind the end", kSize + kBlockSize, 0, "ends beyond"},
      {"wraps", ~std::uint64_t{0} - kBlockSize + 1, 2 * kBlockSize, "ends beyond"},
  };
  with_each_supplier([](Device& device) {
    auto const before = pattern(kSize, 4);
    REQUIRE(device.write(0, before.span()));
    auto buffer = pattern(2 * kBlockSize, 5);
    auto check = [&](Status const& status, std::uint64_t offset, char const* words) {
      REQUIRE_FALSE(status);
      CHECK(status.error().code == Errc::kInvalid);
      CHECK(status.error().path == device.name());
      CHECK(status.error().offset == offset);
      CHECK_MESSAGE(status.error().message.find(words) != std::string::npos, status.error().text());
    };
    for (auto const& c : kCases) {
      CAPTURE(std::string(c.name));
      auto const some = buffer.span().first(c.length);
      check(device.read(c.offset, some), c.offset, c.words);
      check(device.discard(c.offset, c.length), c.offset, c.words);
      check(device.reserve(c.offset, c.length), c.offset, c.words);
      check(device.release(c.offset, c.length), c.offset, c.words);
      if (c.length % kBlockSize == 0) check(device.write(c.offset, some), c.offset, c.words);
    }
    check(device.read(0, buffer.span().subspan(8, kBlockSize)), 0, "not aligned");
    check(device.write(0, buffer.span().subspan(8, kBlockSize)), 0, "aligned whole blocks");
    check(device.write(0, buffer.span().first(100)), 0, "aligned whole blocks");
    std::array<iovec, 2> const uneven{iovec{buffer.data(), 2048},
                                      iovec{buffer.data() + 4096, 2048}};
    check(device.write(0, uneven), 0, "aligned whole blocks");
    CHECK(holds(device, 0, before));
    CHECK(device.read(kSize, {}));
    CHECK(device.write(kSize, std::span<iovec const>{}));
    CHECK(device.discard(kSize, 0));
    CHECK(device.reserve(kSize, 0));
    CHECK(device.release(kSize, 0));
  });
}

TEST_CASE("device: discard, reserve and release touch no byte outside their range") {
  with_each_supplier([](Device& device) {
    auto const data = pattern(kMiB, 6);
    for (std::uint64_t at : {0u, 2u, 4u}) REQUIRE(device.write(at * kMiB, data.span()));
    CHECK(device.reserve(0, 6 * kMiB));  // over data: it stays
    for (std::uint64_t at : {0u, 2u, 4u}) CHECK(holds(device, at * kMiB, data));
    CHECK(device.release(kMiB, kMiB));
    CHECK(device.discard(2 * kMiB, 2 * kMiB));
    CHECK(holds(device, 0, data));
    CHECK(holds(device, 4 * kMiB, data));
    auto const later = pattern(3 * kMiB, 7);
    REQUIRE(device.write(kMiB, later.span()));
    CHECK(holds(device, kMiB, later));
    CHECK(holds(device, 0, data));
    CHECK(holds(device, 4 * kMiB, data));
  });
}

TEST_CASE(
    "device: threads that write, read and discard different ranges do not disturb each other") {
  with_each_supplier([](Device& device) {
    constexpr unsigned kThreads = 4;
    std::array<bool, kThreads> good{};
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < kThreads; ++t) {
      threads.emplace_back([&device, &good, t] {
        bool ok = true;
        for (unsigned round = 0; round < 8; ++round) {
          auto const data = pattern(64 * 1024, t * 100 + round);
          std::uint64_t const at = t * 2 * kMiB + round * 64 * 1024;
          AlignedBuffer got(data.size());
          ok = ok && device.reserve(at, data.size()) && device.write(at, data.span()) &&
               device.flush() && device.read(at, got.span()) &&
               std::memcmp(got.data(), data.data(), got.size()) == 0 &&
               device.discard(at, kBlockSize);
        }
        good[t] = ok;
      });
    }
    for (auto& thread : threads) thread.join();
    for (bool ok : good) CHECK(ok);
  });
}

TEST_CASE(
    "device: what a shrink cuts off is gone when the device grows again; a block device's size is "
    "given") {
  with_each_supplier([](Device& device) {
    auto const data = pattern(kSize, 8);
    REQUIRE(device.write(0, data.span()));
    auto const shrunk = device.resize(kMiB + kBlockSize);
    if (!shrunk) {
      CHECK(shrunk.error().code == Errc::kUnsupported);
      CHECK(device.name().starts_with("/dev/"));
      return;
    }
    CHECK(device.size() == kMiB + kBlockSize);
    AlignedBuffer block(kBlockSize);
    CHECK_FALSE(device.read(kMiB + kBlockSize, block.span()));
    REQUIRE(device.resize(2 * kSize));
    CHECK(device.size() == 2 * kSize);
    CHECK(holds(device, kMiB + kBlockSize, zeroes(kMiB)));
    CHECK(holds(device, 2 * kSize - kMiB, zeroes(kMiB)));
    auto head = pattern(kSize, 8);
    AlignedBuffer kept(kMiB + kBlockSize);
    std::memcpy(kept.data(), head.data(), kept.size());
    CHECK(holds(device, 0, kept));
    CHECK(device.resize(100).error().code == Errc::kInvalid);
    CHECK(device.resize(std::uint64_t{1} << 63).error().code == Errc::kInvalid);
    CHECK(device.size() == 2 * kSize);
    REQUIRE(device.resize(0));
    CHECK(device.size() == 0);
    REQUIRE(device.resize(kMiB));
    CHECK(holds(device, 0, zeroes(kMiB)));
  });
}

TEST_CASE("file device: is made sparse, private and only where nothing is") {
  TempDir dir;
  auto const path = dir.file("store");
  auto device = must(create_file_device(path, 64 * kMiB));
  CHECK(device->name() == path);
  CHECK(device->size() == 64 * kMiB);
  CHECK_FALSE(device->always_backed());
  struct stat st {};
  REQUIRE(::stat(path.c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0600);
  CHECK(st.st_blocks == 0);
  CHECK(create_file_device(path, kMiB).error().code == Errc::kExists);
  CHECK(create_file_device(dir.file("odd"), 1000).error().code == Errc::kInvalid);
  CHECK(create_file_device(dir.file("none/store"), kMiB).error().sys == ENOENT);
  // Larger than the host's file system allows: the file that was made for it is gone again.
  auto const huge = create_file_device(dir.file("huge"), (std::uint64_t{1} << 63) - kBlockSize);
  if (!huge) CHECK(huge.error().sys == EFBIG);
  CHECK((huge || !std::filesystem::exists(dir.file("huge"))));
  CHECK_FALSE(std::filesystem::exists(dir.file("odd")));
}

TEST_CASE("file device: reserve allocates, release and discard punch holes") {
  TempDir dir;
  auto const path = dir.file("store");
  auto device = must(create_file_device(path, 16 * kMiB));
  REQUIRE(device->reserve(4 * kMiB, 4 * kMiB));
  CHECK(allocated(path) == 4 * kMiB);
  auto const data = pattern(kMiB, 9);
  REQUIRE(device->write(4 * kMiB, data.span()));
  CHECK(allocated(path) == 4 * kMiB);
  REQUIRE(device->release(5 * kMiB, 3 * kMiB));
  CHECK(allocated(path) == kMiB);
  CHECK(holds(*device, 4 * kMiB, data));
  REQUIRE(device->discard(4 * kMiB, kMiB));
  CHECK(allocated(path) == 0);
  CHECK(holds(*device, 4 * kMiB, zeroes(kMiB)));
  CHECK(std::filesystem::file_size(path) == 16 * kMiB);
}

TEST_CASE("file device: direct I/O is on where the host has it") {
  if (!can_use_host()) return;
  TempDir dir;
  LoopDevice loop(dir.file("backing"), 16 * kMiB);
  REQUIRE(run("mkfs.ext4 -q " + loop.path()).ok);
  for (char const* type : {"ext4", "ramfs"}) {
    bool const ext4 = std::string(type) == "ext4";
    Mount host(type, ext4 ? loop.path() : "none", "rw");
    auto const device = must(create_file_device(host.file("store"), kMiB));
    int flags = -1;
    for (auto const& fd : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(fd.path(), gone) == host.file("store"))
        flags = ::fcntl(std::stoi(fd.path().filename().string()), F_GETFL);
    }
    REQUIRE(flags >= 0);
    CHECK(((flags & O_DIRECT) != 0) == ext4);
  }
}

TEST_CASE("file device: a full host is told at reserve, by its path, and nothing has changed") {
  if (!can_use_host()) return;
  TempDir dir;
  LoopDevice loop(dir.file("backing"), 16 * kMiB);
  REQUIRE(run("mkfs.ext4 -q " + loop.path()).ok);
  for (char const* type : {"tmpfs", "ext4"}) {
    CAPTURE(std::string(type));
    bool const tmpfs = std::string(type) == "tmpfs";
    Mount host(type, tmpfs ? "none" : loop.path(), tmpfs ? "size=8M" : "rw");
    auto const path = host.file("store");
    auto device = must(create_file_device(path, 64 * kMiB));
    auto const data = pattern(kMiB, 10);
    REQUIRE(device->write(4 * kMiB, data.span()));
    REQUIRE(device->reserve(0, kMiB));
    auto const before = allocated(path);
    auto const refused = device->reserve(0, 32 * kMiB);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::kNoSpace);
    CHECK(refused.error().sys == ENOSPC);
    CHECK(refused.error().path == path);
    CHECK(refused.error().offset == 0);
    CHECK_MESSAGE(refused.error().message.find(host.path()) != std::string::npos,
                  refused.error().text());
    CHECK(allocated(path) <= before + 16 * 1024);  // ext4 may keep a block of its extent tree
    CHECK(holds(*device, 4 * kMiB, data));
    CHECK(device->reserve(kMiB, kMiB));
  }
}

TEST_CASE("file device: a write that the host cuts short fails at the byte where it ended") {
  TempDir dir;
  auto const path = dir.file("store");
  must(create_file_device(path, 4 * kMiB)).reset();
  Child child([&path](Child::Pipe& pipe) {
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit const limit{kMiB, kMiB};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    auto device = open_device(path, Access::kReadWrite);
    if (!device) return pipe.say(device.error().text());
    auto const data = pattern(2 * kMiB, 11);
    auto const status = (*device)->write(0, data.span());
    pipe.say(status ? "written"
                    : std::to_string(status.error().offset) + " " +
                          std::to_string(status.error().sys));
  });
  CHECK(child.hear() == std::to_string(kMiB) + " " + std::to_string(EFBIG));
}

TEST_CASE("file device: a file that is cut below a reader is an error, not zeroes") {
  TempDir dir;
  auto const path = dir.file("store");
  must(create_file_device(path, kMiB)).reset();
  auto device = must(open_device(path, Access::kReadOnlyNoLock));
  std::filesystem::resize_file(path, kMiB / 2);
  AlignedBuffer buffer(kMiB);
  auto const status = device->read(0, buffer.span());
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Errc::kIo);
  CHECK(status.error().offset == kMiB / 2);
}

TEST_CASE("file device: the usable size is the whole blocks of the file") {
  TempDir dir;
  std::ofstream(dir.file("odd")) << std::string(2 * kBlockSize + 100, 'x');
  CHECK(must(open_device(dir.file("odd"), Access::kReadWrite))->size() == 2 * kBlockSize);
  CHECK(std::filesystem::file_size(dir.file("odd")) == 2 * kBlockSize + 100);
}

TEST_CASE("open_device: what is no store's place is refused by name, and nothing is made") {
  TempDir dir;
  REQUIRE(::mkfifo(dir.file("fifo").c_str(), 0600) == 0);
  struct Case {
    std::string path;
    Errc code;
    char const* words;
  };
  std::array<Case, 5> const cases{{
      {dir.path().string(), Errc::kInvalid, "is a directory"},
      {dir.file("fifo"), Errc::kInvalid, "is a fifo"},
      {"/dev/null", Errc::kInvalid, "is a character device"},
      {dir.file("missing"), Errc::kNotFound, "cannot open"},
      {dir.file("fifo/store"), Errc::kNotFound, "cannot open"},
  }};
  for (auto const& c : cases) {
    for (Access access : {Access::kReadOnly, Access::kReadWrite, Access::kReadOnlyNoLock}) {
      CAPTURE(c.path);
      auto const opened = open_device(c.path, access);
      REQUIRE_FALSE(opened);
      CHECK(opened.error().code == c.code);
      CHECK(opened.error().path == c.path);
      CHECK_MESSAGE(opened.error().text().find(c.words) != std::string::npos,
                    opened.error().text());
    }
  }
  CHECK_FALSE(std::filesystem::exists(dir.file("missing")));
}

TEST_CASE("device: opened to read, every effect is refused") {
  TempDir dir;
  auto const path = dir.file("store");
  auto const data = pattern(kBlockSize, 12);
  REQUIRE(must(create_file_device(path, kMiB))->write(0, data.span()));
  for (Access access : {Access::kReadOnly, Access::kReadOnlyNoLock}) {
    auto device = must(open_device(path, access));
    CHECK(holds(*device, 0, data));
    CHECK(device->flush());
    for (auto const& status :
         {device->write(0, data.span()), device->discard(0, kBlockSize),
          device->reserve(0, kBlockSize), device->release(0, kBlockSize), device->resize(0)}) {
      REQUIRE_FALSE(status);
      CHECK(status.error().code == Errc::kReadOnly);
      CHECK(status.error().path == path);
    }
    CHECK(holds(*device, 0, data));
  }
}
