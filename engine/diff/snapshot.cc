// SPDX-License-Identifier: Apache-2.0
#include "engine/snapshot.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>

#include "engine/store/store_impl.h"
#include "engine/tree/probe.h"
#include "format/hash.h"

namespace lcfs {

namespace {
constexpr std::uint64_t kChunkMask = 0xff;  // low bits of an xattr key: which chunk of the value
}

// A tree that is only read never allocates.
struct LayerSnapshot::Reading {
  Reading(StoreImpl& store, LayerInfo const& info)
      : space(store.space, info.id), tree(store.cache, space, info.root), cursor(tree) {}
  OwnerSpace space;
  Tree tree;
  Tree::Cursor cursor;  // at the last look-up: the next one is often near
};

LayerSnapshot::LayerSnapshot(Store& store, LayerInfo info)
    : LayerSnapshot(inside(store), std::move(info)) {}

LayerSnapshot::LayerSnapshot(StoreImpl& store, LayerInfo info)
    : store_(store), info_(std::move(info)), reading_(std::make_unique<Reading>(store, info_)) {}
LayerSnapshot::~LayerSnapshot() = default;

Error LayerSnapshot::trouble(Error error, std::string const& what) const {
  error.message = fmt::format("layer '{}': cannot read {}: {}", info_.name, what, error.message);
  return error;
}

// The value of `expr` (a Result), or its error with what could not be read.
#define LCFS_READ(decl, expr, ...) \
  LCFS_READ_(LCFS_CAT(lcfs_result_, __COUNTER__), decl, expr, __VA_ARGS__)
#define LCFS_READ_(tmp, decl, expr, ...)                                      \
  auto tmp = (expr);                                                          \
  if (!tmp) return trouble(std::move(tmp).error(), fmt::format(__VA_ARGS__)); \
  decl = *std::move(tmp)
#define LCFS_READ_STATUS(expr, ...)                                       \
  do {                                                                    \
    if (auto done_ = (expr); !done_)                                      \
      return trouble(std::move(done_).error(), fmt::format(__VA_ARGS__)); \
  } while (false)

Result<std::optional<InodeInfo>> LayerSnapshot::find_inode(Inode inode) {
  auto& c = reading_->cursor;
  Key const key{inode, kInode, 0};
  LCFS_READ_STATUS(c.seek_near(key), "inode {}", inode);
  if (!c.valid() || c.key() != key) return std::optional<InodeInfo>{};
  LCFS_READ(InodeInfo const info, parse_inode(key, c.value()), "inode {}", inode);
  return info.nlink == 0 ? std::optional<InodeInfo>{} : std::optional(info);
}

Result<InodeInfo> LayerSnapshot::inode(Inode inode) {
  LCFS_TRY_ASSIGN(auto const found, find_inode(inode));
  if (!found) {
    return trouble(
        Error::corrupt("a directory names it, but it is not there").in(store_.device.name()),
        fmt::format("inode {}", inode));
  }
  return *found;
}

Result<std::vector<LayerSnapshot::Name>> LayerSnapshot::entries(Inode directory) {
  std::vector<Name> out;
  auto take = [&out](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, value));
    out.push_back({std::string(d.name), d.inode});
    return true;
  };
  LCFS_READ_STATUS(scan(reading_->tree, {directory, kDirent, 0}, {directory, kDirent, ~0ull}, take),
                   "directory {}", directory);
  std::sort(out.begin(), out.end(), [](Name const& x, Name const& y) { return x.name < y.name; });
  return out;
}

Result<Inode> LayerSnapshot::entry(Inode directory, std::string_view name) {
  Inode found = 0;
  auto match = [&](Key const& key, Bytes value) -> Result<bool> {
    LCFS_TRY_ASSIGN(auto const d, parse_dirent(key, value));
    if (d.name == name) found = d.inode;
    return d.name == name;
  };
  LCFS_READ_STATUS(
      probe(reading_->tree, {directory, kDirent, name_key(store_.hash_seed, name)}, 1, match),
      "directory {}", directory);
  return found;
}

Result<Inode> LayerSnapshot::find(std::string_view path) {
  Inode at = info_.root_inode;
  while (at != 0) {
    path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
    if (path.empty()) break;
    auto const name = path.substr(0, path.find('/'));
    path.remove_prefix(name.size());
    LCFS_TRY_ASSIGN(at, entry(at, name));
  }
  return at;
}

Result<std::string> LayerSnapshot::real_path(std::string_view path) {
  constexpr int kMaxHops = 40;  // as Linux's MAXSYMLINKS
  std::deque<std::string> todo;
  auto const lead_on = [&todo](std::string_view to) {
    std::vector<std::string> parts;
    while (!to.empty()) {
      auto const part = to.substr(0, to.find('/'));
      to.remove_prefix(std::min(part.size() + 1, to.size()));
      if (!part.empty() && part != ".") parts.emplace_back(part);
    }
    todo.insert(todo.begin(), parts.begin(), parts.end());
  };
  lead_on(path);
  std::string at = "/";
  for (int hops = 0; todo.size() > 1;) {
    auto const part = std::move(todo.front());
    todo.pop_front();
    if (part == "..") {
      at = at.substr(0, std::max<std::size_t>(at.rfind('/'), 1));
      continue;
    }
    auto next = join(at, part);
    LCFS_TRY_ASSIGN(Inode const inode_there, find(next));
    if (inode_there != 0) {
      LCFS_TRY_ASSIGN(auto const info, inode(inode_there));
      if (S_ISLNK(info.mode) && ++hops <= kMaxHops) {
        LCFS_TRY_ASSIGN(auto const to, target(inode_there));
        if (to.starts_with('/')) at = "/";
        lead_on(to);
        continue;
      }
    }
    at = std::move(next);
  }
  return todo.empty() ? at : join(at, todo.front());
}

Result<std::vector<LayerSnapshot::Link>> LayerSnapshot::links(Inode inode) {
  std::vector<Link> out;
  auto& c = reading_->cursor;
  for (Key key{inode, kParent, 0};;) {
    LCFS_READ_STATUS(out.empty() ? c.seek_near(key) : c.next(), "the names of inode {}", inode);
    if (!c.valid() || c.key().inode != inode || c.key().kind != kParent) break;
    LCFS_READ(auto const p, parse_parent(c.key(), c.value()), "the names of inode {}", inode);
    out.push_back({p.directory, std::string(p.name)});
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string LayerSnapshot::join(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.ends_with('/')) path += '/';
  return path += name;
}

Result<std::string> LayerSnapshot::path(Inode directory) {
  // Goes up to a directory whose path is known, then down again and notes the path of each.
  std::vector<std::pair<Inode, std::string>> way;
  std::string path = "/";
  for (Inode at = directory; at != info_.root_inode;) {
    if (auto const known = paths_.find(at); known != paths_.end()) {
      path = known->second;
      break;
    }
    LCFS_TRY_ASSIGN(auto const up, links(at));
    if (up.size() != 1 || way.size() > info_.inodes) {
      return trouble(Error::corrupt("no path leads from it to the root").in(store_.device.name()),
                     fmt::format("directory {}", at));
    }
    way.emplace_back(at, up.front().name);
    at = up.front().directory;
  }
  for (auto step = way.rbegin(); step != way.rend(); ++step) {
    path = join(path, step->second);
    paths_.emplace(step->first, path);
  }
  return path;
}

Result<std::vector<std::string>> LayerSnapshot::paths(Inode inode) {
  if (inode == info_.root_inode) return std::vector<std::string>{"/"};
  LCFS_TRY_ASSIGN(auto const all, links(inode));
  std::vector<std::string> out;
  for (auto const& link : all) {
    LCFS_TRY_ASSIGN(auto const directory, path(link.directory));
    out.push_back(join(directory, link.name));
  }
  std::sort(out.begin(), out.end());
  return out;
}

Result<std::map<std::string, std::string>> LayerSnapshot::xattrs(Inode inode) {
  std::map<std::string, std::string> out;
  std::string* value_of = nullptr;
  auto take = [&](Key const& key, Bytes value) -> Result<bool> {
    if ((key.offset & kChunkMask) == 0) {
      LCFS_TRY_ASSIGN(auto const x, parse_xattr(key, value));
      value_of = &out[std::string(x.name)];
      value = x.first;
    }
    if (value_of != nullptr)
      value_of->append(reinterpret_cast<char const*>(value.data()), value.size());
    return true;
  };
  LCFS_READ_STATUS(scan(reading_->tree, {inode, kXattr, 0}, {inode, kXattr, ~0ull}, take),
                   "the attributes of inode {}", inode);
  return out;
}

Result<std::string> LayerSnapshot::inline_data(Inode inode) {
  LCFS_READ(auto const found, reading_->tree.get({inode, kInline, 0}), "inode {}", inode);
  if (!found) return std::string{};
  return std::string(reinterpret_cast<char const*>(found->value.data()), found->value.size());
}

Result<std::string> LayerSnapshot::target(Inode symlink) { return inline_data(symlink); }

// Data --------------------------------------------------------------------------------------------

Status LayerSnapshot::map(Inode inode, std::uint64_t first, std::vector<BlockRef>& into) {
  std::fill(into.begin(), into.end(), BlockRef{});
  std::uint64_t const begin = first * kBlockSize, end = (first + into.size()) * kBlockSize;
  Tree::Cursor c(reading_->tree);
  Key const small{inode, kInline, 0};
  LCFS_READ_STATUS(c.seek_near(small), "inode {}", inode);
  if (c.valid() && c.key() == small) {
    if (first == 0 && !into.empty()) into.front().kind = BlockRef::kSmall;
    return {};
  }
  if (begin != 0) {
    LCFS_READ_STATUS(c.seek_floor({inode, kExtent, begin}), "inode {}", inode);
    if (!c.valid() || c.key().inode != inode || c.key().kind != kExtent) {
      LCFS_READ_STATUS(c.seek({inode, kExtent, begin}), "inode {}", inode);
    }
  }
  while (c.valid() && c.key().inode == inode && c.key().kind == kExtent && c.key().offset < end) {
    LCFS_READ(auto const extent, parse_extent(c.key(), c.value(), store_.space.total()), "inode {}",
              inode);
    std::uint64_t const at = c.key().offset / kBlockSize;
    for (std::uint64_t i = at < first ? first - at : 0;
         i < extent.count && at + i < first + into.size(); ++i) {
      into[at + i - first] = {BlockRef::kData, extent.checksums[i].get(), extent.block + i,
                              extent.owner};
    }
    LCFS_READ_STATUS(c.next(), "inode {}", inode);
  }
  return {};
}

Result<std::uint64_t> LayerSnapshot::next_data(Inode inode, std::uint64_t offset) {
  auto& c = reading_->cursor;
  Key const small{inode, kInline, 0};
  LCFS_READ_STATUS(c.seek_near(small), "inode {}", inode);
  if (c.valid() && c.key() == small) return offset < kBlockSize ? offset : ~0ull;
  if (offset != 0) {
    LCFS_READ_STATUS(c.seek_floor({inode, kExtent, offset}), "inode {}", inode);
    if (c.valid() && c.key().inode == inode && c.key().kind == kExtent) {
      LCFS_READ(auto const extent, parse_extent(c.key(), c.value(), store_.space.total()),
                "inode {}", inode);
      if (c.key().offset + std::uint64_t{extent.count} * kBlockSize > offset) return offset;
    }
    LCFS_READ_STATUS(c.seek({inode, kExtent, offset}), "inode {}", inode);
  }
  return c.valid() && c.key().inode == inode && c.key().kind == kExtent ? c.key().offset : ~0ull;
}

Status LayerSnapshot::read(Inode inode, std::uint64_t offset, AlignedBuffer& into,
                           std::size_t bytes) {
  std::vector<BlockRef> refs(bytes / kBlockSize);
  LCFS_TRY(map(inode, offset / kBlockSize, refs));
  auto const all = into.span().first(bytes);
  for (std::size_t i = 0; i < refs.size();) {
    auto const here = all.subspan(i * kBlockSize, kBlockSize);
    if (refs[i].kind != BlockRef::kData) {
      std::memset(here.data(), 0, here.size());
      if (refs[i].kind == BlockRef::kSmall) {
        LCFS_TRY_ASSIGN(auto const text, inline_data(inode));
        std::memcpy(here.data(), text.data(), std::min<std::size_t>(text.size(), here.size()));
      }
      ++i;
      continue;
    }
    std::size_t n = 1;  // neighbours in one read
    while (i + n < refs.size() && refs[i + n].kind == BlockRef::kData &&
           refs[i + n].block == refs[i].block + n)
      ++n;
    LCFS_READ_STATUS(
        store_.device.read(refs[i].block * kBlockSize, all.subspan(i * kBlockSize, n * kBlockSize)),
        "data of inode {}", inode);
    for (std::size_t k = i; store_.options.verify_data && k < i + n; ++k) {
      if (crc32c(all.subspan(k * kBlockSize, kBlockSize)) == refs[k].sum) continue;  // I6
      store_.data_failures.fetch_add(1, std::memory_order_relaxed);
      auto const names = paths(inode);
      auto const file = names && !names->empty() ? names->front() : fmt::format("inode {}", inode);
      return Error::corrupt(
                 fmt::format("data checksum of layer '{}', {}, file offset {} does not match",
                             info_.name, file, offset + k * kBlockSize))
          .in(store_.device.name())
          .at(refs[k].block * kBlockSize);
    }
    i += n;
  }
  return {};
}

}  // namespace lcfs
