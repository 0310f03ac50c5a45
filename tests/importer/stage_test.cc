// SPDX-License-Identifier: Apache-2.0
#include "importer/stage.h"

#include <doctest/doctest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

using namespace lcfs::importer;

TEST_CASE("stage: items pushed to be done here and there are done in their order, one at a time") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<int> done;
    std::atomic<int> at_once{0}, most{0}, elsewhere{0};
    auto const me = std::this_thread::get_id();
    Stage<int> stage(3, [&](int item) {
      most = std::max(most.load(), ++at_once);
      if (std::this_thread::get_id() != me) ++elsewhere;
      done.push_back(item);
      --at_once;
      return true;
    });
    std::vector<int> pushed;
    for (int i = 0; i < 100; ++i) {
      pushed.push_back(i);
      REQUIRE(stage.push(i, random() % 3 != 0));
    }
    stage.wait();
    CHECK(done == pushed);
    CHECK(most == 1);
    CHECK(elsewhere > 0);
  }
}

TEST_CASE("stage: work that wants no more gets no more, here and there, and push() says so") {
  for (bool const here : {true, false}) {
    std::vector<int> done;
    Stage<int> stage(2, [&](int item) {
      done.push_back(item);
      return item < 5;
    });
    int refused = 0;
    for (int i = 0; i < 100; ++i) refused += stage.push(i, here) ? 0 : 1;
    stage.wait();
    CHECK(done == std::vector<int>{0, 1, 2, 3, 4, 5});
    CHECK(refused > 80);
    CHECK(!stage.push(0, true));
    CHECK(done.size() == 6);
  }
}

TEST_CASE(
    "stage: one that is cancelled while its thread works and its queue is full ends at once") {
  std::atomic<bool> begun{false}, go_on{false};
  std::atomic<int> done{0};
  Stage<int> stage(2, [&](int) {
    begun = true;
    while (!go_on) std::this_thread::yield();
    ++done;
    return true;
  });
  std::thread canceller([&] {
    while (!begun) std::this_thread::yield();
    stage.cancel();
    go_on = true;
  });
  int i = 0;
  while (stage.push(i, false)) ++i;
  canceller.join();
  stage.wait();
  CHECK(done >= 1);
  CHECK(done <= i);
}
