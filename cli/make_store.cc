// SPDX-License-Identifier: Apache-2.0
#include "cli/make_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "cli/units.h"
#include "device/checks.h"
#include "device/signature.h"

namespace lcfs::cli {
namespace {

constexpr std::uint64_t kMinStoreSize = kMinStoreBlocks * kBlockSize;
constexpr std::uint64_t kDefaultLimit = 64ull << 30;

Status check_size(std::string const& path, std::uint64_t size) {
  if (size < kMinStoreSize)
    return Error::invalid(fmt::format("{} is too small for a store; the minimum is {} ({} bytes)",
                                      size_text(size), size_text(kMinStoreSize), kMinStoreSize))
        .in(path);
  if (size / kBlockSize > kMaxStoreBlocks)
    return Error::invalid(fmt::format("{} is too large for a store", size_text(size))).in(path);
  return Ok{};
}

// A regular file without a known signature can still hold data, unless it starts with zeroes.
bool starts_with_data(std::string const& path) {
  std::array<char, kReservedBlocks * kBlockSize> start{};
  std::ifstream file(path, std::ios::binary);
  file.read(start.data(), start.size());
  return std::any_of(start.begin(), start.end(), [](char c) { return c != 0; });
}

// Refuses a file or device that holds something.
Status check_contents(Device const& device, bool regular) {
  LCFS_TRY_ASSIGN(auto what, foreign_signature(device.name()));
  if (!what && regular && starts_with_data(device.name())) what = "data of an unknown kind";
  if (!what) return Ok{};
  return Error::exists(fmt::format("already contains {}; use -f to overwrite it", *what))
      .in(device.name());
}

Result<Uuid> format_and_verify(std::unique_ptr<Device> device, FormatOptions const& options) {
  LCFS_TRY(Store::format(*device, options));
  OpenOptions read_only;
  read_only.read_only = true;
  LCFS_TRY_ASSIGN(auto store, Store::open(std::move(device), read_only));
  return store->superblock().uuid;
}

Result<MadeStore> make_new_file(MakeStore const& wanted) {
  if (wanted.size == 0)
    return Error::invalid("no such file; give --size to create it").in(wanted.path);
  auto const size = wanted.size / kBlockSize * kBlockSize;
  LCFS_TRY(check_size(wanted.path, wanted.size));
  if (wanted.dry_run) return MadeStore{wanted.uuid, size, true};
  LCFS_TRY_ASSIGN(auto device, create_file_device(wanted.path, size));
  auto uuid = format_and_verify(std::move(device), {0, wanted.label, wanted.uuid});
  if (!uuid) {
    ::unlink(wanted.path.c_str());
    return std::move(uuid).error();
  }
  return MadeStore{*uuid, size, true};
}

Result<MadeStore> make_over(MakeStore const& wanted, bool regular) {
  LCFS_TRY_ASSIGN(auto device, open_device(wanted.path, Access::kReadWrite));
  LCFS_TRY_ASSIGN(auto const use, kernel_use(wanted.path));
  if (use) return Error::busy(*use).in(wanted.path);
  if (!wanted.force) LCFS_TRY(check_contents(*device, regular));
  if (regular && wanted.size == 0 && device->size() == 0)
    return Error::invalid("the file is empty; give --size").in(wanted.path);
  auto const size = (wanted.size == 0 ? device->size() : wanted.size) / kBlockSize * kBlockSize;
  LCFS_TRY(check_size(wanted.path, size));
  if (!regular && size > device->size())
    return Error::invalid(fmt::format("the device has only {}", size_text(device->size())))
        .in(wanted.path);
  if (wanted.dry_run) return MadeStore{wanted.uuid, size, false};
  if (regular && size != device->size()) LCFS_TRY(device->resize(size));
  LCFS_TRY_ASSIGN(auto const uuid,
                  format_and_verify(std::move(device), {size, wanted.label, wanted.uuid}));
  return MadeStore{uuid, size, false};
}

std::uint64_t default_limit(std::string const& directory) {
  struct statvfs host {};
  if (statvfs(directory.c_str(), &host) != 0) return kDefaultLimit;
  return std::min<std::uint64_t>(kDefaultLimit,
                                 host.f_blocks * host.f_frsize / kBlockSize * kBlockSize);
}

// Makes an empty store at `path`.new, in place of one that an earlier process left when it died.
Result<std::string> format_beside(std::string const& path, std::uint64_t size) {
  std::string const half = path + ".new";
  auto device = create_file_device(half, size);
  if (!device && device.error().code == Errc::kExists) {
    {
      LCFS_TRY_ASSIGN(auto const left,
                      open_device(half, Access::kReadWrite));  // kBusy while its maker is alive
      ::unlink(half.c_str());
    }
    device = create_file_device(half, size);
  }
  if (!device) return std::move(device).error();
  if (auto ok = Store::format(**device, {}); !ok) {
    ::unlink(half.c_str());
    return std::move(ok).error();
  }
  return half;
}

// Creates `directory` and its missing parents.  `made`: those it created, from the top down.
Status make_directories(std::filesystem::path const& directory, std::vector<std::string>& made) {
  std::vector<std::string> missing;
  for (auto at = directory; !at.empty(); at = at.parent_path()) {
    struct stat st {};
    if (stat(at.c_str(), &st) == 0 || errno != ENOENT) break;
    missing.push_back(at.string());
    if (at == at.parent_path()) break;
  }
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
    if (mkdir(at->c_str(), 0700) == 0) {
      made.push_back(*at);
    } else if (errno != EEXIST) {
      return Error::io("cannot create the directory", errno).in(*at);
    }
  }
  return Ok{};
}

}  // namespace

Result<MadeStore> make_store(MakeStore const& wanted) {
  struct stat st {};
  if (stat(wanted.path.c_str(), &st) == 0) return make_over(wanted, S_ISREG(st.st_mode));
  if (errno == ENOENT) return make_new_file(wanted);
  return Error::io("cannot examine", errno).in(wanted.path);
}

Result<ProvisionalStore> ProvisionalStore::make(std::string const& path, std::uint64_t limit) {
  ProvisionalStore made;  // from here on an early return removes what was created
  auto const directory = std::filesystem::absolute(path).parent_path();
  LCFS_TRY(make_directories(directory, made.made_));
  made.limit_ = limit == 0 ? default_limit(directory.string()) : limit / kBlockSize * kBlockSize;
  LCFS_TRY(check_size(path, made.limit_));
  // Completed under another name, because a process that dies here must not leave half a store
  // where the next import looks.
  LCFS_TRY_ASSIGN(auto const half, format_beside(path, made.limit_));
  if (renameat2(AT_FDCWD, half.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) != 0) {
    int const error = errno;
    ::unlink(half.c_str());
    return Error::io("cannot create the store", error).in(path);
  }
  LCFS_TRY_ASSIGN(auto device, open_device(path, Access::kReadWrite));
  made.made_.push_back(path);  // ours from here on, because we hold its lock
  LCFS_TRY_ASSIGN(made.store_, Store::open(std::move(device), {}));
  return made;
}

ProvisionalStore::~ProvisionalStore() {
  for (auto at = made_.rbegin(); at != made_.rend(); ++at) std::remove(at->c_str());
}

void ProvisionalStore::keep() { made_.clear(); }

}  // namespace lcfs::cli
