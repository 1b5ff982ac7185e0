// SPDX-License-Identifier: Apache-2.0
// Where a tensor lives and an op runs.
#pragma once

#include <cstdint>

namespace forja {

enum class DeviceKind : uint8_t { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int8_t index = 0;  // of the GPU; 0 for the CPU

  bool is_cpu() const { return kind == DeviceKind::cpu; }
  bool operator==(const Device&) const = default;
};

}  // namespace forja
