// SPDX-License-Identifier: Apache-2.0
#include "forja/base/error.h"
#include "forja/parallel/schedule.h"
namespace forja {
std::vector<int> Schedule::stages_of_rank(int rank) const {
  std::vector<int> out;
  for (int s = 0; s < num_stages(); ++s)
    if (rank_of_stage[size_t(s)] == rank) out.push_back(s);
  return out;
}
int num_stages(const std::string&, int num_ranks, int virtual_stages) {
  return num_ranks * virtual_stages;
}
Schedule make_schedule(const std::string& name, int P, int, int M) {
  Schedule s;
  s.name = name;
  s.num_microbatches = M;
  for (int r = 0; r < P; ++r) {
    s.rank_of_stage.push_back(r);
    std::vector<Action> a;
    for (int m = 0; m < M; ++m) {
      a.push_back({ActionKind::forward, r, m});
      if (P == 1) a.push_back({ActionKind::backward, r, m});
    }
    if (P > 1)
      for (int m = 0; m < M; ++m) a.push_back({ActionKind::backward, r, m});
    s.actions.push_back(a);
  }
  return s;
}
Schedule add_communication(const Schedule& in) {
  Schedule out = in;
  for (int r = 0; r < in.num_ranks(); ++r) {
    std::vector<Action> a;
    for (const Action& x : in.actions[size_t(r)]) {
      const bool f = x.kind == ActionKind::forward;
      if (f && r > 0) a.push_back({ActionKind::recv_activation, r, x.microbatch});
      if (!f && r + 1 < in.num_ranks()) a.push_back({ActionKind::recv_gradient, r, x.microbatch});
      a.push_back(x);
      if (f && r + 1 < in.num_ranks()) a.push_back({ActionKind::send_activation, r, x.microbatch});
      if (!f && r > 0) a.push_back({ActionKind::send_gradient, r, x.microbatch});
    }
    a.push_back({ActionKind::reduce_gradients, r});
    out.actions[size_t(r)] = a;
  }
  return out;
}
}  // namespace forja
