// SPDX-License-Identifier: Apache-2.0
// Files of samples that a run names as its data become datasets in its directory.
#pragma once

#include <functional>
#include <string>

#include "forja/comm/world.h"
#include "forja/train/run_config.h"

namespace forja {

// The run with the tokenizer of its `init.from`, where it has files of samples and names none.
RunConfig with_tokenizer(RunConfig config);

// The run's data, each file of samples replaced by its dataset: <run directory>/data/<name>-<hash>,
// of the file, the tokenizer, the template and the options. The first rank makes those that are not
// there, while the others wait; `progress` is called while it does. Throws bad_input on every rank
// for faulty files. Collective.
DataConfig make_sample_datasets(const RunConfig& config, World& world,
                                const std::function<void()>& progress);

}  // namespace forja
