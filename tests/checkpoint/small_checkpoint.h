// SPDX-License-Identifier: Apache-2.0
// A small store whose every element is known, and its checkpoints.
#pragma once

#include <memory>
#include <string>

#include "forja/base/file.h"
#include "forja/checkpoint/checkpoint_writer.h"
#include "tests/testing/testing.h"

namespace forja {

// The rows of "qkv" are divided among tp ranks in three groups, the columns of "out" are, "norm" is
// on all of them.
class SmallStore {
 public:
  explicit SmallStore(StoreOptions options = {})
      : store_(options),
        weights_("weights", {}, 1 << 16),
        gradients_("gradients", {}, 1 << 16),
        optimizer_("optimizer", {}, 1 << 16),
        workspace_("workspace", {}, 1 << 16) {
    ParameterSpec qkv{.name = "qkv", .shape = {16, 6}, .placement = TensorPlacement::rows};
    qkv.row_groups = {{8, 4}, {4, 2}, {4, 2}};
    store_.declare(qkv);
    store_.declare({.name = "out", .shape = {6, 8}, .placement = TensorPlacement::columns});
    store_.declare({.name = "norm", .shape = {7}, .kind = UnitKind::replicated});
    store_.allocate_all(weights_, gradients_, optimizer_);
    store_.initialize(context(), 1);
  }

  Context context() { return {.device = {}, .workspace = &workspace_}; }
  ParameterStore& store() { return store_; }

  // Element i of state k of a full parameter is 1000 k + i + add.
  void fill(float add) {
    for_each_state([&](Parameter& p, StateKind kind) {
      std::vector<float> full(size_t(p.spec.num_elements()));
      for (size_t i = 0; i < full.size(); ++i) full[i] = expected(kind, int64_t(i), add);
      set_from_full(context(), p, kind, full.data());
    });
  }
  void expect_filled(float add) {
    for_each_state([&](Parameter& p, StateKind kind) {
      for_each_run(p.block, p.begin, p.end, [&](const ElementRun& run) {
        for (int64_t i = 0; i < run.count; ++i) {
          const Tensor shard = shard_of(p, kind);
          const int64_t at = run.local - p.begin + i;
          const float found =
              shard.dtype == DType::f32 ? shard.ptr<float>()[at] : float(shard.ptr<BFloat16>()[at]);
          const float wanted = expected(kind, run.full + i, add);
          ASSERT_EQ(found, shard.dtype == DType::f32 ? wanted : float(BFloat16(wanted)))
              << p.spec.name << " " << run.full + i;
        }
      });
    });
  }

 private:
  static float expected(StateKind kind, int64_t i, float add) {
    return 1000.0f * float(kind) + float(i) + add;
  }
  template <class Body>
  void for_each_state(const Body& body) {
    for (const auto& p : store_.all())
      for (const StateKind kind :
           {StateKind::weight, StateKind::first_moment, StateKind::second_moment})
        body(*p, kind);
  }

  ParameterStore store_;
  Arena weights_, gradients_, optimizer_, workspace_;
};

// Saves `small` as the checkpoint of a step, as one rank of a group.
inline void save_small(SmallStore& small, const std::string& directory, int64_t step,
                       Communicator& group, int64_t keep_last = 0, int64_t keep_every = 0) {
  CheckpointParts parts(small.store(), {}, nullptr);
  CheckpointWriter writer(parts, {directory, "name: small\n", keep_last, keep_every}, group);
  writer.begin(small.context(), {.step = step});
  writer.wait();
}

}  // namespace forja
