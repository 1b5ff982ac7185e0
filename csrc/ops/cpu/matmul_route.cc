// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/matmul_route.h"

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

MatmulRoute matmul_route(const MatmulMachine& machine, DType dtype, int64_t m) {
  // Elsewhere oneDNN may have nothing but reference code.
  if (!machine.x86) return MatmulRoute::own;
  // Packing b pays only when its panels are used for many rows.
  constexpr int64_t kFewRows = 32;
  if (m <= kFewRows) return MatmulRoute::onednn;
  return dtype == DType::bf16 && machine.fast_bf16 ? MatmulRoute::onednn : MatmulRoute::own;
}

}  // namespace forja::cpu
