// SPDX-License-Identifier: Apache-2.0
// Forward: a thread has one group of 16 bytes of a row. Bound by memory: the floor is twice the
// bytes of `out` over the bandwidth (three times for adding).
//
// Backward: floating-point sums in a fixed order need the ids sorted. One block does that with a
// stable radix sort of 8 bits a pass, two or three passes for any vocabulary: each of its warps has
// a part of the ids, counts their digits, learns from the counts of all where its own go, and moves
// them there in order. The work is linear, a few microseconds for each 1000 ids and no other
// launch; nothing leaves the GPU. Then the first position of every id adds that id's rows, several
// loads at a time, in the order of n. The floor is the bytes of dout and twice those of the
// gradient's rows that are met, over the bandwidth.
#include "kernels/embedding/embedding.h"

#include <utility>

#include "forja/base/dispatch.h"
#include "kernels/common/elements.cuh"
#include "kernels/common/launch.h"
#include "kernels/common/warp.cuh"

namespace forja::kernels {
namespace {

// The row of the table for an id, or table_rows.
__device__ __forceinline__ int64_t table_row(const Lookup& a, int32_t id) {
  const int64_t row = int64_t(id) - a.first_row;
  return row >= 0 && row < a.table_rows ? row : a.table_rows;
}

template <class T, LookupMode kMode>
__global__ void __launch_bounds__(RowGrid::kThreads)
    embedding_lookup_kernel(Lookup a, Rows table, Rows out, RowGrid grid, bool aligned) {
  constexpr int N = kPack<T>;
  const RowPlace place(grid, blockIdx.x, thread_index());
  const int64_t first = place.group * N;
  const int count = clamp_count(a.columns - first, N);
  if (place.row >= a.count || count == 0) return;
  const int64_t row = table_row(a, a.ids[place.row]);
  const bool known = row < a.table_rows;
  T* to = out.row<T>(place.row) + first;
  if (kMode == LookupMode::add && !known) return;
  float values[N];
  const T* from = table.row<T>(known ? row : 0) + first;
  load_elements(from, known ? count : 0, aligned, values);
  if constexpr (kMode == LookupMode::add) {
    float old[N];
    load_elements(to, count, aligned, old);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += old[i];
  }
  store_elements(to, count, aligned, values);
}

constexpr int kSortThreads = 1024, kSortWarps = kSortThreads / kWarp;
constexpr int kDigits = 256, kDigitBits = 8;
constexpr int kSortUnroll = 4;

struct SortShared {
  // By digit, then warp; one more a row, against bank conflicts.
  SharedArray<int, kDigits*(kSortWarps + 1)> counts;
  SharedArray<int, kSortWarps> totals;
};

struct SortArrays {
  int32_t *keys, *positions;
};

__device__ __forceinline__ int count_index(uint32_t digit, int warp) {
  return int(digit) * (kSortWarps + 1) + warp;
}

// Turns the counts into the places of each warp's first key of each digit.
__device__ __forceinline__ void place_counts(SortShared& s) {
  constexpr int kEach = kDigits * kSortWarps / kSortThreads;  // counts of a thread, all of a digit
  const uint32_t digit = uint32_t(thread_index() * kEach / kSortWarps);
  const int first_warp = thread_index() * kEach % kSortWarps;
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) sum += s.counts[count_index(digit, first_warp + i)];
  int before = sum;  // up to this lane
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = shuffle_from(before, (lane_index() - offset) & (kWarp - 1));
    if (lane_index() >= offset) before += other;
  }
  if (lane_index() == kWarp - 1) s.totals[warp_index()] = before;
  sync_block();
  before -= sum;
  for (int w = 0; w < warp_index(); ++w) before += s.totals[w];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    int& count = s.counts[count_index(digit, first_warp + i)];
    const int here = count;
    count = before;
    before += here;
  }
  sync_block();
}

// For the keys of this warp in order, 32 at a time: body(key, position, place), where place is the
// count of the key's digit before it, and the counts grow.
template <class Read, class Body>
__device__ __forceinline__ void count_keys(SortShared& s, int64_t count, int shift,
                                           const Read& read, const Body& body) {
  const int64_t part = ceil_div<int64_t>(count, kSortThreads) * kWarp;
  const int64_t begin = warp_index() * part;
  const int64_t end = begin + part < count ? begin + part : count;
  for (int64_t i = begin; i < end; i += kWarp * kSortUnroll) {
    int32_t keys[kSortUnroll];
#pragma unroll
    for (int u = 0; u < kSortUnroll; ++u) {
      const int64_t at = i + u * kWarp + lane_index();
      keys[u] = at < end ? read(at) : 0;
    }
#pragma unroll
    for (int u = 0; u < kSortUnroll; ++u) {
      const int64_t at = i + u * kWarp + lane_index();
      const uint32_t digit = at < end ? uint32_t(keys[u]) >> shift & (kDigits - 1) : kDigits;
      const uint32_t same = matching_lanes(digit);
      const int before = count_bits(same & ((1u << lane_index()) - 1));
      int place = 0;
      if (at < end) place = s.counts[count_index(digit, warp_index())] + before;
      sync_warp();
      if (at < end && before == 0) s.counts[count_index(digit, warp_index())] += count_bits(same);
      sync_warp();
      if (at < end) body(keys[u], at, place);
    }
  }
}

// The first pass takes the ids themselves, `from` is then not read.
__global__ void __launch_bounds__(kSortThreads)
    sort_ids_kernel(Lookup a, SortArrays from, SortArrays to, int passes) {
  SortShared& s = shared_storage<SortShared>();
  for (int pass = 0; pass < passes; ++pass) {
    const int shift = pass * kDigitBits;
    const auto read = [&](int64_t i) {
      return pass == 0 ? int32_t(table_row(a, a.ids[i])) : from.keys[i];
    };
    for (int i = thread_index(); i < kDigits * (kSortWarps + 1); i += kSortThreads) s.counts[i] = 0;
    sync_block();
    count_keys(s, a.count, shift, read, [](int32_t, int64_t, int) {});
    sync_block();
    place_counts(s);
    count_keys(s, a.count, shift, read, [&](int32_t key, int64_t at, int place) {
      to.keys[place] = key;
      to.positions[place] = pass == 0 ? int32_t(at) : from.positions[at];
    });
    sync_block();
    const SortArrays other = from;
    from = to;
    to = other;
  }
}

template <class T>
__global__ void __launch_bounds__(RowGrid::kThreads)
    embedding_backward_kernel(Lookup a, SortArrays sorted, Rows dout, Rows gradient, RowGrid grid,
                              bool aligned) {
  constexpr int N = kGroup<T, float>, kUnroll = 8;
  const RowPlace place(grid, blockIdx.x, thread_index());
  const int64_t first = place.group * N, begin = place.row;
  const int count = clamp_count(a.columns - first, N);
  if (begin >= a.count || count == 0) return;
  const int32_t key = sorted.keys[begin];
  if (key >= a.table_rows || (begin > 0 && sorted.keys[begin - 1] == key)) return;
  float* to = gradient.row<float>(key) + first;
  float sum[N];
  load_elements(to, count, aligned, sum);
  bool more = true;
  for (int64_t i = begin; more; i += kUnroll) {
    float values[kUnroll][N];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      more = i + u < a.count && sorted.keys[i + u] == key;
      const int64_t n = more ? sorted.positions[i + u] : 0;
      load_elements(dout.row<T>(n) + first, more ? count : 0, aligned, values[u]);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u)
#pragma unroll
      for (int j = 0; j < N; ++j) sum[j] += values[u][j];
  }
  store_elements(to, count, aligned, sum);
}

}  // namespace

void embedding_lookup(LookupMode mode, const Lookup& a, const Rows& table, const Rows& out,
                      DType dtype, KernelStream stream) {
  dispatch_float(dtype, [&]<class T>() {
    const RowGrid grid(a.count, a.columns, kPack<T>);
    const bool aligned = table.aligned(kPack<T>) && out.aligned(kPack<T>);
    auto* kernel = mode == LookupMode::copy ? embedding_lookup_kernel<T, LookupMode::copy>
                                            : embedding_lookup_kernel<T, LookupMode::add>;
    launch({"embedding_lookup", unsigned(grid.blocks), RowGrid::kThreads}, stream, kernel, a, table,
           out, grid, aligned);
  });
}

void embedding_backward(const Lookup& a, const Rows& dout, DType dtype, const Rows& gradient,
                        int32_t* scratch, KernelStream stream) {
  if (a.count == 0) return;
  SortArrays from{scratch, scratch + a.count}, to{scratch + 2 * a.count, scratch + 3 * a.count};
  int passes = 1;  // of the keys 0 ... table_rows
  while (a.table_rows >> (passes * kDigitBits) > 0) ++passes;
  launch({"sort_ids", 1, kSortThreads, int64_t(sizeof(SortShared))}, stream, sort_ids_kernel, a,
         from, to, passes);
  const SortArrays sorted = passes % 2 != 0 ? to : from;
  dispatch_float(dtype, [&]<class T>() {
    constexpr int N = kGroup<T, float>;
    const RowGrid grid(a.count, a.columns, N);
    launch({"embedding_backward", unsigned(grid.blocks), RowGrid::kThreads}, stream,
           embedding_backward_kernel<T>, a, sorted, dout, gradient, grid,
           dout.aligned(N) && gradient.aligned(N));
  });
}

}  // namespace forja::kernels
