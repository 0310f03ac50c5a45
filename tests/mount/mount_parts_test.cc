// SPDX-License-Identifier: Apache-2.0
// The parts of the FUSE server that need no kernel: node ids, lookup counts, ACLs, statistics.
#include <doctest/doctest.h>
#include <unistd.h>

#include <map>
#include <random>
#include <string>

#include "mount/acl.h"
#include "mount/caller.h"
#include "mount/lookups.h"
#include "mount/node_id.h"
#include "mount/stats.h"

using namespace lcfs;
using namespace lcfs::mount;

TEST_CASE("a node id holds slot and inode, and with its generation the whole serve id") {
  for (std::uint64_t const serve_id : {1ull, 77ull, 0xffffffull, 0x1000001ull, 0x123456789abcull}) {
    for (Inode const inode : {Inode{1}, Inode{4096}, kMaxInode}) {
      NodeId const id = make_node(slot_of(serve_id), inode);
      CHECK(slot_in(id) == slot_of(serve_id));
      CHECK(inode_in(id) == inode);
      CHECK((generation_of(serve_id) << 24 | slot_in(id)) == serve_id);
    }
  }
}

TEST_CASE("lookup counts agree with a map through random adds and drops") {
  std::mt19937_64 rng(4);
  Lookups lookups;
  std::map<NodeId, std::uint64_t> model;
  for (int i = 0; i < 200'000; ++i) {
    // Few different ids of few shards at first, many later: tables grow, fill up and shrink.
    NodeId const id =
        make_node(static_cast<std::uint32_t>(1 + rng() % 3), 1 + rng() % (i < 100'000 ? 5000 : 50));
    if (rng() % 2 == 0) {
      CHECK(lookups.add(id) == !model.contains(id));
      ++model[id];
    } else {
      std::uint64_t const count = 1 + rng() % 4;
      auto const it = model.find(id);
      bool const gone = it != model.end() && it->second <= count;
      CHECK(lookups.drop(id, count) == gone);
      if (gone) {
        model.erase(it);
      } else if (it != model.end()) {
        it->second -= count;
      }
    }
  }
  CHECK(lookups.size() == model.size());
  for (auto const& [id, count] : model) {
    if (count > 1) CHECK_FALSE(lookups.drop(id, count - 1));
    CHECK(lookups.drop(id, 1));
  }
  CHECK(lookups.size() == 0);
  CHECK(lookups.bytes() < 64 * 64 * 16 + 1);  // memory follows what is known
}

namespace {

struct AclEntry {
  unsigned tag, permissions, id;
};
constexpr unsigned kUserObj = 1, kUser = 2, kGroupObj = 4, kGroup = 8, kMask = 16, kOther = 32,
                   kNone = 0xffffffff;

std::string acl_bytes(std::initializer_list<AclEntry> entries, unsigned version = 2) {
  std::string out;
  auto const put = [&out](unsigned value, int bytes) {
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  };
  put(version, 4);
  for (auto const& e : entries) {
    put(e.tag, 2);
    put(e.permissions, 2);
    put(e.id, 4);
  }
  return out;
}

}  // namespace

TEST_CASE("ACLs: what is valid is read and written back, what is not is refused") {
  auto const minimal = acl_bytes({{kUserObj, 7, kNone}, {kGroupObj, 5, kNone}, {kOther, 4, kNone}});
  auto const extended = acl_bytes({{kUserObj, 6, kNone},
                                   {kUser, 7, 1000},
                                   {kUser, 4, 1001},
                                   {kGroupObj, 4, kNone},
                                   {kGroup, 1, 5},
                                   {kMask, 5, kNone},
                                   {kOther, 0, kNone}});
  REQUIRE(Acl::parse(minimal).ok());
  CHECK(Acl::parse(minimal)->bytes() == minimal);
  CHECK(Acl::parse(minimal)->trivial());
  CHECK(Acl::parse(minimal)->mode() == 0754);
  REQUIRE(Acl::parse(extended).ok());
  CHECK(Acl::parse(extended)->bytes() == extended);
  CHECK_FALSE(Acl::parse(extended)->trivial());
  CHECK(Acl::parse(extended)->mode() == 0650);  // the group's bits are the mask's

  std::string const bad[] = {
      "",
      "\2\0\0",
      acl_bytes({{kUserObj, 7, kNone}, {kGroupObj, 5, kNone}, {kOther, 4, kNone}}, 1),
      minimal + "x",
      acl_bytes({{kUserObj, 8, kNone}, {kGroupObj, 5, kNone}, {kOther, 4, kNone}}),  // permissions
      acl_bytes({{kGroupObj, 5, kNone}, {kUserObj, 7, kNone}, {kOther, 4, kNone}}),  // order
      acl_bytes({{kUserObj, 7, kNone},
                 {kUserObj, 7, kNone},
                 {kGroupObj, 5, kNone},
                 {kOther, 4, kNone}}),                        // twice
      acl_bytes({{kUserObj, 7, kNone}, {kOther, 4, kNone}}),  // group missing
      acl_bytes({{kUserObj, 7, kNone},
                 {kUser, 7, 1},
                 {kGroupObj, 5, kNone},
                 {kOther, 4, kNone}}),  // no mask
      acl_bytes({{kUserObj, 7, kNone},
                 {kUser, 7, 2},
                 {kUser, 7, 1},
                 {kGroupObj, 5, kNone},
                 {kMask, 7, kNone},
                 {kOther, 4, kNone}}),
      acl_bytes({{kUserObj, 7, kNone},
                 {kUser, 7, kNone},
                 {kGroupObj, 5, kNone},
                 {kMask, 7, kNone},
                 {kOther, 4, kNone}}),  // no id
      acl_bytes({{kUserObj, 7, kNone},
                 {kGroupObj, 5, kNone},
                 {kOther, 4, kNone},
                 {64, 4, kNone}}),  // tag
  };
  for (auto const& bytes : bad) CHECK_FALSE(Acl::parse(bytes).ok());
}

TEST_CASE(
    "ACLs: chmod changes owner, mask and others; new files get what both mode and default ACL "
    "grant") {
  auto const bytes = acl_bytes({{kUserObj, 7, kNone},
                                {kUser, 7, 1000},
                                {kGroupObj, 5, kNone},
                                {kMask, 7, kNone},
                                {kOther, 5, kNone}});
  auto acl = *Acl::parse(bytes);
  acl.set_mode(0640);
  CHECK(acl.mode() == 0640);
  CHECK(acl.bytes() == acl_bytes({{kUserObj, 6, kNone},
                                  {kUser, 7, 1000},
                                  {kGroupObj, 5, kNone},
                                  {kMask, 4, kNone},
                                  {kOther, 0, kNone}}));
  auto fresh = *Acl::parse(bytes);
  CHECK(fresh.inherit(0100666) == 0100664);
  CHECK(fresh.bytes() == acl_bytes({{kUserObj, 6, kNone},
                                    {kUser, 7, 1000},
                                    {kGroupObj, 5, kNone},
                                    {kMask, 6, kNone},
                                    {kOther, 4, kNone}}));
  auto minimal =
      *Acl::parse(acl_bytes({{kUserObj, 6, kNone}, {kGroupObj, 0, kNone}, {kOther, 0, kNone}}));
  CHECK(minimal.inherit(0777) == 0600);
}

TEST_CASE(
    "statistics: counts, errors and times add up, and clearing forgets exactly what was told") {
  Counters counters;
  using std::chrono::microseconds;
  counters.add(Op::kLookup, std::chrono::nanoseconds(1), false);
  counters.add(Op::kLookup, microseconds(3), true);
  counters.add(Op::kRead, std::chrono::hours(1), false);  // beyond the last bucket
  counters.add_read(100);
  auto const all = counters.take(true);
  auto const& lookups = all.ops[static_cast<std::size_t>(Op::kLookup)];
  CHECK(lookups.count == 2);
  CHECK(lookups.errors == 1);
  CHECK(lookups.total_ns == 3001);
  CHECK(lookups.buckets[0] == 1);
  CHECK(lookups.buckets[2] == 1);  // below 4 us
  CHECK(all.ops[static_cast<std::size_t>(Op::kRead)].buckets[kBuckets - 1] == 1);
  CHECK(all.read_bytes == 100);
  CHECK(counters.take(false).ops[static_cast<std::size_t>(Op::kLookup)].count == 0);
}

TEST_CASE("a caller keeps set-user-ID with CAP_FSETID only, as /proc/PID/status tells") {
  CHECK(
      status_keeps_privileges("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:"
                              "\t0000000000000010\nCapBnd:\t0000000000000000\n"));
  CHECK(status_keeps_privileges("Name:\tx\nCapEff:\t000001ffffffffff\n"));
  CHECK_FALSE(
      status_keeps_privileges("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffef\n"));
  CHECK_FALSE(
      status_keeps_privileges("Name:\tCapEff:\t000001ffffffffff\nCapEff:\t0000000000000000\n"));
  for (auto const* text : {"", "CapEff", "\nCapEff:\t", "\nCapEff:\tzz", "\nCapEff:\t1f\n"})
    CHECK_FALSE(status_keeps_privileges(text));
  fuse_in_header nobody{};
  CHECK_FALSE(keeps_privileges(nobody));  // a thread that can't be seen
  nobody.pid = static_cast<std::uint32_t>(getpid());
  nobody.uid = 1000;
  CHECK_FALSE(keeps_privileges(nobody));
}
