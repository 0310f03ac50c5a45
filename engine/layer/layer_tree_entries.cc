// SPDX-License-Identifier: Apache-2.0
// The records of a layer: directory entries and back references.
#include <cerrno>

#include "engine/layer/layer_tree.h"
#include "engine/tree/probe.h"
#include "format/hash.h"

namespace lcfs {

namespace {

// Looks for a free key only: no record is taken for the one.
Result<bool> never(Key const&, Bytes) { return false; }

auto is_named(std::string_view name) {
  return [name](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, value));
    return d.name == name;
  };
}

}  // namespace

std::uint64_t LayerTree::entry_hash(std::string_view name) const {
  return name_key(hash_seed_, name);
}

std::uint64_t LayerTree::back_reference_hash(Inode directory, std::string_view name) const {
  return parent_key(hash_seed_, directory, name);
}

Key LayerTree::entry_key(Inode directory, std::string_view name) const {
  return {directory, kDirent, entry_hash(name)};
}

Key LayerTree::back_reference_key(Inode inode, Inode directory, std::string_view name) const {
  return {inode, kParent, back_reference_hash(directory, name)};
}

// Looking -----------------------------------------------------------------------------------------

Result<std::optional<LayerTree::Entry>> LayerTree::find_entry(Inode directory,
                                                              std::string_view name) const {
  if (name.size() > kMaxName) return fs_error(ENAMETOOLONG);
  LCFS_TRY_ASSIGN(auto const p, probe(tree_, entry_key(directory, name), 1, is_named(name)));
  if (!p.found) return std::optional<Entry>{};
  LCFS_TRY_ASSIGN(DirentInfo const d, parse_dirent(p.found->key, p.found->value));
  return std::optional<Entry>({p.found->key, d.inode, d.type});
}

Result<std::optional<Key>> LayerTree::free_entry(Inode directory, std::string_view name) const {
  LCFS_TRY_ASSIGN(auto const p, probe(tree_, entry_key(directory, name), 1, never));
  return p.free;
}

Result<std::optional<Key>> LayerTree::free_back_reference(Inode inode, Inode directory,
                                                          std::string_view name) const {
  LCFS_TRY_ASSIGN(auto const p, probe(tree_, back_reference_key(inode, directory, name), 1, never));
  return p.free;
}

Result<Key> LayerTree::new_entry(Inode directory, std::string_view name) const {
  LCFS_TRY_ASSIGN(auto const p, probe(tree_, entry_key(directory, name), 1, is_named(name)));
  if (p.found) return fs_error(EEXIST);
  if (!p.free) return fs_error(ENOSPC);
  return *p.free;
}

Error LayerTree::entry_vanished() const { return corrupt("directory entry vanished"); }

Result<Inode> LayerTree::parent_of(Inode directory) const {
  if (directory == root_inode_) return directory;
  Tree::Cursor c(tree_);
  LCFS_TRY(c.seek({directory, kParent, 0}));
  if (!c.valid() || c.key().inode != directory || c.key().kind != kParent) return fs_error(ENOENT);
  LCFS_TRY_ASSIGN(auto const p, parse_parent(c.key(), c.value()));
  return p.directory;
}

Result<bool> LayerTree::is_inside(Inode directory, Inode ancestor) const {
  for (Inode at = directory;;) {
    if (at == ancestor) return true;
    if (at == root_inode_) return false;
    LCFS_TRY_ASSIGN(at, parent_of(at));
  }
}

Result<std::vector<std::pair<Inode, std::string>>> LayerTree::names_of(Inode inode) const {
  std::vector<std::pair<Inode, std::string>> out;
  LCFS_TRY(scan(tree_, {inode, kParent, 0}, {inode, kParent, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  LCFS_TRY_ASSIGN(auto const p, parse_parent(key, value));
                  out.emplace_back(p.directory, p.name);
                  return true;
                }));
  return out;
}

bool LayerTree::owns_name(Inode directory, std::string_view name) const {
  auto const entry = find_entry(directory, name);
  if (!entry || !*entry) return false;
  auto own = [&](Key const& key) {
    Tree::Cursor c(tree_);
    if (!c.seek_floor(key) || (!c.valid() && !c.seek(key)))
      return false;  // orphans come before all else
    return c.valid() && c.node()->read().header().owner.get() == space_.owner();
  };
  Inode const inode = (*entry)->inode;
  return own((*entry)->key) && own({directory, kInode, 0}) && own({inode, kInode, 0}) &&
         own(back_reference_key(inode, directory, name)) && own({0, kOrphan, inode});
}

// Changing ----------------------------------------------------------------------------------------

Status LayerTree::put_entry(Key const& key, Inode inode, std::uint32_t mode,
                            std::string_view name) {
  return tree_.put(key, as_bytes(encode_dirent({inode, entry_type(mode), name})));
}

Status LayerTree::put_back_reference(Key const& key, Inode directory, std::string_view name) {
  return tree_.put(key, as_bytes(encode_parent({directory, name})));
}

Status LayerTree::add_name(Inode directory, std::string_view name, Inode inode,
                           std::uint32_t mode) {
  LCFS_TRY_ASSIGN(auto const at, free_entry(directory, name));
  LCFS_TRY_ASSIGN(auto const back, free_back_reference(inode, directory, name));
  if (!at || !back) return fs_error(ENOSPC);
  LCFS_TRY(put_entry(*at, inode, mode, name));
  return put_back_reference(*back, directory, name);
}

Status LayerTree::remove_name(Inode directory, std::string_view name, Inode inode) {
  LCFS_TRY_ASSIGN(auto const entry, find_entry(directory, name));
  if (!entry) return entry_vanished();
  LCFS_TRY(erase_entry(entry->key));
  return remove_back_reference(directory, name, inode);
}

Result<bool> LayerTree::erase_back_reference(Inode directory, std::string_view name, Inode inode) {
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const p, parse_parent(key, value));
    return p.directory == directory && p.name == name;
  };
  std::optional<Key> key;
  {
    LCFS_TRY_ASSIGN(auto const p,
                    probe(tree_, back_reference_key(inode, directory, name), 1, match));
    if (!p.found) return false;
    key = p.found->key;
  }
  LCFS_TRY(tree_.erase_range(*key, *key, nullptr));
  return true;
}

Status LayerTree::remove_back_reference(Inode directory, std::string_view name, Inode inode) {
  LCFS_TRY_ASSIGN(bool const there, erase_back_reference(directory, name, inode));
  return there ? Status{} : Status(corrupt("entry without back-reference"));
}

Status LayerTree::append_entry(Inode directory, std::uint64_t offset, Inode inode,
                               std::uint32_t mode, std::string_view name) {
  return tree_.append({directory, kDirent, offset},
                      as_bytes(encode_dirent({inode, entry_type(mode), name})));
}

Status LayerTree::append_back_reference(Inode inode, std::uint64_t offset, Inode directory,
                                        std::string_view name) {
  return tree_.append({inode, kParent, offset}, as_bytes(encode_parent({directory, name})));
}

}  // namespace lcfs
