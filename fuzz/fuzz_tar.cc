// SPDX-License-Identifier: Apache-2.0
// Fuzz target: a layer tar, whole and in pieces.  What is accepted must add up, and must not depend
// on how it was cut.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "importer/posix_acl.h"
#include "importer/tar_reader.h"
#include "oci/whiteout.h"

namespace {

using namespace lcfs;
using namespace lcfs::importer;

void require(bool ok) {
  if (!ok) __builtin_trap();
}

class Checker final : public TarHandler {
 public:
  Status entry(TarEntry&& entry) override {
    require(!inside_);
    inside_ = true;
    left_ = entry.size;
    require(entry.size <= format::kMaxFileSize && entry.permissions <= 07777 &&
            entry.uid != 0xffffffff && entry.gid != 0xffffffff);
    require(entry.mtime.nsec < 1'000'000'000);
    require(entry.path.find('\0') == std::string::npos &&
            entry.link.find('\0') == std::string::npos);
    require(entry.type == TarType::kFile || entry.size == 0);
    (void)oci::classify_whiteout(entry.path);
    log += entry.path + '\n' + entry.link + '\n' + std::to_string(entry.size) + '\n';
    for (auto const& [name, value] : entry.xattrs) log += name + '=' + value + '\n';
    return {};
  }
  Status data(std::span<std::byte const> bytes) override {
    require(inside_ && bytes.size() <= left_);
    left_ -= bytes.size();
    log.append(reinterpret_cast<char const*>(bytes.data()), bytes.size());
    return {};
  }
  Status hole(std::uint64_t length) override {
    require(inside_ && length <= left_);
    left_ -= length;
    return {};
  }
  Status end_entry() override {
    require(inside_ && left_ == 0);
    inside_ = false;
    return {};
  }

  std::string log{};

 private:
  bool inside_ = false;
  std::uint64_t left_ = 0;
};

std::string read(std::span<std::byte const> bytes, std::size_t step) {
  Checker checker;
  TarReader reader(checker);
  Status ok;
  for (std::size_t at = 0; ok && at < bytes.size(); at += step) {
    ok = reader.feed(bytes.subspan(at, std::min(step, bytes.size() - at)));
  }
  if (ok) ok = reader.finish();
  return checker.log + (ok ? "" : ok.error().text());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::span const bytes(reinterpret_cast<std::byte const*>(data), size);
  auto const whole = read(bytes, size + 1);
  require(read(bytes, 700) == whole);
  (void)acl_xattr({reinterpret_cast<char const*>(data), size});
  return 0;
}
