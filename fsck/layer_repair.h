// SPDX-License-Identifier: Apache-2.0
// The layers of a damaged store: which stay, which are repaired, and their new trees.
//
// A layer with a sound tree stays as it is, unless a layer that it is based on is repaired: then
// its nodes are rewritten too, shared with its parent's new tree where they are equal
// (tree_builder.h). If a child inherits blocks whose file the owner lost, the owner keeps them as
// an inode without a name, so that every block keeps its one owner.  A layer whose record is lost
// but that has children is restored as "lost-ID".
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "fsck/block_map.h"
#include "fsck/mender.h"
#include "fsck/repair.h"
#include "fsck/salvage.h"
#include "fsck/survey.h"
#include "fsck/tree_builder.h"

namespace lcfs::fsck {

struct LayerPlan {
  enum Fate : std::uint8_t {
    kKeep,   // as it is
    kSame,   // has its parent's tree
    kMend,   // gets a new tree
    kLeave,  // is damaged, and stays damaged
    kRemove,
  };
  LayerInfo info{};                   // the new record
  LayerEntry const* entry = nullptr;  // the old record; null: it is lost
  Fate fate = kKeep;
  bool lost = false;  // it lost something that users may miss
  Salvage salvage{};
  std::set<std::uint64_t> condemned{};  // files to remove
  std::set<std::string> losses{};
  struct Kept {  // extents for its keeper
    std::uint64_t block = 0;
    std::vector<le32> sums{};
  };
  std::vector<Kept> kept{};
  std::uint64_t keeper = 0;    // its inode, 0: none
  std::vector<Piece> own{};    // its runs
  bool drop_skeleton = false;  // damaged: exports get a new tar
  bool keep_skeleton = false;
};

class LayerRepair {
 public:
  LayerRepair(Device& device, Survey const& survey, RepairOptions const& options);

  void decide();  // asks
  [[nodiscard]] bool wants_new_trees() const { return mended_; }
  [[nodiscard]] bool graph_changed() const { return !graph_.empty(); }
  [[nodiscard]] bool declined() const { return declined_; }
  // Marks all blocks that trees are known to use.
  void mark_used(BlockMap& used) const;
  // Writes the new trees.
  Status build(NodeWriter& out, NodeSource& fresh);

  [[nodiscard]] std::map<std::uint64_t, LayerPlan>& plans() {
    return plans_;
  }  // by id; removed ones among them
  [[nodiscard]] std::uint64_t next_inode() const { return next_inode_; }
  [[nodiscard]] std::uint64_t next_id() const { return next_id_; }
  [[nodiscard]] Timestamp now() const { return now_; }

 private:
  LayerPlan* plan_of(std::uint64_t id);
  void collect();
  void resolve_parents();
  void resolve_parent(LayerPlan& plan);
  void add_placeholder(std::uint64_t id, std::set<std::uint64_t> owners, std::uint64_t root_inode,
                       std::set<std::uint64_t>& todo);
  [[nodiscard]] std::set<std::uint64_t> owners_of(LayerPlan const& plan) const;
  [[nodiscard]] bool stands_on(std::uint64_t parent, std::set<std::uint64_t> const& owners);
  void ask_for_files();
  void ask_for_skeleton(LayerPlan& plan);
  void settle_skeleton(LayerPlan& plan);
  void choose_fates();
  bool claim_kept(LayerPlan const& plan);
  void plan_mend(LayerPlan& plan);
  void ask_for_tree(LayerPlan& plan, bool anything_left);
  std::unique_ptr<Mender> mend(LayerPlan& plan, std::vector<std::string>* losses);
  bool try_claims(LayerPlan& plan, Mender& mender);
  template <class Take>
  Status replay(LayerPlan const& plan, Mender& mender, Take const& take);
  Status build_tree(LayerPlan& plan, NodeWriter& out, NodeSource& fresh);
  [[nodiscard]] RecordStream stream(LayerPlan const& plan) const;
  bool ask(Proposal const& proposal);

  Device& device_;
  Survey const& survey_;
  RepairOptions const& options_;
  std::map<std::uint64_t, LayerPlan> plans_;
  BlockMap claims_;
  std::set<std::uint64_t> bad_blocks_;  // blocks whose files are removed
  std::set<std::uint64_t> bad_layers_;
  std::vector<std::string> graph_;                      // changes of parents and states
  std::map<std::uint64_t, std::uint64_t> lost_founds_;  // root inode -> inode of its lost+found
  std::uint64_t next_inode_ = 0, next_id_ = 0;
  Timestamp now_{};
  bool mended_ = false, declined_ = false;
  // The parent's tree that was used last.
  std::uint64_t outline_root_ = 0;
  TreeOutline outline_{};
};

}  // namespace lcfs::fsck
