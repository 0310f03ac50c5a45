// SPDX-License-Identifier: Apache-2.0
#include "engine/layer/block_pool.h"

#include <sys/mman.h>

#include <bit>
#include <cstdint>
#include <mutex>
#include <new>

namespace lcfs {
namespace {

constexpr std::size_t kBlocks = 64;
// And its alignment: a block's slab is found by its address.
constexpr std::size_t kSlabSize = kBlocks * kBlockSize;
constexpr std::uint64_t kAllFree = ~std::uint64_t{1};  // bit 0 is the head's own block
constexpr unsigned kEmptyKept = 16;

// The head of a slab.  Slabs with free blocks are in a list.
struct Slab {
  std::uint64_t free = kAllFree;  // bit b: block b
  Slab* previous = nullptr;
  Slab* next = nullptr;
};

struct Pool {
  std::mutex mu;
  Slab* first = nullptr;
  unsigned empty = 0;

  void link(Slab* slab) {
    slab->previous = nullptr;
    slab->next = first;
    if (first != nullptr) first->previous = slab;
    first = slab;
  }
  void unlink(Slab* slab) {
    (slab->previous != nullptr ? slab->previous->next : first) = slab->next;
    if (slab->next != nullptr) slab->next->previous = slab->previous;
  }
};

Pool& pool() {
  static Pool* const the_pool = new Pool;  // never destroyed: blocks are freed until the very end
  return *the_pool;
}

Slab* make_slab() {
  // Twice the size holds an aligned one; the rest is unmapped.
  void* const raw =
      mmap(nullptr, 2 * kSlabSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  auto* const start = static_cast<std::byte*>(raw);
  std::size_t const skip =
      (kSlabSize - reinterpret_cast<std::uintptr_t>(start) % kSlabSize) % kSlabSize;
  if (skip != 0) munmap(start, skip);
  munmap(start + skip + kSlabSize, kSlabSize - skip);
  return new (start + skip) Slab;
}

// Address sanitizer's allocator finds a use after free; the pool would hide it.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPooled = false;
#elif defined(__has_feature)
constexpr bool kPooled = !__has_feature(address_sanitizer);
#else
constexpr bool kPooled = true;
#endif

}  // namespace

std::byte* allocate_block() {
  if constexpr (!kPooled)
    return static_cast<std::byte*>(::operator new (kBlockSize, std::align_val_t{kBlockSize}));
  Pool& p = pool();
  std::lock_guard lock(p.mu);
  if (p.first == nullptr) {
    p.link(make_slab());
    ++p.empty;
  }
  Slab* const slab = p.first;
  if (slab->free == kAllFree) --p.empty;
  auto const number = static_cast<unsigned>(std::countr_zero(slab->free));
  slab->free &= slab->free - 1;
  if (slab->free == 0) p.unlink(slab);
  return reinterpret_cast<std::byte*>(slab) + number * kBlockSize;
}

void free_block(std::byte* block) {
  if constexpr (!kPooled) return ::operator delete (block, std::align_val_t{kBlockSize});
  if (block == nullptr) return;
  auto const address = reinterpret_cast<std::uintptr_t>(block);
  auto* const slab = reinterpret_cast<Slab*>(block - address % kSlabSize);
  Pool& p = pool();
  std::lock_guard lock(p.mu);
  if (slab->free == 0) p.link(slab);
  slab->free |= std::uint64_t{1} << (address % kSlabSize / kBlockSize);
  if (slab->free != kAllFree) return;
  if (p.empty < kEmptyKept) {
    ++p.empty;
    return;
  }
  p.unlink(slab);
  munmap(slab, kSlabSize);
}

}  // namespace lcfs
