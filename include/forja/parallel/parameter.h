// SPDX-License-Identifier: Apache-2.0
// Parameters describe themselves; initialisation, sharding, checkpoints, conversion and counting
// read the description and nothing repeats it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "forja/base/config.h"
#include "forja/base/element_map.h"
#include "forja/tensor/tensor.h"

namespace forja {

// Where a Hugging Face checkpoint keeps a part of a parameter: `rows` rows of dim 0, one after the
// other.
struct HfSegment {
  std::string name;
  int64_t rows = 0;
  bool transpose = false;  // stored there as [in, out]
};

enum class InitKind { normal, zeros, ones };

// How tensor-parallel ranks hold a parameter.
enum class TensorPlacement {
  replicated,  // whole on each; each computes a part of the gradient's sum
  rows,        // blocks of dim 0, of each row group
  columns,     // a block of dim 1
};

// Rows of dim 0 that are divided as one: the query heads, the key heads, the value heads of a fused
// qkv. Of fewer parts than tp ranks, each part is on several ranks.
struct RowGroup {
  int64_t rows = 0;
  int64_t parts = 0;    // the most into which it can be divided (heads)
  bool padded = false;  // divided evenly, with rows at the end that no one reads (vocabulary)
};

// What becomes ready together in backward, and is divided and moved together.
enum class UnitKind {
  layer,       // matrices of a layer, and biases divided with them
  vocabulary,  // the embedding, the head
  replicated,  // what tensor parallelism replicates, of a whole stage: norms, positions, biases
};

struct ParameterSpec {
  std::string name;            // "layers.0.attention.qkv.weight"
  std::vector<int64_t> shape;  // full, of every rank together
  InitKind init = InitKind::normal;
  float init_std = 0.02f;
  bool decay = true;  // weight decay applies
  bool trainable = true;
  bool adapter = false;   // added to the model: no model file has it
  double lr_scale = 1.0;  // of the learning rate
  int stage = 0;          // of the pipeline
  UnitKind kind = UnitKind::layer;
  int unit = 0;  // of a layer: its index
  TensorPlacement placement = TensorPlacement::replicated;
  std::vector<RowGroup> row_groups;  // of placement rows; empty: one, divisible anywhere
  bool tied = false;       // an embedding that is the head too, on two ranks of the pipeline
  bool tied_copy = false;  // ... the one that is not counted and not saved
  std::vector<HfSegment> segments;

  int64_t num_elements() const;
  int64_t rows() const { return shape[0]; }
  int64_t columns() const { return shape.size() == 2 ? shape[1] : 1; }
};

// Which parameters are trained, and how: by glob patterns of their names ("layers.*.mlp.*").
struct ParameterRule {
  std::string match;
  bool trainable = true;
  double lr_scale = 1.0;
  void visit(ConfigVisitor& v);
  bool matches(const std::string& name) const;
};
struct ParameterRules {
  bool only_adapters = false;        // all else is frozen where no rule says otherwise
  std::vector<ParameterRule> rules;  // the last that matches counts

  void apply(ParameterSpec& spec) const;
  bool trains(ParameterSpec spec) const;
  bool freeze_some() const;
};

// The part of a full tensor [R, C] that a tensor-parallel rank holds: ranges of rows, one after the
// other, and a range of columns. Its own elements are [rows, columns], row-major.
struct LocalBlock {
  struct Rows {
    int64_t local, full, count;
    int copy = 0, copies = 1;  // `copies` tp ranks hold these rows, this one is number `copy`
  };
  std::vector<Rows> row_ranges;
  int64_t rows = 0, columns = 0;  // of the local tensor, padding included
  int64_t full_columns = 0, first_column = 0;

  int64_t num_elements() const { return rows * columns; }
};

// Throws bad_input when tp does not divide what has to be divided.
LocalBlock local_block(const ParameterSpec& spec, int tp_rank, int tp_size);

// A run of elements that lie one after the other in the local and in the full tensor.
struct ElementRun {
  int64_t local, full, count;
};
// The runs of the local elements [begin, end); padding has none.
void for_each_run(const LocalBlock& block, int64_t begin, int64_t end,
                  const std::function<void(const ElementRun&)>& body);

// A range of local elements within one range of rows, so without padding.
struct ParameterRange {
  int64_t begin, end;
  bool own;  // no rank of a copy with a lower number has the same elements
  ElementMap elements;
};

// A parameter of this rank.
struct Parameter {
  ParameterSpec spec;
  LocalBlock block;
  Tensor weight;    // local; fp32 or bf16: what ops read. No data while ZeRO-3 has it sharded
  Tensor gradient;  // local; fp32; undefined when not trained. No data while ZeRO-2 has it sharded
  // The range of the local elements of which this rank has the optimizer state, and that state,
  // flat: fp32, but moments in the store's moment_dtype. master is the weight's own memory where
  // computing is fp32 or the parameter is frozen, which has nothing else.
  int64_t begin = 0, end = 0;
  Tensor master, first_moment, second_moment, reduced_gradient;  // [end - begin]
  Tensor weight_shard;  // [end - begin] of the weight, in its dtype
};

// The ranges of this rank's shard, [p.begin, p.end).
std::vector<ParameterRange> ranges_of_shard(const Parameter& p);

}  // namespace forja
