// SPDX-License-Identifier: Apache-2.0
// Compiled for processors that have SHA instructions: nothing here may run on others but
// has_sha_instructions(), and no inline function of a header that others use too may be called.
#include "oci/sha256_blocks.h"

#if defined(__SHA__) && defined(__SSE4_1__)

#include <cpuid.h>
#include <immintrin.h>

namespace lcfs::oci {
namespace {

alignas(16) constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

#define LCFS_INLINE static inline __attribute__((always_inline))

// One stream's registers.  The instructions expect the eight words a..h as (a, b, e, f) and (c, d,
// g, h).
struct Lane {
  __m128i abef, cdgh;
  __m128i abef_before, cdgh_before;
  __m128i words[4];  // the last sixteen of the message schedule
};

LCFS_INLINE void load(Lane& lane, std::uint32_t const* state) {
  __m128i const abcd =
      _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<__m128i const*>(state)), 0xb1);
  __m128i const efgh =
      _mm_shuffle_epi32(_mm_loadu_si128(reinterpret_cast<__m128i const*>(state + 4)), 0x1b);
  lane.abef = _mm_alignr_epi8(abcd, efgh, 8);
  lane.cdgh = _mm_blend_epi16(efgh, abcd, 0xf0);
}

LCFS_INLINE void store(Lane const& lane, std::uint32_t* state) {
  __m128i const feba = _mm_shuffle_epi32(lane.abef, 0x1b);
  __m128i const dchg = _mm_shuffle_epi32(lane.cdgh, 0xb1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// Rounds 4 * kGroup to 4 * kGroup + 3.
template <int kGroup>
LCFS_INLINE void rounds(Lane& lane, unsigned char const* block) {
  __m128i& words = lane.words[kGroup % 4];
  if constexpr (kGroup < 4) {
    __m128i const big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    words = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<__m128i const*>(block) + kGroup),
                             big_endian);
  } else {
    __m128i const last = lane.words[(kGroup + 3) % 4];
    __m128i const seven_back = _mm_alignr_epi8(last, lane.words[(kGroup + 2) % 4], 4);
    words = _mm_sha256msg2_epu32(
        _mm_add_epi32(_mm_sha256msg1_epu32(words, lane.words[(kGroup + 1) % 4]), seven_back), last);
  }
  __m128i const sums =
      _mm_add_epi32(words, _mm_load_si128(reinterpret_cast<__m128i const*>(kRound) + kGroup));
  lane.cdgh = _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, sums);
  lane.abef = _mm_sha256rnds2_epu32(lane.abef, lane.cdgh, _mm_shuffle_epi32(sums, 0x0e));
}

template <int kGroup, int kLanes>
LCFS_INLINE void all_rounds(Lane (&lanes)[kLanes], unsigned char const* const (&blocks)[kLanes]) {
  rounds<kGroup>(lanes[0], blocks[0]);
  if constexpr (kLanes == 2) rounds<kGroup>(lanes[1], blocks[1]);
  if constexpr (kGroup < 15) all_rounds<kGroup + 1>(lanes, blocks);
}

template <int kLanes>
LCFS_INLINE void compress(std::uint32_t* const (&states)[kLanes],
                          unsigned char const* (&at)[kLanes], std::size_t blocks) {
  Lane lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) load(lanes[i], states[i]);
  for (; blocks > 0; --blocks) {
    for (auto& lane : lanes) {
      lane.abef_before = lane.abef;
      lane.cdgh_before = lane.cdgh;
    }
    all_rounds<0>(lanes, at);
    for (auto& lane : lanes) {
      lane.abef = _mm_add_epi32(lane.abef, lane.abef_before);
      lane.cdgh = _mm_add_epi32(lane.cdgh, lane.cdgh_before);
    }
    for (auto& p : at) p += 64;
  }
  for (int i = 0; i < kLanes; ++i) store(lanes[i], states[i]);
}

}  // namespace

bool has_sha_instructions() {
  static bool const has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    bool const sse = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSE4_1) != 0;
    return sse && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 &&
           (b & (1u << 29)) != 0;  // bit_SHA, which not every cpuid.h has
  }();
  return has;
}

void sha256_blocks(std::uint32_t* state, void const* data, std::size_t blocks) {
  std::uint32_t* const states[] = {state};
  unsigned char const* at[] = {static_cast<unsigned char const*>(data)};
  compress(states, at, blocks);
}

void sha256_blocks(std::uint32_t* state_a, void const* data_a, std::uint32_t* state_b,
                   void const* data_b, std::size_t blocks) {
  std::uint32_t* const states[] = {state_a, state_b};
  unsigned char const* at[] = {static_cast<unsigned char const*>(data_a),
                               static_cast<unsigned char const*>(data_b)};
  compress(states, at, blocks);
}

}  // namespace lcfs::oci

#else

#include <cstdlib>

namespace lcfs::oci {

bool has_sha_instructions() { return false; }
void sha256_blocks(std::uint32_t*, void const*, std::size_t) { std::abort(); }
void sha256_blocks(std::uint32_t*, void const*, std::uint32_t*, void const*, std::size_t) {
  std::abort();
}

}  // namespace lcfs::oci

#endif
