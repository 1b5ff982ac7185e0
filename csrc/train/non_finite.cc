// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/non_finite.h"

#include <cmath>

#include "csrc/train/agreement.h"
#include "forja/base/error.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {

// Of the elements [begin, end) of the rank's part; -1: none.
int64_t find_in(const Context& ctx, const Tensor& flat, int64_t begin, int64_t end) {
  if (begin >= end) return -1;
  const int64_t at = find_non_finite(ctx, flat.slice(0, begin, end));
  return at < 0 ? -1 : begin + at;
}

int64_t find(const Context& ctx, const Parameter& p, NonFinite what) {
  if (what != NonFinite::own_gradient) {
    const Tensor& shard = what == NonFinite::weight ? p.weight_shard : p.reduced_gradient;
    const int64_t at = find_in(ctx, shard, 0, p.end - p.begin);
    return at < 0 ? -1 : p.begin + at;
  }
  if (!p.gradient.data) return -1;
  // The sum lies in the place of the shard, [p.begin, p.end).
  const int64_t count = p.gradient.num_elements();
  const Tensor flat = p.gradient.view({count});
  const bool has_shard = p.begin < p.end;
  const int64_t before = find_in(ctx, flat, 0, has_shard ? p.begin : count);
  return before >= 0 || !has_shard ? before : find_in(ctx, flat, p.end, count);
}

}  // namespace

std::string first_non_finite(const Context& ctx, const ParameterStore& store, NonFinite what) {
  for (const auto& p : store.all()) {
    const int64_t at = find(ctx, *p, what);
    if (at < 0) continue;
    return fmt::format("{}, element {} of {}", p->spec.name, at, p->block.num_elements());
  }
  return "";
}

std::string explain_non_finite(const Context& ctx, const ParameterStore& store, double own_loss,
                               World& world) {
  const auto first = [&](std::string mine) {
    if (!mine.empty()) mine += " on host " + world.hosts()[size_t(world.rank())];
    return first_of_ranks(world.communicator(), mine);
  };
  const auto first_parameter = [&](NonFinite what, const char* meaning, bool here = true) {
    const std::string mine = here ? first_non_finite(ctx, store, what) : "";
    return first(mine.empty() ? "" : mine + meaning);
  };
  std::string where = first_parameter(NonFinite::weight, ", the weight itself,");
  if (!where.empty())
    return where + ". No step can mend that: go on from an older checkpoint or other weights";
  where = first_parameter(NonFinite::own_gradient, ", before the sum over ranks,");
  const bool loss = !std::isfinite(own_loss);
  if (where.empty())
    where = first_parameter(NonFinite::sum, ", as is the loss of its samples,", loss);
  if (where.empty()) where = first_parameter(NonFinite::sum, "");
  return (where.empty() ? "the sum over ranks" : where) +
         ". The weights were not changed; train.non_finite=continue skips such steps";
}

}  // namespace forja
