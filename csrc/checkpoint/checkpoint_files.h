// SPDX-License-Identifier: Apache-2.0
// What every writer of checkpoints shares: the names of files and the manifest.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "forja/checkpoint/checkpoint.h"

namespace forja {

// "shard-00003.safetensors"; beside it, until the manifest is written, lies "shard-00003.json".
std::string checkpoint_shard_name(int shard);
std::string checkpoint_list_name(int shard);

// A tensor in the list of its shard: name, dtype, shape, checksum. Its data is on the host.
nlohmann::ordered_json describe_stored(const std::string& name, const Tensor& t);

// Puts the lists of all shards in `folder` into its manifest.json, beside config.yaml.
void write_manifest(const std::string& folder, const TrainState& state,
                    const std::string& config_yaml, int num_shards);

}  // namespace forja
