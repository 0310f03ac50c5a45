// SPDX-License-Identifier: Apache-2.0
#include "verify/tree_digest.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/zero.h"
#include "engine/snapshot.h"
#include "oci/sha256.h"
#include "verify/held.h"

namespace lcfs::verify {

namespace {

constexpr std::string_view kMagic = "lcfs tree 1\n";
constexpr std::size_t kSame = ~std::size_t{0};

struct Entry {
  std::string path{};
  Inode inode = 0;
  InodeInfo info{};
  std::size_t first = kSame;  // another name of the entry there
  Digest content{};           // of a regular file
};

// All names in the order of the definition.
Result<std::vector<Entry>> list(LayerSnapshot& layer) {
  struct Frame {
    std::string path{};
    std::vector<LayerSnapshot::Name> names{};
    std::size_t next = 0;
  };
  std::vector<Entry> out;
  std::vector<Frame> way;
  std::unordered_map<Inode, std::size_t> linked;  // files with several names
  LCFS_TRY_ASSIGN(auto const root, layer.inode(layer.info().root_inode));
  out.push_back({"", layer.info().root_inode, root, kSame, {}});
  LCFS_TRY_ASSIGN(auto top, layer.entries(layer.info().root_inode));
  way.push_back({"", std::move(top), 0});
  while (!way.empty()) {
    if (way.back().next == way.back().names.size()) {
      way.pop_back();
      continue;
    }
    auto const& name = way.back().names[way.back().next++];
    Entry e;
    e.path = way.back().path.empty() ? name.name : way.back().path + "/" + name.name;
    e.inode = name.inode;
    LCFS_TRY_ASSIGN(e.info, layer.inode(name.inode));
    bool const directory = S_ISDIR(e.info.mode);
    if (!directory && e.info.nlink > 1) {
      auto const [it, fresh] = linked.emplace(e.inode, out.size());
      if (!fresh) e.first = it->second;
    }
    out.push_back(e);
    if (!directory) continue;
    if (way.size() > layer.info().inodes)
      return Error::corrupt("a directory contains itself; run lcfs fsck");
    LCFS_TRY_ASSIGN(auto below, layer.entries(name.inode));
    way.push_back({std::move(e.path), std::move(below), 0});
  }
  return out;
}

void put(oci::Sha256& hash, std::uint64_t value, std::size_t bytes) {
  std::array<std::byte, 8> raw{};
  for (std::size_t i = 0; i < bytes; ++i) raw[i] = static_cast<std::byte>(value >> (8 * i));
  hash.update(std::span(raw).first(bytes));
}

void put(oci::Sha256& hash, std::string_view text) {
  put(hash, text.size(), 4);
  hash.update(std::as_bytes(std::span(text)));
}

// Hashes the blocks that are not zero, with their numbers: holes cost nothing and do not matter.
Result<Digest> content_digest(LayerSnapshot& layer, Entry const& e, AlignedBuffer& buffer,
                              std::atomic<std::uint64_t>& read) {
  oci::Sha256 hash;
  for (std::uint64_t at = 0; at < e.info.size;) {
    LCFS_TRY_ASSIGN(auto const data, layer.next_data(e.inode, at));
    if (data >= e.info.size) break;
    at = data / kBlockSize * kBlockSize;
    auto const wanted = static_cast<std::size_t>(
        std::min<std::uint64_t>(LayerSnapshot::kMaxRead, e.info.size - at));
    auto const whole = (wanted + kBlockSize - 1) / kBlockSize * kBlockSize;
    LCFS_TRY(layer.read(e.inode, at, buffer, whole));
    std::fill(buffer.span().begin() + static_cast<std::ptrdiff_t>(wanted),
              buffer.span().begin() + static_cast<std::ptrdiff_t>(whole),
              std::byte{0});  // after the end
    for (std::size_t b = 0; b < whole; b += kBlockSize) {
      auto const block = buffer.span().subspan(b, kBlockSize);
      if (is_zero(block)) continue;
      put(hash, (at + b) / kBlockSize, 8);
      hash.update(block);
    }
    read.fetch_add(wanted, std::memory_order_relaxed);
    at += whole;
  }
  return hash.finish();
}

// The content of all regular files, in the order of inodes, which is about that of the device.
Status hash_contents(Store& store, LayerInfo const& info, std::vector<Entry>& entries,
                     TreeDigestOptions const& options) {
  std::vector<std::size_t> files;
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (!S_ISREG(entries[i].info.mode) || entries[i].first != kSame) continue;
    files.push_back(i);
    all += entries[i].info.blocks * kBlockSize;
  }
  std::sort(files.begin(), files.end(),
            [&](std::size_t a, std::size_t b) { return entries[a].inode < entries[b].inode; });
  std::atomic<std::size_t> next{0};
  std::atomic<std::uint64_t> read{0};
  std::atomic<bool> over{false};
  std::mutex mutex;  // guards `failed`
  std::optional<Error> failed;
  auto work = [&] {
    LayerSnapshot layer(store, info);  // each thread its own
    AlignedBuffer buffer(LayerSnapshot::kMaxRead);
    for (auto i = next++; i < files.size() && !over; i = next++) {
      if (options.stop != nullptr && *options.stop) {
        std::lock_guard const lock(mutex);
        failed = Error::interrupted();
        over = true;
        return;
      }
      auto& e = entries[files[i]];
      auto digest = content_digest(layer, e, buffer, read);
      if (!digest) {
        std::lock_guard const lock(mutex);
        if (!failed) failed = std::move(digest).error();
        over = true;
        return;
      }
      e.content = *digest;
      if (options.progress) options.progress(read, std::max(all, read.load()));
    }
  };
  auto const helpers =
      std::min<std::size_t>(options.threads > 0 ? options.threads - 1 : 0, files.size() / 8);
  std::vector<std::thread> threads;
  threads.reserve(helpers);
  for (std::size_t t = 0; t < helpers; ++t) threads.emplace_back(work);
  work();
  for (auto& t : threads) t.join();
  if (failed) return *failed;
  return {};
}

}  // namespace

Result<Digest> compute_tree_digest(Store& store, LayerId id, TreeDigestOptions const& options) {
  LCFS_TRY_ASSIGN(auto const held, hold_layers(store, std::span(&id, 1)));
  if (held.layers.empty()) return Error::not_found(fmt::format("no layer {}", id));
  LayerSnapshot layer(store, held.layers.front());
  LCFS_TRY_ASSIGN(auto entries, list(layer));
  LCFS_TRY(hash_contents(store, held.layers.front(), entries, options));
  oci::Sha256 hash;
  hash.update(std::as_bytes(std::span(kMagic)));
  for (auto const& e : entries) {
    put(hash, e.path);
    put(hash, e.first == kSame ? std::string_view{} : std::string_view(entries[e.first].path));
    if (e.first != kSame) continue;
    put(hash, e.info.mode, 4);
    put(hash, e.info.uid, 4);
    put(hash, e.info.gid, 4);
    put(hash, static_cast<std::uint64_t>(e.info.mtime.sec), 8);
    put(hash, e.info.mtime.nsec, 4);
    LCFS_TRY_ASSIGN(auto const xattrs, layer.xattrs(e.inode));
    put(hash, xattrs.size(), 4);
    for (auto const& [name, value] : xattrs) {
      put(hash, name);
      put(hash, value);
    }
    if (S_ISREG(e.info.mode)) {
      put(hash, e.info.size, 8);
      hash.update(std::as_bytes(std::span(e.content)));
    } else if (S_ISLNK(e.info.mode)) {
      LCFS_TRY_ASSIGN(auto const target, layer.target(e.inode));
      put(hash, target);
    } else if (S_ISCHR(e.info.mode) || S_ISBLK(e.info.mode)) {
      put(hash, e.info.rdev, 8);
    }
  }
  return hash.finish();
}

Result<Digest> tree_digest(Store& store, LayerId id, TreeDigestOptions const& options) {
  LCFS_TRY_ASSIGN(auto const known, store.tree_digest(id));
  if (known) return *known;
  LCFS_TRY_ASSIGN(auto const digest, compute_tree_digest(store, id, options));
  LCFS_TRY_ASSIGN(auto const info, store.layer_info(id));
  if (info.state == LayerState::kFrozen && !store.read_only())
    LCFS_TRY(store.set_tree_digest(id, digest));
  return digest;
}

}  // namespace lcfs::verify
