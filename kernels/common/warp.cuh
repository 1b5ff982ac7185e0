// SPDX-License-Identifier: Apache-2.0
// Instructions of a whole warp, and sums over warps and blocks. Every lane must take part.
#pragma once

#include "kernels/common/kernel.cuh"

namespace forja {

#ifdef __CUDACC__

constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
__device__ __forceinline__ T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
template <class T>
__device__ __forceinline__ T shuffle_from(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}
__device__ __forceinline__ bool any_lane(bool value) { return __any_sync(kAllLanes, value); }
// The lanes that bring the same value, as bits.
__device__ __forceinline__ uint32_t matching_lanes(uint32_t value) {
  return __match_any_sync(kAllLanes, value);
}
__device__ __forceinline__ int count_bits(uint32_t bits) { return __popc(bits); }
__device__ __forceinline__ void sync_warp() { __syncwarp(); }

#else

namespace internal {

template <class T>
struct ShuffleArguments {
  T value, result;
  int lane;
};

template <class T>
T shuffle(const char* what, T value, int lane) {
  ShuffleArguments<T> mine{value, T{}, lane};
  emulator::meet(kWarp, what, &mine, [](void* const* all) {
    for (int i = 0; i < kWarp; ++i) {
      auto* a = static_cast<ShuffleArguments<T>*>(all[i]);
      a->result = static_cast<ShuffleArguments<T>*>(all[a->lane & 31])->value;
    }
  });
  return mine.result;
}

}  // namespace internal

template <class T>
T shuffle_xor(T value, int mask) {
  return internal::shuffle("shuffle_xor", value, emulator::place().lane ^ mask);
}
template <class T>
T shuffle_from(T value, int lane) {
  return internal::shuffle("shuffle_from", value, lane);
}
inline bool any_lane(bool value) {
  struct Vote {
    bool mine, any;
  } vote{value, false};
  emulator::meet(kWarp, "any_lane", &vote, [](void* const* all) {
    bool any = false;
    for (int i = 0; i < kWarp; ++i) any |= static_cast<Vote*>(all[i])->mine;
    for (int i = 0; i < kWarp; ++i) static_cast<Vote*>(all[i])->any = any;
  });
  return vote.any;
}
inline uint32_t matching_lanes(uint32_t value) {
  struct Match {
    uint32_t value, lanes;
  } match{value, 0};
  emulator::meet(kWarp, "matching_lanes", &match, [](void* const* all) {
    for (int i = 0; i < kWarp; ++i) {
      auto* mine = static_cast<Match*>(all[i]);
      for (int j = 0; j < kWarp; ++j)
        mine->lanes |= uint32_t(static_cast<Match*>(all[j])->value == mine->value) << j;
    }
  });
  return match.lanes;
}
inline int count_bits(uint32_t bits) { return __builtin_popcount(bits); }
inline void sync_warp() {
  emulator::meet(kWarp, "sync_warp", nullptr, [](void* const*) {});
}

#endif

struct Sum {
  template <class T>
  static __device__ __forceinline__ T identity() {
    return T(0);
  }
  template <class T>
  static __device__ __forceinline__ T combine(T a, T b) {
    return a + b;
  }
};

struct Max {
  template <class T>
  static __device__ __forceinline__ T identity() {
    return T(-INFINITY);
  }
  template <class T>
  static __device__ __forceinline__ T combine(T a, T b) {
    return a > b ? a : b;
  }
};

// Over groups of Width lanes that begin at multiples of Width; every lane gets the result. The
// order of additions is fixed.
template <class Op, int Width = kWarp, class T>
__device__ __forceinline__ T warp_reduce(T value) {
#pragma unroll
  for (int mask = Width / 2; mask > 0; mask /= 2)
    value = Op::combine(value, shuffle_xor(value, mask));
  return value;
}

// Four lanes t = 0 to 3, a multiple of 4 the first, transpose a 4 x 4 matrix of words: lane t gave
// column t and gets row t.
__device__ __forceinline__ void transpose_quad(uint32_t (&w)[4]) {
  const int lane = lane_index();
  const bool odd = lane & 1, high = lane & 2;
#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const uint32_t got = shuffle_xor(odd ? w[i] : w[i + 1], 1);
    w[i] = odd ? got : w[i];
    w[i + 1] = odd ? w[i + 1] : got;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const uint32_t got = shuffle_xor(high ? w[i] : w[i + 2], 2);
    w[i] = high ? got : w[i];
    w[i + 2] = high ? w[i + 2] : got;
  }
}

// Over all threads of a block of at most 1024; every thread gets the result. `scratch` is used up
// until the next sync_block().
template <class Op, class T>
__device__ __forceinline__ T block_reduce(T value, SharedArray<T, 32>& scratch) {
  value = warp_reduce<Op>(value);
  if (lane_index() == 0) scratch[warp_index()] = value;
  sync_block();
  const int num_warps = int(blockDim.x) / kWarp;
  const T other = lane_index() < num_warps ? scratch[lane_index()] : Op::template identity<T>();
  return warp_reduce<Op>(other);
}

}  // namespace forja
