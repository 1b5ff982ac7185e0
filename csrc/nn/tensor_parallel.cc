// SPDX-License-Identifier: Apache-2.0
#include "forja/nn/tensor_parallel.h"

#include <vector>

#include "forja/base/error.h"

namespace forja {
namespace {

// Enough to hide most of the transfer, few enough that the multiplications stay large.
constexpr int64_t kChunks = 4, kLeastRows = 256;

}  // namespace

TensorParallel::TensorParallel()
    : self_(make_self_communicator()),
      unused_(std::make_shared<TimeSplit>()),
      group_(self_.get()),
      times_(unused_.get()) {}

int64_t TensorParallel::num_chunks(int64_t rows) const {
  if (size() == 1) return 1;
  int64_t chunks = kChunks;
  while (chunks > 1 && (rows % (chunks * size()) != 0 || rows / chunks < kLeastRows)) chunks /= 2;
  return chunks;
}

Tensor TensorParallel::all_rows(Arena& arena, const Tensor& own) const {
  if (size() == 1) return own;
  return allocate(arena, own.dtype, {own.size(0) * size(), own.size(1)});
}

void TensorParallel::gather(const Context& ctx, const Tensor& own, const Tensor& all,
                            const char* purpose, const Chunk& use) const {
  const int64_t rows = all.size(0), chunks = num_chunks(rows);
  if (size() == 1) return use(0, rows);
  const int64_t step = rows / chunks, own_step = step / size();
  std::vector<Event> events;
  for (int64_t c = 0; c < chunks && !ctx.planning(); ++c) {
    events.push_back(group_->all_gather(own.slice(0, c * own_step, (c + 1) * own_step),
                                        all.slice(0, c * step, (c + 1) * step), {purpose}));
  }
  for (int64_t c = 0; c < chunks; ++c) {
    if (!ctx.planning()) times_->wait(events[size_t(c)], TimeKind::wait_tp);
    use(c * step, (c + 1) * step);
  }
}

void TensorParallel::gather(const Context& ctx, const Tensor& own, const Tensor& all,
                            const char* purpose) const {
  gather(ctx, own, all, purpose, [](int64_t, int64_t) {});
}

void TensorParallel::reduce_scatter(const Context& ctx, const Tensor& all, const Tensor& own,
                                    const char* purpose, const Chunk& make) const {
  const int64_t rows = all.size(0), chunks = num_chunks(rows);
  if (size() == 1) return make(0, rows);
  const int64_t step = rows / chunks, own_step = step / size();
  std::vector<Event> events;
  for (int64_t c = 0; c < chunks; ++c) {
    make(c * step, (c + 1) * step);
    if (ctx.planning()) continue;
    events.push_back(group_->reduce_scatter(all.slice(0, c * step, (c + 1) * step),
                                            own.slice(0, c * own_step, (c + 1) * own_step),
                                            ReduceOp::sum, {purpose}));
  }
  for (const Event& e : events) times_->wait(e, TimeKind::wait_tp);
}

void TensorParallel::for_each_piece(
    int64_t rows, const std::function<void(int64_t, int64_t, int64_t)>& body) const {
  const int64_t chunks = num_chunks(rows), step = rows / chunks, own_step = step / size();
  for (int64_t c = 0; c < chunks; ++c)
    body(c * own_step, (c + 1) * own_step, c * step + rank() * own_step);
}

void TensorParallel::all_reduce(const Context& ctx, const Tensor& data, ReduceOp op,
                                const char* purpose) const {
  if (size() == 1 || ctx.planning()) return;
  times_->wait(group_->all_reduce(data, op, {purpose}), TimeKind::wait_tp);
}

}  // namespace forja
