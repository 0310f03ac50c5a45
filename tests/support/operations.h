// SPDX-License-Identifier: Apache-2.0
// Every operation that changes a store, one by one, on one prepared store: for tests that cut or
// refuse each in turn.
#pragma once

#include <span>

#include "engine/store.h"
#include "tests/support/vocabulary.h"

namespace lcfs::test {

struct Operation {
  char const* name;
  Status (*run)(Store& store);  // durable when it returns
};
std::span<Operation const> operations();

// Makes what they work on: an open layer "work" on a frozen one, "base", and a layer "gone" that
// was removed.
Status prepare_operations(Store& store);

}  // namespace lcfs::test
