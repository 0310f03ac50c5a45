// SPDX-License-Identifier: Apache-2.0
// The records of one layer: inodes, directory entries, back references, extended attributes, inline
// data, extents and orphans, with the counters that follow from them.  One Tree holds them, one
// OwnerSpace pays for its nodes.
//
// Here is what a record is and what belongs together on the device.  What POSIX allows, what a file
// in memory knows better and who may call when is decided above: LayerImpl and DirtyFiles for a
// layer in use, Stacker for a layer that is being imported.
//
// Threads: no locks.  Reading functions may run together; changing ones need the object to
// themselves.  The caller holds the layer's lock, or is the only one who knows the layer.
//
// Errors: kFs with an errno for ordinary answers (ENOENT, EEXIST ...), else those of Tree.  A
// changing function that fails otherwise may have done half of its work: compare changes() from
// before, and give up the unsealed tree if it moved.
#pragma once

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device/device.h"
#include "engine/layer.h"
#include "engine/space/owner_space.h"
#include "engine/tree/tree.h"
#include "engine/types.h"

namespace lcfs {

// The type in a directory entry, DT_*, of an inode of this mode; and back.
[[nodiscard]] constexpr std::uint8_t entry_type(std::uint32_t mode) {
  return static_cast<std::uint8_t>((mode & S_IFMT) >> 12);
}
[[nodiscard]] constexpr std::uint32_t mode_of_type(std::uint8_t type) {
  return static_cast<std::uint32_t>(type) << 12;
}

class LayerTree {
 public:
  // What all layers of a store share; it outlives them.
  struct Shared {
    NodeCache& cache;
    SpaceMap& space;
    Device const& device;  // its name goes into errors
    std::array<std::uint8_t, 16> const& hash_seed;
  };
  // As a layer's record has it: number, root, counters.
  LayerTree(Shared const& shared, LayerInfo const& info);

  // The tree as a whole ---------------------------------------------------------------------------
  [[nodiscard]] Tree const& tree() const { return tree_; }
  [[nodiscard]] Tree::Cursor cursor() const { return Tree::Cursor(tree_); }
  [[nodiscard]] LayerId owner() const { return space_.owner(); }
  [[nodiscard]] Inode root_inode() const { return root_inode_; }
  // Counts records changed: an operation that failed without moving it changed nothing.
  [[nodiscard]] std::uint64_t changes() const { return tree_.changes(); }
  // Are changed nodes in memory more than so many bytes?  Then seal() and write them.
  [[nodiscard]] bool dirty_beyond(std::uint64_t bytes) const {
    return tree_.dirty_nodes() * kNodeSize > bytes;
  }
  // The checkpoint that changed nodes will belong to.
  void set_generation(std::uint64_t generation) { tree_.set_generation(generation); }
  // All changed nodes, constant from here on, for writing.
  [[nodiscard]] std::vector<NodeRef> seal() { return tree_.seal(); }
  // Forgets what was changed and not sealed.
  void abandon() { tree_.abandon(); }

  // Space -----------------------------------------------------------------------------------------
  // Who pays for what is taken from now on (null: ordinary free space), and how urgent it is.
  void set_payer(Reservation* payer) { space_.set_payer(payer); }
  void set_urgency(Urgency urgency) { space_.set_urgency(urgency); }
  // 1..want blocks for data, as many as possible in one run.
  Result<Extent> allocate_data(std::uint64_t want) { return space_.allocate_data(want); }
  // Rests of chunks go back to the map.
  void return_chunks() { space_.return_chunks(); }
  // Since the last call; not normalized.
  [[nodiscard]] std::vector<Extent> take_allocated() { return space_.take_allocated(); }
  [[nodiscard]] std::vector<Extent> take_freed() { return space_.take_freed(); }
  // The blocks that nodes took since the last call and still use, normalized.  Those that were
  // taken and freed again are free at once: no checkpoint can name them.
  [[nodiscard]] std::vector<Extent> take_net();
  // A commit: from here on it is the tree of layer `owner`, which inherits all that was owned so
  // far: that is never freed or changed in place here again (I3).  Nothing may be left to take.
  void begin_as(LayerId owner);

  // Counters --------------------------------------------------------------------------------------
  // Takes into account the nodes taken and freed since the last call.
  void count_nodes();
  [[nodiscard]] std::uint64_t own_blocks() const { return own_blocks_; }
  [[nodiscard]] std::uint64_t used_blocks() const { return used_blocks_; }
  [[nodiscard]] std::uint64_t inodes() const { return inodes_; }
  // Root and counters, as the layer's record wants them.
  [[nodiscard]] LayerInfo describe(LayerInfo info) const;

  // Inodes ------------------------------------------------------------------- layer_tree_inodes.cc
  Result<InodeInfo> get_inode(Inode inode) const;  // ENOENT
  // From where `cursor` stands, which is cheap for neighbours.
  Result<InodeInfo> get_inode_near(Tree::Cursor& cursor, Inode inode) const;  // ENOENT
  Status put_inode(Inode inode, InodeInfo const& info) {
    return tree_.put({inode, kInode, 0}, encode_inode(info));
  }
  // A new inode.  append_: its number is greater than any in the tree.
  Status add_inode(Inode inode, InodeInfo const& info);
  Status append_inode(Inode inode, InodeInfo const& info);
  // The inodes [first, last], each of which exists, with all their records and blocks.  Entries
  // that name them are the caller's.
  Status remove_inodes(Inode first, Inode last);
  // An orphan record says on the device that an inode without names is still there.
  Status add_orphan(Inode inode) { return tree_.put({0, kOrphan, inode}, {}); }
  Result<bool> remove_orphan(Inode inode) { return tree_.erase({0, kOrphan, inode}); }
  Result<std::vector<Inode>> orphans() const;

  // Names ------------------------------------------------------------------- layer_tree_entries.cc
  // Entries of a directory are found by a hash of the name; back references of an inode by a hash
  // of directory and name.  Sizes, times and link counts are the caller's to store.
  struct Entry {
    Key key{};
    Inode inode = 0;
    std::uint8_t type = 0;  // DT_*
  };
  Result<std::optional<Entry>> find_entry(Inode directory, std::string_view name) const;
  // Where the record of a name that is not there goes; nothing: too many have the same hash.
  Result<std::optional<Key>> free_entry(Inode directory, std::string_view name) const;
  Result<std::optional<Key>> free_back_reference(Inode inode, Inode directory,
                                                 std::string_view name) const;
  // The same, in one look: EEXIST if the name is there, ENOSPC if there is no room for it.
  Result<Key> new_entry(Inode directory, std::string_view name) const;
  Status put_entry(Key const& key, Inode inode, std::uint32_t mode, std::string_view name);
  Status put_back_reference(Key const& key, Inode directory, std::string_view name);
  // Entry and back reference of a name that is not there.
  Status add_name(Inode directory, std::string_view name, Inode inode, std::uint32_t mode);
  Status remove_name(Inode directory, std::string_view name, Inode inode);
  Status erase_entry(Key const& key) { return tree_.erase_range(key, key, nullptr); }
  Result<bool> erase_back_reference(Inode directory, std::string_view name, Inode inode);
  Status remove_back_reference(Inode directory, std::string_view name, Inode inode);
  // kCorrupt: an entry that was there a moment ago is not.
  [[nodiscard]] Error entry_vanished() const;
  // The directory's own directory; of the root, itself.
  Result<Inode> parent_of(Inode directory) const;
  Result<bool> is_inside(Inode directory, Inode ancestor) const;  // or is it
  Result<std::vector<std::pair<Inode, std::string>>> names_of(Inode inode) const;
  // Are all records of a name, which exists, in nodes that the layer owns?  Then those that are
  // copied when it goes take the place of others that are freed.
  [[nodiscard]] bool owns_name(Inode directory, std::string_view name) const;
  // Calls take(Key, DirentInfo) for every entry; the tree is not changed meanwhile.
  template <class Take>
  Status each_entry(Inode directory, Take const& take) const {
    return scan(tree_, {directory, kDirent, 0}, {directory, kDirent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, value));
                  take(key, d);
                  return true;
                });
  }
  // The same for at most `most` entries behind key offset `behind`.
  template <class Take>
  Status next_entries(Tree::Cursor& cursor, Inode directory, std::uint64_t behind, std::size_t most,
                      Take const& take) const {
    if (behind == ~0ull) return {};
    LCFS_TRY(cursor.seek_near({directory, kDirent, behind + 1}));
    for (; most != 0 && cursor.valid() && cursor.key().inode == directory &&
           cursor.key().kind == kDirent;
         --most) {
      Key const key = cursor.key();
      LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, cursor.value()));
      take(key, d);
      LCFS_TRY(cursor.next());
    }
    return {};
  }

  // Records of new inodes, in ascending order of inode, kind and offset, behind all others.  Equal
  // hashes are the caller's to tell apart.
  [[nodiscard]] std::uint64_t entry_hash(std::string_view name) const;
  [[nodiscard]] std::uint64_t back_reference_hash(Inode directory, std::string_view name) const;
  Status append_entry(Inode directory, std::uint64_t offset, Inode inode, std::uint32_t mode,
                      std::string_view name);
  Status append_back_reference(Inode inode, std::uint64_t offset, Inode directory,
                               std::string_view name);

  // Extended attributes ------------------------------------------------------ layer_tree_xattrs.cc
  // A value is cut into chunks of kXattrChunk bytes, one record each; a key is its first chunk's.
  using Xattr = std::pair<std::string, std::string>;  // whole name, value
  // free: where one of that name would go, if it is not there; may be null.  ERANGE: no such name.
  Result<std::optional<Key>> find_xattr(Tree::Cursor& cursor, Inode inode, std::string_view name,
                                        std::optional<Key>* free = nullptr) const;
  Result<std::string> xattr_value(Key const& key) const;
  Result<std::vector<std::string>> xattr_names(Inode inode) const;
  // E2BIG, EEXIST, ENODATA, ENOSPC: nothing was changed.
  Status put_xattr(Inode inode, std::string_view name, std::string_view value, XattrMode mode);
  Status erase_xattr(Key const& key);
  Status erase_xattrs(Inode inode);  // all of them
  // Of a new inode, behind all other records.
  Status append_xattrs(Inode inode, std::vector<Xattr> const& xattrs);

  // Inline data and extents ------------------------------------------------- layer_tree_extents.cc
  // Offsets are bytes in the file, block aligned where extents are meant.
  Result<std::optional<Record>> inline_data(Inode inode) const {
    return tree_.get({inode, kInline, 0});
  }
  Status put_inline(Inode inode, Bytes data) { return tree_.put({inode, kInline, 0}, data); }
  Result<bool> erase_inline(Inode inode) { return tree_.erase({inode, kInline, 0}); }
  Status append_inline(Inode inode, Bytes data) { return tree_.append({inode, kInline, 0}, data); }
  // `cursor` goes to the last extent that begins at `offset` or before, else to the first one.
  Status seek_extent(Tree::Cursor& cursor, Inode inode, std::uint64_t offset) const;
  // Does it stand on an extent of that inode?
  [[nodiscard]] static bool on_extent(Tree::Cursor const& cursor, Inode inode) {
    return cursor.valid() && cursor.key().inode == inode && cursor.key().kind == kExtent;
  }
  [[nodiscard]] Result<ExtentInfo> extent_at(Tree::Cursor const& cursor) const {
    return parse_extent(cursor.key(), cursor.value(), total_blocks());
  }
  // Where mapped data, inline data too, at or behind `offset` begins; *end: where it ends.
  Result<std::optional<std::uint64_t>> next_mapped(Inode inode, std::uint64_t offset,
                                                   std::uint64_t* end) const;
  Result<std::vector<Layer::Run>> runs(Inode inode) const;
  // Removes the mapping of [begin, end); returns how many blocks it held.  The outer parts of
  // extents that reach beyond stay.
  Result<std::uint64_t> unmap(Inode inode, std::uint64_t begin, std::uint64_t end);
  // Maps blocks that were just allocated; the range is unmapped.  sums: one per block.
  Status map(Inode inode, std::uint64_t offset, Extent blocks,
             std::vector<std::uint32_t> const& sums);
  // Maps blocks of another layer, which this one may inherit; the range is unmapped.
  Status map_inherited(Inode inode, std::uint64_t offset, ExtentInfo const& extent);
  // Blocks of its own for a new inode, behind all other records.
  Status append_extent(Inode inode, std::uint64_t offset, std::uint64_t block,
                       std::vector<std::uint32_t> const& sums);
  // Cuts in two the extent that reaches over `offset`, if there is one.
  Status split_extent(Inode inode, std::uint64_t offset);
  // First offsets of stretches of extents from `from` on; records of one are about `bytes` long.
  // The first begins at `from`.
  Result<std::vector<std::uint64_t>> extent_batches(Inode inode, std::uint64_t from,
                                                    std::size_t bytes) const;
  // Renumbers the extents that begin in [low, high] by to - from.  Nothing is where they go.
  Status move_extents(Inode inode, std::uint64_t low, std::uint64_t high, std::uint64_t from,
                      std::uint64_t to);

 private:
  [[nodiscard]] std::uint64_t total_blocks() const { return map_.total(); }
  // No longer mapped: the layer's own are freed, inherited ones only not pointed to (I3).
  void drop_blocks(Extent blocks, LayerId owner);
  [[nodiscard]] Error corrupt(char const* what) const;
  [[nodiscard]] Key entry_key(Inode directory, std::string_view name) const;
  [[nodiscard]] Key back_reference_key(Inode inode, Inode directory, std::string_view name) const;

  SpaceMap& map_;
  Device const& device_;
  std::array<std::uint8_t, 16> const& hash_seed_;
  Inode const root_inode_;
  OwnerSpace space_;
  Tree tree_;
  std::uint64_t own_blocks_;
  std::uint64_t used_blocks_;
  std::uint64_t inodes_;
  std::vector<std::byte> record_;  // scratch of append_extent()
  std::vector<le32> words_;
};

}  // namespace lcfs
