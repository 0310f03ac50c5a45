// SPDX-License-Identifier: Apache-2.0
// A small sound store with bytes changed where the input says, then fsck, every read through the
// engine, and a repair.  With its checksums in force, any change in a block that is in use must be
// found, with an offset inside the device, and nothing wrong be read; past them, fsck must end,
// whatever it reads.  A repaired store is clean.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "fsck/check.h"
#include "fsck/repair.h"
#include "tests/support/contents.h"
#include "tests/support/raw_store.h"

using namespace lcfs;
using namespace lcfs::device;
using namespace lcfs::format;

namespace {

void require(bool holds) {
  if (!holds) __builtin_trap();
}

struct Fixture {
  test::RawStore store;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> used;  // bytes: start, length

  Fixture() {
    auto const base = store.add_layer("base", 0);
    auto const etc = store.dir(base, store.root(base), "etc");
    auto const a = store.file(base, etc, "a", std::string(9000, 'a'));
    store.file(base, etc, "b", "inline");
    store.link(base, a, store.root(base), "hard");
    store.symlink(base, etc, "l", "a");
    store.xattr(base, a, "user.x", std::string(4000, 'x'));
    for (int i = 0; i < 20; ++i) store.file(base, etc, "f" + std::to_string(i), "x");
    store.seal_layer(base);
    auto const child = store.add_layer("child", base);
    store.file(child, etc, "c", std::string(5000, 'c'));
    store.orphan(child);
    store.seal_layer(child);
    store.add_layer("clone", child);
    store.add_image("image:1", base, std::string(5000, '{'), "manifest");
    store.seal();
    store.write();
    used.emplace_back(
        0, sizeof(Superblock));  // it has no written runs, and what else is behind it means nothing
    for (auto const& [key, value] : store.store_records)
      if (key.kind == kRun)
        used.emplace_back(
            key.offset * kBlockSize,
            parse_run(key, std::as_bytes(std::span{value}), store.superblock.total_blocks)->count *
                kBlockSize);
    for (auto const block : store.store_nodes) used.emplace_back(block * kBlockSize, kNodeSize);
    auto const r = fsck::check(store.device(), {});
    require(r.ok() && r->findings.empty());
  }
};

// Mends a copy, so that the fixture stays; then a second run has nothing to say.
void mend_copy(Device& damaged, fsck::Options const& how, test::Contents const& sound) {
  auto const copy = test::copy_of(damaged);
  fsck::RepairOptions repair;
  repair.check = how;
  repair.ask = [](fsck::Proposal const& p) {
    require(!p.text.empty());
    return true;
  };
  auto const done = fsck::repair(*copy, repair);
  if (!done) return require(!done.error().message.empty());
  auto const again = fsck::check(*copy, how);
  require(again.ok() && again->clean());
  require(done->changed == !done->before.clean());
  if (how.skip_checksum) return;
  // Files are what they were, or gone.
  auto const now = test::contents_of(*copy);
  require(now.has_value());
  for (auto const& [path, text] : *now) {
    auto const it = sound.find(path);
    if (it == sound.end() || it->second.starts_with("16") ||
        text.find(" user.") != std::string::npos)
      continue;
    require(it->second.starts_with(text));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  static Fixture fixture;
  static auto const sound = *test::contents_of(fixture.store.device());
  // Input: one byte of mode, then changes of 6 bytes: which block in use, offset in it, new byte,
  // next byte if odd.
  if (size < 7) return 0;
  bool const skip = (data[0] & 1) != 0;
  struct Undo {
    std::uint64_t at;
    std::string bytes;
  };
  std::vector<Undo> undo;
  bool changed = false;
  for (std::size_t i = 1; i + 6 <= size && undo.size() < 16; i += 6) {
    auto const& [start, length] = fixture.used[data[i] % fixture.used.size()];
    auto const into = (std::uint64_t{data[i + 1]} | std::uint64_t{data[i + 2]} << 8 |
                       std::uint64_t{data[i + 3]} << 16) %
                      length;
    auto const at = (start + into) / kBlockSize * kBlockSize;
    auto block = fixture.store.read(at, kBlockSize);
    undo.push_back({at, block});
    // Small numbers in little-endian fields: one or two bytes.
    auto const in_block = (start + into) % kBlockSize;
    block[in_block] = static_cast<char>(data[i + 4]);
    if ((data[i + 5] & 1) != 0 && into + 1 < length && in_block + 1 < kBlockSize)
      block[in_block + 1] = static_cast<char>(data[i + 5]);
    fixture.store.put(at, block);
  }
  // Changes may undo one another: compare with the first copy of each block.
  for (std::size_t i = 0; i < undo.size(); ++i) {
    auto const first =
        std::find_if(undo.begin(), undo.end(), [&](Undo const& u) { return u.at == undo[i].at; });
    changed = changed || fixture.store.read(undo[i].at, kBlockSize) != first->bytes;
  }
  fsck::Options options;
  options.skip_checksum = skip;
  options.search = (data[0] & 2) != 0;
  options.threads = 1;
  options.max_findings = 1000;
  auto const r = fsck::check(fixture.store.device(), options);
  if (r) {
    auto const& c = r->counters;
    require(r->findings.size() <= options.max_findings);
    for (auto const& f : r->findings) {
      require(!f.text.empty() && !f.line().empty());
      require(f.offset == kNoOffset || f.offset < fixture.store.device().size());
    }
    if (!skip) require(r->clean() == !changed);
    // Sound by all checks but the checksums: then at least the sum of space is right.
    if (r->clean())
      require(c.total == c.reserved + c.store_tree + c.layer_nodes + c.layer_data + c.dying +
                             c.history + c.free);
    if (changed) {
      if (!skip)
        if (auto const seen = test::contents_of(fixture.store.device()))
          for (auto const& [path, text] : *seen)
            require(text.find(test::kUnreadable) != std::string::npos || sound.at(path) == text);
      mend_copy(fixture.store.device(), options, sound);
    }
  } else {
    require(changed && !r.error().message.empty());
  }
  for (auto it = undo.rbegin(); it != undo.rend(); ++it) fixture.store.put(it->at, it->bytes);
  return 0;
}
