// SPDX-License-Identifier: Apache-2.0
// A Hugging Face directory: an index, two files of tensors, config.json.
#include "forja/checkpoint/hf_model.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  static const std::vector<std::string> names = {"model.safetensors.index.json",
                                                 "model-00001-of-00002.safetensors",
                                                 "model-00002-of-00002.safetensors", "config.json"};
  sandbox.write_parts(fuzzing::text_of(data, size), names);
  fuzzing::accepts([&] {
    const HfTensors tensors(sandbox.path());
    for (const std::string& name : tensors.names()) {
      fuzzing::accepts([&] { tensors.tensor(name); });
      tensors.release(name);
    }
  });
  fuzzing::accepts([&] { describe_hf_model(sandbox.path(), false); });
  sandbox.require_untouched(names);
  return 0;
}
