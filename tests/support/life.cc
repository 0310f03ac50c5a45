// SPDX-License-Identifier: Apache-2.0
#include "tests/support/life.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <stdexcept>
#include <utility>

#include "engine/import.h"
#include "engine/squash.h"
#include "oci/sha256.h"
#include "tests/support/importing.h"
#include "tests/support/layer_files.h"
#include "tests/support/support.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {
namespace {

void read_tree(Layer& layer, std::map<std::string, std::string>& files) {
  std::vector<std::pair<std::string, Inode>> todo{{"", layer.root()}};
  while (!todo.empty()) {
    auto const [path, directory] = todo.back();
    todo.pop_back();
    for (auto const& e : entries_of(layer, directory)) {
      auto const at = path.empty() ? e.name : path + "/" + e.name;
      auto const info = must(layer.getattr(e.inode)).info;
      auto& text = files[at];
      if (S_ISDIR(info.mode)) todo.emplace_back(at, e.inode);
      if (S_ISREG(info.mode)) text = content(layer, e.inode);
    }
  }
}

std::vector<LayerId> open_layers(Store& store) {
  std::vector<LayerId> open;
  for (auto const& l : all_layers(store)) {
    if (l.state == LayerState::kOpen) open.push_back(l.id);
  }
  return open;
}

// The operations of a life.  Each ends durable; what is written without being synced is synced
// before the next begins, so that the state before an operation is one that was promised.
class Living {
 public:
  Living(Store& store, std::uint64_t seed) : store_(store), rng_(seed) {}

  // Returns the generation that it went back to; 0: it did not.
  std::uint64_t step() {
    back_to_ = 0;
    act();
    return back_to_;
  }

 private:
  void act() {
    switch (open_.empty() ? 0 : below(20)) {
      case 0:
      case 1: return create();
      case 2: return import();
      case 3: return import_archive();
      case 4: return remove();
      case 5:
      case 6: return commit();
      case 7: return must(store_.rename_layer(some(), name("r")));
      case 8: return must(store_.set_quota(some(), 5000 + below(100)));
      case 9: return must(store_.grow(store_.space().total * kBlockSize + (1u << 20)));
      case 10: return use_removed();
      case 11: return go_back();
      case 12: return bring_back();
      case 13: return squash();
      case 14: return freeze();
      case 15: return images();
      case 16: return must(store_.drop_history(below(4)));
      default: write(*must(store_.layer(some()))); must(store_.checkpoint());
    }
  }
  std::uint64_t below(std::uint64_t n) { return rng_() % n; }
  LayerId& some() { return open_[below(open_.size())]; }
  std::string name(char const* prefix) { return prefix + std::to_string(named_++); }

  void create() {
    LayerId const parent = open_.empty() || below(2) == 0 ? 0 : some();
    auto const id = must(store_.create_layer(name("l"), parent));
    std::erase(open_, parent);
    open_.push_back(id);
  }
  void freeze() {
    auto const id = some();
    must(store_.freeze_layer(id));
    must(store_.checkpoint());
    std::erase(open_, id);
  }
  void remove() {
    auto const id = some();
    if (below(2) != 0) removed_.push_back(must(store_.layer(id)));
    must(store_.remove_layer(id));
    std::erase(open_, id);
  }
  void commit() {
    auto& id = some();
    auto const layer = must(store_.layer(id));
    id = must(store_.commit_layer(id, name("c")));
  }
  void squash() {
    std::atomic<bool> const stop{false};
    must(squash_layer(store_, 0, some(), name("s"), stop));
  }
  void use_removed() {
    if (removed_.empty()) return;
    write(*removed_.back());
    must(store_.checkpoint());
    if (below(2) != 0) removed_.pop_back();
  }
  void go_back() {
    removed_.clear();  // back, as a whole: nobody may have a layer then
    auto const history = store_.history();
    if (history.empty()) return;
    back_to_ = history[below(history.size())].checkpoint.generation;
    must(store_.go_back(back_to_));
    open_ = open_layers(store_);
  }
  void bring_back() {
    auto const history = store_.history();
    if (history.empty()) return;
    auto const then =
        must(store_.kept_contents(history[below(history.size())].checkpoint.generation)).layers;
    if (then.empty()) return;
    auto const back = store_.bring_back(then[below(then.size())].name, 0, name("b"));
    if (back && back->back().state == LayerState::kOpen) open_.push_back(back->back().id);
  }
  void images() {
    std::vector<ImageId> ids;
    must(store_.for_each_image([&ids](ImageDetails const& d) {
      ids.push_back(d.info.id);
      return true;
    }));
    if (ids.empty()) return;
    auto const id = ids[below(ids.size())];
    must(below(2) == 0 ? store_.tag_image(id, {name("tag:")}) : store_.remove_image(id, ""));
  }
  void write(Layer& layer) {
    for (int i = 0; i < 3; ++i) {
      std::string const file = "f" + std::to_string(below(6));
      auto at = layer.lookup(layer.root(), file);
      if (at && S_ISDIR(at->info.mode)) continue;
      Inode const inode =
          at ? at->inode : must(layer.create(layer.root(), file, {S_IFREG | 0644})).inode;
      if (below(5) == 0) {
        must(layer.unlink(layer.root(), file));
        continue;
      }
      std::string const data(below(3) == 0 ? 500 : below(150000),
                             static_cast<char>('a' + below(26)));
      must(layer.write(inode, below(50000), bytes_of(data)));
    }
  }
  void import() {
    int const number = named_++;
    ImportTransaction tx(store_);
    LayerId parent = 0;
    for (int l = 0; l < 2; ++l) {
      auto ingest = must(tx.begin_layer());
      std::string const data(below(200000), static_cast<char>('A' + below(26)));
      ingest->begin_content(data.size());
      must(ingest->append(bytes_of(data)));
      Content const c = must(ingest->end_content());
      must(ingest->delta().add_file("imported" + std::to_string(l), {.permissions = 0644}, c));
      LayerMeta meta;
      meta.chain_id.fill(static_cast<std::uint8_t>(number));
      meta.chain_id[8] = static_cast<std::uint8_t>(l);
      meta.chain_id[0] = static_cast<std::uint8_t>(rng_());
      parent = must(tx.stack(*ingest, parent, meta));
    }
    NewImage image;
    image.config = "{\"n\":" + std::to_string(number) + "}";
    image.manifest = "{}";
    image.config_digest = oci::sha256(image.config);
    image.manifest_digest = oci::sha256(image.manifest);
    image.names = {"image:" + std::to_string(number)};
    image.top_layer = parent;
    image.layer_count = 2;
    must(tx.add_image(image));
    must(tx.commit());
  }
  // The whole way: an archive with a layer that links to, hides and replaces what the one below
  // has, and their skeletons.
  void import_archive() {
    auto const text = [this] {
      return std::string(below(30000), static_cast<char>('0' + below(10))) +
             std::to_string(named_++);
    };
    TestImage image;
    image.name = name("archive");
    image.layers.push_back(gzip_layer(TarBuilder()
                                          .directory("d/")
                                          .file("d/one", text())
                                          .file("d/two", text())
                                          .symlink("l", "d")
                                          .hardlink("h", "d/one")
                                          .end()
                                          .text()));
    image.layers.push_back(plain_layer(TarBuilder()
                                           .file("d/.wh.two", "")
                                           .file("d/one", text())
                                           .hardlink("again", "h")
                                           .end()
                                           .text()));
    must(import_bytes(store_, tar_of(oci_members({image})), one_thread()));
  }

  Store& store_;
  std::mt19937_64 rng_;
  std::vector<LayerId> open_;
  std::vector<std::shared_ptr<Layer>> removed_;  // in use meanwhile
  int named_ = 0;
  std::uint64_t back_to_ = 0;
};

// What a process that is killed still does to a device.
class Killed final : public SharedDevice {
 public:
  Killed(std::shared_ptr<Device> below, std::size_t effects)
      : SharedDevice(std::move(below)), left_(effects) {}
  Status write(std::uint64_t o, std::span<iovec const> parts) override {
    return lives() ? SharedDevice::write(o, parts) : dead();
  }
  Status flush() override { return lives() ? SharedDevice::flush() : dead(); }
  Status discard(std::uint64_t o, std::uint64_t length) override {
    return lives() ? SharedDevice::discard(o, length) : dead();
  }
  Status resize(std::uint64_t size) override {
    return lives() ? SharedDevice::resize(size) : dead();
  }

 private:
  bool lives() {
    for (auto left = left_.load(); left > 0;)
      if (left_.compare_exchange_weak(left, left - 1)) return true;
    return false;
  }
  static Status dead() { return Error::io("killed"); }
  std::atomic<std::size_t> left_;
};

// The slot of the newer of two superblocks that both are whole.
// The newer slot, and the generation of the other one; nothing if one is none.
std::optional<std::pair<std::uint32_t, std::uint64_t>> newer_of_two(Device& disk) {
  std::uint64_t generations[2] = {};
  for (std::uint32_t s = 0; s < 2; ++s) {
    AlignedBuffer block(kBlockSize);
    must(disk.read(kSlotBlock[s] * kBlockSize, block.span()));
    auto const info = parse_superblock(block.span(), {s, disk.size(), false});
    if (!info) return std::nullopt;
    generations[s] = info->generation;
  }
  std::uint32_t const newer = generations[1] > generations[0] ? 1 : 0;
  return std::pair(newer, generations[1 - newer]);
}

}  // namespace

State state_of(Store& store) {
  State out;
  for (auto const& info : all_layers(store)) {
    auto& files = out[info.name];
    files["/"] = std::to_string(static_cast<int>(info.state)) + " serves " +
                 std::to_string(info.serve_id) + " quota " + std::to_string(info.quota_blocks);
    read_tree(*must(store.layer(info.id)), files);
  }
  must(store.for_each_image([&](ImageDetails const& d) {
    for (auto const& n : d.names) out["image " + n];
    return true;
  }));
  out["store"]["blocks"] = std::to_string(store.space().total);
  return out;
}

std::shared_ptr<Device> fresh_disk() {
  std::shared_ptr<Device> disk = make_memory_device(32u << 20);
  must(Store::format(*disk, {}));
  return disk;
}

Life::Life(std::shared_ptr<Device> disk, Plant plant)
    : disk_(std::move(disk)),
      recorder_(std::make_shared<RecordingDevice>(*disk_)),
      seen_(plant ? plant(recorder_) : recorder_) {}

std::unique_ptr<Store> Life::open(std::shared_ptr<Device> device) {
  OpenOptions options;
  options.dirty_data_file = 64u << 10;  // data is also placed between checkpoints
  return must(Store::open(std::make_unique<SharedDevice>(std::move(device)), options));
}

void Life::promise(Store& store) {
  auto const generation = store.superblock().generation;
  states_[generation] = state_of(store);
  promises_.push_back({recorder_->effects(), generation});
}

void Life::live(std::uint64_t seed, int steps) {
  auto const store = open(seen_);
  promise(*store);
  {
    Living living(*store, seed);
    for (int i = 0; i < steps; ++i) {
      auto const back = living.step();
      promise(*store);
      auto const then = states_.find(back);
      if (back == 0 || then == states_.end()) continue;
      auto is = state_of(*store);
      is["store"] = then->second.at("store");  // its size is today's
      if (is != then->second)
        throw std::runtime_error("going back made another state than that of the checkpoint");
    }
  }
  end(*store);
}

void Life::live(std::vector<std::function<void(Store&)>> const& steps) { go(*open(seen_), steps); }

void Life::live_until_killed(std::size_t effects,
                             std::vector<std::function<void(Store&)>> const& steps) {
  try {
    go(*open(std::make_shared<Killed>(seen_, effects)), steps);
  } catch (std::runtime_error const&) {
  }
}

void Life::end(Store& store) {
  must(store.checkpoint());
  promise(store);
  must(store.close());
}

void Life::go(Store& store, std::vector<std::function<void(Store&)>> const& steps) {
  states_[store.superblock().generation] =
      state_of(store);  // no promise: what a killed process left may be in flight
  for (auto const& step : steps) {
    step(store);
    promise(store);
  }
  end(store);
}

std::string Life::judge(std::shared_ptr<Device> const& disk, std::uint64_t least,
                        std::string_view fsck_says) const {
  if (auto found = fsck_findings(*disk); found != fsck_says) return "fsck: " + found;
  OpenOptions options;
  options.read_only = true;
  auto const opened = Store::open(std::make_unique<SharedDevice>(disk), options);
  if (!opened) return "open: " + opened.error().text();
  auto& store = **opened;
  auto const generation = store.superblock().generation;
  if (generation < least) return "a promise is broken";
  auto const s = store.space();
  if (s.total != s.reserved + s.store_tree + s.layers + s.history + s.pending + s.free)
    return "the sum of space is wrong";
  try {
    // What is kept reads as it was (fsck has read all of it).
    for (auto const& k : store.history()) {
      auto const was = states_.find(k.checkpoint.generation);
      if (was == states_.end()) continue;
      OpenOptions then;
      then.at = k.checkpoint.generation;
      auto const old = Store::open(std::make_unique<SharedDevice>(disk), then);
      if (!old) return "opening a kept checkpoint: " + old.error().text();
      auto is = state_of(**old);
      is["store"] = was->second.at("store");  // its size is today's
      if (is != was->second) return "a kept checkpoint is not what it was";
    }
    if (generation < states_.begin()->first)
      return {};  // before this life: to be whole is all that can be asked
    // A checkpoint within an operation shows what was before it, or what is after it: never
    // something between.
    auto const after = states_.lower_bound(generation);
    if (after == states_.end()) return "a checkpoint that nobody made";
    auto const is = state_of(store);
    bool const exact = after->first == generation;
    bool const before = !exact && after != states_.begin() && is == std::prev(after)->second;
    if (is != after->second && !before)
      return exact ? "the state is not that of its checkpoint" : "the state is between two";
  } catch (std::runtime_error const& e) {
    return std::string("reading: ") + e.what();
  }
  return {};
}

std::string Life::verdict(std::size_t n, std::unique_ptr<Device> cut) const {
  std::shared_ptr<Device> const disk(std::move(cut));
  std::uint64_t promised = 0;
  for (auto const& p : promises_) {
    if (p.log <= n) promised = p.generation;
  }
  if (auto wrong = judge(disk, promised); !wrong.empty()) return wrong;
  // Of some also that no later state is found than the superblocks know of: what a crash left half
  // done is none.
  static std::atomic<unsigned> count{0};
  if (++count % 16 == 0)
    if (auto const found = fsck_findings(*disk, true); !found.empty()) return "search: " + found;
  auto const newer = newer_of_two(*disk);
  if (!newer) return {};
  AlignedBuffer zeroes(kBlockSize);
  std::fill_n(zeroes.data(), kBlockSize, std::byte{0});
  auto const [slot, generation] = *newer;
  auto const at = kSlotBlock[slot] * kBlockSize;
  must(disk->write(at, std::span<std::byte const>(zeroes.span())));
  auto const wiped = fmt::format("offset {:#x}: superblock slot {} was wiped\n", at, slot);
  auto const older = judge(
      disk, 0,
      generation > 1 ? wiped : "");  // after the first checkpoint there could be no other slot yet
  return older.empty() ? older : "with the older superblock: " + older;
}

Survives survivors(Cut cut, RecordingDevice const& recorder, std::size_t n, std::uint64_t seed) {
  auto const toss = some_survive(seed);
  std::vector<std::size_t> in_flight;
  auto const log = recorder.log();
  for (std::size_t i = 0; i < std::min(n, log.size()); ++i) {
    if (log[i].kind != Effect::kFlush && (log[i].durable_at == kNever || log[i].durable_at >= n))
      in_flight.push_back(i);
  }
  auto const last = in_flight.empty() ? kNever : in_flight.back();
  auto const one = in_flight.empty() ? kNever : in_flight[seed % in_flight.size()];
  auto const sectors = last == kNever ? 1 : log[last].length / kSectorSize;
  switch (cut) {
    case Cut::kNone: return none_survive();
    case Cut::kAll: return all_survive();
    case Cut::kSectors: return toss;
    case Cut::kBlocks:
      return
          [toss](std::size_t i, std::uint64_t at) { return toss(i, at / kBlockSize * kBlockSize); };
    case Cut::kWrites: return [toss](std::size_t i, std::uint64_t) { return toss(i, 0); };
    case Cut::kTorn:
      return [last, end = seed % std::max<std::uint64_t>(sectors, 1) * kSectorSize](
                 std::size_t i, std::uint64_t at) { return i != last || at < end; };
    case Cut::kOne: return [one](std::size_t i, std::uint64_t) { return i == one; };
    case Cut::kAllButOne: return [one](std::size_t i, std::uint64_t) { return i != one; };
  }
  return none_survive();
}

}  // namespace lcfs::test
