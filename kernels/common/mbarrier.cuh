// SPDX-License-Identifier: Apache-2.0
// Barriers in shared memory (mbarrier, sm_90) that count arrivals of threads and, beside them, the
// bytes of copies. A phase ends when all arrivals have come and all expected bytes are there; the
// next begins at once, with the same number of arrivals. Phases have parities: 0, 1, 0, ...
//
// Also what else speaks of Hopper in general: whether a kernel's body is compiled at all, and the
// registers of a warpgroup.
#pragma once

#include "kernels/common/async_copy.cuh"

// Instructions of sm_90a (wgmma, setmaxnreg) exist for that target alone: kernels that use them
// have an empty body for the others, and launchers that do not start it there.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FORJA_HOPPER_CODE 1
#endif

namespace forja {

constexpr int kWarpgroup = 128;  // threads

struct alignas(8) Mbarrier {
  uint64_t state;
};

// The stage that comes next of a ring of buffers with a barrier each, and its phase's parity.
template <int kStages>
struct Ring {
  int stage = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void advance() {
    if (++stage < kStages) return;
    stage = 0;
    phase ^= 1;
  }
};

#ifdef __CUDACC__

// By one thread, for `arrivals` in each phase; then publish_mbarriers() and a barrier of the block.
__device__ __forceinline__ void init_mbarrier(Mbarrier& b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&b)), "r"(arrivals)
               : "memory");
}
__device__ __forceinline__ void publish_mbarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void arrive_mbarrier(Mbarrier& b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&b)) : "memory");
}
// Arrives, and has the phase last until copies have brought `bytes` more.
__device__ __forceinline__ void arrive_mbarrier_expect(Mbarrier& b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&b)),
               "r"(bytes)
               : "memory");
}
// Until the phase of that parity has ended: the one that runs, or the one before, which has. What
// the arriving threads and the copies wrote before is then visible. `name` is for the emulator's
// message about a hang.
__device__ __forceinline__ void wait_mbarrier(Mbarrier& b, uint32_t parity, const char* /*name*/) {
  const uint32_t address = shared_address(&b);
  uint32_t done;
  do {
    asm volatile(
        "{\n.reg .pred done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.u32 %0, 1, 0, done;\n}"
        : "=r"(done)
        : "r"(address), "r"(parity)
        : "memory");
  } while (!done);
}

// The registers of each thread of the calling warp, which its whole warpgroup must change alike.
// Kernels need __launch_bounds__(threads, 1).
template <int kRegisters>
__device__ __forceinline__ void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#else

namespace internal {

// Addresses of shared memory as PTX has them. GPUs keep the first KiB of the window to themselves.
constexpr uint32_t kSharedWindow = 1024;

inline uint32_t window_address(const void* p) {
  const auto* base = static_cast<const char*>(emulator::shared_memory(0));
  return kSharedWindow + uint32_t(static_cast<const char*>(p) - base);
}
// `bytes` from that address on; faults outside of the block's shared memory.
inline char* in_window(uint32_t address, int bytes) {
  if (address < kSharedWindow) emulator::fault("an address before the block's shared memory");
  const uint32_t offset = address - kSharedWindow;
  return static_cast<char*>(emulator::shared_memory(int64_t(offset) + bytes)) + offset;
}

struct MbarrierState {
  int16_t count, pending;  // arrivals: of a phase, and still to come
  int32_t bytes : 31;      // expected; negative when copies came first
  uint32_t parity : 1;
};
static_assert(sizeof(MbarrierState) == sizeof(Mbarrier));

inline MbarrierState load_state(const Mbarrier& b) {
  MbarrierState s;
  memcpy(&s, &b, sizeof(s));
  if (s.count <= 0) emulator::fault("an mbarrier that was not initialised");
  return s;
}
inline void store_state(Mbarrier& b, MbarrierState s) {
  if (s.pending == 0 && s.bytes == 0) {
    s.pending = s.count;
    s.parity ^= 1;
  }
  memcpy(&b, &s, sizeof(s));
}
inline void arrive(Mbarrier& b, int bytes) {
  MbarrierState s = load_state(b);
  if (s.pending == 0) emulator::fault("more arrivals at an mbarrier than it counts");
  --s.pending;
  s.bytes = s.bytes + bytes;
  store_state(b, s);
}
inline void complete_bytes(Mbarrier& b, int bytes) {
  MbarrierState s = load_state(b);
  s.bytes = s.bytes - bytes;
  store_state(b, s);
}

}  // namespace internal

inline void init_mbarrier(Mbarrier& b, int arrivals) {
  if (arrivals <= 0) emulator::fault("an mbarrier for no arrivals");
  const internal::MbarrierState s = {int16_t(arrivals), int16_t(arrivals), 0, 0};
  memcpy(&b, &s, sizeof(s));
}
inline void publish_mbarriers() {}
inline void arrive_mbarrier(Mbarrier& b) { internal::arrive(b, 0); }
inline void arrive_mbarrier_expect(Mbarrier& b, int bytes) { internal::arrive(b, bytes); }
inline void wait_mbarrier(Mbarrier& b, uint32_t parity, const char* name) {
  internal::load_state(b);
  emulator::wait(name, [&b, parity] { return internal::load_state(b).parity != parity; });
}

template <int kRegisters>
void lower_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
void raise_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

#endif

}  // namespace forja
