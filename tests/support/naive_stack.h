// SPDX-License-Identifier: Apache-2.0
// Changesets stacked by maps of shared pointers, by the rules of engine/delta.h: what the store
// makes of the same is compared with it. Slow, unbounded, and not thread safe.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/vocabulary.h"

namespace lcfs::test {

struct NaiveFile {
  std::uint32_t mode = 0;  // type and permissions
  std::int64_t mtime = 0;
  std::string text{};  // content, or target
  std::map<std::string, std::string> xattrs{};
};

// A name.  In a layer that is put together, a path of its own; in a finished tree, what is there.
struct NaiveNode {
  enum Kind : std::uint8_t { kImplied, kDirectory, kOther, kLowerLink };
  Kind kind = kImplied;
  bool hides = false;                 // nothing of lower layers shows through
  std::shared_ptr<NaiveFile> file{};  // none: implied, or a link to a lower file
  std::string lower{};                // kLowerLink: its path
  NaiveNode* parent = nullptr;
  std::map<std::string, std::shared_ptr<NaiveNode>> children{};
  [[nodiscard]] bool directory() const { return kind == kImplied || kind == kDirectory; }
};
using NaiveTree = std::shared_ptr<NaiveNode>;

// One changeset.  Functions return false for what must be refused; then nothing more may be asked
// of it.
class NaiveLayer {
 public:
  bool directory(std::string_view path, NaiveFile file);
  bool other(std::string_view path, NaiveFile file);  // of any other type
  bool hardlink(std::string_view path, std::string_view target);
  bool whiteout(std::string_view path);
  bool opaque(std::string_view path);
  // What stacking it on `below` (null: nothing) gives, which stays as it is.  Null: refused.
  [[nodiscard]] NaiveTree stack(NaiveTree const& below) const;

 private:
  struct Place {
    NaiveNode* parent = nullptr;
    std::string name{};         // empty: the root
    NaiveNode* node = nullptr;  // what is there
    std::string rest{};         // not made: what is not in this layer, below parent
  };
  std::optional<Place> find(std::string_view path, bool make);
  NaiveNode* settle(Place const& place, NaiveNode::Kind kind);  // null: refused
  NaiveNode* fresh(NaiveNode& parent, std::string const& name, NaiveNode::Kind kind, bool hides);
  NaiveTree root_ = std::make_shared<NaiveNode>();
  std::vector<NaiveTree> replaced_{};  // somebody may still point there
  std::vector<std::vector<std::string>> whiteouts_{}, opaques_{};
};

// By path: everything that can be seen, with all names of a file where it has several.
std::map<std::string, std::string> naive_listing(NaiveTree const& tree);

}  // namespace lcfs::test
