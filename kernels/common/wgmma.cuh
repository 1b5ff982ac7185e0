// SPDX-License-Identifier: Apache-2.0
// Tensor-core products of a warpgroup (wgmma, sm_90a), whose operands lie in shared memory (the
// left one may be in registers). They run beside the threads: fence_products(), some multiply(),
// commit_products(), wait_products().
//
// Operands are tiles as the copy engine leaves them, with TensorSwizzle::bytes128: rows of 128
// bytes, 64 bf16, either along K or along M or N ("outer"), each the 8 of an 8 x 64 atom of 1024
// bytes. Of the accumulator c [64, N], warp w of the group has rows 16 w to 16 w + 15, and block j
// of 8 columns is c[j], with the words of a fragment of mma.cuh.
#pragma once

#include "kernels/common/numbers.cuh"
#include "kernels/common/tma.cuh"

namespace forja {

// Which dim the rows of an operand's tile run along.
enum class Rows { k, outer };

using MatrixDescriptor = uint64_t;

#ifdef __CUDACC__

__device__ __forceinline__ uint32_t descriptor_address(const void* p) { return shared_address(p); }

#else

inline uint32_t descriptor_address(const void* p) { return internal::window_address(p); }

#endif

// An operand that begins at `tile`. Bytes from atom to atom: `stride_bytes` to the next 8 rows;
// with Rows::outer, `leading_bytes` to the next 64 of the outer dim (with Rows::k, one product
// stays within the 64 of K). Bits 62 and 63: the swizzle of 128 bytes.
__device__ __forceinline__ MatrixDescriptor make_descriptor(const void* tile, int leading_bytes,
                                                            int stride_bytes) {
  return uint64_t((descriptor_address(tile) & 0x3ffff) >> 4) | uint64_t(leading_bytes >> 4) << 16 |
         uint64_t(stride_bytes >> 4) << 32 | uint64_t(1) << 62;
}
// The same, `bytes` further on.
__device__ __forceinline__ MatrixDescriptor advance(MatrixDescriptor d, int bytes) {
  return d + uint64_t(bytes >> 4);
}

#ifdef __CUDACC__

// Registers that products are to use are as the threads left them.
__device__ __forceinline__ void fence_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most N groups of products are pending.
template <int N>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// After the wait for the last products, before c is used: the compiler cannot see that c changes
// until then.
template <int kBlocks>
__device__ __forceinline__ void take_products(float (&c)[kBlocks][4]) {
#pragma unroll
  for (int j = 0; j < kBlocks; ++j)
    asm volatile("" : "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])::"memory");
}

#define FORJA_REGISTERS_32                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FORJA_REGISTERS_64                                                           \
  FORJA_REGISTERS_32                                                                 \
  ", "                                                                               \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FORJA_REGISTERS_128                                                                    \
  FORJA_REGISTERS_64                                                                           \
  ", "                                                                                         \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "           \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "           \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "     \
  "%111, "                                                                                     \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
  "%127"
#define FORJA_BLOCK(j) "+f"(c[j][0]), "+f"(c[j][1]), "+f"(c[j][2]), "+f"(c[j][3])
#define FORJA_BLOCKS_4(j) FORJA_BLOCK(j), FORJA_BLOCK(j + 1), FORJA_BLOCK(j + 2), FORJA_BLOCK(j + 3)
#define FORJA_BLOCKS_16(j) \
  FORJA_BLOCKS_4(j), FORJA_BLOCKS_4(j + 4), FORJA_BLOCKS_4(j + 8), FORJA_BLOCKS_4(j + 12)

#define FORJA_BLOCKS_8(j) FORJA_BLOCKS_4(j), FORJA_BLOCKS_4(j + 4)

// c [64, 8 kBlocks] += a b^T, or = where not `add`: bf16 operands a [64, 16], b [8 kBlocks, 16],
// in fp32. Begun here; done by a wait for its group.
template <Rows a_rows, Rows b_rows, int kBlocks>
__device__ __forceinline__ void multiply(float (&c)[kBlocks][4], MatrixDescriptor a,
                                         MatrixDescriptor b, bool add) {
  static_assert(kBlocks == 8 || kBlocks == 16 || kBlocks == 32);
  if constexpr (kBlocks == 8) {
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" FORJA_REGISTERS_32
        "}, %32, %33, add, 1, 1, %35, %36;\n}"
        : FORJA_BLOCKS_8(0)
        : "l"(a), "l"(b), "r"(int(add)), "n"(int(a_rows)), "n"(int(b_rows)));
  } else if constexpr (kBlocks == 16) {
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" FORJA_REGISTERS_64
        "}, %64, %65, add, 1, 1, %67, %68;\n}"
        : FORJA_BLOCKS_16(0)
        : "l"(a), "l"(b), "r"(int(add)), "n"(int(a_rows)), "n"(int(b_rows)));
  } else {
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" FORJA_REGISTERS_128
        "}, %128, %129, add, 1, 1, %131, %132;\n}"
        : FORJA_BLOCKS_16(0), FORJA_BLOCKS_16(16)
        : "l"(a), "l"(b), "r"(int(add)), "n"(int(a_rows)), "n"(int(b_rows)));
  }
}

// The same with a in registers: its fragment for the warp's 16 rows, as mma.cuh has it. They are
// read until the products are done.
template <Rows b_rows, int kBlocks>
__device__ __forceinline__ void multiply(float (&c)[kBlocks][4], const uint32_t (&a)[4],
                                         MatrixDescriptor b, bool add) {
  static_assert(kBlocks == 8 || kBlocks == 16);
  if constexpr (kBlocks == 8) {
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" FORJA_REGISTERS_32
        "}, {%32, %33, %34, %35}, %36, add, 1, 1, %38;\n}"
        : FORJA_BLOCKS_8(0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)), "n"(int(b_rows)));
  } else {
    asm volatile(
        "{\n.reg .pred add;\nsetp.ne.b32 add, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" FORJA_REGISTERS_64
        "}, {%64, %65, %66, %67}, %68, add, 1, 1, %70;\n}"
        : FORJA_BLOCKS_16(0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)), "n"(int(b_rows)));
  }
}

#undef FORJA_REGISTERS_32
#undef FORJA_REGISTERS_64
#undef FORJA_REGISTERS_128
#undef FORJA_BLOCK
#undef FORJA_BLOCKS_4
#undef FORJA_BLOCKS_8
#undef FORJA_BLOCKS_16

#else

namespace internal {

// An operand [outer_size, 16] as the hardware reads its descriptor. Made in a thread of the block.
class DescribedMatrix {
 public:
  DescribedMatrix(MatrixDescriptor d, Rows rows, int outer_size)
      : window_(static_cast<const char*>(emulator::shared_memory(0)) - kSharedWindow),
        start_(uint32_t(d & 0x3fff) << 4),
        leading_(uint32_t(d >> 16 & 0x3fff) << 4),
        stride_(uint32_t(d >> 32 & 0x3fff) << 4),
        rows_(rows) {
    if (d >> 62 != 1) emulator::fault("wgmma: only the swizzle of 128 bytes is emulated");
    if ((d >> 49 & 7) != 0) emulator::fault("wgmma: base offsets are not emulated");
    in_window(start_, 2);
    in_window(linear_address(outer_size - 1, 15), 2);
  }
  float at(int outer, int k) const {
    BFloat16 x;
    memcpy(&x, window_ + swizzle128(linear_address(outer, k)), 2);
    return float(x);
  }

 private:
  uint32_t linear_address(int outer, int k) const {
    if (rows_ == Rows::k)
      return start_ + uint32_t(outer / 8) * stride_ + uint32_t(outer % 8 * 128 + k * 2);
    return start_ + uint32_t(outer / 64) * leading_ + uint32_t(k / 8) * stride_ +
           uint32_t(k % 8 * 128 + outer % 64 * 2);
  }

  const char* window_;
  uint32_t start_, leading_, stride_;
  Rows rows_;
};

// One thread's part of a product: its rows g and g + 8 of its warp's 16 (x: of a), columns 2 t and
// 2 t + 1 of every block.
inline void multiply_part(float (*c)[4], int num_blocks, const float (&x)[2][16],
                          const DescribedMatrix& b, bool add) {
  const int lane = emulator::place().lane;
  for (int j = 0; j < num_blocks; ++j) {
    for (int e = 0; e < 2; ++e) {
      float sum[2] = {0.0f, 0.0f};
      for (int k = 0; k < 16; ++k) {
        const float y = b.at(8 * j + lane % 4 * 2 + e, k);
        sum[0] += x[0][k] * y;
        sum[1] += x[1][k] * y;
      }
      for (int half = 0; half < 2; ++half) {
        float& to = c[j][2 * half + e];
        to = add ? to + sum[half] : sum[half];
      }
    }
  }
}

// The thread's two rows of a in shared memory.
inline void read_rows(const DescribedMatrix& a, float (&x)[2][16]) {
  const int thread = emulator::place().thread % kWarpgroup, lane = thread % kWarp;
  for (int half = 0; half < 2; ++half)
    for (int k = 0; k < 16; ++k) x[half][k] = a.at(thread / 32 * 16 + lane / 4 + 8 * half, k);
}

// The same in the registers of the four lanes that have them, which must stay as they are until
// the product is done.
struct Fragments {
  const uint32_t* of_lane[4];
};
inline void read_rows(const Fragments& a, float (&x)[2][16]) {
  for (int t = 0; t < 4; ++t) {
    for (int e = 0; e < 4; ++e) {
      const uint32_t word = a.of_lane[t][e];
      x[e % 2][2 * t + e / 2 * 8] = low_float(word);
      x[e % 2][2 * t + e / 2 * 8 + 1] = high_float(word);
    }
  }
}

struct MultiplyArguments {
  MatrixDescriptor a, b;
  bool add;
  const uint32_t* fragment;  // of a, where it is in registers
  Fragments fragments;
};

inline void check_same_product(void* const* all) {
  const auto* first = static_cast<const MultiplyArguments*>(all[0]);
  for (int i = 1; i < kWarpgroup; ++i) {
    const auto* m = static_cast<const MultiplyArguments*>(all[i]);
    if (m->a != first->a || m->b != first->b || m->add != first->add)
      emulator::fault("wgmma: operands differ in one warpgroup");
  }
  for (int i = 0; i < kWarpgroup; ++i) {
    for (int t = 0; t < 4; ++t) {
      static_cast<MultiplyArguments*>(all[i])->fragments.of_lane[t] =
          static_cast<const MultiplyArguments*>(all[i / 4 * 4 + t])->fragment;
    }
  }
}

template <class A, int kBlocks>
void enqueue_product(float (&c)[kBlocks][4], const A& a, const DescribedMatrix& b, bool add) {
  float(*to)[4] = c;
  emulator::enqueue(emulator::Queue::matrix, [=] {
    float x[2][16];
    read_rows(a, x);
    multiply_part(to, kBlocks, x, b, add);
  });
}

}  // namespace internal

inline void fence_products() {}
inline void commit_products() { emulator::commit(emulator::Queue::matrix); }
template <int N>
void wait_products() {
  emulator::wait_groups(emulator::Queue::matrix, N);
  emulator::meet(kWarpgroup, "wgmma.wait_group", nullptr, [](void* const*) {});
}
template <int kBlocks>
void take_products(float (&)[kBlocks][4]) {}

template <Rows a_rows, Rows b_rows, int kBlocks>
void multiply(float (&c)[kBlocks][4], MatrixDescriptor a, MatrixDescriptor b, bool add) {
  internal::MultiplyArguments mine{a, b, add, nullptr, {}};
  emulator::meet(kWarpgroup, "wgmma", &mine, internal::check_same_product);
  internal::enqueue_product(c, internal::DescribedMatrix(a, a_rows, 64),
                            internal::DescribedMatrix(b, b_rows, 8 * kBlocks), add);
}
template <Rows b_rows, int kBlocks>
void multiply(float (&c)[kBlocks][4], const uint32_t (&a)[4], MatrixDescriptor b, bool add) {
  internal::MultiplyArguments mine{0, b, add, a, {}};
  emulator::meet(kWarpgroup, "wgmma of registers", &mine, internal::check_same_product);
  internal::enqueue_product(c, mine.fragments, internal::DescribedMatrix(b, b_rows, 8 * kBlocks),
                            add);
}

#endif

}  // namespace forja
