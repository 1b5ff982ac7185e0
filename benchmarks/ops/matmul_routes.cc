// SPDX-License-Identifier: Apache-2.0
// Both implementations of the fp32 matmul by turns, in memory as training has it: huge pages,
// operands that no cache holds any more. The evidence for ops/cpu/matmul_route.h.
//   matmul_routes [repeats]     OMP_NUM_THREADS sets the threads
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "csrc/ops/cpu/gemm.h"
#include "csrc/ops/cpu/onednn.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {

constexpr int64_t kPoolFloats = int64_t(1) << 30;  // 4 GiB, well beyond a last-level cache

enum class Product { forward, input_gradient, weight_gradient };
constexpr const char* kNames[] = {"forward", "input gradient", "weight gradient"};

// Hands out matrices round and round: the next one was used longest ago.
class Pool {
 public:
  Pool() : all_(allocate(arena_, DType::f32, {kPoolFloats})) {
    const int64_t drawn = int64_t(1) << 20;
    fill_normal(context(), all_.slice(0, 0, drawn), 1, 0, 0.0f, 1.0f);
    for (int64_t i = drawn; i < kPoolFloats; ++i)
      all_.ptr<float>()[i] = all_.ptr<float>()[i - drawn];
  }
  Context context() { return {.device = {}, .workspace = &workspace_}; }
  Tensor matrix(int64_t rows, int64_t columns) {
    if (at_ + rows * columns > kPoolFloats) at_ = 0;
    const Tensor t = make_tensor(all_.ptr<float>() + at_, DType::f32, {rows, columns});
    at_ += (rows * columns + 15) / 16 * 16;
    return t;
  }

 private:
  Arena arena_{"matrices", {}, kPoolFloats * 4}, workspace_{"workspace", {}, int64_t(2) << 30};
  Tensor all_;
  int64_t at_ = 0;
};

using Matmul = void (*)(const Context&, const Tensor&, const Tensor&, const Tensor&, MatmulOutput,
                        const Tensor&);

double seconds(Pool& pool, Matmul matmul, Product product, int64_t m, int64_t n, int64_t k) {
  const bool transposes_a = product == Product::weight_gradient;
  const Tensor a = transposes_a ? pool.matrix(k, m).transposed() : pool.matrix(m, k);
  const Tensor b = product == Product::forward ? pool.matrix(n, k).transposed() : pool.matrix(k, n);
  const Tensor c = pool.matrix(m, n);
  const auto begin = std::chrono::steady_clock::now();
  matmul(pool.context(), a, b, c, transposes_a ? MatmulOutput::accumulate : MatmulOutput::overwrite,
         {});
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void compare(Pool& pool, int repeats, Product product, int64_t m, int64_t n, int64_t k) {
  constexpr Matmul kRoutes[] = {cpu::gemm, cpu::onednn_matmul};
  double rates[2];
  std::vector<double> times[2];
  for (int i = 0; i <= repeats; ++i) {
    for (int r = 0; r < 2; ++r) {
      const double s = seconds(pool, kRoutes[r], product, m, n, k);
      if (i > 0) times[r].push_back(s);  // the first generates code
    }
  }
  for (int r = 0; r < 2; ++r) {
    std::nth_element(times[r].begin(), times[r].begin() + repeats / 2, times[r].end());
    rates[r] = 2.0 * double(m) * double(n) * double(k) / times[r][size_t(repeats / 2)] * 1e-9;
  }
  std::printf("| %s | %ld, %ld, %ld | %.0f | %.0f |\n", kNames[int(product)], long(m), long(n),
              long(k), rates[0], rates[1]);
  std::fflush(stdout);
}

void compare_all(int repeats) {
  Pool pool;
  std::printf("| fp32 product | M, N, K | own, GFLOP/s | oneDNN |\n| --- | --- | --- | --- |\n");
  for (const int64_t n : {768, 1024, 1536, 2048, 2304, 2560, 3072, 4096, 4608, 5632}) {
    for (const int64_t m : {256, 4096}) {
      compare(pool, repeats, Product::forward, m, n, 768);
      compare(pool, repeats, Product::input_gradient, m, n, 768);
    }
    compare(pool, repeats, Product::weight_gradient, 768, n, 4096);
  }
}

}  // namespace
}  // namespace forja

int main(int argc, char** argv) {
  forja::compare_all(argc > 1 ? std::max(1, std::atoi(argv[1])) : 5);
  return 0;
}
