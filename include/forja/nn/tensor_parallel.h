// SPDX-License-Identifier: Apache-2.0
// Tensor parallelism with sequence parallelism. Inside attention, MLP and head every rank has all
// rows and a part of the width; between them every rank has a part of the rows and the whole width.
// Going from rows to width is an all-gather (g of the paper; its backward is a reduce-scatter),
// going back a reduce-scatter (g-bar; its backward is an all-gather). Source: Korthikanti et al.,
// "Reducing Activation Recomputation in Large Transformer Models", 2022, section 4.2.
//
// Rows move in C chunks, so that one chunk travels while another is multiplied. A rank's own rows
// are its part of every chunk, one after the other: chunk c of the whole is then a contiguous
// all-gather of chunk c of the parts.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "forja/comm/communicator.h"
#include "forja/device/context.h"
#include "forja/parallel/time_split.h"

namespace forja {

// Legend: N rows of a micro-batch, P ranks, n = N / P own rows, E columns.
class TensorParallel {
 public:
  // Alone. Calls do nothing; gathered rows are the own rows.
  TensorParallel();
  // Neither is owned.
  TensorParallel(Communicator& group, TimeSplit& times) : group_(&group), times_(&times) {}

  int rank() const { return group_->rank(); }
  int size() const { return group_->size(); }
  int64_t own_rows(int64_t rows) const { return rows / size(); }
  int64_t num_chunks(int64_t rows) const;

  // Body of a chunk: its rows [begin, end) of all rows.
  using Chunk = std::function<void(int64_t begin, int64_t end)>;

  // Memory for all rows [N, E] beside `own` [n, E], from `arena`; `own` itself where this rank is
  // alone.
  Tensor all_rows(Arena& arena, const Tensor& own) const;
  // all = the rows of every rank; use(begin, end) is called for each chunk when its rows are there.
  void gather(const Context& ctx, const Tensor& own, const Tensor& all, const char* purpose,
              const Chunk& use) const;
  void gather(const Context& ctx, const Tensor& own, const Tensor& all, const char* purpose) const;
  // own = this rank's rows of the sum over ranks of `all`; make(begin, end) fills the rows of a
  // chunk of it first.
  void reduce_scatter(const Context& ctx, const Tensor& all, const Tensor& own, const char* purpose,
                      const Chunk& make) const;

  // body(own_begin, own_end, first_row) for the pieces of the own rows that lie together in all
  // rows, first_row being the place of the first there.
  void for_each_piece(int64_t rows,
                      const std::function<void(int64_t, int64_t, int64_t)>& body) const;

  // Element by element over the ranks; waits.
  void all_reduce(const Context& ctx, const Tensor& data, ReduceOp op, const char* purpose) const;

  TimeSplit& times() const { return *times_; }

 private:
  std::shared_ptr<Communicator> self_;  // of a rank alone
  std::shared_ptr<TimeSplit> unused_;
  Communicator* group_;
  TimeSplit* times_;
};

}  // namespace forja
