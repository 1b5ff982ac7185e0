// SPDX-License-Identifier: Apache-2.0
#include "csrc/ops/cpu/onednn.h"

#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "csrc/ops/cpu/parallel.h"

namespace forja::cpu {
namespace {

using dnnl::memory;

memory::data_type data_type(DType dtype) {
  return dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

// A dim of one element has no stride of its own; it takes that of a packed matrix, so that oneDNN
// sees a plain layout.
memory::desc matrix_desc(const Tensor& t) {
  int64_t rows = t.stride(0), columns = t.stride(1);
  if (t.size(1) == 1) columns = rows == 1 && t.size(0) > 1 ? t.size(0) : 1;
  if (t.size(0) == 1) rows = columns == 1 ? t.size(1) : 1;
  return memory::desc({t.size(0), t.size(1)}, data_type(t.dtype), memory::dims{rows, columns});
}

struct Primitive {
  dnnl::matmul::primitive_desc desc;
  dnnl::matmul op;
};

using Key = std::array<int64_t, 15>;

Key make_key(const Tensor& a, const Tensor& b, const Tensor& c, MatmulOutput output,
             const Tensor& bias) {
  return {a.size(0),        a.size(1),       b.size(1),
          a.stride(0),      a.stride(1),     b.stride(0),
          b.stride(1),      c.stride(0),     int64_t(a.dtype),
          int64_t(c.dtype), int64_t(output), bias.defined() ? int64_t(bias.dtype) : -1,
          c.stride(1),      max_threads(),   0};
}

// Creating a primitive generates code, which takes longer than a small multiplication; primitives
// are therefore kept. One cache a thread, since a rank is a thread or a process and primitives hold
// nothing that ranks should share: no locks, and it goes away with the thread.
class Cache {
 public:
  const Primitive& get(const Tensor& a, const Tensor& b, const Tensor& c, MatmulOutput output,
                       const Tensor& bias) {
    const Key key = make_key(a, b, c, output, bias);
    const auto found = primitives_.find(key);
    if (found != primitives_.end()) return found->second;
    // Generation meets ever new shapes: start again rather than grow without end.
    if (primitives_.size() >= 512) primitives_.clear();
    return primitives_.emplace(key, make(a, b, c, output, bias)).first->second;
  }
  dnnl::engine& engine() { return engine_; }
  dnnl::stream& stream() { return stream_; }

 private:
  Primitive make(const Tensor& a, const Tensor& b, const Tensor& c, MatmulOutput output,
                 const Tensor& bias) {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (output == MatmulOutput::accumulate) {
      dnnl::post_ops post_ops;
      post_ops.append_sum(1.0f);
      attributes.set_post_ops(post_ops);
    }
    const memory::desc bias_desc =
        bias.defined()
            ? memory::desc({1, bias.size(0)}, data_type(bias.dtype), memory::format_tag::ab)
            : memory::desc();
    const memory::desc src = matrix_desc(a), weights = matrix_desc(b), dst = matrix_desc(c);
#if DNNL_VERSION_MAJOR >= 3
    dnnl::matmul::primitive_desc desc =
        bias.defined()
            ? dnnl::matmul::primitive_desc(engine_, src, weights, bias_desc, dst, attributes)
            : dnnl::matmul::primitive_desc(engine_, src, weights, dst, attributes);
#else
    const dnnl::matmul::desc operation = bias.defined()
                                             ? dnnl::matmul::desc(src, weights, bias_desc, dst)
                                             : dnnl::matmul::desc(src, weights, dst);
    dnnl::matmul::primitive_desc desc(operation, attributes, engine_);
#endif
    return {desc, dnnl::matmul(desc)};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, Primitive> primitives_;
};

Cache& thread_cache() {
  thread_local Cache cache;
  return cache;
}

void run(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c, MatmulOutput output,
         const Tensor& bias) {
  Cache& cache = thread_cache();
  const Primitive& primitive = cache.get(a, b, c, output, bias);
  ArenaScope scope(*ctx.workspace);
  const memory::desc scratch_desc = primitive.desc.scratchpad_desc();
  void* scratch = ctx.workspace->allocate(int64_t(scratch_desc.get_size()));
  if (ctx.planning()) return;
  const dnnl::engine& engine = cache.engine();
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, memory(primitive.desc.src_desc(), engine, a.data)},
      {DNNL_ARG_WEIGHTS, memory(primitive.desc.weights_desc(), engine, b.data)},
      {DNNL_ARG_DST, memory(primitive.desc.dst_desc(), engine, c.data)},
      {DNNL_ARG_SCRATCHPAD, memory(scratch_desc, engine, scratch)},
  };
  if (bias.defined())
    arguments.emplace(DNNL_ARG_BIAS, memory(primitive.desc.bias_desc(), engine, bias.data));
  primitive.op.execute(cache.stream(), arguments);
  cache.stream().wait();
}

}  // namespace

void onednn_matmul(const Context& ctx, const Tensor& a, const Tensor& b, const Tensor& c,
                   MatmulOutput output, const Tensor& bias) {
  try {
    run(ctx, a, b, c, output, bias);
  } catch (const dnnl::error& error) {
    fail("matmul {} x {} to {}: oneDNN says: {}", a.to_string(), b.to_string(), c.to_string(),
         error.what());
  }
}

}  // namespace forja::cpu
