// SPDX-License-Identifier: Apache-2.0
#include "format/node.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "format/hash.h"

namespace lcfs::format {

namespace {

Error damage(std::size_t offset, std::string what) {
  return Error::corrupt(std::move(what)).at(offset);
}

constexpr std::size_t slot_at(std::uint32_t i) { return sizeof(NodeHeader) + i * sizeof(LeafSlot); }
constexpr std::size_t entry_at(std::uint32_t i) {
  return sizeof(NodeHeader) + i * sizeof(BranchEntry);
}

Status check_leaf(NodeReader const& node) {
  auto const& h = node.header();
  std::uint32_t const count = node.count();
  if (count > kLeafRoom / sizeof(LeafSlot))
    return damage(offsetof(NodeHeader, count), fmt::format("{} slots do not fit", count));
  std::uint32_t const heap = h.heap.get();
  if (heap < slot_at(count) || heap > kNodeSize) {
    return damage(offsetof(NodeHeader, heap),
                  fmt::format("heap {:#x} is inside the slots or past the node", heap));
  }
  std::vector<std::pair<std::uint32_t, std::uint32_t>> values;  // offset, size: to find overlaps
  values.reserve(count);
  std::uint64_t used = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    auto const& s = node.slot(i);
    if (s.reserved0 != 0)
      return damage(slot_at(i) + offsetof(LeafSlot, reserved0), "reserved byte is not zero");
    std::uint32_t const at = s.value_offset.get(), size = s.value_size.get();
    if (size > kMaxValue)
      return damage(slot_at(i) + offsetof(LeafSlot, value_size),
                    fmt::format("value of {} bytes", size));
    if (at < heap || at > kNodeSize || size > kNodeSize - at) {
      return damage(slot_at(i) + offsetof(LeafSlot, value_offset),
                    fmt::format("value at {:#x} outside the heap", at));
    }
    if (i > 0 && !(node.key(i - 1) < node.key(i))) return damage(slot_at(i), "keys out of order");
    used += size;
    if (size != 0) values.emplace_back(at, size);
  }
  std::sort(values.begin(), values.end());
  for (std::size_t i = 1; i < values.size(); ++i) {
    if (values[i].first - values[i - 1].first < values[i - 1].second)
      return damage(values[i].first, "values overlap");
  }
  if (used + h.garbage.get() != kNodeSize - heap) {
    return damage(offsetof(NodeHeader, garbage),
                  fmt::format("garbage {} does not match the heap", h.garbage.get()));
  }
  return {};
}

Status check_branch(NodeReader const& node, std::uint64_t total_blocks) {
  auto const& h = node.header();
  std::uint32_t const count = node.count();
  if (count == 0 || count > kBranchMax)
    return damage(offsetof(NodeHeader, count), fmt::format("{} children", count));
  if (h.heap.get() != 0) return damage(offsetof(NodeHeader, heap), "heap in a branch");
  if (h.garbage.get() != 0) return damage(offsetof(NodeHeader, garbage), "garbage in a branch");
  for (std::uint32_t i = 0; i < count; ++i) {
    auto const& e = node.entry(i);
    if (e.reserved0 != std::array<std::uint8_t, 3>{}) {
      return damage(entry_at(i) + offsetof(BranchEntry, reserved0), "reserved bytes are not zero");
    }
    std::uint64_t const block = e.child.block.get();
    if (block < kReservedBlocks || total_blocks < kNodeBlocks ||
        block > total_blocks - kNodeBlocks) {
      return damage(entry_at(i) + offsetof(BranchEntry, child),
                    fmt::format("child at block {} is outside the store", block));
    }
    if (e.child.generation.get() > h.generation.get()) {
      return damage(entry_at(i) + offsetof(BranchEntry, child) + offsetof(NodePtr, generation),
                    "child is younger than its parent");
    }
    if (i > 0 && !(node.key(i - 1) < node.key(i))) return damage(entry_at(i), "keys out of order");
  }
  return {};
}

}  // namespace

bool names_store(StoreId const& says, StoreId const& uuid) {
  if (says == uuid) return true;
  return std::equal(says.begin(), says.begin() + kStoreIdBefore, uuid.begin()) &&
         std::all_of(says.begin() + kStoreIdBefore, says.end(),
                     [](std::uint8_t b) { return b == 0; });
}

Status check_node(std::span<std::byte const> bytes, NodeExpectation const& expect,
                  std::uint64_t total_blocks) {
  if (bytes.size() < kNodeSize) return damage(0, "node cut short");
  NodeReader const node(bytes.data());
  auto const& h = node.header();
  if (h.magic.get() != kNodeMagic)
    return damage(0, fmt::format("not a node: magic {:#010x}", h.magic.get()));
  if (!expect.skip_checksum) {
    std::uint32_t const sum =
        crc32c(bytes.subspan(offsetof(NodeHeader, block), kNodeSize - offsetof(NodeHeader, block)));
    if (h.checksum.get() != sum) {
      return damage(offsetof(NodeHeader, checksum),
                    fmt::format("checksum mismatch: computed {:#010x}, stored {:#010x}", sum,
                                h.checksum.get()));
    }
    if (sum != expect.checksum) {
      return damage(offsetof(NodeHeader, checksum),
                    fmt::format("valid node, but not the one its parent points to (checksum "
                                "{:#010x}, expected {:#010x})",
                                sum, expect.checksum));
    }
  }
  if (h.block.get() != expect.block) {
    return damage(offsetof(NodeHeader, block),
                  fmt::format("node of block {} found at block {}", h.block.get(), expect.block));
  }
  if (h.generation.get() != expect.generation) {
    return damage(offsetof(NodeHeader, generation),
                  fmt::format("node of generation {}, its parent expects {}", h.generation.get(),
                              expect.generation));
  }
  if (!names_store(h.store, expect.store))
    return damage(offsetof(NodeHeader, store), "node belongs to another store");
  if (h.level > expect.max_level || (expect.exact_level && h.level != expect.max_level)) {
    return damage(offsetof(NodeHeader, level),
                  fmt::format("node of level {} where {} is expected", h.level, expect.max_level));
  }
  if (h.reserved0 != 0) return damage(offsetof(NodeHeader, reserved0), "reserved byte is not zero");
  if (h.reserved1 != std::array<std::uint8_t, 8>{}) {
    return damage(offsetof(NodeHeader, reserved1), "reserved bytes are not zero");
  }
  return node.leaf() ? check_leaf(node) : check_branch(node, total_blocks);
}

std::uint32_t seal_node(std::span<std::byte> bytes) {
  std::uint32_t const sum =
      crc32c(bytes.subspan(offsetof(NodeHeader, block), kNodeSize - offsetof(NodeHeader, block)));
  reinterpret_cast<NodeHeader*>(bytes.data())->checksum.set(sum);
  return sum;
}

std::uint32_t NodeReader::lower_bound(Key const& k) const {
  std::uint32_t low = 0, high = count();
  while (low < high) {
    std::uint32_t const mid = (low + high) / 2;
    if (key_of(slot(mid)) < k) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return low;
}

std::uint32_t NodeReader::free_bytes() const {
  auto const& h = header();
  return h.heap.get() - static_cast<std::uint32_t>(slot_at(count())) + h.garbage.get();
}

std::uint32_t NodeReader::child_for(Key const& k) const {
  std::uint32_t low = 1, high = count();  // entry 0 takes everything below entry 1
  while (low < high) {
    std::uint32_t const mid = (low + high) / 2;
    if (key_of(entry(mid)) <= k) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return low - 1;
}

void NodeEditor::init(std::uint64_t block, std::uint64_t owner, std::uint64_t generation,
                      std::uint8_t level, StoreId const& store) {
  std::memset(p_, 0, kNodeSize);
  auto& h = mutable_header();
  h.magic.set(kNodeMagic);
  h.block.set(block);
  h.owner.set(owner);
  h.generation.set(generation);
  h.level = level;
  h.store = store;
  h.heap.set(level == 0 ? static_cast<std::uint16_t>(kNodeSize) : 0);
}

bool NodeEditor::insert(std::uint32_t i, Key const& key, std::span<std::byte const> value) {
  auto& h = mutable_header();
  std::uint32_t const n = count();
  auto const size = static_cast<std::uint32_t>(value.size());
  if (free_bytes() < sizeof(LeafSlot) + size) return false;
  if (h.heap.get() - slot_at(n) < sizeof(LeafSlot) + size) compact();
  auto const at = static_cast<std::uint16_t>(h.heap.get() - size);
  std::memmove(p_ + slot_at(i + 1), p_ + slot_at(i), (n - i) * sizeof(LeafSlot));
  auto& s = mutable_slot(i);
  s.inode.set(key.inode);
  s.kind = key.kind;
  s.offset.set(key.offset);
  s.reserved0 = 0;
  s.value_offset.set(at);
  s.value_size.set(static_cast<std::uint16_t>(size));
  if (size != 0) std::memcpy(p_ + at, value.data(), size);
  h.heap.set(at);
  h.count.set(static_cast<std::uint16_t>(n + 1));
  return true;
}

bool NodeEditor::replace(std::uint32_t i, std::span<std::byte const> value) {
  auto& s = mutable_slot(i);
  auto const size = static_cast<std::uint32_t>(value.size());
  std::uint32_t const old = s.value_size.get();
  auto& h = mutable_header();
  if (size <= old) {
    if (size != 0) std::memcpy(p_ + s.value_offset.get(), value.data(), size);
    // The tail that is no longer named is garbage; zeroed, so that equal trees have equal bytes
    // more often.
    if (size < old) std::memset(p_ + s.value_offset.get() + size, 0, old - size);
    s.value_size.set(static_cast<std::uint16_t>(size));
    h.garbage.set(static_cast<std::uint16_t>(h.garbage.get() + (old - size)));
    return true;
  }
  if (free_bytes() + old < size) return false;
  s.value_size.set(0);
  h.garbage.set(static_cast<std::uint16_t>(h.garbage.get() + old));
  if (h.heap.get() - slot_at(count()) < size) compact();
  auto const at = static_cast<std::uint16_t>(h.heap.get() - size);
  s.value_offset.set(at);
  s.value_size.set(static_cast<std::uint16_t>(size));
  std::memcpy(p_ + at, value.data(), size);
  h.heap.set(at);
  return true;
}

void NodeEditor::erase(std::uint32_t i, std::uint32_t n) {
  auto& h = mutable_header();
  std::uint32_t const all = count();
  std::uint32_t gone = 0;
  for (std::uint32_t k = i; k < i + n; ++k) gone += slot(k).value_size.get();
  h.garbage.set(static_cast<std::uint16_t>(h.garbage.get() + gone));
  std::memmove(p_ + slot_at(i), p_ + slot_at(i + n), (all - i - n) * sizeof(LeafSlot));
  std::memset(p_ + slot_at(all - n), 0, n * sizeof(LeafSlot));
  h.count.set(static_cast<std::uint16_t>(all - n));
  if (n == all) {
    h.heap.set(static_cast<std::uint16_t>(kNodeSize));
    h.garbage.set(0);
  }
}

std::span<std::byte> NodeEditor::mutable_value(std::uint32_t i) {
  auto const& s = slot(i);
  return {p_ + s.value_offset.get(), s.value_size.get()};
}

bool NodeEditor::insert_child(std::uint32_t i, Key const& key, NodePtr const& child) {
  std::uint32_t const n = count();
  if (n == kBranchMax) return false;
  std::memmove(p_ + entry_at(i + 1), p_ + entry_at(i), (n - i) * sizeof(BranchEntry));
  auto& e = mutable_entry(i);
  e.reserved0 = {};
  e.child = child;
  mutable_header().count.set(static_cast<std::uint16_t>(n + 1));
  set_child_key(i, key);
  return true;
}

void NodeEditor::set_child_key(std::uint32_t i, Key const& key) {
  auto& e = mutable_entry(i);
  e.inode.set(key.inode);
  e.kind = key.kind;
  e.offset.set(key.offset);
}

void NodeEditor::erase_child(std::uint32_t i) {
  std::uint32_t const n = count();
  std::memmove(p_ + entry_at(i), p_ + entry_at(i + 1), (n - i - 1) * sizeof(BranchEntry));
  std::memset(p_ + entry_at(n - 1), 0, sizeof(BranchEntry));
  mutable_header().count.set(static_cast<std::uint16_t>(n - 1));
}

void NodeEditor::move_tail(std::uint32_t from, NodeEditor& to) {
  std::uint32_t const n = count();
  if (leaf()) {
    for (std::uint32_t i = from; i < n; ++i) to.insert(to.count(), key(i), value(i));
    for (std::uint32_t i = n; i > from; --i) erase(i - 1);
  } else {
    for (std::uint32_t i = from; i < n; ++i) to.insert_child(to.count(), key(i), entry(i).child);
    for (std::uint32_t i = n; i > from; --i) erase_child(i - 1);
  }
}

void NodeEditor::compact() {
  std::vector<std::byte> old(p_, p_ + kNodeSize);
  NodeReader const was(old.data());
  std::uint32_t at = kNodeSize;
  for (std::uint32_t i = 0; i < count(); ++i) {
    auto const value = was.value(i);
    at -= static_cast<std::uint32_t>(value.size());
    if (!value.empty()) std::memcpy(p_ + at, value.data(), value.size());
    mutable_slot(i).value_offset.set(static_cast<std::uint16_t>(at));
  }
  auto& h = mutable_header();
  // Erased bytes must not remain in a node.
  std::memset(p_ + slot_at(count()), 0, at - slot_at(count()));
  h.heap.set(static_cast<std::uint16_t>(at));
  h.garbage.set(0);
}

}  // namespace lcfs::format
