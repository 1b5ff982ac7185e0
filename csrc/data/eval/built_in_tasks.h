// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace forja {

// The YAML of each built-in task.
struct BuiltInTask {
  std::string name, yaml;
};
const std::vector<BuiltInTask>& built_in_tasks();

}  // namespace forja
