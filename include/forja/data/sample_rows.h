// SPDX-License-Identifier: Apache-2.0
// The rows of T tokens that the samples of a dataset make. A sample of L tokens takes L - 1
// positions, each with the next token as its target: its last token follows nothing but is a
// target. What is left of a row is padding. Samples that a row has no room for are cut, or left
// out; so are those of which nothing is learned then. The two of a preference pair lie in one row,
// the chosen one first; a pair that has no room loses the end of the longer one, or of both.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forja/data/dataset.h"
#include "forja/data/packing.h"
#include "forja/data/samples.h"

namespace forja {

// The targets of positions that the loss does not count: of tokens that are not learned, and of
// padding, which is no token of the data at all.
inline constexpr int32_t kNotLearned = -1, kPadding = -2;

// One row of a batch.
struct TrainingRow {
  std::vector<int32_t> tokens, targets;  // [T]
  std::vector<int32_t> starts;           // where documents begin, ascending; the first at 0
  int32_t num_tokens = 0;                // what follows is padding
};

class SampleRows {
 public:
  // Throws bad_input where the dataset has no samples, or none that can be learned from.
  SampleRows(const Dataset& dataset, const SamplesConfig& config, int64_t sequence_length);

  int64_t num_rows() const { return packing_.num_rows(); }
  // Row `row` of `dataset`, which has to be the same; past the last one, padding.
  void read(const Dataset& dataset, int64_t row, TrainingRow* out) const;
  // Starts reading it from the disk.
  void prefetch(const Dataset& dataset, int64_t row) const;
  // The indices of its samples in the dataset, in their order.
  std::vector<int64_t> samples_of_row(int64_t row) const;

  double fill() const;  // positions of samples among all
  // "7473 samples in 812 rows of 2048, 98.6 % filled; 61.2 % of the tokens are learned".
  std::string in_words() const;

 private:
  struct Piece {
    int64_t document;
    int32_t length;  // positions
    bool is_cut;
  };
  static Piece piece_of(const Dataset& dataset, int64_t document, int64_t most);
  std::vector<int64_t> room_of(const Dataset& dataset, int64_t item) const;
  void choose(const Dataset& dataset, const SamplesConfig& config);
  // The places of a row's samples in `documents_`.
  std::vector<size_t> pieces_of_row(int64_t row) const;

  int64_t sequence_length_;
  int32_t end_id_;
  size_t of_item_ = 1;              // samples that are packed together
  std::vector<int64_t> documents_;  // that are used
  std::vector<int32_t> lengths_;    // positions of each
  Packing packing_;
  int64_t num_positions_ = 0, num_learned_ = 0, num_cut_ = 0, num_left_out_ = 0;
};

}  // namespace forja
