// SPDX-License-Identifier: Apache-2.0
#include "oci/platform.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <utility>

#include "oci/quote.h"

namespace lcfs::oci {
namespace {

// arm64 without a variant is v8, amd64 without one v1, arm without one v7.
std::string_view variant_of(Platform const& p) {
  if (!p.variant.empty()) return p.variant;
  if (p.architecture == "arm64") return "v8";
  if (p.architecture == "amd64") return "v1";
  if (p.architecture == "arm") return "v7";
  return {};
}

}  // namespace

Result<Platform> parse_platform(std::string_view text) {
  Platform p;
  std::array<std::string*, 3> const fields{&p.os, &p.architecture, &p.variant};
  std::size_t n = 0;
  for (std::string_view rest = text;; ++n) {
    auto const slash = rest.find('/');
    if (n == fields.size() || rest.substr(0, slash).empty()) {
      n = 0;
      break;
    }
    *fields[n] = rest.substr(0, slash);
    if (slash == std::string_view::npos) {
      ++n;
      break;
    }
    rest.remove_prefix(slash + 1);
  }
  if (n >= 2) return p;
  return Error::invalid(
      fmt::format("platform \"{}\" is not OS/ARCHITECTURE[/VARIANT]", printable(text)));
}

std::string platform_text(Platform const& p) {
  std::string text = fmt::format("{}/{}", p.os.empty() ? "?" : p.os,
                                 p.architecture.empty() ? "?" : p.architecture);
  if (!p.variant.empty()) text += "/" + p.variant;
  return printable(text);
}

Platform host_platform() {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kNames{
      {{"x86_64", "amd64"},
       {"aarch64", "arm64"},
       {"i386", "386"},
       {"i686", "386"},
       {"armv7l", "arm"},
       {"armv6l", "arm"},
       {"ppc64le", "ppc64le"},
       {"s390x", "s390x"},
       {"riscv64", "riscv64"},
       {"loongarch64", "loong64"}}};
  utsname host{};
  std::string_view const machine = uname(&host) == 0 ? host.machine : "";
  Platform p{"linux", std::string(machine), machine == "armv6l" ? "v6" : ""};
  auto const it =
      std::find_if(kNames.begin(), kNames.end(), [&](auto const& n) { return n.first == machine; });
  if (it != kNames.end()) p.architecture = it->second;
  return p;
}

int platform_rank(Platform const& wanted, Platform const& offered) {
  if (wanted.os != offered.os || wanted.architecture != offered.architecture) return -1;
  std::string_view const want = variant_of(wanted), have = variant_of(offered);
  if (want == have) return offered.variant == wanted.variant ? 0 : 1;
  if (!wanted.variant.empty() && wanted.architecture != "arm") return -1;
  // A 32-bit ARM runs older variants too.  Otherwise no variant matches any, the most basic first.
  if (wanted.architecture == "arm" && have > want) return -1;
  return wanted.architecture == "arm" ? 2 + (want.back() - have.back()) : 2;
}

}  // namespace lcfs::oci
