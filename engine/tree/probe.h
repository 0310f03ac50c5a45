// SPDX-License-Identifier: Apache-2.0
// Records that are found by a hash: directory entries, back references, xattrs, names, digests.
// Those with equal hashes stand side by side, distinguished by probe number (format/hash.h).
#pragma once

#include <optional>

#include "engine/tree/tree.h"
#include "engine/types.h"
#include "format/hash.h"

namespace lcfs {

struct Probe {
  std::optional<Record> found{};  // the record that `match` accepted
  std::optional<Key> free{};      // the first unused key, if there was no match
};

// base: probe 0's key; step: distance of probes.  match(key, value) -> Result<bool>.  Looks at
// kProbes keys at most.  The cursor may stand anywhere; near `base` it saves the way down.
template <class Match>
Result<Probe> probe(Tree::Cursor& cursor, Key const& base, std::uint64_t step, Match const& match) {
  Probe out;
  Key const last{base.inode, base.kind, base.offset + (kProbes - 1) * step};
  LCFS_TRY(cursor.seek_near(base));
  Key expected = base;
  bool free_left = true;
  for (; cursor.valid() && cursor.key() <= last;) {
    Key const key = cursor.key();
    if ((key.offset - base.offset) % step == 0) {
      LCFS_TRY_ASSIGN(bool const hit, match(key, cursor.value()));
      if (hit) {
        out.found = Record{cursor.node(), key, cursor.value()};
        out.free.reset();
        return out;
      }
      if (!out.free && free_left) {
        if (key != expected) {
          out.free = expected;
        } else if (expected.offset == last.offset) {
          free_left = false;
        } else {
          expected.offset += step;
        }
      }
    }
    LCFS_TRY(cursor.next());
  }
  if (!out.free && free_left) out.free = expected;
  return out;
}

template <class Match>
Result<Probe> probe(Tree const& tree, Key const& base, std::uint64_t step, Match const& match) {
  Tree::Cursor cursor(tree);
  return probe(cursor, base, step, match);
}

}  // namespace lcfs
