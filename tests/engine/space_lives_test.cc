// SPDX-License-Identifier: Apache-2.0
// Which blocks are free, in every order in which checkpoints end, are kept, dropped and pinned:
// against plain sets of blocks.
#include <doctest/doctest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "engine/space/space_map.h"
#include "tests/support/test_store.h"
#include "tests/support/vocabulary.h"

using namespace lcfs;
using namespace lcfs::test;

namespace {

using Blocks = std::set<std::uint64_t>;

// What a store does with its space, and what it must be able to count on.
class Life {
 public:
  explicit Life(unsigned seed) : random_(seed) { durable_[kFirst] = {}; }

  void step() {
    switch (roll(13)) {
      case 0:
      case 1:
      case 2: take(); break;
      case 3:
      case 4: let_go(); break;
      case 5: pend(); break;  // a commit, or a layer that is dropped
      case 6: hand_over(); break;
      case 7:
      case 8: end(); break;
      case 9: keep(); break;
      case 10: drop(); break;
      case 11: revive(); break;
      default: pin(); break;
    }
  }

  unsigned revived = 0;

  // Nothing is held for nothing in the end.
  void settle() {
    while (!pins_.empty()) unpin();
    end();
    while (!kept_.empty()) drop();
    for (int i = 0; i < 3; ++i) {
      hand_over();
      end();
    }
    auto const c = space_.counts();
    CHECK(c.pending == 0);
    CHECK(c.history == 0);
    CHECK(c.free == kTotal - kReservedBlocks - now_.size());
  }

 private:
  static constexpr std::uint64_t kTotal = 1024, kFirst = 1;

  std::uint64_t roll(std::uint64_t below) {
    return std::uniform_int_distribution<std::uint64_t>(0, below - 1)(random_);
  }
  [[nodiscard]] std::uint64_t newest() const { return durable_.rbegin()->first; }

  void take() {
    auto const got = space_.allocate(1, 1 + roll(8), 0, 0, Urgency::kEmergency);
    if (!got) return;
    for (auto b = got->start; b < got->end(); ++b) {
      // The point of it all.
      for (auto const& each : durable_) {
        auto const generation = each.first;
        bool const held =
            generation + 1 >= newest() || kept_.contains(generation) || pins_.contains(generation);
        if (held)
          REQUIRE_MESSAGE(!each.second.contains(b),
                          "block " << b << " of generation " << generation << " is given away");
      }
      REQUIRE(now_.insert(b).second);
      fresh_.insert(b);
    }
  }

  void let_go() {
    for (auto n = roll(12); n > 0 && !now_.empty(); --n) {
      auto it = now_.lower_bound(roll(kTotal));
      if (it == now_.end()) it = now_.begin();
      if (fresh_.erase(*it) != 0 && roll(2) == 0) {
        space_.give_back({*it, 1});  // never written
      } else {
        gone_.push_back({*it, 1});
      }
      now_.erase(it);
    }
  }

  void pend() {
    normalize(gone_);
    space_.pend(std::exchange(gone_, {}), building_);
  }

  void hand_over() {
    if (under_way_) return;
    pend();
    space_.handed_over();
    under_way_ = now_;
    fresh_.clear();
    ++building_;
  }

  void end() {
    if (!under_way_) return;
    durable_[building_ - 1] = *std::exchange(under_way_, std::nullopt);
    space_.made_durable();
    space_.give_back(space_.take_pending(newest()), false);
    std::erase_if(durable_, [&](auto const& each) {
      return each.first + 1 < newest() && !kept_.contains(each.first) &&
             !pins_.contains(each.first);
    });
  }

  void keep() {
    if (!kept_.insert(newest()).second) return;
    space_.keep(newest());
    while (kept_.size() > 4) drop();
  }

  void drop() {
    if (kept_.empty()) return;
    auto const oldest = *kept_.begin();
    kept_.erase(oldest);
    space_.drop(oldest, kept_.empty() ? 0 : *kept_.begin(), building_);
  }

  // A removed layer is brought back.
  void revive() {
    if (kept_.empty()) return;
    auto const& then =
        durable_.at(*std::next(kept_.begin(), static_cast<std::ptrdiff_t>(roll(kept_.size()))));
    std::vector<Extent> wanted;
    for (auto const b : then) {
      if (!now_.contains(b) && roll(3) == 0) wanted.push_back({b, 1});
    }
    normalize(wanted);
    if (wanted.empty() || !space_.revive(wanted)) return;  // some were let go of, and not said yet
    for (auto const& e : wanted) {
      for (auto b = e.start; b < e.end(); ++b) now_.insert(b);
    }
    ++revived;
  }

  void pin() {
    if (pins_.size() > 1) return unpin();
    space_.pin(newest());
    pins_.insert(newest());
  }
  void unpin() {
    space_.unpin(*pins_.begin());
    pins_.erase(pins_.begin());
  }

  std::mt19937_64 random_;
  std::unique_ptr<Device> device_ = make_memory_device(kTotal * kBlockSize);
  SpaceMap space_{*device_, kTotal, {}};
  std::uint64_t building_ = kFirst + 1;
  Blocks now_{}, fresh_{};             // in use; of them, taken since the last hand-over
  std::vector<Extent> gone_{};         // freed, and not said yet
  std::optional<Blocks> under_way_{};  // of the checkpoint that is being written
  std::map<std::uint64_t, Blocks> durable_{};
  std::set<std::uint64_t> kept_{};
  std::multiset<std::uint64_t> pins_{};
};

}  // namespace

TEST_CASE(
    "space: whatever ends when, no block of a checkpoint that is kept, pinned or in one of the "
    "slots is given away") {
  unsigned revived = 0;
  for (unsigned seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Life life(seed);
    for (int i = 0; i < 1500; ++i) life.step();
    life.settle();
    revived += life.revived;
  }
  CHECK(revived > 1000);
}
