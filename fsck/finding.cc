// SPDX-License-Identifier: Apache-2.0
#include "fsck/finding.h"

#include <fmt/format.h>

namespace lcfs::fsck {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kIo: return "io";
    case Code::kSuperblock: return "superblock";
    case Code::kReserved: return "reserved";
    case Code::kNode: return "node";
    case Code::kShared: return "shared";
    case Code::kOwner: return "owner";
    case Code::kTwice: return "twice";
    case Code::kRecord: return "record";
    case Code::kInode: return "inode";
    case Code::kLink: return "link";
    case Code::kHash: return "hash";
    case Code::kCycle: return "cycle";
    case Code::kOrphan: return "orphan";
    case Code::kXattr: return "xattr";
    case Code::kContent: return "content";
    case Code::kCounter: return "counter";
    case Code::kRun: return "run";
    case Code::kSpace: return "space";
    case Code::kGraph: return "graph";
    case Code::kName: return "name";
    case Code::kDigest: return "digest";
    case Code::kHistory: return "history";
    case Code::kBlob: return "blob";
    case Code::kData: return "data";
  }
  return "unknown";
}

std::string Finding::line() const {
  std::string out;
  auto add = [&out](std::string_view part) {
    if (part.empty()) return;
    if (!out.empty()) out += ": ";
    out += part;
  };
  if (!layer_name.empty())
    add(fmt::format("layer {}", layer_name));
  else if (layer != 0)
    add(fmt::format("layer {}", layer));
  add(path);
  if (inode != 0) add(fmt::format("inode {}", inode));
  if (offset != kNoOffset) add(fmt::format("offset {:#x}", offset));
  add(text);
  return out;
}

bool Findings::add(Finding finding) {
  if (finding.offset != kNoOffset && !seen_.emplace(finding.code, finding.offset).second)
    return false;
  ++(finding.severity == Severity::kError ? errors_ : notes_);
  if (list_.size() >= limit_) {
    ++left_out_;
    return true;
  }
  list_.push_back(std::move(finding));
  return true;
}

}  // namespace lcfs::fsck
