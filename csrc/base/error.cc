// SPDX-License-Identifier: Apache-2.0
#include "forja/base/error.h"

#include <string_view>

namespace forja::internal {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  std::string_view path = file;
  if (auto at = path.rfind("csrc/"); at != path.npos) path.remove_prefix(at);
  throw Error(ExitCode::failed, fmt::format("{} [{}:{}: {}]", message, path, line, condition));
}

}  // namespace forja::internal
