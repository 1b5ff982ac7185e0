// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/parameter.h"

#include <fnmatch.h>

#include <algorithm>

#include "forja/base/error.h"

namespace forja {
namespace {

// Appends this rank's part of the rows [begin, begin + group.rows).
void add_rows(const ParameterSpec& spec, const RowGroup& group, int64_t begin, int tp_rank,
              int tp_size, LocalBlock& block) {
  if (group.padded) {
    const int64_t each = (group.rows + tp_size - 1) / tp_size;
    const int64_t first = std::min(group.rows, each * tp_rank);
    const int64_t count = std::min(group.rows, first + each) - first;
    if (count > 0) block.row_ranges.push_back({block.rows, begin + first, count});
    block.rows += each;
    return;
  }
  const int64_t parts = std::min<int64_t>(tp_size, group.parts);
  if (group.parts % parts != 0 || tp_size % parts != 0) {
    fail_input("parallel.tp {} does not divide {}: {} parts of {} rows", tp_size, spec.name,
               group.parts, group.rows / group.parts);
  }
  const int64_t count = group.rows / parts, copies = tp_size / parts;
  block.row_ranges.push_back(
      {block.rows, begin + tp_rank / copies * count, count, int(tp_rank % copies), int(copies)});
  block.rows += count;
}

}  // namespace

void ParameterRule::visit(ConfigVisitor& v) {
  v.field("match", match,
          "Glob pattern of parameters' names, as forja inspect CHECKPOINT lists them: "
          "\"embedding.*\", \"layers.*.mlp.*\".");
  if (v.reading() && match.empty()) v.fault("match", "give a pattern");
  v.field("trainable", trainable, "False: they stay as they are.");
  v.field("lr_scale", lr_scale, "Of the learning rate.", positive<double>());
}

bool ParameterRule::matches(const std::string& name) const {
  return ::fnmatch(match.c_str(), name.c_str(), 0) == 0;
}

bool ParameterRules::freeze_some() const {
  return only_adapters ||
         std::any_of(rules.begin(), rules.end(), [](const auto& rule) { return !rule.trainable; });
}

void ParameterRules::apply(ParameterSpec& spec) const {
  if (only_adapters) spec.trainable = spec.adapter;
  for (const ParameterRule& rule : rules) {
    if (!rule.matches(spec.name)) continue;
    spec.trainable = rule.trainable;
    spec.lr_scale = rule.lr_scale;
  }
}

bool ParameterRules::trains(ParameterSpec spec) const {
  apply(spec);
  return spec.trainable;
}

int64_t ParameterSpec::num_elements() const {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

LocalBlock local_block(const ParameterSpec& spec, int tp_rank, int tp_size) {
  LocalBlock block;
  block.columns = block.full_columns = spec.columns();
  switch (spec.placement) {
    case TensorPlacement::replicated:
      block.row_ranges.push_back({0, 0, spec.rows(), tp_rank, tp_size});
      block.rows = spec.rows();
      break;
    case TensorPlacement::rows: {
      std::vector<RowGroup> groups = spec.row_groups;
      if (groups.empty()) groups.push_back({spec.rows(), spec.rows(), false});
      int64_t begin = 0;
      for (const RowGroup& group : groups) {
        add_rows(spec, group, begin, tp_rank, tp_size, block);
        begin += group.rows;
      }
      FORJA_CHECK(begin == spec.rows(), "the row groups of {} have {} rows", spec.name, begin);
      break;
    }
    case TensorPlacement::columns:
      if (block.columns % tp_size != 0) {
        fail_input("parallel.tp {} does not divide the {} columns of {}", tp_size, block.columns,
                   spec.name);
      }
      block.columns /= tp_size;
      block.first_column = block.columns * tp_rank;
      block.row_ranges.push_back({0, 0, spec.rows()});
      block.rows = spec.rows();
      break;
  }
  return block;
}

void for_each_run(const LocalBlock& block, int64_t begin, int64_t end,
                  const std::function<void(const ElementRun&)>& body) {
  const bool whole_rows = block.columns == block.full_columns;
  for (const LocalBlock::Rows& range : block.row_ranges) {
    const int64_t first = std::max(begin, range.local * block.columns),
                  last = std::min(end, (range.local + range.count) * block.columns);
    for (int64_t at = first; at < last;) {
      const int64_t row = at / block.columns, column = at % block.columns;
      const int64_t count = whole_rows ? last - at : std::min(last - at, block.columns - column);
      const int64_t full_row = range.full + row - range.local;
      body({at, full_row * block.full_columns + block.first_column + column, count});
      at += count;
    }
  }
}

std::vector<ParameterRange> ranges_of_shard(const Parameter& p) {
  const LocalBlock& block = p.block;
  std::vector<ParameterRange> out;
  for (const LocalBlock::Rows& range : block.row_ranges) {
    const int64_t begin = std::max(p.begin, range.local * block.columns),
                  end = std::min(p.end, (range.local + range.count) * block.columns);
    if (begin >= end) continue;
    const int64_t full_row = range.full + begin / block.columns - range.local;
    ElementMap elements{full_row * block.full_columns + block.first_column, begin % block.columns,
                        block.columns, block.full_columns};
    if (block.columns == block.full_columns) elements = {elements.first + elements.column};
    out.push_back({begin, end, range.copy == 0 && !p.spec.tied_copy, elements});
  }
  return out;
}

}  // namespace forja
