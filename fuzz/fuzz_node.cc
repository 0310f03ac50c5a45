// SPDX-License-Identifier: Apache-2.0
// Any bytes as a node, past the checksum: an accepted node is searched, edited, and still accepted;
// every record in it goes through its parser, and what a parser accepts comes back as it was.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "format/node.h"
#include "format/records.h"

using namespace lcfs;
using namespace lcfs::format;

namespace {

constexpr std::uint64_t kTotal = 1u << 20;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

template <class A, class B>
void same(A const& a, B const& b) {
  require(a.size() == b.size() &&
          (a.size() == 0 || std::memcmp(a.data(), b.data(), a.size()) == 0));
}

void parse(Key const& key, Bytes value) {
  if (auto r = parse_inode(key, value)) same(encode_inode(*r), value);
  if (auto r = parse_dirent(key, value)) same(encode_dirent(*r), value);
  if (auto r = parse_parent(key, value)) same(encode_parent(*r), value);
  if (auto r = parse_xattr(key, value)) {
    require(r->value_size <= kMaxXattr);
    same(encode_xattr(*r), value);
  }
  if (auto r = parse_extent(key, value, kTotal)) {
    require(r->block >= kReservedBlocks && r->block + r->count <= kTotal &&
            r->checksums.size() == r->count);
    std::vector<std::byte> out;
    encode_extent(*r, out);
    same(out, value);
  }
  if (auto r = parse_layer(key, value, kTotal)) {
    require(r->children == 0 || r->state == LayerState::kFrozen);
    same(encode_layer(*r), value);
  }
  if (auto r = parse_run(key, value, kTotal)) {
    require(r->start >= kReservedBlocks && r->start + r->count <= kTotal);
    same(encode_run(*r), value);
  }
  if (auto r = parse_image(key, value)) same(encode_image(*r), value);
  if (auto r = parse_name(key, value)) same(encode_name(*r), value);
  if (auto r = parse_digest(key, value)) same(encode_digest(*r), value);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  // The input is the head of a node and, from the end back, its tail: small inputs make whole
  // nodes.
  std::vector<std::byte> bytes(kNodeSize);
  auto const head = std::min<std::size_t>(size / 2, kNodeSize / 2);
  auto const tail = std::min<std::size_t>(size - head, kNodeSize / 2);
  if (head != 0) std::memcpy(bytes.data(), data, head);
  if (tail != 0) std::memcpy(bytes.data() + kNodeSize - tail, data + size - tail, tail);
  // What a pointer would say is taken from the node: else nothing gets past the first checks.
  auto& header = *reinterpret_cast<NodeHeader*>(bytes.data());
  header.magic.set(kNodeMagic);
  NodeExpectation expect;
  expect.block = header.block.get();
  expect.generation = header.generation.get();
  expect.store = header.store;
  expect.max_level = kMaxLevel;
  expect.skip_checksum = true;
  auto const checked = check_node(bytes, expect, kTotal);
  if (!checked) {
    require(checked.error().offset < kNodeSize);
    return 0;
  }
  NodeEditor node(bytes.data());
  for (std::uint32_t i = 0; i < node.count(); ++i) {
    auto const key = node.key(i);
    if (node.leaf()) {
      require(node.lower_bound(key) == i);
      auto const value = node.value(i);
      require(value.data() >= bytes.data() &&
              value.data() + value.size() <= bytes.data() + kNodeSize);
      parse(key, value);
      // The kind decides the parser; here each value meets all of them.
      for (std::uint8_t kind = kInode; kind <= kDigest; ++kind)
        parse({key.inode, kind, key.offset}, value);
    } else {
      require(node.child_for(key) == i);
      require(node.entry(i).child.block.get() + kNodeBlocks <= kTotal);
    }
  }
  // Edits keep it sound.
  if (node.leaf()) {
    std::vector<std::byte> const value(size % 300);
    Key const key{7, 3, size};
    auto const i = node.lower_bound(key);
    if (i < node.count() && node.key(i) == key)
      node.replace(i, value);
    else
      node.insert(i, key, value);
    if (node.count() > 1) node.erase(node.count() / 2);
  } else if (node.count() > 1) {
    node.erase_child(0);
  }
  require(check_node(bytes, expect, kTotal).ok());
  return 0;
}
