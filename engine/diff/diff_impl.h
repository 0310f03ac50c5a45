// SPDX-License-Identifier: Apache-2.0
// The parts of a diff: records (diff_records.cc), content (diff_content.cc), paths (diff.cc,
// diff_paths.cc, diff_standing.cc).
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/diff.h"
#include "engine/tree/node_cache.h"
#include "engine/types.h"
#include "format/records.h"

namespace lcfs {

// A record that only one tree has, or that differs.  Values live as long as the call.
struct RecordChange {
  Key key{};
  std::optional<Bytes> a{}, b{};  // at least one
};

// Passes every record that differs between the trees of `a` and `b` to `take`, in the order of
// keys. Nodes that both trees have are skipped, wherever they stand in them.  Memory: the pointers
// to the nodes that only one tree has, of one level at a time.  nodes: counts the nodes visited.
Status diff_records(NodeCache& cache, std::uint64_t total_blocks, LayerSnapshot const& a,
                    LayerSnapshot const& b, std::uint64_t& nodes,
                    std::function<Status(RecordChange const&)> const& take);

// Where the contents of two regular files differ, as DiffEntry::content has it; different sizes
// count too.  within: they can differ only there (sorted or not, may overlap); null: anywhere.
class ContentDiff {
 public:
  ContentDiff(LayerSnapshot& a, LayerSnapshot& b) : a_(a), b_(b) {}
  Result<std::vector<ByteRange>> compare(Inode a, std::uint64_t size_a, Inode b,
                                         std::uint64_t size_b,
                                         std::vector<ByteRange> const* within);

 private:
  Status compare_range(std::uint64_t begin, std::uint64_t end);
  Status compare_window(std::uint64_t first, std::uint64_t blocks);
  Status compare_bytes(std::uint64_t first, std::uint64_t blocks);
  void differs(std::uint64_t begin, std::uint64_t end);

  LayerSnapshot& a_;
  LayerSnapshot& b_;
  Inode ia_ = 0, ib_ = 0;
  std::uint64_t common_ = 0;  // bytes that both have
  std::vector<ByteRange> found_{};
  std::vector<LayerSnapshot::BlockRef> refs_a_{}, refs_b_{};
  AlignedBuffer bytes_a_{}, bytes_b_{};
};

// Turns differences into entries.
class Differ {
 public:
  // The layers are of one store; `cache` has its nodes.  cost: is counted up.
  Differ(LayerDiff& diff, NodeCache& cache, std::uint64_t total_blocks, DiffOptions const& options,
         DiffCost& cost)
      : cache_(cache),
        total_blocks_(total_blocks),
        options_(options),
        cost_(cost),
        a_(diff.a()),
        b_(diff.b()),
        related_(diff.related()),
        content_(a_, b_) {}
  Result<std::vector<DiffEntry>> run();

 private:
  using Name = LayerSnapshot::Name;
  using Link = LayerSnapshot::Link;

  // An inode some of whose records differ.  Sorted by inode, as they come.
  struct Touched {
    Inode inode = 0;
    bool record_a = false, record_b = false;  // the Inode record is only there, or (both) differs
    bool alive_a = false, alive_b = false;    // with record_a, record_b: it has a name
    bool links = false, dirents = false, xattrs = false, data = false;
  };
  struct Location {
    Link link{};
    std::string path{};
  };
  struct Moves {  // of an inode that both layers have
    std::vector<Location> removed{}, added{};
  };
  // Directories that stand for each other; 0: the other layer has none.
  struct DirPair {
    Inode a = 0, b = 0;
    std::string path_a{}, path_b{};
  };
  struct Names {
    std::uint64_t met = 0, all = 0;
  };
  struct Standing {  // something that is equal at one path, under other inodes: those of it and
                     // below it
    Inode directory = 0;
    std::string name{};
    std::unordered_map<Inode, Names> in_a{}, in_b{};
  };
  struct LinkCheck {  // two files at one path that have as many names: the same ones?
    Inode a = 0, b = 0;
    DiffEntry entry{};  // what differs besides
  };

  // Records, of related layers ------------------------------------------------------------ diff.cc
  Status collect();
  Status take(RecordChange const& change);
  Status take_dirent(RecordChange const& change);
  Status take_extent(RecordChange const& change, Touched const& t);
  [[nodiscard]] Touched const* touched(Inode inode) const;
  [[nodiscard]] bool has_a(Inode inode) const;
  [[nodiscard]] bool has_b(Inode inode) const;
  Status shared_inodes();
  Status shared_inode(Touched const& t);
  Status moved(DiffEntry const& changes, Moves& moves, InodeInfo const& info);

  // Equal at one path ------------------------------------------------------------ diff_standing.cc
  Status settle();
  [[nodiscard]] bool any_moved() const;
  Result<bool> compare_standing(Inode top_a, Inode top_b, Standing& s);
  void drop_half_known(std::vector<Standing>& equal) const;

  // Directories --------------------------------------------------------------------- diff_paths.cc
  Status walk();
  Status walk_pair(DirPair const& pair);
  Result<std::vector<Name>> entries_of(LayerSnapshot& layer,
                                       std::unordered_map<Inode, std::vector<Name>>& changed,
                                       Inode directory);
  Status removed(DirPair const& at, Name const& name);
  Status added(DirPair const& at, Name const& name);
  Status same_path(DirPair const& at, Name const& name, Inode b);
  Status check_links();
  void descend(DirPair pair);
  Status enter(std::unordered_set<Inode>& seen, LayerSnapshot const& layer, Inode directory);

  // One file ------------------------------------------------------------------------ diff_paths.cc
  void compare_attributes(InodeInfo const& a, InodeInfo const& b, DiffEntry& entry) const;
  Status compare_xattrs(Inode a, Inode b, DiffEntry& entry);
  Status compare_all(Inode ia, InodeInfo const& a, Inode ib, InodeInfo const& b, DiffEntry& entry);
  [[nodiscard]] bool wanted(std::string_view path) const;
  void emit(DiffEntry entry);

  NodeCache& cache_;
  std::uint64_t const total_blocks_;
  DiffOptions const& options_;
  DiffCost& cost_;
  LayerSnapshot& a_;
  LayerSnapshot& b_;
  bool const related_;
  ContentDiff content_;
  std::vector<Touched> touched_{};
  std::unordered_map<Inode, std::vector<Name>> gone_{},
      come_{};  // entries by directory: only in the first, only in the second
  // Of files that both have: where extents differ.
  std::unordered_map<Inode, std::vector<ByteRange>> ranges_{};
  std::unordered_map<Inode, Moves> moves_{};
  std::unordered_set<Inode> settled_{};  // equal where they stand: nothing to report
  std::vector<DirPair> todo_{};
  std::unordered_map<Inode, Inode> pairs_{};  // directories of different numbers at one path
  std::unordered_set<Inode> seen_a_{}, seen_b_{};
  std::vector<LinkCheck> link_checks_{};
  // Files with several names, so that it is done once.
  std::map<std::pair<Inode, Inode>, DiffEntry> compared_{};
  std::unordered_map<Inode, std::string> first_names_{};  // of new files with several names
  std::vector<DiffEntry> out_{};
};

}  // namespace lcfs
