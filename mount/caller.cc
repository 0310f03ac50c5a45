// SPDX-License-Identifier: Apache-2.0
#include "mount/caller.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/stat.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace lcfs::mount {
namespace {

bool same_user_namespace(unsigned pid) {
  struct stat ours {
  }, theirs{};
  return stat("/proc/self/ns/user", &ours) == 0 &&
         stat(fmt::format("/proc/{}/ns/user", pid).c_str(), &theirs) == 0 &&
         ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

}  // namespace

bool status_keeps_privileges(std::string_view status) {
  constexpr std::string_view kLine = "\nCapEff:\t";
  auto const at = status.find(kLine);
  if (at == std::string_view::npos) return false;
  std::uint64_t effective = 0;
  auto const digits = status.substr(at + kLine.size(), 16);
  auto const [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), effective, 16);
  return error == std::errc{} && end == digits.data() + digits.size() &&
         (effective >> CAP_FSETID & 1) != 0;
}

bool keeps_privileges(fuse_in_header const& header) {
  if (header.uid != 0 || header.pid == 0) return false;
  std::ifstream file(fmt::format("/proc/{}/status", header.pid));
  std::string const status(std::istreambuf_iterator<char>(file), {});
  return status_keeps_privileges(status) && same_user_namespace(header.pid);
}

}  // namespace lcfs::mount
