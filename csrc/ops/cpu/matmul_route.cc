// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/matmul_route.h"

#include <bit>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace forja::cpu {
namespace {

#if defined(__x86_64__)
bool is_amd() {
  unsigned eax = 0, name[3] = {};
  if (!__get_cpuid(0, &eax, &name[0], &name[2], &name[1])) return false;
  return memcmp(name, "AuthenticAMD", 12) == 0;
}
#endif

// Rows of fp32 that lie a multiple of 2 KiB apart, in which oneDNN (2.6) reaches 60 to 80 % of its
// rate: it copies b only where that multiple is a power of two (docs/cpu-performance.md).
bool rows_collide(const Tensor& b) {
  const int64_t stride = b.stride(0);
  return b.stride(1) == 1 && stride >= 2560 && stride % 512 == 0 &&
         !std::has_single_bit(uint64_t(stride));
}

}  // namespace

// Intel's cores without AMX execute one VDPBF16PS every two cycles against two fp32 multiply-adds a
// cycle: half the rate (87 against 179 GFLOP/s measured on Emerald Rapids at 2.8 GHz). AMD's (Zen
// 4) execute it at the rate of an fp32 multiply-add: twice the fp32 rate.
MatmulMachine this_machine() {
#if defined(__x86_64__)
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  const int level = int(isa);
  const bool amx =
      (level & int(dnnl::cpu_isa::avx512_core_amx)) == int(dnnl::cpu_isa::avx512_core_amx);
  const bool dot =
      (level & int(dnnl::cpu_isa::avx512_core_bf16)) == int(dnnl::cpu_isa::avx512_core_bf16);
  return {.x86 = true, .fast_bf16 = amx || (dot && is_amd())};
#else
  return {.x86 = false, .fast_bf16 = false};
#endif
}

MatmulRoute matmul_route(const MatmulMachine& machine, const Tensor& a, const Tensor& b) {
  // Elsewhere oneDNN may have nothing but reference code.
  if (!machine.x86) return MatmulRoute::own;
  if (a.dtype == DType::bf16 && !machine.fast_bf16) {
    // Packing b pays only when its panels are used for many rows.
    constexpr int64_t kFewRows = 32;
    return a.size(0) <= kFewRows ? MatmulRoute::onednn : MatmulRoute::own;
  }
  return a.dtype == DType::f32 && rows_collide(b) ? MatmulRoute::own : MatmulRoute::onednn;
}

}  // namespace forja::cpu
