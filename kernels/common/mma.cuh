// SPDX-License-Identifier: Apache-2.0
// Tensor-core products of a warp (mma.sync, sm_80) and the loads that arrange their operands.
//
// Fragments of m16n8k16, by lane with g = lane / 4 and t = lane % 4; each 32-bit word is two bf16
// of neighbouring k:
//   a[0] (row g, k 2t), a[1] (row g + 8, k 2t), a[2] (row g, k 2t + 8), a[3] (row g + 8, k 2t + 8)
//   b[0] (k 2t, column g), b[1] (k 2t + 8, column g)
//   c[0], c[1] (row g, columns 2t, 2t + 1), c[2], c[3] (row g + 8, the same columns)
#pragma once

#include "kernels/common/async_copy.cuh"
#include "kernels/common/numbers.cuh"

namespace forja {

#ifdef __CUDACC__

// c += a b of bf16 operands, [16, 16] x [16, 8], in fp32.
__device__ __forceinline__ void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8x8 matrices of 16-bit elements: lane 8 i + r gives the address of row r (16 bytes) of
// matrix i; d[i] is elements (g, 2t) and (g, 2t + 1) of matrix i.
__device__ __forceinline__ void load_matrices(uint32_t (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same, transposed: d[i] is elements (2t, g) and (2t + 1, g).
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&d)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
               : "r"(shared_address(row))
               : "memory");
}

#else

namespace internal {

struct MmaArguments {
  float* c;
  const uint32_t *a, *b;
};

inline void mma_of_warp(void* const* all) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* m = static_cast<const MmaArguments*>(all[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      a[g + i % 2 * 8][2 * t + i / 2 * 8] = low_float(m->a[i]);
      a[g + i % 2 * 8][2 * t + i / 2 * 8 + 1] = high_float(m->a[i]);
    }
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = low_float(m->b[i]);
      b[2 * t + 8 * i + 1][g] = high_float(m->b[i]);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto* m = static_cast<const MmaArguments*>(all[lane]);
    for (int i = 0; i < 4; ++i) {
      float sum = 0.0f;
      for (int k = 0; k < 16; ++k) sum += a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2];
      m->c[i] += sum;
    }
  }
}

struct LoadArguments {
  uint32_t* d;
  const void* row;
  bool transposed;
};

inline void load_of_warp(void* const* all) {
  for (int lane = 0; lane < 32; ++lane) {
    auto* mine = static_cast<LoadArguments*>(all[lane]);
    for (int i = 0; i < 4; ++i) {
      uint16_t pair[2];
      for (int e = 0; e < 2; ++e) {
        const int g = lane / 4, u = lane % 4 * 2 + e;
        const int row = mine->transposed ? u : g, column = mine->transposed ? g : u;
        const auto* from = static_cast<const LoadArguments*>(all[8 * i + row]);
        memcpy(&pair[e], static_cast<const uint16_t*>(from->row) + column, 2);
      }
      mine->d[i] = uint32_t(pair[0]) | uint32_t(pair[1]) << 16;
    }
  }
}

inline void load_of(uint32_t* d, const void* row, bool transposed) {
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) emulator::fault("ldmatrix of a misaligned row");
  LoadArguments mine{d, row, transposed};
  emulator::meet(kWarp, transposed ? "ldmatrix.trans" : "ldmatrix", &mine, load_of_warp);
}

}  // namespace internal

inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  internal::MmaArguments mine{c, a, b};
  emulator::meet(kWarp, "mma.m16n8k16", &mine, internal::mma_of_warp);
}
inline void load_matrices(uint32_t (&d)[4], const void* row) { internal::load_of(d, row, false); }
inline void load_matrices_transposed(uint32_t (&d)[4], const void* row) {
  internal::load_of(d, row, true);
}

#endif

}  // namespace forja
