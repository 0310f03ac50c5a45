// SPDX-License-Identifier: Apache-2.0
#include "engine/space/space_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <optional>

namespace lcfs {

namespace {
constexpr auto kTrimTime = std::chrono::seconds(1);  // for trim(): an unmount waits for it
// Blocks: shorter holes only fragment the host's file, milliseconds each.
constexpr std::uint64_t kWorthATrim = 16;
// Blocks (16 MiB) backed at a time: fallocate calls stay rare, waste stays small.
constexpr std::uint64_t kBackAhead = 4096;

// Blocks backed beyond all reservations, or what checkpoints may need if that is more.
constexpr std::uint64_t kBackedMost = 1024;
// Blocks by which a checkpoint's store tree may be larger than the one before.
constexpr std::uint64_t kTreeGrowth = 32;
constexpr auto kHostFull = std::chrono::seconds(1);  // it is not asked again

constexpr std::uint64_t kRemoval = 192;  // blocks that one reserves

// What three checkpoints may take: blocks that one frees are free when the next is durable, and
// another may be under way.
std::uint64_t three_trees(std::uint64_t store_tree) { return 3 * (store_tree + kTreeGrowth); }

std::uint64_t emergency_for(std::uint64_t total, std::uint64_t store_tree) {
  std::uint64_t const removals = kRemoval + std::min<std::uint64_t>(total / 128, 1024);
  return std::max(std::min<std::uint64_t>(total / 64, 16384), removals + three_trees(store_tree));
}
}  // namespace

SpaceMap::SpaceMap(Device& device, std::uint64_t total_blocks, std::vector<Extent> const& used)
    : device_(device), total_(total_blocks), emergency_(emergency_for(total_blocks, 0)) {
  Lock lock(mu_);
  auto& runs = device.always_backed() ? backed_ : bare_;
  std::uint64_t at = kReservedBlocks;
  for (auto const& e : used) {
    if (e.start > at) runs.add({at, e.start - at});
    at = std::max(at, e.end());
  }
  if (at < total_blocks) runs.add({at, total_blocks - at});
}

std::uint64_t SpaceMap::available(Urgency urgency) const {
  std::uint64_t const room = usable();
  std::uint64_t const held = promised_ + (urgency == Urgency::kOrdinary ? emergency_ : 0);
  return room > held ? room - held : 0;
}

Error SpaceMap::no_space(std::uint64_t wanted) const {
  std::uint64_t const free = backed_.blocks() + bare_.blocks();
  return Error::no_space(fmt::format("store is full: {} KiB needed; {} KiB free, of which {} KiB "
                                     "are reserved or too fragmented",
                                     wanted * 4, free * 4,
                                     std::min(free, promised_ + emergency_ + free - usable()) * 4))
      .in(device_.name());
}

Status SpaceMap::reserve(Extent e) {
  if (host_full_ && std::chrono::steady_clock::now() < host_full_until_) return *host_full_;
  auto done = device_.reserve(e.start * kBlockSize, e.count * kBlockSize);
  if (!done && done.error().code == Errc::kNoSpace && e.count <= kNodeBlocks) {
    host_full_ = done.error();
    host_full_until_ = std::chrono::steady_clock::now() + kHostFull;
  }
  return done;
}

Status SpaceMap::back(std::uint64_t blocks) {
  while (backed_.node_blocks() < blocks) {
    std::uint64_t want = std::max(blocks - backed_.node_blocks(), kBackAhead);
    Extent e = bare_.take(kNodeBlocks, want, 0);
    if (e.count == 0) return no_space(blocks);
    for (;;) {
      auto done = reserve(e);
      if (done) break;
      if (done.error().code != Errc::kNoSpace || e.count <= kNodeBlocks) {
        bare_.add(e);
        return done;
      }
      std::uint64_t const half = std::max<std::uint64_t>(e.count / 2, kNodeBlocks);
      bare_.add({e.start + half, e.count - half});
      e.count = half;
    }
    backed_.add(e);
  }
  return {};
}

Status SpaceMap::promise(std::uint64_t n, Urgency urgency) {
  Lock lock(mu_);
  bool const ordinary = urgency == Urgency::kOrdinary;
  std::uint64_t const rest = ordinary ? 0
                             : urgency == Urgency::kOwnRemoval
                                 ? least_for_checkpoints()
                                 : for_checkpoints() + for_own_removals();
  if (available(urgency) < n + rest) return no_space(n);
  LCFS_TRY(
      back(promised_ + n +
           (ordinary ? std::min(emergency_, std::max(kBackedMost, three_trees(store_tree_))) : 0)));
  promised_ += n;
  return {};
}

std::uint64_t SpaceMap::for_own_removals() const {
  std::uint64_t const used = for_checkpoints() + kRemoval;
  return emergency_ > used ? (emergency_ - used) / 2 : 0;
}

std::uint64_t SpaceMap::for_checkpoints() const {
  return std::max(emergency_ / 3, three_trees(store_tree_));
}

// Two copies come and go for ever.  The third is for growth of the tree since it was last counted,
// which must not make removals impossible that free something.
std::uint64_t SpaceMap::least_for_checkpoints() const {
  return std::max(emergency_ / 3, three_trees(store_tree_) / 3 * 2);
}

void SpaceMap::set_store_tree(std::uint64_t blocks) {
  Lock lock(mu_);
  store_tree_ = blocks;
  emergency_ = emergency_for(total(), blocks);
}

Status SpaceMap::check_reserve(Urgency urgency) {
  Lock lock(mu_);
  std::uint64_t const least =
      three_trees(store_tree_) / 3 * (urgency != Urgency::kOrdinary && pins_.empty() ? 1 : 2);
  return available(Urgency::kEmergency) < least ? no_space(least) : back(promised_ + least);
}

void SpaceMap::unpromise(std::uint64_t n) {
  Lock lock(mu_);
  promised_ -= std::min(n, promised_);
}

Result<Extent> SpaceMap::allocate(std::uint64_t least, std::uint64_t want, std::uint64_t paid,
                                  std::uint64_t hint, Urgency urgency) {
  Lock lock(mu_);
  std::uint64_t const open = available(urgency);
  std::uint64_t const unpaid = least - paid;
  if (open < unpaid) return no_space(least);
  std::uint64_t const surplus = available(Urgency::kOrdinary);
  std::uint64_t const most =
      std::max(least, std::min(want, least + (surplus > unpaid ? surplus - unpaid : 0)));
  Extent e{};
  if (least < kNodeBlocks && surplus < most + kNodeBlocks) e = backed_.take_splinter(most);
  // Prefers a whole run of unbacked space to a splinter of backed space: contiguity matters more.
  if (e.count == 0) e = backed_.take(most, most, hint);
  std::optional<Error> host_full;
  for (std::uint64_t n = most; e.count == 0 && bare_.blocks() > 0; n = std::max(least, n / 2)) {
    Extent const bare = bare_.take(least, n, hint);
    if (bare.count == 0) break;
    auto done = reserve(bare);
    if (done) {
      e = bare;
      break;
    }
    bare_.add(bare);
    if (done.error().code != Errc::kNoSpace) return std::move(done).error();
    host_full = std::move(done).error();
    if (bare.count <= least) break;
    n = std::min(n, bare.count);  // the host is nearly full: asks for half as much
  }
  if (e.count == 0) e = backed_.take(least, most, hint);
  if (e.count == 0 && host_full) return *host_full;
  if (e.count == 0) return no_space(least);
  promised_ -= std::min(paid, promised_);
  // The surplus must not use up the backing of what others have reserved.
  if (backed_.node_blocks() < promised_ && e.count > least && !back(promised_)) {
    backed_.add({e.start + least, e.count - least});
    e.count = least;
  }
  ages_[kNew].add(e, 0);
  return e;
}

void SpaceMap::give_back(Extent e) {
  Lock lock(mu_);
  (void)take_ages(e);
  backed_.add(e);
}

void SpaceMap::give_back(std::vector<Extent> const& extents, bool bare) {
  Lock lock(mu_);
  auto& runs = bare && !device_.always_backed() ? bare_ : backed_;
  for (auto const& e : extents) {
    (void)take_ages(e);
    runs.add(e);
  }
}

void SpaceMap::pend(std::vector<Extent> extents, std::uint64_t generation) {
  Lock lock(mu_);
  auto& list = pending_[generation];
  auto to_history = [&](Extent e, std::uint64_t newest) LCFS_REQUIRES(mu_) {
    history_[newest].add(e);
    history_blocks_ += e.count;
    recent_history_[generation].push_back({e, newest});
  };
  auto to_pending = [&](Extent e) LCFS_REQUIRES(mu_) {
    pending_blocks_ += e.count;
    list.push_back(e);
  };
  for (auto const& e : extents) {
    auto aged = take_ages(e);
    if (newest_kept_ == 0) {
      to_pending(e);
      continue;
    }
    std::uint64_t at = e.start;
    for (auto const& a : aged) {
      if (at < a.blocks.start) to_history({at, a.blocks.start - at}, newest_kept_);
      if (a.generation == 0) {
        to_pending(a.blocks);
      } else {
        to_history(a.blocks, a.generation);
      }
      at = a.blocks.end();
    }
    if (at < e.end()) to_history({at, e.end() - at}, newest_kept_);
  }
}

std::vector<Extent> SpaceMap::take_pending(std::uint64_t durable) {
  Lock lock(mu_);
  std::vector<Extent> out;
  // A list of generation g holds blocks that checkpoints before g may name: with g <= p, pin p does
  // not keep them.
  std::uint64_t const last = pins_.empty() ? durable : std::min(durable, *pins_.begin() + 1);
  while (!pending_.empty() && pending_.begin()->first < last) {
    auto const& list = pending_.begin()->second;
    out.insert(out.end(), list.begin(), list.end());
    pending_.erase(pending_.begin());
  }
  recent_history_.erase(recent_history_.begin(), recent_history_.upper_bound(durable));
  for (auto const& e : out) pending_blocks_ -= e.count;
  normalize(out);
  return out;
}

void SpaceMap::pin(std::uint64_t generation) {
  Lock lock(mu_);
  pins_.insert(generation);
}

void SpaceMap::unpin(std::uint64_t generation) {
  Lock lock(mu_);
  note_release();
  if (auto it = pins_.find(generation); it != pins_.end()) pins_.erase(it);
}

std::vector<Aged> SpaceMap::take_ages(Extent e) {
  std::vector<Aged> out;
  for (auto& ages : ages_) {
    if (ages.empty()) continue;
    auto some = ages.take(e);
    out.insert(out.end(), some.begin(), some.end());
  }
  std::sort(out.begin(), out.end(),
            [](Aged const& a, Aged const& b) { return a.blocks < b.blocks; });
  return out;
}

void SpaceMap::keep(std::uint64_t generation) {
  Lock lock(mu_);
  ages_[kDurable].clear();
  newest_kept_ = generation;
  // Blocks freed since it was made.  A few of them may have been taken since, too, and are kept in
  // vain.
  for (auto it = pending_.upper_bound(generation); it != pending_.end(); ++it) {
    for (auto const& e : it->second) {
      history_[generation].add(e);
      history_blocks_ += e.count;
      pending_blocks_ -= e.count;
      recent_history_[it->first].push_back({e, generation});
    }
    it->second.clear();
  }
  // The same for blocks that an older kept checkpoint names too: a checkpoint under way has freed
  // them, this one still has them.  They may even be in use again (revive()).
  auto& mine = history_[generation];
  for (auto it = recent_history_.upper_bound(generation); it != recent_history_.end(); ++it) {
    for (auto& recent : it->second) {
      for (auto* ages : {&ages_[kHandedOver], &ages_[kNew]}) {
        for (auto const& back : ages->take(recent.blocks)) ages->add(back.blocks, generation);
      }
      auto const older = history_.find(recent.generation);
      if (older == history_.end() || recent.generation == generation) continue;
      for (auto const& e : older->second.take_overlap(recent.blocks)) mine.add(e);
      recent.generation = generation;
    }
  }
}

void SpaceMap::drop(std::uint64_t generation, std::uint64_t next, std::uint64_t building) {
  Lock lock(mu_);
  note_release();
  if (next == 0) {
    newest_kept_ = 0;
    ages_[kDurable].clear();
  }
  for (auto& ages : ages_) ages.change(generation, 0);
  auto const it = history_.find(generation);
  if (it == history_.end()) return;
  auto& list = pending_[building];
  for (auto const& [start, count] : it->second.map()) {
    list.push_back({start, count});
    history_blocks_ -= count;
    pending_blocks_ += count;
  }
  history_.erase(it);
}

void SpaceMap::set_history(std::uint64_t newest, std::vector<Aged> const& history,
                           std::vector<Aged> const& used) {
  Lock lock(mu_);
  note_release();
  newest_kept_ = newest;
  history_.clear();
  recent_history_.clear();
  history_blocks_ = 0;
  for (auto& ages : ages_) ages.clear();
  for (auto const& a : history) {
    for (auto* runs : {&backed_, &bare_}) (void)runs->take_overlap(a.blocks);
    history_[a.generation].add(a.blocks);
    history_blocks_ += a.blocks.count;
  }
  for (auto const& a : used) ages_[kDurable].add(a.blocks, a.generation);
}

bool SpaceMap::revive(std::vector<Extent> const& extents) {
  Lock lock(mu_);
  std::vector<Aged> taken;
  std::uint64_t wanted = 0, found = 0;
  for (auto const& e : extents) {
    wanted += e.count;
    for (auto& [generation, runs] : history_) {
      for (auto const& part : runs.take_overlap(e)) {
        taken.push_back({part, generation});
        found += part.count;
      }
    }
  }
  if (found != wanted) {
    for (auto const& a : taken) history_[a.generation].add(a.blocks);
    return false;
  }
  history_blocks_ -= found;
  for (auto const& a : taken) ages_[kNew].add(a.blocks, a.generation);
  return true;
}

void SpaceMap::handed_over() {
  Lock lock(mu_);
  ages_[kHandedOver].merge(ages_[kNew]);
}

void SpaceMap::made_durable() {
  Lock lock(mu_);
  if (newest_kept_ == 0) {
    ages_[kHandedOver].clear();  // the next one that is kept will name them
  } else {
    ages_[kDurable].merge(ages_[kHandedOver]);
  }
}

std::uint64_t SpaceMap::history_of(std::uint64_t generation) const {
  Lock lock(mu_);
  auto const it = history_.find(generation);
  return it == history_.end() ? 0 : it->second.blocks();
}

bool SpaceMap::low() const {
  Lock lock(mu_);
  return available(Urgency::kOrdinary) < emergency_;
}

void SpaceMap::grow(std::uint64_t total_blocks) {
  Lock lock(mu_);
  std::uint64_t const old = total();
  if (total_blocks <= old) return;
  (device_.always_backed() ? backed_ : bare_).add({old, total_blocks - old});
  emergency_ = emergency_for(total_blocks, store_tree_);
  total_.store(total_blocks, std::memory_order_relaxed);
}

void SpaceMap::withhold(std::vector<Extent> const& extents, std::uint64_t generation) {
  Lock lock(mu_);
  auto& list = pending_[generation];
  for (auto const& e : extents) {
    for (auto* runs : {&backed_, &bare_}) {
      for (auto const& part : runs->take_overlap(e)) {
        pending_blocks_ += part.count;
        list.push_back(part);
      }
    }
  }
}

void SpaceMap::trim() {
  if (device_.always_backed()) return;
  Lock lock(mu_);
  // Together with the unbacked runs between them: a process that died may have left backing that is
  // not known of, and a host takes milliseconds for a hole of any size.
  FreeRuns all = bare_;
  std::uint64_t keep = promised_;
  for (auto const& [start, count] : backed_.map()) {
    std::uint64_t const kept = std::min(keep, count);
    keep -= kept;
    all.add({start + kept, count - kept});
  }
  std::vector<Extent> runs;
  for (auto const& [start, count] : all.map()) {
    if (count >= kWorthATrim) runs.push_back({start, count});
  }
  // The largest first.  Runs that are left when the time is up are found the next time.
  std::sort(runs.begin(), runs.end(),
            [](Extent const& a, Extent const& b) { return a.count > b.count; });
  auto const until = std::chrono::steady_clock::now() + kTrimTime;
  for (auto const& e : runs) {
    if (std::chrono::steady_clock::now() > until) break;
    // What cannot be released stays backed: that only costs room on the host.
    if (!device_.release(e.start * kBlockSize, e.count * kBlockSize)) continue;
    for (auto const& part : backed_.take_overlap(e)) bare_.add(part);
  }
}

SpaceMap::Standing SpaceMap::standing() const {
  Lock lock(mu_);
  return {releases_.load(), promised_};
}

SpaceMap::Counts SpaceMap::counts() const {
  Lock lock(mu_);
  return {backed_.blocks() + bare_.blocks(),
          pending_blocks_,
          history_blocks_,
          promised_,
          emergency_,
          usable()};
}

}  // namespace lcfs
