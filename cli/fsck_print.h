// SPDX-License-Identifier: Apache-2.0
// The output of lcfs fsck: findings, repairs, and the summary.
#pragma once

#include <string>

#include "cli/io.h"
#include "fsck/repair.h"

namespace lcfs::cli {

struct FsckStyle {
  bool json = false, quiet = false, verbose = false, data = false;
};

void print_findings(FsckStyle const& style, fsck::Report const& report, Io const& io);
// A repair that was made (`done`) or declined.
void print_repair(FsckStyle const& style, fsck::Proposal const& proposal, bool done, Io const& io);
// "tree: layer base: ...", and its details on further lines, as a question shows them.
std::string proposal_text(fsck::Proposal const& proposal);
void print_summary(FsckStyle const& style, std::string const& path, fsck::Report const& report,
                   bool changed, std::uint64_t healed, Io const& io);

}  // namespace lcfs::cli
