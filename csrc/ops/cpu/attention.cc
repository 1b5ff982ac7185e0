// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/attention.h"

#include "csrc/ops/cpu/attention_kernels.h"
#include "csrc/ops/cpu/attention_plan.h"
#include "csrc/ops/cpu/parallel.h"

namespace forja::cpu {

AttentionScratch attention_scratch(Arena& workspace, const Tensor& q, const Tensor& k,
                                   AttentionPass pass) {
  const int64_t group = q.size(1) / k.size(1);
  Carver counter(nullptr);
  if (pass == AttentionPass::forward) {
    ForwardScratch scratch(counter, group, q.size(2));
  } else {
    BackwardScratch scratch(counter, group, q.size(2), q.size(0));
  }
  AttentionScratch result;
  result.bytes_per_thread = counter.used();
  result.data = static_cast<uint8_t*>(workspace.allocate(result.bytes_per_thread * max_threads()));
  return result;
}

void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& sequences,
                       const Tensor& out, const Tensor& lse, const AttentionOptions& options,
                       const AttentionScratch& scratch) {
  const int64_t key_heads = k.size(1), num_sequences = sequences.size(0);
  const int64_t queries = forward_queries(q.size(1) / key_heads);
  const int32_t* s = sequences.ptr<int32_t>();
  int64_t longest = 0;
  for (int64_t i = 0; i < num_sequences; ++i) longest = std::max<int64_t>(longest, s[4 * i + 1]);
  const int64_t chunks = (longest + queries - 1) / queries;
  const ForwardArguments arguments{q, k, v, out, lse, options};
  // The last queries of a sequence see the most keys: first.
  parallel_tasks(chunks * num_sequences * key_heads, [&](int64_t task, int thread) {
    const int64_t chunk = chunks - 1 - task / (num_sequences * key_heads);
    const int64_t sequence = task / key_heads % num_sequences;
    const Visibility visible(s + 4 * sequence, options);
    const int64_t begin = chunk * queries, end = std::min(visible.q_length, begin + queries);
    if (begin >= end) return;
    forward_chunk(arguments, visible, task % key_heads, begin, end,
                  scratch.data + thread * scratch.bytes_per_thread);
  });
}

void attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& out, const Tensor& lse, const Tensor& sequences,
                        const Tensor& dq, const Tensor& dk, const Tensor& dv,
                        const AttentionOptions& options, const AttentionScratch& scratch) {
  const int64_t key_heads = k.size(1);
  const BackwardArguments arguments{dout, q, k, v, out, lse, dq, dk, dv, options};
  parallel_tasks(sequences.size(0) * key_heads, [&](int64_t task, int thread) {
    const Visibility visible(sequences.ptr<int32_t>() + 4 * (task / key_heads), options);
    backward_head(arguments, visible, task % key_heads,
                  scratch.data + thread * scratch.bytes_per_thread);
  });
}

}  // namespace forja::cpu
