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
// damaged file, and for an index that names files outside of the directory or tensors that are not
// in their file.
class HfTensors {
 public:
  explicit HfTensors(const std::string& directory);
  bool has(const std::string& name) const { return file_of_.count(name) > 0; }
  Tensor tensor(const std::string& name) const;
  // Gives back the memory of a tensor that has been read.
  void release(const std::string& name) const { file_of_.at(name)->release(name); }
  std::vector<std::string> names() const;
  const std::string& directory() const { return directory_; }
  size_t num_files() const { return files_.size(); }

 private:
  std::string directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> file_of_;
};

bool is_hf_directory(const std::string& path);

// The shape in which Hugging Face keeps a segment of a parameter.
std::vector<int64_t> hf_shape(const ParameterSpec& spec, const HfSegment& segment);
// The name under which a directory has it: GPT-2's older files lack the "transformer." in front.
std::string stored_hf_name(const HfTensors& tensors, const std::string& name);

// Throws bad_input, with the first problem and their number, for tensors that are missing or have
// another shape than the whole model's parameters in `store` want. Returns the names of those that
// nothing reads; buffers of old files and a copy of a tied head are none.
std::vector<std::string> check_hf_tensors(const HfTensors& tensors, const ParameterStore& store);

// A parameter from its segments (dtype converted, transposed where stored so): `out` is the full
// tensor, row-major. Throws as load_hf_weights does.
void read_hf_parameter(const HfTensors& tensors, const ParameterSpec& spec, float* out);

// Fills every parameter of the store but adapters. Throws bad_input with both shapes where they
// differ, and for a tensor that is missing.
void load_hf_weights(const Context& ctx, const std::string& directory, ParameterStore& store);

// What a directory holds, in words; with `verify`, every tensor is read: what the model wants must
// be there, and finite.
std::string describe_hf_model(const std::string& directory, bool verify);

}  // namespace forja
