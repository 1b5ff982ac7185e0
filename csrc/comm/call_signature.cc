// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/transport.h"

namespace forja {
namespace {

std::string words(const CallSignature& call) {
  const char* ops[] = {"sum", "max", "min"};
  const std::string data = fmt::format("{}[{}]", dtype_name(call.dtype), call.num_elements);
  switch (call.kind) {
    case CommKind::all_reduce:
    case CommKind::reduce_scatter:
      return fmt::format("{} ({}) of {}", comm_kind_name(call.kind), ops[int(call.op)], data);
    case CommKind::broadcast:
      return fmt::format("broadcast of {} from rank {}", data, call.root);
    case CommKind::barrier:
    case CommKind::split:
      return std::string(comm_kind_name(call.kind));
    default:
      return fmt::format("{} of {}", comm_kind_name(call.kind), data);
  }
}

}  // namespace

std::string difference(const std::vector<CallSignature>& calls) {
  for (size_t r = 1; r < calls.size(); ++r) {
    if (calls[r] == calls[0]) continue;
    return fmt::format(
        "the ranks of a group made different calls: rank 0 {}, rank {} {}; all must make the same "
        "calls in the same order",
        words(calls[0]), r, words(calls[r]));
  }
  return "";
}

}  // namespace forja
