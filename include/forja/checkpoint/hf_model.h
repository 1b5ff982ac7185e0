// SPDX-License-Identifier: Apache-2.0
// Hugging Face model directories: config.json and one or several safetensors files.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "forja/checkpoint/safetensors.h"
#include "forja/device/context.h"
#include "forja/parallel/parameter_store.h"

namespace forja {

// The tensors of a directory, whatever the number of files. Throws bad_input for a missing or
// damaged file.
class HfTensors {
 public:
  explicit HfTensors(const std::string& directory);
  bool has(const std::string& name) const { return file_of_.count(name) > 0; }
  Tensor tensor(const std::string& name) const;
  std::vector<std::string> names() const;

 private:
  std::string directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> file_of_;
};

bool is_hf_directory(const std::string& path);

// Fills every parameter of the store from its Hugging Face segments (dtype converted, transposed
// where stored so). Throws bad_input with both shapes where they differ, and for a tensor that is
// missing.
void load_hf_weights(const Context& ctx, const std::string& directory, ParameterStore& store);

}  // namespace forja
