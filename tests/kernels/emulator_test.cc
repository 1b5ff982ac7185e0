// SPDX-License-Identifier: Apache-2.0
// The emulator finds what it is there to find. Left out of a build for real GPUs.
#ifndef FORJA_REAL_GPU
#include "kernels/common/launch.h"
#include "kernels/common/mma.cuh"
#include "kernels/common/warp.cuh"
#include "tests/testing/testing.h"

namespace forja::testing {
namespace {

constexpr int kThreads = 128;

void in_seeds(const std::function<void()>& body) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    emulator::set_seed(seed);
    body();
  }
}

struct ReverseStorage {
  SharedArray<int, kThreads> values;
};

template <bool with_barrier>
void reverse(int* out) {
  auto& shared = shared_storage<ReverseStorage>();
  shared.values[thread_index()] = thread_index();
  if (with_barrier) sync_block();
  out[blockIdx.x * kThreads + unsigned(thread_index())] =
      shared.values[kThreads - 1 - thread_index()];
}

int wrong_elements(void (*kernel)(int*)) {
  std::vector<int> out(3 * kThreads, -7);
  launch({"reverse", 3, kThreads, sizeof(ReverseStorage)}, nullptr, kernel, out.data());
  int wrong = 0;
  for (int i = 0; i < 3 * kThreads; ++i) wrong += out[size_t(i)] != kThreads - 1 - i % kThreads;
  return wrong;
}

TEST(Emulator, MissingBarrierGivesWrongNumbers) {
  in_seeds([] {
    EXPECT_EQ(wrong_elements(reverse<true>), 0);
    EXPECT_GT(wrong_elements(reverse<false>), 0);
  });
}

TEST(Emulator, HangNamesTheBarrier) {
  const auto kernel = +[](int) {
    if (thread_index() < 64) sync_block();
  };
  const std::string error = error_of([&] {
    launch({"half_a_barrier", 1, kThreads}, nullptr, kernel, 0);
  });
  EXPECT_NE(error.find("half_a_barrier hangs: 64 threads at __syncthreads"), std::string::npos)
      << error;
}

TEST(Emulator, NamedBarriersCountTheirThreads) {
  const auto kernel = +[](int* order) {
    if (warp_index() == 0) {
      order[0] = 1;
      arrive_threads(1, 64);
    } else if (warp_index() == 1) {
      sync_threads(1, 64);
      order[1] = order[0] + 1;
    }
  };
  in_seeds([&] {
    int order[2] = {0, 0};
    launch({"named", 1, kThreads}, nullptr, kernel, order);
    EXPECT_EQ(order[1], 2);
  });
}

TEST(Emulator, ReductionsAndShuffles) {
  struct Storage {
    SharedArray<float, 32> scratch;
  };
  const auto kernel = +[](float* out) {
    auto& shared = shared_storage<Storage>();
    const float sum = block_reduce<Sum>(float(thread_index()), shared.scratch);
    const bool any = any_lane(thread_index() == 70);
    out[thread_index()] = sum + (any ? 0.5f : 0.0f);
  };
  in_seeds([&] {
    std::vector<float> out(kThreads);
    launch({"reduce", 1, kThreads, sizeof(Storage)}, nullptr, kernel, out.data());
    for (int i = 0; i < kThreads; ++i)
      EXPECT_EQ(out[size_t(i)], 127.0f * 64.0f + (i / 32 == 2 ? 0.5f : 0.0f));
  });
}

TEST(Emulator, FindsIndicesOutsideOfSharedArrays) {
  const auto kernel = +[](int i) { shared_storage<ReverseStorage>().values[i] = 1; };
  const std::string error = error_of([&] {
    launch({"index", 1, 32, sizeof(ReverseStorage)}, nullptr, kernel, kThreads);
  });
  EXPECT_NE(error.find("kernel index: block (0, 0, 0) thread"), std::string::npos) << error;
  EXPECT_NE(error.find("index outside of a shared array"), std::string::npos) << error;
}

TEST(Emulator, FindsTooLittleSharedMemory) {
  const auto kernel = +[](int i) { shared_storage<ReverseStorage>().values[i] = 1; };
  EXPECT_NE(error_of([&] {
              launch({"small", 1, 32, 64}, nullptr, kernel, 0);
            }).find("more shared memory used than launched with"),
            std::string::npos);
}

struct CopyStorage {
  alignas(16) SharedArray<float, 4 * 32> values;
};

template <bool waits>
void copy_in(const float* in, float* out) {
  auto& shared = shared_storage<CopyStorage>();
  const int i = 4 * thread_index();
  copy_async16(shared.values.at(i, 4), in + i, thread_index() != 5);
  commit_copies();
  if (waits) wait_copies<0>();
  for (int j = 0; j < 4; ++j) out[i + j] = shared.values[i + j];
}

TEST(Emulator, CopiesThatNobodyWaitedForAreNotThere) {
  in_seeds([] {
    alignas(16) float in[128], out[128];
    for (int i = 0; i < 128; ++i) in[i] = float(i);
    const auto count_wrong = [&](void (*kernel)(const float*, float*)) {
      launch({"copy", 1, 32, sizeof(CopyStorage)}, nullptr, kernel, in, out);
      int wrong = 0;
      for (int i = 0; i < 128; ++i) wrong += out[i] != (i / 4 == 5 ? 0.0f : in[i]);
      return wrong;
    };
    EXPECT_EQ(count_wrong(copy_in<true>), 0);
    EXPECT_GT(count_wrong(copy_in<false>), 0);
  });
}

struct MmaStorage {
  alignas(16) SharedArray<BFloat16, 16 * 16> a;
  alignas(16) SharedArray<BFloat16, 16 * 16> b;  // [k, n], 16 columns
};

// c [16, 16] = a [16, 16] b [16, 16], by one warp.
void small_matmul(const BFloat16* a, const BFloat16* b, float* c) {
  auto& shared = shared_storage<MmaStorage>();
  const int lane = lane_index();
  for (int i = lane; i < 256; i += 32) {
    shared.a[i] = a[i];
    shared.b[i] = b[i];
  }
  sync_warp();
  uint32_t fa[4], fb[4];
  // Rows 0-15 of the left half of k, then of the right half.
  load_matrices(fa, shared.a.at(lane % 16 * 16 + lane / 16 * 8, 8));
  load_matrices_transposed(fb, shared.b.at(lane % 16 * 16 + lane / 16 * 8, 8));
  for (int half = 0; half < 2; ++half) {
    float acc[4] = {};
    mma_m16n8k16(acc, fa, {fb[2 * half], fb[2 * half + 1]});
    for (int i = 0; i < 4; ++i)
      c[(lane / 4 + i / 2 * 8) * 16 + half * 8 + lane % 4 * 2 + i % 2] = acc[i];
  }
}

TEST(Emulator, MatrixProductOfAWarp) {
  TensorBox box(1 << 20);
  const Tensor a = box.normal(DType::bf16, {16, 16}, 1), b = box.normal(DType::bf16, {16, 16}, 2);
  std::vector<float> c(256);
  launch({"mma", 1, 32, sizeof(MmaStorage)}, nullptr, small_matmul, a.ptr<BFloat16>(),
         b.ptr<BFloat16>(), c.data());
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      double sum = 0.0;
      for (int k = 0; k < 16; ++k)
        sum += double(float(a.ptr<BFloat16>()[i * 16 + k])) *
               double(float(b.ptr<BFloat16>()[k * 16 + j]));
      EXPECT_NEAR(c[size_t(i * 16 + j)], sum, 1e-5) << i << ", " << j;
    }
  }
}

}  // namespace
}  // namespace forja::testing
#endif
