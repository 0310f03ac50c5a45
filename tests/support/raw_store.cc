// SPDX-License-Identifier: Apache-2.0
#include "tests/support/raw_store.h"

#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "format/hash.h"
#include "tests/support/support.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {
namespace {

template <class T>
std::string text_of(T const& bytes) {
  return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

void must(Status const& status) {
  if (!status) throw std::runtime_error(status.error().text());
}

Digest sha256(std::string_view s) {
  Digest d{};
  EVP_Digest(s.data(), s.size(), d.data(), nullptr, EVP_sha256(), nullptr);
  return d;
}

}  // namespace

RawStore::RawStore(std::uint64_t blocks, std::uint32_t records_per_leaf)
    : device_(make_memory_device(blocks * kBlockSize)), per_leaf_(records_per_leaf) {
  for (std::uint8_t i = 0; i < 16; ++i) superblock.uuid[i] = i;
  superblock.hash_seed.fill(7);
  superblock.generation = 1;
  superblock.total_blocks = blocks;
}

std::uint64_t RawStore::allocate(std::uint64_t blocks) {
  auto const at = next_block_;
  next_block_ += blocks;
  if (next_block_ > superblock.total_blocks) throw std::runtime_error("test store is full");
  return at;
}

std::uint64_t RawStore::free_probe(Records const& records, Key key, std::uint64_t step) {
  while (records.contains(key)) key.offset += step;
  return key.offset;
}

std::uint64_t RawStore::add_layer(std::string_view name, std::uint64_t parent) {
  auto const id = superblock.next_id++;
  auto& l = layers_[id];
  l.info.id = l.info.serve_id = id;
  l.info.name = name;
  l.info.parent = parent;
  if (parent == 0) {
    l.info.root_inode = new_inode(id, S_IFDIR | 0755);
    auto root_info = inode(id, l.info.root_inode);
    root_info.nlink = 2;
    set_inode(id, l.info.root_inode, root_info);
  } else {
    auto& p = layer(parent);
    p.info.state = LayerState::kFrozen;
    ++p.info.children;
    l.records = p.records;
    l.info.root_inode = p.info.root_inode;
  }
  return id;
}

InodeInfo RawStore::inode(std::uint64_t id, std::uint64_t inode) {
  Key const key{inode, kInode, 0};
  auto r = parse_inode(key, bytes_of(layer(id).records.at(key)));
  if (!r) throw std::runtime_error(r.error().text());
  return *r;
}

void RawStore::set_inode(std::uint64_t id, std::uint64_t inode, InodeInfo const& info) {
  layer(id).records[{inode, kInode, 0}] = text_of(encode_inode(info));
}

std::uint64_t RawStore::new_inode(std::uint64_t id, std::uint32_t mode) {
  auto const n = superblock.next_inode++;
  InodeInfo info;
  info.mode = mode;
  set_inode(id, n, info);
  return n;
}

void RawStore::link(std::uint64_t id, std::uint64_t child, std::uint64_t parent,
                    std::string_view name) {
  auto& r = layer(id).records;
  auto info = inode(id, child);
  auto up = inode(id, parent);
  auto const& seed = superblock.hash_seed;
  auto const down_key = free_probe(r, {parent, kDirent, name_key(seed, name)}, 1);
  auto const up_key = free_probe(r, {child, kParent, parent_key(seed, parent, name)}, 1);
  r[{parent, kDirent, down_key}] =
      encode_dirent({child, static_cast<std::uint8_t>(info.mode >> 12), name});
  r[{child, kParent, up_key}] = encode_parent({parent, name});
  ++up.size;
  if (S_ISDIR(info.mode)) {
    info.nlink = 2;
    ++up.nlink;
  } else {
    ++info.nlink;
  }
  set_inode(id, child, info);
  set_inode(id, parent, up);
}

void RawStore::unlink(std::uint64_t id, std::uint64_t child, std::uint64_t parent,
                      std::string_view name) {
  auto& r = layer(id).records;
  auto info = inode(id, child);
  auto up = inode(id, parent);
  std::erase_if(r, [&](auto const& e) {
    if (e.first.inode == parent && e.first.kind == kDirent)
      return parse_dirent(e.first, bytes_of(e.second))->name == name;
    if (e.first.inode == child && e.first.kind == kParent)
      return parse_parent(e.first, bytes_of(e.second))->name == name;
    return false;
  });
  --up.size;
  set_inode(id, parent, up);
  if (--info.nlink == 0) {
    std::erase_if(r, [&](auto const& e) { return e.first.inode == child; });
  } else {
    set_inode(id, child, info);
  }
}

std::uint64_t RawStore::dir(std::uint64_t id, std::uint64_t parent, std::string_view name) {
  auto const n = new_inode(id, S_IFDIR | 0755);
  auto info = inode(id, n);
  set_inode(id, n, info);
  link(id, n, parent, name);
  return n;
}

void RawStore::data(std::uint64_t id, std::uint64_t n, std::string_view bytes) {
  auto info = inode(id, n);
  info.size = bytes.size();
  auto& r = layer(id).records;
  if (bytes.size() <= kInlineMax) {
    if (bytes.find_first_not_of('\0') != std::string_view::npos) r[{n, kInline, 0}] = bytes;
  } else {
    auto const is_hole = [&](std::size_t at) {
      auto const block = bytes.substr(at, kBlockSize);
      return block.find_first_not_of('\0') == std::string_view::npos;
    };
    for (std::size_t at = 0; at < bytes.size();) {
      if (is_hole(at)) {
        at += kBlockSize;
        continue;
      }
      std::vector<le32> sums;
      AlignedBuffer buffer(kMaxExtentBlocks * kBlockSize);
      std::memset(buffer.data(), 0, buffer.size());
      auto const from = at;
      while (at < bytes.size() && sums.size() < kMaxExtentBlocks && !is_hole(at)) {
        auto const part = bytes.substr(at, kBlockSize);
        auto const block = buffer.span().subspan(at - from, kBlockSize);
        std::memcpy(block.data(), part.data(), part.size());
        sums.emplace_back(crc32c(block));
        at += kBlockSize;
      }
      auto const count = static_cast<std::uint32_t>(sums.size());
      auto const start = allocate(count);
      must(device_->write(start * kBlockSize,
                          std::span<std::byte const>(buffer.span()).first(count * kBlockSize)));
      std::vector<std::byte> value;
      encode_extent({start, id, count, sums}, value);
      r[{n, kExtent, from}] = text_of(value);
      info.blocks += count;
    }
  }
  set_inode(id, n, info);
}

std::uint64_t RawStore::file(std::uint64_t id, std::uint64_t parent, std::string_view name,
                             std::string_view bytes) {
  auto const n = new_inode(id, S_IFREG | 0644);
  link(id, n, parent, name);
  data(id, n, bytes);
  return n;
}

std::uint64_t RawStore::symlink(std::uint64_t id, std::uint64_t parent, std::string_view name,
                                std::string_view target) {
  auto const n = superblock.next_inode++;
  InodeInfo info;
  info.mode = S_IFLNK | 0777;
  info.size = target.size();
  set_inode(id, n, info);
  layer(id).records[{n, kInline, 0}] = target;
  link(id, n, parent, name);
  return n;
}

std::uint64_t RawStore::orphan(std::uint64_t id) {
  auto const n = new_inode(id, S_IFREG | 0600);
  layer(id).records[{0, kOrphan, n}] = "";
  return n;
}

void RawStore::xattr(std::uint64_t id, std::uint64_t n, std::string_view name,
                     std::string_view value) {
  auto& r = layer(id).records;
  auto const key =
      free_probe(r, {n, kXattr, xattr_key(superblock.hash_seed, name)}, kXattrProbeStep);
  r[{n, kXattr, key}] = encode_xattr(
      {name, static_cast<std::uint32_t>(value.size()), bytes_of(value.substr(0, kXattrChunk))});
  for (std::size_t at = kXattrChunk, chunk = 1; at < value.size(); at += kXattrChunk, ++chunk)
    r[{n, kXattr, key + chunk}] = value.substr(at, kXattrChunk);
}

std::uint64_t RawStore::add_image(std::string_view name, std::uint64_t top, std::string_view config,
                                  std::string_view manifest) {
  ImageInfo i;
  i.id = superblock.next_id++;
  i.top_layer = top;
  for (auto l = top; l != 0; l = layer(l).info.parent) ++i.layer_count;
  if (top != 0) ++layer(top).info.images;
  i.config_digest = sha256(config);
  i.manifest_digest = sha256(manifest);
  i.config_size = static_cast<std::uint32_t>(config.size());
  i.manifest_size = static_cast<std::uint32_t>(manifest.size());
  i.name_count = 1;
  auto& r = store_records;
  r[{i.id, kImage, 0}] = encode_image(i);
  auto const key = name_key(superblock.hash_seed, name);
  r[{i.id, kImageName, key}] = name;
  r[{0, kName, free_probe(r, {0, kName, key}, 1)}] = encode_name({i.id, NameType::kImage, name});
  r[{0, kDigest, free_probe(r, {0, kDigest, digest_key(i.config_digest)}, 1)}] =
      encode_digest({i.config_digest, i.id, NameType::kImage});
  auto const blob = [&](BlobKind kind, std::string_view text) {
    for (std::size_t at = 0, n = 0; at < text.size(); at += kBlobChunk, ++n)
      r[{i.id, kBlob, std::uint64_t{static_cast<std::uint32_t>(kind)} << 32 | n}] =
          text.substr(at, kBlobChunk);
  };
  blob(BlobKind::kConfig, config);
  blob(BlobKind::kManifest, manifest);
  ++superblock.image_count;
  return i.id;
}

NodePtr RawStore::write_leaf(Records const& records, std::uint64_t owner) {
  auto const block = allocate(kNodeBlocks);
  AlignedBuffer buffer(kNodeSize);
  NodeEditor node(buffer.data());
  node.init(block, owner, superblock.generation, 0, superblock.uuid);
  for (auto const& [key, value] : records)
    if (!node.insert(node.count(), key, bytes_of(value))) throw std::runtime_error("leaf too full");
  NodePtr ptr;
  ptr.block.set(block);
  ptr.generation.set(superblock.generation);
  ptr.checksum.set(seal_node(buffer.span()));
  must(device_->write(block * kBlockSize, std::span<std::byte const>(buffer.span())));
  return ptr;
}

NodePtr RawStore::write_branches(std::vector<std::pair<Key, NodePtr>> children, std::uint64_t owner,
                                 std::vector<std::uint64_t>& nodes) {
  constexpr std::size_t kFanout = 6;  // small, so that little trees are deep
  for (std::uint8_t level = 1; children.size() > 1; ++level) {
    std::vector<std::pair<Key, NodePtr>> above;
    for (std::size_t i = 0; i < children.size(); i += kFanout) {
      auto const block = allocate(kNodeBlocks);
      AlignedBuffer buffer(kNodeSize);
      NodeEditor node(buffer.data());
      node.init(block, owner, superblock.generation, level, superblock.uuid);
      for (std::size_t c = i; c < std::min(i + kFanout, children.size()); ++c)
        node.insert_child(node.count(), children[c].first, children[c].second);
      NodePtr ptr;
      ptr.block.set(block);
      ptr.generation.set(superblock.generation);
      ptr.checksum.set(seal_node(buffer.span()));
      must(device_->write(block * kBlockSize, std::span<std::byte const>(buffer.span())));
      above.emplace_back(children[i].first, ptr);
      nodes.push_back(block);
    }
    children = std::move(above);
  }
  return children.at(0).second;
}

void RawStore::seal_layer(std::uint64_t id) {
  auto& l = layer(id);
  auto const* parent = l.info.parent == 0 ? nullptr : &layer(l.info.parent);
  l.leaves.clear();
  std::vector<std::uint64_t> nodes;
  // Cut where the parent's leaves are cut, so that what is the same can be shared.
  auto at = l.records.begin();
  std::size_t cut = 0;
  while (at != l.records.end()) {
    Leaf leaf;
    leaf.low = at->first;
    Key end = kMaxKey;
    if (parent != nullptr) {
      while (cut < parent->leaves.size() && parent->leaves[cut].low <= at->first) ++cut;
      if (cut < parent->leaves.size()) end = parent->leaves[cut].low;
    }
    std::size_t size = 0;
    while (at != l.records.end() && leaf.records.size() < per_leaf_ && at->first < end &&
           size < 11000) {
      size += at->second.size() + sizeof(LeafSlot);
      leaf.records.insert(*at++);
    }
    Leaf const* same = nullptr;
    if (parent != nullptr)
      for (auto const& p : parent->leaves)
        if (p.records == leaf.records) same = &p;
    if (same != nullptr) {
      leaf.ptr = same->ptr;
    } else {
      leaf.ptr = write_leaf(leaf.records, id);
      nodes.push_back(leaf.ptr.block.get());
    }
    l.leaves.push_back(std::move(leaf));
  }
  if (parent != nullptr && parent->records == l.records) {
    l.info.root = parent->info.root;
  } else {
    std::vector<std::pair<Key, NodePtr>> children;
    for (auto const& leaf : l.leaves) children.emplace_back(leaf.low, leaf.ptr);
    l.info.root = write_branches(std::move(children), id, nodes);
  }
  l.own.clear();
  for (auto const block : nodes) l.own[block] = kNodeBlocks;
  std::uint64_t data = 0;
  l.info.inodes = 0;
  for (auto const& [key, value] : l.records) {
    if (key.kind == kInode) ++l.info.inodes;
    if (key.kind != kExtent) continue;
    auto const e = parse_extent(key, bytes_of(value), superblock.total_blocks);
    if (!e) continue;
    data += e->count;
    if (e->owner == id) l.own[e->block] = e->count;
  }
  // Nodes that the tree reaches: own and inherited branches and leaves.  Branches are never shared
  // here but by whole trees.
  std::uint64_t reached = nodes.size();
  for (auto const& leaf : l.leaves)
    if (std::find(nodes.begin(), nodes.end(), leaf.ptr.block.get()) == nodes.end()) ++reached;
  l.info.used_blocks = data + reached * kNodeBlocks;
  if (parent != nullptr && parent->info.root == l.info.root)
    l.info.used_blocks = parent->info.used_blocks;
}

void RawStore::seal() {
  for (auto& [id, l] : layers_)
    if (l.info.root.block.get() == 0) seal_layer(id);
  superblock.layer_blocks = 0;
  superblock.layer_count = layers_.size();
  auto& r = store_records;
  for (auto& [id, l] : layers_) {
    std::vector<RunInfo> runs;
    for (auto const& [start, count] : l.own) {
      if (!runs.empty() && runs.back().start + runs.back().count == start)
        runs.back().count += count;
      else
        runs.push_back({id, start, count});
    }
    l.info.own_blocks = 0;
    for (auto const& run : runs) {
      r[{id, kRun, run.start}] = encode_run(run);
      l.info.own_blocks += run.count;
    }
    superblock.layer_blocks += l.info.own_blocks;
    r[{id, kLayer, 0}] = encode_layer(l.info);
    if (l.info.state != LayerState::kDying)
      r[{0, kName, free_probe(r, {0, kName, name_key(superblock.hash_seed, l.info.name)}, 1)}] =
          encode_name({id, NameType::kLayer, l.info.name});
    if (l.info.has_digests)
      r[{0, kDigest, free_probe(r, {0, kDigest, digest_key(l.info.chain_id)}, 1)}] =
          encode_digest({l.info.chain_id, id, NameType::kLayer});
  }
}

void RawStore::write() {
  store_nodes.clear();
  std::vector<std::pair<Key, NodePtr>> children;
  Records part;
  std::size_t size = 0;
  auto const out = [&] {
    if (part.empty()) return;
    auto const ptr = write_leaf(part, 0);
    store_nodes.push_back(ptr.block.get());
    children.emplace_back(part.begin()->first, ptr);
    part.clear();
    size = 0;
  };
  for (auto const& e : store_records) {
    if (part.size() >= per_leaf_ || size + e.second.size() > 11000) out();
    part.insert(e);
    size += e.second.size() + sizeof(LeafSlot);
  }
  out();
  superblock.store_root =
      children.empty() ? NodePtr{} : write_branches(std::move(children), 0, store_nodes);
  superblock.store_tree_blocks = store_nodes.size() * kNodeBlocks;
  AlignedBuffer block(kBlockSize);
  encode_superblock(superblock, std::span<std::byte, kBlockSize>(block.data(), kBlockSize));
  must(device_->write(kSlotBlock[superblock.slot] * kBlockSize,
                      std::span<std::byte const>(block.span())));
}

std::string RawStore::read(std::uint64_t at, std::size_t size) {
  auto const from = at / kBlockSize * kBlockSize;
  auto const to = (at + size + kBlockSize - 1) / kBlockSize * kBlockSize;
  AlignedBuffer buffer(to - from);
  must(device_->read(from, buffer.span()));
  return text_of(buffer.span().subspan(at - from, size));
}

void RawStore::put(std::uint64_t at, std::string_view bytes) {
  AlignedBuffer buffer((bytes.size() + kBlockSize - 1) / kBlockSize * kBlockSize);
  std::memset(buffer.data(), 0, buffer.size());
  std::memcpy(buffer.data(), bytes.data(), bytes.size());
  must(device_->write(at, std::span<std::byte const>(buffer.span())));
}

void RawStore::flip(std::uint64_t at, std::uint8_t bits) {
  auto const from = at / kBlockSize * kBlockSize;
  auto block = read(from, kBlockSize);
  block[at - from] = static_cast<char>(block[at - from] ^ bits);
  put(from, block);
}

}  // namespace lcfs::test
