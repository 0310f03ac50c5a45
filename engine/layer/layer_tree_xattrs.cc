// SPDX-License-Identifier: Apache-2.0
// The records of a layer: extended attributes.
#include <algorithm>
#include <cerrno>
#include <tuple>

#include "engine/layer/layer_tree.h"
#include "engine/tree/probe.h"
#include "format/hash.h"

namespace lcfs {

namespace {

constexpr std::uint64_t kChunkMask = 0xff;

Key last_chunk(Key const& key) { return {key.inode, kXattr, key.offset | kChunkMask}; }

}  // namespace

Result<std::optional<Key>> LayerTree::find_xattr(Tree::Cursor& cursor, Inode inode,
                                                 std::string_view name,
                                                 std::optional<Key>* free) const {
  if (name.empty() || name.size() > kMaxName) return fs_error(ERANGE);
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const x, parse_xattr(key, value));
    return x.name == name;
  };
  LCFS_TRY_ASSIGN(auto const p, probe(cursor, {inode, kXattr, xattr_key(hash_seed_, name)},
                                      kXattrProbeStep, match));
  if (free != nullptr) *free = p.free;
  return p.found ? std::optional(p.found->key) : std::nullopt;
}

Result<std::string> LayerTree::xattr_value(Key const& key) const {
  std::string out;
  std::uint32_t size = 0;
  LCFS_TRY(scan(tree_, key, last_chunk(key), [&](Key const& at, Bytes value) -> Result<bool> {
    if (at == key) {
      LCFS_TRY_ASSIGN(auto const x, parse_xattr(at, value));
      size = x.value_size;
      value = x.first;
    }
    out.append(reinterpret_cast<char const*>(value.data()), value.size());
    return out.size() < size;
  }));
  if (out.size() != size) return corrupt("xattr value is incomplete");
  return out;
}

Result<std::vector<std::string>> LayerTree::xattr_names(Inode inode) const {
  std::vector<std::string> names;
  LCFS_TRY(scan(tree_, {inode, kXattr, 0}, {inode, kXattr, ~0ull},
                [&](Key const& key, Bytes value) -> Result<bool> {
                  if ((key.offset & kChunkMask) != 0) return true;
                  LCFS_TRY_ASSIGN(auto const x, parse_xattr(key, value));
                  names.emplace_back(x.name);
                  return true;
                }));
  return names;
}

Status LayerTree::put_xattr(Inode inode, std::string_view name, std::string_view value,
                            XattrMode mode) {
  if (value.size() > kMaxXattr) return fs_error(E2BIG);
  std::optional<Key> free, there;
  {
    Tree::Cursor cursor(tree_);
    LCFS_TRY_ASSIGN(there, find_xattr(cursor, inode, name, &free));
  }
  if (there && mode == XattrMode::kCreate) return fs_error(EEXIST);
  if (!there && mode == XattrMode::kReplace) return fs_error(ENODATA);
  if (!there && !free) return fs_error(ENOSPC);
  Key key = there ? *there : *free;
  if (there) LCFS_TRY(erase_xattr(key));
  XattrInfo first;
  first.name = name;
  first.value_size = static_cast<std::uint32_t>(value.size());
  first.first = as_bytes(value.substr(0, kXattrChunk));
  LCFS_TRY(tree_.put(key, as_bytes(encode_xattr(first))));
  while (value.size() > kXattrChunk) {
    value.remove_prefix(kXattrChunk);
    ++key.offset;
    LCFS_TRY(tree_.put(key, as_bytes(value.substr(0, kXattrChunk))));
  }
  return {};
}

Status LayerTree::erase_xattr(Key const& key) {
  return tree_.erase_range(key, last_chunk(key), nullptr);
}

Status LayerTree::erase_xattrs(Inode inode) {
  return tree_.erase_range({inode, kXattr, 0}, {inode, kXattr, ~0ull}, nullptr);
}

Status LayerTree::append_xattrs(Inode inode, std::vector<Xattr> const& xattrs) {
  // Ascending keys: by hash, equal hashes told apart by probe number.
  std::vector<std::pair<std::uint64_t, Xattr const*>> sorted;
  for (auto const& x : xattrs) sorted.emplace_back(xattr_key(hash_seed_, x.first), &x);
  std::sort(sorted.begin(), sorted.end(), [](auto const& a, auto const& b) {
    return std::tie(a.first, a.second->first) < std::tie(b.first, b.second->first);
  });
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    auto& [key, x] = sorted[i];
    if (i > 0 && key <= sorted[i - 1].first) key = sorted[i - 1].first + kXattrProbeStep;
    std::string_view value = x->second;
    XattrInfo const first{x->first, static_cast<std::uint32_t>(value.size()),
                          as_bytes(value.substr(0, kXattrChunk))};
    LCFS_TRY(tree_.append({inode, kXattr, key}, as_bytes(encode_xattr(first))));
    for (std::uint64_t chunk = 1; value.size() > kXattrChunk; ++chunk) {
      value.remove_prefix(kXattrChunk);
      LCFS_TRY(tree_.append({inode, kXattr, key + chunk}, as_bytes(value.substr(0, kXattrChunk))));
    }
  }
  return {};
}

}  // namespace lcfs
