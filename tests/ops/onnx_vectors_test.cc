// SPDX-License-Identifier: Apache-2.0
// The ONNX project's node tests, where an op covers the case. Their expected outputs were computed
// in fp32 themselves: both sides round at most about 64 times, of numbers no larger than the
// largest in the inputs or 1.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "forja/checkpoint/safetensors.h"
#include "forja/ops/activation.h"
#include "forja/ops/attention.h"
#include "forja/ops/cross_entropy.h"
#include "forja/ops/layer_norm.h"
#include "forja/ops/rms_norm.h"
#include "forja/ops/rope.h"
#include "tests/ops/reference.h"

namespace forja::testing {
namespace {

class Vectors {
 public:
  explicit Vectors(const std::string& folder, const std::string& name)
      : file_(folder + "/" + name + ".safetensors") {
    std::ifstream manifest(folder + "/manifest.json");
    attributes_ = nlohmann::json::parse(manifest).at(name).at("nodes").at(0).at("attrs");
  }
  Tensor input(int i) const { return file_.tensor("input_" + std::to_string(i)); }
  Tensor output(int i = 0) const { return file_.tensor("output_" + std::to_string(i)); }
  template <class T>
  T attribute(const char* name, T otherwise) const {
    return attributes_.value(name, otherwise);
  }

 private:
  SafetensorsFile file_;
  nlohmann::json attributes_;
};

void expect_close(const Tensor& found, const Tensor& expected, const std::string& name) {
  const std::vector<double> a = to_doubles(found), b = to_doubles(expected);
  ASSERT_EQ(a.size(), b.size()) << name;
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_NEAR(a[i], b[i], 2 * gamma(64) * std::max(1.0, std::fabs(b[i])))
        << name << " element " << i;
  }
}

// int64 in a file need not be aligned.
Tensor to_int32(TensorBox& box, const Tensor& t) {
  std::vector<int64_t> values(size_t(t.num_elements()));
  std::memcpy(values.data(), t.data, values.size() * sizeof(int64_t));
  return box.from(std::vector<int32_t>(values.begin(), values.end()), {int64_t(values.size())});
}

// One batch entry as [S, H, D]: of [B, H, S, D], or of [B, S, H * D].
Tensor heads_of(const Tensor& t, int64_t batch, int64_t heads) {
  Tensor x = t.select(0, batch);
  if (t.rank == 4) {
    std::swap(x.sizes[0], x.sizes[1]);
    std::swap(x.strides[0], x.strides[1]);
    return x;
  }
  return x.view({x.size(0), heads, x.size(1) / heads});
}

void attention_case(const std::string& folder, const std::string& name) {
  const Vectors vectors(folder, name);
  const Tensor q = vectors.input(0), k = vectors.input(1), v = vectors.input(2);
  const int64_t heads = vectors.attribute("q_num_heads", q.size(1));
  const int64_t key_heads = vectors.attribute("kv_num_heads", k.size(1));
  TensorBox box(int64_t(1) << 26);
  const Tensor out = box.zeros(DType::f32, {q.num_elements()});
  Tensor y = q;
  y.data = out.data;
  for (int64_t b = 0; b < q.size(0); ++b) {
    const Tensor queries = heads_of(q, b, heads), keys = heads_of(k, b, key_heads);
    const bool causal = vectors.attribute("is_causal", 0) != 0;
    // ONNX aligns the causal mask with the first key: a sequence that ends with the last query's
    // key.
    const int64_t length = causal ? std::min(queries.size(0), keys.size(0)) : keys.size(0);
    const Tensor sequences =
        box.from(std::vector<int32_t>{0, int32_t(queries.size(0)), 0, int32_t(length)}, {1, 4});
    const float scale = vectors.attribute("scale", 1.0f / std::sqrt(float(queries.size(2))));
    attention_forward(box.context(), queries, keys, heads_of(v, b, key_heads), sequences,
                      heads_of(y, b, heads), {}, {.causal = causal, .window = 0, .scale = scale});
  }
  expect_close(y, vectors.output(), name);
}

TEST(OnnxVectors, Attention) {
  FORJA_REQUIRE_ASSET(folder, "vectors/onnx-node");
  for (const char* layout : {"4d", "3d"}) {
    for (const char* kind : {"", "_causal", "_scaled", "_gqa", "_gqa_causal", "_gqa_scaled"}) {
      attention_case(folder, std::string("test_attention_") + layout + kind);
    }
  }
}

TEST(OnnxVectors, RotaryEmbedding) {
  FORJA_REQUIRE_ASSET(folder, "vectors/onnx-node");
  for (const char* name : {"test_rotary_embedding", "test_rotary_embedding_3d_input"}) {
    const Vectors vectors(folder, name);
    TensorBox box(int64_t(1) << 26);
    const Tensor x = vectors.input(0), positions = to_int32(box, vectors.input(3));
    const int64_t heads = vectors.attribute("num_heads", x.size(1));
    Tensor y = x;
    y.data = box.zeros(DType::f32, {x.num_elements()}).data;
    std::memcpy(y.data, x.data, size_t(x.num_bytes()));
    for (int64_t b = 0; b < x.size(0); ++b) {
      const Tensor rows = heads_of(y, b, heads);
      const int64_t n = rows.size(0);
      rope(box.context(), rows, positions.slice(0, b * n, (b + 1) * n), vectors.input(1),
           vectors.input(2), RopeDirection::forward);
    }
    expect_close(y, vectors.output(), name);
  }
}

TEST(OnnxVectors, Norms) {
  FORJA_REQUIRE_ASSET(folder, "vectors/onnx-node");
  for (const char* name :
       {"2d_axis1", "2d_axis_negative_1", "3d_axis2_epsilon", "3d_axis_negative_1_epsilon"}) {
    TensorBox box(int64_t(1) << 26);
    const Vectors rms(folder, std::string("test_rms_normalization_") + name);
    const Tensor x = rms.input(0), y = box.zeros(DType::f32, {x.num_elements()});
    const int64_t h = x.size(-1), rows = x.num_elements() / h;
    const Tensor rstd = box.zeros(DType::f32, {rows}), mean = box.zeros(DType::f32, {rows});
    rms_norm_forward(box.context(), x.view({rows, h}), rms.input(1), y.view({rows, h}), rstd,
                     rms.attribute("epsilon", 1e-5f));
    expect_close(y, rms.output(), name);
    const Vectors layer(folder, std::string("test_layer_normalization_") + name);
    layer_norm_forward(box.context(), layer.input(0).view({rows, h}), layer.input(1),
                       layer.input(2), y.view({rows, h}), mean, rstd,
                       layer.attribute("epsilon", 1e-5f));
    expect_close(y, layer.output(0), name);
    expect_close(mean, layer.output(1), name);
    expect_close(rstd, layer.output(2), name);
  }
}

TEST(OnnxVectors, Activations) {
  FORJA_REQUIRE_ASSET(folder, "vectors/onnx-node");
  for (const auto& [name, kind] : {std::pair<const char*, GeluKind>{"default_1", GeluKind::erf},
                                   {"default_2", GeluKind::erf},
                                   {"tanh_1", GeluKind::tanh},
                                   {"tanh_2", GeluKind::tanh}}) {
    const Vectors vectors(folder, std::string("test_gelu_") + name);
    TensorBox box(int64_t(1) << 26);
    const int64_t n = vectors.input(0).num_elements();
    const Tensor y = box.zeros(DType::f32, {1, n});
    gelu_forward(box.context(), vectors.input(0).view({1, n}), y, kind);
    expect_close(y, vectors.output(), name);
  }
  const Vectors swish(folder, "test_swish");
  TensorBox box(int64_t(1) << 26);
  const int64_t n = swish.input(0).num_elements();
  const Tensor gate_up = box.zeros(DType::f32, {1, 2 * n}), y = box.zeros(DType::f32, {1, n});
  std::memcpy(gate_up.data, swish.input(0).data, size_t(n) * 4);
  std::fill_n(gate_up.ptr<float>() + n, n, 1.0f);
  swiglu_forward(box.context(), gate_up, y);
  expect_close(y, swish.output(), "test_swish");
}

TEST(OnnxVectors, SoftmaxCrossEntropy) {
  FORJA_REQUIRE_ASSET(folder, "vectors/onnx-node");
  for (const char* name : {"test_sce_none", "test_sce_mean", "test_sce_sum"}) {
    const Vectors vectors(folder, name);
    TensorBox box(int64_t(1) << 26);
    const Tensor targets = to_int32(box, vectors.input(1));
    const int64_t n = targets.size(0);
    const Tensor m = box.zeros(DType::f32, {n}), sum = box.zeros(DType::f32, {n}),
                 target = box.zeros(DType::f32, {n});
    softmax_statistics(box.context(), vectors.input(0), targets, 0, m, sum, target);
    std::vector<float> losses;
    float total = 0;
    for (int64_t i = 0; i < n; ++i) {
      losses.push_back(m.ptr<float>()[i] + std::log(sum.ptr<float>()[i]) - target.ptr<float>()[i]);
      total += losses.back();
    }
    const std::vector<double> expected = to_doubles(vectors.output());
    if (std::string(name) == "test_sce_none") {
      for (size_t i = 0; i < losses.size(); ++i)
        EXPECT_NEAR(losses[i], expected[i], 2 * gamma(64) * 4);
    } else {
      const float* value = static_cast<const float*>(vectors.output().data);
      EXPECT_NEAR(std::string(name) == "test_sce_sum" ? total : total / float(n), *value,
                  2 * gamma(64) * 8)
          << name;
    }
  }
}

}  // namespace
}  // namespace forja::testing
