// SPDX-License-Identifier: Apache-2.0
// The emulator of Hopper's instructions finds what it is there to find. Left out of a build for
// real GPUs.
#ifndef FORJA_REAL_GPU
#include "kernels/common/launch.h"
#include "kernels/common/warp.cuh"
#include "kernels/common/wgmma.cuh"
#include "tests/testing/testing.h"

namespace forja::testing {
namespace {

void in_seeds(const std::function<void()>& body) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    emulator::set_seed(seed);
    body();
  }
}

enum class Bug {
  none,
  no_wait_for_full,
  no_wait_for_empty,
  lost_arrival,
  extra_arrival,
  too_few_bytes,
  no_wait_for_products,
  early_overwrite,
};

// ---- A ring of two stages: the producer copies rows of 64 bf16, one consumer warp sums them.

constexpr int kStages = 2, kSteps = 7, kRow = 64;

struct RingStorage {
  alignas(128) SharedArray<BFloat16, kStages * kRow> rows;
  SharedArray<Mbarrier, kStages> full, empty;
};

template <Bug bug>
void sum_rows(const TensorMap rows, float* out) {
  auto& shared = shared_storage<RingStorage>();
  if (thread_index() == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_mbarrier(shared.full[i], 1);
      init_mbarrier(shared.empty[i], 1);
    }
    publish_mbarriers();
  }
  sync_block();
  float sum[2] = {0.0f, 0.0f};
  for (int step = 0; step < kSteps; ++step) {
    const int stage = step % kStages;
    const uint32_t phase = uint32_t(step / kStages % 2);
    if (thread_index() == 32) {
      if (bug != Bug::no_wait_for_empty)
        wait_mbarrier(shared.empty[stage], phase ^ 1, "mbarrier empty");
      arrive_mbarrier_expect(shared.full[stage], bug == Bug::too_few_bytes ? 64 : 128);
      load_tile(shared.rows.at(stage * kRow, kRow), rows, shared.full[stage], 0, step);
    } else if (warp_index() == 0) {
      if (bug != Bug::no_wait_for_full) wait_mbarrier(shared.full[stage], phase, "mbarrier full");
      for (int i = 0; i < 2; ++i)
        sum[i] += to_float(shared.rows[stage * kRow + 2 * lane_index() + i]);
      sync_warp();
      const bool arrives = bug != Bug::lost_arrival || step != 3;
      if (lane_index() == 0 && arrives) arrive_mbarrier(shared.empty[stage]);
      if (bug == Bug::extra_arrival && lane_index() == 1) arrive_mbarrier(shared.empty[stage]);
    }
  }
  if (warp_index() == 0)
    for (int i = 0; i < 2; ++i) out[2 * lane_index() + i] = sum[i];
}

int wrong_sums(void (*kernel)(TensorMap, float*)) {
  alignas(16) BFloat16 rows[kSteps * kRow];
  for (int i = 0; i < kSteps * kRow; ++i) rows[i] = BFloat16(float(i % 50 + i / kRow));
  const TensorMap map = make_tensor_map("sum_rows", rows, DType::bf16,
                                        {{kRow, 1, kRow}, {kSteps, kRow, 1}}, TensorSwizzle::none);
  float out[kRow];
  launch({"sum_rows", 1, 64, sizeof(RingStorage)}, nullptr, kernel, map, out);
  int wrong = 0;
  for (int i = 0; i < kRow; ++i) {
    float sum = 0.0f;
    for (int row = 0; row < kSteps; ++row) sum += float(rows[row * kRow + i]);
    wrong += out[i] != sum;
  }
  return wrong;
}

TEST(HopperEmulator, RingOfStages) {
  in_seeds([] { EXPECT_EQ(wrong_sums(sum_rows<Bug::none>), 0); });
}

// Sums of other rows; or the barriers lose count of the phases, which ends in a fault or a hang.
bool found_by_sums(void (*kernel)(TensorMap, float*)) {
  try {
    return wrong_sums(kernel) > 0;
  } catch (const Error&) {
    return true;
  }
}

TEST(HopperEmulator, FindsMissingWaitsAndArrivalsTooMany) {
  in_seeds([] {
    EXPECT_TRUE(found_by_sums(sum_rows<Bug::no_wait_for_full>));
    EXPECT_TRUE(found_by_sums(sum_rows<Bug::no_wait_for_empty>));
    EXPECT_TRUE(found_by_sums(sum_rows<Bug::extra_arrival>));
  });
}

TEST(HopperEmulator, HangsNameTheBarrier) {
  in_seeds([] {
    std::string error = error_of([] { wrong_sums(sum_rows<Bug::lost_arrival>); });
    EXPECT_NE(error.find("sum_rows hangs"), std::string::npos) << error;
    EXPECT_NE(error.find("1 threads at mbarrier empty (first: block (0, 0, 0) thread 32)"),
              std::string::npos)
        << error;
    EXPECT_NE(error.find("32 threads at mbarrier full"), std::string::npos) << error;
    error = error_of([] { wrong_sums(sum_rows<Bug::too_few_bytes>); });
    EXPECT_NE(error.find("threads at mbarrier full"), std::string::npos) << error;
  });
}

TEST(HopperEmulator, CountsArrivals) {
  const auto kernel = +[](int arrivals) {
    auto& shared = shared_storage<RingStorage>();
    if (thread_index() == 0) init_mbarrier(shared.full[0], 2);
    sync_block();
    if (thread_index() < arrivals) arrive_mbarrier_expect(shared.full[0], 16);
  };
  launch({"arrivals", 1, 32, sizeof(RingStorage)}, nullptr, kernel, 2);
  EXPECT_NE(error_of([&] {
              launch({"arrivals", 1, 32, sizeof(RingStorage)}, nullptr, kernel, 3);
            }).find("more arrivals at an mbarrier than it counts"),
            std::string::npos);
  const auto raw = +[](int) { arrive_mbarrier(shared_storage<RingStorage>().full[0]); };
  EXPECT_NE(error_of([&] {
              launch({"raw", 1, 32, sizeof(RingStorage)}, nullptr, raw, 0);
            }).find("an mbarrier that was not initialised"),
            std::string::npos);
}

// ---- The copy engine.

struct TileStorage {
  alignas(1024) SharedArray<BFloat16, 16 * 64> tile;
  SharedArray<Mbarrier, 1> full;
};

// out [16, 64]: the box of the map at (x, y), as it lies in shared memory from `offset` on.
void copy_tile(const TensorMap map, int x, int y, int offset, BFloat16* out) {
  auto& shared = shared_storage<TileStorage>();
  if (thread_index() == 0) init_mbarrier(shared.full[0], 1);
  sync_block();
  if (thread_index() == 0) {
    arrive_mbarrier_expect(shared.full[0], 16 * 64 * 2);
    load_tile(shared.tile.at(offset), map, shared.full[0], x, y);
  }
  wait_mbarrier(shared.full[0], 0, "mbarrier full");
  for (int i = thread_index(); i < 16 * 64; i += 32) out[i] = shared.tile[i];
}

TEST(HopperEmulator, CopiesSwizzleAndFillWithZeros) {
  TensorBox box(1 << 20);
  constexpr int64_t kRows = 30, kColumns = 150, kStride = 152;
  const Tensor x = box.normal(DType::bf16, {kRows, kStride}, 1);
  for (const TensorSwizzle swizzle : {TensorSwizzle::none, TensorSwizzle::bytes128}) {
    const TensorMap map = make_tensor_map("copy_tile", x.data, DType::bf16,
                                          {{kColumns, 1, 64}, {kRows, kStride, 16}}, swizzle);
    for (const int first_row : {0, 20, 32}) {
      for (const int first_column : {0, 64, 128, 192}) {
        BFloat16 out[16 * 64];
        launch({"copy_tile", 1, 32, sizeof(TileStorage)}, nullptr, copy_tile, map, first_column,
               first_row, 0, out);
        int wrong = 0;
        for (int r = 0; r < 16; ++r) {
          for (int c = 0; c < 64; ++c) {
            const int64_t row = first_row + r, column = first_column + c;
            const bool inside = row < kRows && column < kColumns;
            const uint16_t expected =
                inside ? x.ptr<BFloat16>()[row * kStride + column].bits : uint16_t(0);
            const int chunk = swizzle == TensorSwizzle::none ? c / 8 : c / 8 ^ r % 8;
            wrong += out[r * 64 + chunk * 8 + c % 8].bits != expected;
          }
        }
        EXPECT_EQ(wrong, 0) << first_row << ", " << first_column;
      }
    }
  }
}

// out [16, 64]: a box of a map of [rows, planes, columns], 16 rows of one plane.
void copy_rows_of_plane(const TensorMap map, int x, int y, int z, BFloat16* out) {
  auto& shared = shared_storage<TileStorage>();
  if (thread_index() == 0) init_mbarrier(shared.full[0], 1);
  sync_block();
  if (thread_index() == 0) {
    load_tile(shared.tile.at(0), map, shared.full[0], x, y, z);
    arrive_mbarrier_expect(shared.full[0], 16 * 64 * 2);
  }
  wait_mbarrier(shared.full[0], 0, "mbarrier full");
  for (int i = thread_index(); i < 16 * 64; i += 32) out[i] = shared.tile[i];
}

TEST(HopperEmulator, CopiesOfThreeDimensions) {
  TensorBox box(1 << 20);
  constexpr int64_t kRows = 30, kPlanes = 3, kColumns = 80;
  const Tensor x = box.normal(DType::bf16, {kRows, kPlanes, kColumns}, 1);
  const TensorMap map =
      make_tensor_map("copy_rows", x.data, DType::bf16,
                      {{kColumns, 1, 64}, {kPlanes, kColumns, 1}, {kRows, kPlanes * kColumns, 16}},
                      TensorSwizzle::bytes128);
  for (const int first_row : {0, 20, 30}) {
    for (const int plane : {0, 2, 3}) {
      for (const int first_column : {0, 64}) {
        BFloat16 out[16 * 64];
        launch({"copy_rows", 1, 32, sizeof(TileStorage)}, nullptr, copy_rows_of_plane, map,
               first_column, plane, first_row, out);
        int wrong = 0;
        for (int r = 0; r < 16; ++r) {
          for (int c = 0; c < 64; ++c) {
            const int64_t row = first_row + r, column = first_column + c;
            const bool inside = row < kRows && plane < kPlanes && column < kColumns;
            const uint16_t expected =
                inside ? x.ptr<BFloat16>()[(row * kPlanes + plane) * kColumns + column].bits
                       : uint16_t(0);
            wrong += out[r * 64 + (c / 8 ^ r % 8) * 8 + c % 8].bits != expected;
          }
        }
        EXPECT_EQ(wrong, 0) << first_row << ", " << plane << ", " << first_column;
      }
    }
  }
}

TEST(HopperEmulator, RefusesMisalignedTilesAndMaps) {
  TensorBox box(1 << 20);
  const Tensor x = box.normal(DType::bf16, {30, 152}, 1);
  const auto make = [&](int64_t offset, int64_t stride, int width) {
    return make_tensor_map("maps", x.ptr<BFloat16>() + offset, DType::bf16,
                           {{64, 1, width}, {16, stride, 16}}, TensorSwizzle::bytes128);
  };
  const auto error_of_map = [&](int64_t offset, int64_t stride, int width) {
    return error_of([&] { make(offset, stride, width); });
  };
  EXPECT_NE(error_of_map(1, 152, 64).find("data not aligned to 16 bytes"), std::string::npos);
  EXPECT_NE(error_of_map(0, 150, 64).find("a stride that is no multiple of 16"), std::string::npos);
  EXPECT_NE(error_of_map(0, 152, 60).find("rows of the box are no multiples"), std::string::npos);
  EXPECT_NE(error_of_map(0, 152, 128).find("longer than the swizzle's"), std::string::npos);

  BFloat16 out[16 * 64];
  const auto error_at = [&](int offset) {
    return error_of([&] {
      launch({"copy_tile", 1, 32, sizeof(TileStorage)}, nullptr, copy_tile, make(0, 152, 64), 0, 0,
             offset, out);
    });
  };
  EXPECT_NE(error_at(8).find("a tile that is not aligned to 128 bytes"), std::string::npos);
  EXPECT_NE(error_at(960).find("more shared memory used than launched with"), std::string::npos);
}

// ---- Products: c [64, N] = a [64, 64] b [N, 64]^T by one warpgroup.

template <int N>
struct ProductStorage {
  alignas(1024) SharedArray<BFloat16, 64 * 64> a;
  alignas(1024) SharedArray<BFloat16, N * 64> b;
  SharedArray<Mbarrier, 1> full;
};

// What an encoding may get wrong; right as they stand for rows along K or along M or N.
struct Encoding {
  int leading_bytes = 64 * 64 * 2, stride_bytes = 1024, k_step_bytes[2] = {32, 16 * 128};
};

template <Rows a_rows, Rows b_rows, int N, Bug bug = Bug::none>
void product(const TensorMap a, const TensorMap b, Encoding e, float* out) {
  auto& shared = shared_storage<ProductStorage<N>>();
  if (thread_index() == 0) {
    init_mbarrier(shared.full[0], 1);
    publish_mbarriers();
  }
  sync_block();
  if (thread_index() == 0) {
    arrive_mbarrier_expect(shared.full[0], (64 + N) * 64 * 2);
    load_tile(shared.a.at(0), a, shared.full[0], 0, 0);
    for (int i = 0; i < (b_rows == Rows::k ? 1 : N / 64); ++i)
      load_tile(shared.b.at(i * 64 * 64), b, shared.full[0], 64 * i, 0);
  }
  wait_mbarrier(shared.full[0], 0, "mbarrier full");
  const MatrixDescriptor x = make_descriptor(shared.a.at(0), e.leading_bytes, e.stride_bytes);
  const MatrixDescriptor y = make_descriptor(shared.b.at(0), e.leading_bytes, e.stride_bytes);
  float c[N / 8][4];
  fence_products();
  for (int i = 0; i < 4; ++i)
    multiply<a_rows, b_rows>(c, advance(x, i * e.k_step_bytes[int(a_rows)]),
                             advance(y, i * e.k_step_bytes[int(b_rows)]), i > 0);
  commit_products();
  if (bug != Bug::no_wait_for_products) wait_products<0>();
  take_products(c);
  const int row = warp_index() * 16 + lane_index() / 4, column = lane_index() % 4 * 2;
  for (int j = 0; j < N / 8; ++j)
    for (int i = 0; i < 4; ++i) out[(row + i / 2 * 8) * N + 8 * j + column + i % 2] = c[j][i];
  wait_products<0>();
}

// How many numbers run(a, map of a, map of b, out) gets wrong; the maps are of operands as they lie
// in memory: [outer, K], or [K, outer].
template <int N, class Run>
int count_wrong(Rows a_rows, Rows b_rows, const Run& run) {
  TensorBox box(1 << 20);
  const Tensor a = box.normal(DType::bf16, {64, 64}, 1), b = box.normal(DType::bf16, {N, 64}, 2);
  const auto map = [&](Rows rows, const Tensor& t) {
    const int64_t outer = t.size(0);
    if (rows == Rows::k)
      return make_tensor_map("product", t.data, DType::bf16, {{64, 1, 64}, {outer, 64, int(outer)}},
                             TensorSwizzle::bytes128);
    const Tensor other = box.empty(DType::bf16, {64, outer});
    for (int64_t k = 0; k < 64; ++k)
      for (int64_t i = 0; i < outer; ++i)
        other.ptr<BFloat16>()[k * outer + i] = t.ptr<BFloat16>()[i * 64 + k];
    return make_tensor_map("product", other.data, DType::bf16, {{outer, 1, 64}, {64, outer, 64}},
                           TensorSwizzle::bytes128);
  };
  std::vector<float> out(64 * N);
  run(a, map(a_rows, a), map(b_rows, b), out.data());
  int wrong = 0;
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < N; ++j) {
      double sum = 0.0;
      for (int k = 0; k < 64; ++k)
        sum += double(float(a.ptr<BFloat16>()[i * 64 + k])) *
               double(float(b.ptr<BFloat16>()[j * 64 + k]));
      wrong += !(std::fabs(double(out[size_t(i * N + j)]) - sum) < 1e-4);
    }
  }
  return wrong;
}

template <Rows a_rows, Rows b_rows, int N, Bug bug = Bug::none>
int wrong_products(const Encoding& encoding = {}) {
  return count_wrong<N>(a_rows, b_rows,
                        [&](const Tensor&, const TensorMap& a, const TensorMap& b, float* out) {
                          launch({"product", 1, kWarpgroup, sizeof(ProductStorage<N>)}, nullptr,
                                 product<a_rows, b_rows, N, bug>, a, b, encoding, out);
                        });
}

TEST(HopperEmulator, ProductsOfAWarpgroup) {
  in_seeds([] {
    EXPECT_EQ((wrong_products<Rows::k, Rows::k, 256>()), 0);
    EXPECT_EQ((wrong_products<Rows::outer, Rows::outer, 256>()), 0);
    EXPECT_EQ((wrong_products<Rows::k, Rows::outer, 128>()), 0);
    EXPECT_EQ((wrong_products<Rows::k, Rows::k, 64>()), 0);
    EXPECT_EQ((wrong_products<Rows::outer, Rows::k, 128>()), 0);
  });
}

TEST(HopperEmulator, WrongDescriptorsAndMissingWaitsGiveWrongNumbers) {
  in_seeds([] {
    EXPECT_GT((wrong_products<Rows::k, Rows::k, 128>({.stride_bytes = 512})), 0);
    EXPECT_GT((wrong_products<Rows::k, Rows::k, 128>({.k_step_bytes = {64, 2048}})), 0);
    EXPECT_GT((wrong_products<Rows::outer, Rows::outer, 128>({.leading_bytes = 4096})), 0);
    EXPECT_GT((wrong_products<Rows::outer, Rows::outer, 128>({.k_step_bytes = {32, 1024}})), 0);
    EXPECT_GT((wrong_products<Rows::k, Rows::k, 128, Bug::no_wait_for_products>()), 0);
  });
}

// The same with a in registers: c [64, N] = a [64, 64] b.
template <Rows b_rows, int N, Bug bug = Bug::none>
void product_of_registers(const BFloat16* a, const TensorMap b, float* out) {
  auto& shared = shared_storage<ProductStorage<N>>();
  if (thread_index() == 0) init_mbarrier(shared.full[0], 1);
  sync_block();
  if (thread_index() == 0) {
    arrive_mbarrier_expect(shared.full[0], N * 64 * 2);
    for (int i = 0; i < (b_rows == Rows::k ? 1 : N / 64); ++i)
      load_tile(shared.b.at(i * 64 * 64), b, shared.full[0], 64 * i, 0);
  }
  const int row = warp_index() * 16 + lane_index() / 4, column = lane_index() % 4 * 2;
  uint32_t x[4][4];
  for (int i = 0; i < 4; ++i) {
    for (int e = 0; e < 4; ++e) {
      const BFloat16* pair = a + (row + e % 2 * 8) * 64 + 16 * i + e / 2 * 8 + column;
      x[i][e] = pack_bf16(to_float(pair[0]), to_float(pair[1]));
    }
  }
  wait_mbarrier(shared.full[0], 0, "mbarrier full");
  const Encoding e;
  const MatrixDescriptor y = make_descriptor(shared.b.at(0), e.leading_bytes, e.stride_bytes);
  float c[N / 8][4];
  fence_products();
  for (int i = 0; i < 4; ++i)
    multiply<b_rows>(c, x[i], advance(y, i * e.k_step_bytes[int(b_rows)]), i > 0);
  commit_products();
  if (bug == Bug::early_overwrite) x[2][1] = 0;
  wait_products<0>();
  take_products(c);
  for (int j = 0; j < N / 8; ++j)
    for (int i = 0; i < 4; ++i) out[(row + i / 2 * 8) * N + 8 * j + column + i % 2] = c[j][i];
}

template <Rows b_rows, int N, Bug bug = Bug::none>
int wrong_products_of_registers() {
  return count_wrong<N>(Rows::k, b_rows,
                        [&](const Tensor& a, const TensorMap&, const TensorMap& b, float* out) {
                          launch({"product", 1, kWarpgroup, sizeof(ProductStorage<N>)}, nullptr,
                                 product_of_registers<b_rows, N, bug>, a.ptr<BFloat16>(), b, out);
                        });
}

TEST(HopperEmulator, ProductsOfRegisters) {
  in_seeds([] {
    EXPECT_EQ((wrong_products_of_registers<Rows::k, 64>()), 0);
    EXPECT_EQ((wrong_products_of_registers<Rows::k, 128>()), 0);
    EXPECT_EQ((wrong_products_of_registers<Rows::outer, 64>()), 0);
    EXPECT_EQ((wrong_products_of_registers<Rows::outer, 128>()), 0);
    EXPECT_GT((wrong_products_of_registers<Rows::k, 128, Bug::early_overwrite>()), 0);
  });
}

TEST(HopperEmulator, OperandsOfAWarpgroupAreTheSame) {
  const auto kernel = +[](int) {
    auto& shared = shared_storage<ProductStorage<128>>();
    float c[16][4];
    const MatrixDescriptor d = make_descriptor(shared.a.at(0), 16, 1024);
    multiply<Rows::k, Rows::k>(c, d, advance(d, lane_index() == 3 ? 32 : 0), false);
  };
  EXPECT_NE(error_of([&] {
              launch({"differ", 1, kWarpgroup, sizeof(ProductStorage<128>)}, nullptr, kernel, 0);
            }).find("wgmma: operands differ in one warpgroup"),
            std::string::npos);
}

}  // namespace
}  // namespace forja::testing
#endif
