// SPDX-License-Identifier: Apache-2.0
// What lcfs fsck says: findings, repairs, and the line at the end.
#pragma once

#include <string>

#include "cli/io.h"
#include "fsck/repair.h"

namespace lcfs::cli {

struct FsckStyle {
  bool json = false, quiet = false, verbose = false, data = false;
};

void print_findings(FsckStyle const& style, fsck::Report const& report, Io const& io);
// A repair that was made, or declined.
void print_repair(FsckStyle const& style, fsck::Proposal const& proposal, bool done, Io const& io);
// "layer base: tree: mend its tree", and its details, as a question shows them.
std::string proposal_text(fsck::Proposal const& proposal);
void print_summary(FsckStyle const& style, std::string const& path, fsck::Report const& report,
                   bool changed, std::uint64_t healed, Io const& io);

}  // namespace lcfs::cli
