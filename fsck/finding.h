// SPDX-License-Identifier: Apache-2.0
// A finding of fsck about a store, and the list that collects findings.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace lcfs::fsck {

enum class Severity : std::uint8_t {
  kNote,   // for information; nothing is lost or wrong
  kError,  // the store breaks its format, or data cannot be read as written
};

// What is wrong; names are stable, scripts and tests match on them (code_name).
enum class Code : std::uint8_t {
  kIo,          // the device refused a read
  kSuperblock,  // a slot that does not parse, or two that contradict each other
  kReserved,    // bytes of [0, 64 KiB) outside the slots that are not zero
  kNode,        // a node that is damaged, misplaced, stale, or holds keys outside its bounds
  kShared,      // this layer's tree includes a node already reported for another one
  kOwner,       // a node or extent owned by a layer that may not own it
  kTwice,       // blocks that one tree uses twice
  kRecord,      // a record that does not parse, or is in a wrong place
  kInode,       // an inode whose fields contradict its records
  kLink,        // link count, directory entry and back reference disagree
  kHash,        // a record that lookups by name or digest cannot find, or a duplicate name
  kCycle,       // directories that are not reachable from the root
  kOrphan,      // inodes without links and their orphan records
  kXattr,       // an extended attribute that is incomplete
  kContent,     // inline data or extents that break their rules
  kCounter,     // a counter that is not the sum of what it counts
  kRun,         // space runs that are not the blocks in use
  kSpace,       // blocks with two owners; the sum of space
  kGraph,       // parents, children, top layers
  kName,        // names and their back references
  kDigest,      // digests and their back references
  kBlob,        // raw documents of images
  kData,        // file data that fails its checksum
  kHistory,     // a restore point that is damaged, or contradicts the current store
};
[[nodiscard]] std::string_view code_name(Code code);

struct Finding {
  Code code = Code::kNode;
  Severity severity = Severity::kError;
  std::uint64_t layer = 0;  // id, 0: none
  std::string layer_name{};
  std::string path{};                // inside the layer, from "/"; empty: not known
  std::uint64_t inode = 0;           // 0: none
  std::uint64_t offset = kNoOffset;  // byte on the device
  std::string text{};                // what, without the parts above

  // "layer NAME: PATH: inode N: offset 0xOFFSET: TEXT"; parts that are not known are left out.
  // Names come from the store: the caller must escape control characters.
  [[nodiscard]] std::string line() const;
};

// Collects findings, each once: trees share nodes, so the same damage appears in every layer that
// inherits it. Not thread safe.
class Findings {
 public:
  explicit Findings(std::uint64_t limit) : limit_(limit) {}

  // True if it is new.  The same code at the same offset is the same finding.
  bool add(Finding finding);
  // Whether the same finding was added before; saves making its text and path.
  [[nodiscard]] bool known(Code code, std::uint64_t offset) const {
    return seen_.contains({code, offset});
  }

  [[nodiscard]] std::uint64_t errors() const { return errors_; }
  [[nodiscard]] std::uint64_t notes() const { return notes_; }
  [[nodiscard]] std::uint64_t left_out() const {
    return left_out_;
  }  // counted, but beyond the limit
  [[nodiscard]] std::vector<Finding> const& list() const { return list_; }
  [[nodiscard]] std::vector<Finding> take() { return std::move(list_); }

 private:
  std::uint64_t limit_;
  std::uint64_t errors_ = 0, notes_ = 0, left_out_ = 0;
  std::vector<Finding> list_;
  std::set<std::pair<Code, std::uint64_t>> seen_;
};

}  // namespace lcfs::fsck
