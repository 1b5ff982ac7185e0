// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/safetensors.h"

#include "tests/fuzz/fuzzing.h"

namespace forja {
namespace {

// A tensor that the file admits lies in it, whatever is done with it.
void use(const SafetensorsFile& file, const std::string& name, int64_t file_bytes) {
  const SafetensorsEntry& entry = file.entry(name);
  const int64_t bytes = entry.num_elements() * dtype_bytes(entry.dtype);
  fuzzing::require(0 <= entry.begin && entry.begin <= entry.end && entry.end <= file_bytes,
                   "a tensor lies in its file");
  fuzzing::require(bytes == entry.end - entry.begin, "a tensor has as many bytes as elements");
  fuzzing::accepts([&] {
    const Tensor tensor = file.tensor(name);
    std::vector<float> values(size_t(tensor.num_elements()));
    read_as_float(tensor, values.data());
  });
  file.release(name);
}

}  // namespace
}  // namespace forja

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const fuzzing::Sandbox sandbox;
  sandbox.write("x.safetensors", fuzzing::text_of(data, size));
  fuzzing::accepts([&] {
    const SafetensorsFile file(sandbox.file("x.safetensors"));
    for (const auto& [name, entry] : file.entries()) use(file, name, int64_t(size));
  });
  return 0;
}
