// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/embedding.h"

#include "tests/kernels/gpu_testing.h"

namespace forja::testing {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16};

// Many repeat, in no order.
std::vector<int32_t> some_ids(int64_t n, int64_t limit) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n; ++i)
    ids.push_back(int32_t(i % 3 == 0 ? limit / 2 : (i * 7919 + i * i) % limit));
  return ids;
}

struct Shape {
  int64_t n, total_rows, first_row, rows, columns, padding;
};
constexpr Shape kShapes[] = {
    {1, 1, 0, 1, 1, 0},          {37, 20, 5, 9, 24, 0},      {300, 500, 100, 300, 40, 8},
    {90, 70000, 0, 70000, 8, 0}, {1100, 600, 0, 600, 21, 3}, {6, 4, 0, 4, 2500, 0},
};

TEST(GpuEmbedding, ForwardAndAdd) {
  FORJA_REQUIRE_GPU();
  for (const Shape& s : kShapes) {
    for (const DType dtype : kFloats) {
      TensorBox cpu(32 << 20);
      GpuBox gpu(32 << 20);
      const Tensor ids = cpu.from(some_ids(s.n, s.total_rows), {s.n}), g_ids = gpu.upload(ids);
      const Tensor table =
          cpu.normal(dtype, {s.rows, s.columns + s.padding}, 1).slice(1, 0, s.columns);
      const Tensor g_table = gpu.upload(table);
      const Tensor out = cpu.normal(dtype, {s.n, s.columns}, 2), g_out = gpu.upload(out);
      embedding_forward(cpu.context(), ids, table, s.first_row, s.total_rows, out);
      embedding_forward(gpu.context(), g_ids, g_table, s.first_row, s.total_rows, g_out);
      expect_equal(gpu, g_out, out, "embedding");
      if (s.rows < s.total_rows) continue;
      embedding_add(cpu.context(), ids, table, out);
      embedding_add(gpu.context(), g_ids, g_table, g_out);
      expect_equal(gpu, g_out, out, "embedding, added");
    }
  }
}

// Bit for bit: both add in the order of n.
TEST(GpuEmbedding, Backward) {
  FORJA_REQUIRE_GPU();
  for (const Shape& s : kShapes) {
    for (const DType dtype : kFloats) {
      TensorBox cpu(32 << 20);
      GpuBox gpu(32 << 20);
      const Tensor ids = cpu.from(some_ids(s.n, s.total_rows), {s.n});
      const Tensor dout = cpu.normal(dtype, {s.n, s.columns + s.padding}, 1).slice(1, 0, s.columns);
      const Tensor gradient = cpu.normal(DType::f32, {s.rows, s.columns}, 2);
      const Tensor g_gradient = gpu.upload(gradient);
      embedding_backward(cpu.context(), dout, ids, s.first_row, s.total_rows, gradient);
      embedding_backward(gpu.context(), gpu.upload(dout), gpu.upload(ids), s.first_row,
                         s.total_rows, g_gradient);
      expect_equal(gpu, g_gradient, gradient, "gradient");
    }
  }
}

// Ids that no table has read nothing and change nothing.
TEST(GpuEmbedding, UnknownIds) {
  FORJA_REQUIRE_GPU();
  TensorBox cpu(1 << 20);
  GpuBox gpu(1 << 20);
  const std::vector<int32_t> bad = {-1, 3, INT32_MAX, INT32_MIN, 1};
  const Tensor ids = gpu.upload(cpu.from(bad, {5}));
  const Tensor table = cpu.normal(DType::f32, {3, 4}, 1), out = cpu.zeros(DType::f32, {5, 4});
  const Tensor g_table = gpu.upload(table), g_out = gpu.empty(DType::f32, {5, 4});
  embedding_forward(gpu.context(), ids, g_table, 0, 3, g_out);
  for (int i = 0; i < 4; ++i) out.ptr<float>()[16 + i] = table.ptr<float>()[4 + i];
  expect_equal(gpu, g_out, out, "embedding");
  embedding_add(gpu.context(), ids, g_table, g_out);
  for (int i = 0; i < 4; ++i) out.ptr<float>()[16 + i] *= 2.0f;
  expect_equal(gpu, g_out, out, "embedding, added");
  embedding_backward(gpu.context(), g_out, ids, 0, 3, g_table);
  for (int i = 0; i < 4; ++i) table.ptr<float>()[4 + i] += out.ptr<float>()[16 + i];
  expect_equal(gpu, g_table, table, "gradient");
}

}  // namespace
}  // namespace forja::testing
