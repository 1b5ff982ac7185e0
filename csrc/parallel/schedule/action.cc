// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include "csrc/parallel/schedule/internal.h"

namespace forja {

const char* kind_name(ActionKind kind) {
  switch (kind) {
    case ActionKind::forward:
      return "F";
    case ActionKind::backward:
      return "B";
    case ActionKind::backward_input:
      return "I";
    case ActionKind::backward_weight:
      return "W";
    case ActionKind::send_activation:
      return "SEND_F";
    case ActionKind::recv_activation:
      return "RECV_F";
    case ActionKind::send_gradient:
      return "SEND_B";
    case ActionKind::recv_gradient:
      return "RECV_B";
    case ActionKind::unshard:
      return "UNSHARD";
    case ActionKind::reshard:
      return "RESHARD";
    case ActionKind::reduce_gradients:
      return "REDUCE_GRAD";
  }
  return "";
}

bool is_computing(ActionKind kind) { return kind <= ActionKind::backward_weight; }

bool is_transfer(ActionKind kind) {
  return kind >= ActionKind::send_activation && kind <= ActionKind::recv_gradient;
}

bool is_send(ActionKind kind) {
  return kind == ActionKind::send_activation || kind == ActionKind::send_gradient;
}

bool is_of_activation(ActionKind kind) {
  return kind == ActionKind::send_activation || kind == ActionKind::recv_activation;
}

std::string Action::to_string() const {
  if (!is_computing(kind) && !is_transfer(kind)) return fmt::format("{}{}", stage, kind_name(kind));
  return fmt::format("{}{}{}", stage, kind_name(kind), microbatch);
}

std::string Action::in_words() const {
  static constexpr const char* kWords[] = {"forward",
                                           "backward",
                                           "input gradient",
                                           "weight gradients",
                                           "sending the output",
                                           "receiving the input",
                                           "sending the gradient of the input",
                                           "receiving the gradient of the output",
                                           "gathering the weights",
                                           "releasing the weights",
                                           "reducing the gradients"};
  const std::string words = fmt::format("{} of stage {}", kWords[size_t(kind)], stage);
  return microbatch < 0 ? words : fmt::format("{}, micro-batch {}", words, microbatch);
}

std::vector<int> Schedule::stages_of_rank(int rank) const {
  std::vector<int> stages;
  for (int s = 0; s < num_stages(); ++s) {
    if (rank_of_stage[size_t(s)] == rank) stages.push_back(s);
  }
  return stages;
}

int peer_stage(const Action& transfer) {
  switch (transfer.kind) {
    case ActionKind::send_activation:
    case ActionKind::recv_gradient:
      return transfer.stage + 1;
    default:
      return transfer.stage - 1;
  }
}

Action other_side(const Action& transfer) {
  static constexpr ActionKind kOther[] = {ActionKind::recv_activation, ActionKind::send_activation,
                                          ActionKind::recv_gradient, ActionKind::send_gradient};
  const int which = int(transfer.kind) - int(ActionKind::send_activation);
  return {kOther[which], peer_stage(transfer), transfer.microbatch};
}

}  // namespace forja
