// SPDX-License-Identifier: Apache-2.0
// fsck -y in one call, for tests.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fsck/repair.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

struct Mended {
  bool ok = false;  // no error
  Error error{};
  fsck::Repaired repaired{};
  std::vector<fsck::Proposal> asked{};
  std::string text{};  // all that was asked, for messages
};

// Says yes to everything but what `no` refuses.  `set`: what else the check should do.
inline Mended mend(Device& device, bool data = true,
                   std::function<bool(fsck::Proposal const&)> const& no = {},
                   std::function<void(fsck::Options&)> const& set = {}) {
  Mended m;
  fsck::RepairOptions how;
  how.check.data = data;
  how.check.threads = 1;
  if (set) set(how.check);
  how.ask = [&](fsck::Proposal const& p) {
    m.asked.push_back(p);
    m.text += std::string(fsck::step_name(p.step)) + ": " + p.layer_name + ": " + p.text + "\n";
    for (auto const& d : p.details) m.text += "    " + d + "\n";
    return !no || !no(p);
  };
  auto r = fsck::repair(device, how);
  m.ok = r.ok();
  if (r)
    m.repaired = *std::move(r);
  else
    m.error = r.error();
  return m;
}

inline std::string findings_of(Device& device, bool data = true) {
  fsck::Options how;
  how.data = data;
  how.threads = 1;
  auto const r = fsck::check(device, how);
  if (!r) return r.error().text();
  std::string out;
  for (auto const& f : r->findings)
    if (f.severity == fsck::Severity::kError)
      out += std::string(fsck::code_name(f.code)) + ": " + f.line() + "\n";
  return out;
}

}  // namespace lcfs::test
