// SPDX-License-Identifier: Apache-2.0
// Words about Hugging Face directories for `forja inspect`.
#include <cmath>
#include <map>

#include "forja/base/error.h"
#include "forja/base/text.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/nn/decoder.h"

namespace forja {
namespace {

// Reads all of a tensor of numbers with a fraction; other ones hold no weights.
void check_finite(const HfTensors& tensors, const std::string& name) {
  const Tensor t = tensors.tensor(name);
  const bool weights = t.dtype == DType::f32 || t.dtype == DType::bf16 || t.dtype == DType::f16 ||
                       t.dtype == DType::f64;
  if (!weights) return;
  constexpr int64_t kChunk = int64_t(1) << 20;
  const int64_t n = t.num_elements();
  const Tensor flat = t.view({n});
  std::vector<float> values(size_t(std::min(n, kChunk)));
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t count = std::min(kChunk, n - at);
    read_as_float(flat.slice(0, at, at + count), values.data());
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(values[size_t(i)])) {
        fail_input("{}: tensor {} is damaged: element {} is {}", tensors.directory(), name, at + i,
                   values[size_t(i)]);
      }
    }
  }
  tensors.release(name);
}

// "290 bf16, 1 fp32".
std::string describe_dtypes(const HfTensors& tensors, int64_t* bytes) {
  std::map<std::string, int64_t> counts;
  for (const std::string& name : tensors.names()) {
    const Tensor t = tensors.tensor(name);
    ++counts[std::string(dtype_name(t.dtype))];
    *bytes += t.num_bytes();
  }
  std::vector<std::string> words;
  for (const auto& [dtype, count] : counts) words.push_back(fmt::format("{} {}", count, dtype));
  return join(words, ", ");
}

}  // namespace

std::string describe_hf_model(const std::string& directory, bool verify) {
  const ModelConfig model = read_model_config(directory + "/config.json");
  const HfTensors tensors(directory);
  std::string out = fmt::format(
      "Hugging Face model: {}, {} layers, hidden size {}, vocabulary {}, {} parameters\n",
      model.model_type, model.num_hidden_layers, model.hidden_size, model.vocab_size,
      count_parameters(model));
  int64_t bytes = 0;
  const std::string dtypes = describe_dtypes(tensors, &bytes);
  out += fmt::format("{} {}, {}, tensors: {}\n", tensors.num_files(),
                     tensors.num_files() == 1 ? "shard" : "shards", format_bytes(double(bytes)),
                     dtypes);
  if (verify) {
    ParameterStore store(DType::f32, StoreUse::inference);
    const Decoder decoder(store, model, 1);
    const std::vector<std::string> extra = check_hf_tensors(tensors, store);
    for (const std::string& name : tensors.names()) check_finite(tensors, name);
    out += fmt::format("verified: every tensor of the model is there, whole and finite; {}\n",
                       extra.empty() ? "nothing else is" : "not read: " + join(extra, ", "));
  }
  for (const std::string& name : tensors.names())
    out += fmt::format("  {:<60} {}\n", name, tensors.tensor(name).to_string());
  return out;
}

}  // namespace forja
