// SPDX-License-Identifier: Apache-2.0
// dump_logits MODEL IDS OUT {fp32|bf16}: the logits [B, T, V] fp32 of the tensor input_ids [B, T]
// (int64) of the safetensors file IDS, one token after the other, as generating computes them.
#include <cstdio>
#include <cstring>

#include "csrc/cli/load_model.h"
#include "forja/base/error.h"
#include "forja/checkpoint/safetensors.h"

namespace forja {
namespace {

void dump(const std::string& path, const std::string& ids_file, const std::string& out,
          const std::string& precision) {
  const SafetensorsFile file(ids_file);
  const Tensor ids = file.tensor("input_ids");
  FORJA_CHECK(ids.rank == 2 && ids.dtype == DType::i64, "input_ids is {}", ids.to_string());
  const int64_t b = ids.size(0), t = ids.size(1);
  const ModelSource source = find_model(path, "not used");
  const int64_t v = source.model.vocab_size;
  const auto generator =
      make_generator(source, precision == "bf16" ? DType::bf16 : DType::f32, b, t);
  std::vector<float> logits(size_t(b * t * v));
  for (int64_t at = 0; at < t; ++at) {
    std::vector<Generator::Append> inputs;
    for (int64_t i = 0; i < b; ++i)
      inputs.push_back({i, {int32_t(ids.ptr<int64_t>()[i * t + at])}});
    const Tensor step = generator->append(inputs);
    for (int64_t i = 0; i < b; ++i) {
      std::memcpy(logits.data() + (i * t + at) * v, step.ptr<float>() + i * v, size_t(v) * 4);
    }
  }
  write_safetensors(out, {{"logits", make_tensor(logits.data(), DType::f32, {b, t, v})}});
}

}  // namespace
}  // namespace forja

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: dump_logits MODEL IDS OUT {fp32|bf16}\n");
    return 2;
  }
  try {
    forja::dump(argv[1], argv[2], argv[3], argv[4]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
  return 0;
}
