// SPDX-License-Identifier: Apache-2.0
// The weights of a model from wherever they are: a Hugging Face directory, a PEFT adapter (whose
// base_model_name_or_path has the rest) or a checkpoint, which has only what its run has trained
// (that run's init.from has the rest).
#pragma once

#include <memory>
#include <string>

#include "forja/checkpoint/weight_source.h"
#include "forja/device/context.h"
#include "forja/parallel/parameter_store.h"
#include "forja/train/run_config.h"

namespace forja {

// The run that saved a checkpoint.
RunConfig run_of_checkpoint(const std::string& checkpoint);

// What `from` is a model of, adapters included. Throws bad_input where there is no model.
ModelConfig model_of(const std::string& from);

// Fills the parameters of a store of `model`, this rank's shards of them; adapters that `from` does
// not have stay as they are. Throws bad_input for what is missing, does not fit or is damaged, and
// for adapters that the model has no place for.
void load_weights(const Context& ctx, const std::string& from, const ModelConfig& model,
                  ParameterStore& store);

// The same, one parameter at a time.
std::unique_ptr<WeightSource> open_weights(const std::string& from);

}  // namespace forja
