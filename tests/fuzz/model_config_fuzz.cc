// SPDX-License-Identifier: Apache-2.0
// A model: YAML, or a published config.json. What is read, printed and read again is the same.
#include "forja/nn/model_config.h"

#include "forja/nn/decoder.h"
#include "tests/fuzz/fuzzing.h"

namespace forja {
namespace {

std::string read_and_print(const std::string& text) {
  ModelConfig model;
  const auto visit = [&](ConfigVisitor& v) { model.visit(v); };
  read_config_text(text, "/nowhere/model.yaml", {}, visit);
  constexpr int64_t kFewLayers = 4;  // counting makes each of them
  if (model.num_hidden_layers <= kFewLayers)
    fuzzing::require(count_parameters(model) > 0, "a model has parameters");
  return print_config(visit);
}

}  // namespace
}  // namespace forja

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  std::string printed;
  const std::string text(fuzzing::text_of(data, size));
  if (!fuzzing::accepts([&] { printed = read_and_print(text); })) return 0;
  fuzzing::require(read_and_print(printed) == printed, "a printed model reads back as itself");
  return 0;
}
