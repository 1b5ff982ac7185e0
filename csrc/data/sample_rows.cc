// SPDX-License-Identifier: Apache-2.0
#include "forja/data/sample_rows.h"

#include <algorithm>

#include "forja/base/error.h"

namespace forja {
namespace {

int64_t count_learned(const Dataset& dataset, int64_t begin, int64_t end) {
  std::vector<uint8_t> learned(static_cast<size_t>(end - begin));
  dataset.read_learned(begin, end - begin, learned.data());
  return std::count(learned.begin(), learned.end(), uint8_t(1));
}

std::string counted(int64_t count, const char* what) {
  return count == 0 ? "" : fmt::format("; {} {}", count, what);
}

}  // namespace

SampleRows::SampleRows(const Dataset& dataset, const SamplesConfig& config, int64_t sequence_length)
    : sequence_length_(sequence_length), end_id_(dataset.info().eos_id) {
  if (dataset.info().kind != DatasetKind::samples) {
    fail_input("the dataset {} holds {}: expected samples to train on", dataset.directory(),
               dataset.info().kind == DatasetKind::text ? "text" : "preference pairs");
  }
  choose(dataset, config);
  if (documents_.empty()) {
    fail_input("no sample of {} has anything to learn in its first {} tokens", dataset.directory(),
               sequence_length + 1);
  }
  packing_ = config.packing == "none" ? pack_none(int64_t(documents_.size()))
                                      : pack_best_fit(lengths_, sequence_length);
}

void SampleRows::choose(const Dataset& dataset, const SamplesConfig& config) {
  num_learned_ = dataset.info().num_learned;
  for (int64_t d = 0; d < dataset.num_documents(); ++d) {
    int64_t begin = 0, end = 0;
    dataset.document_range(d, &begin, &end);
    const int64_t most = begin + sequence_length_ + 1;
    const bool too_long = end > most;
    int64_t learned = -1;  // not known, but there are some
    if (too_long) {
      num_learned_ -= count_learned(dataset, begin, end);
      learned = config.too_long == "drop" ? 0 : count_learned(dataset, begin, most);
      num_learned_ += learned;
    }
    if (learned == 0 || end - begin < 2) {
      ++num_left_out_;
      continue;
    }
    num_cut_ += too_long;
    documents_.push_back(d);
    lengths_.push_back(int32_t(std::min(end, most) - begin - 1));
    num_positions_ += lengths_.back();
  }
}

void SampleRows::read(const Dataset& dataset, int64_t row, TrainingRow* out) const {
  const size_t length = size_t(sequence_length_);
  out->tokens.assign(length, end_id_);
  out->targets.assign(length, kPadding);
  out->starts.clear();
  out->num_tokens = 0;
  if (row >= num_rows()) return;
  std::vector<int32_t> ids;
  std::vector<uint8_t> learned;
  for (int64_t i = packing_.begins[size_t(row)]; i < packing_.begins[size_t(row) + 1]; ++i) {
    const size_t sample = size_t(packing_.items[size_t(i)]);
    int64_t begin = 0, end = 0;
    dataset.document_range(documents_[sample], &begin, &end);
    const int32_t positions = lengths_[sample];
    ids.resize(size_t(positions) + 1);
    learned.resize(ids.size());
    dataset.read(begin, positions + 1, ids.data());
    dataset.read_learned(begin, positions + 1, learned.data());
    const size_t at = size_t(out->num_tokens);
    std::copy(ids.begin(), ids.end() - 1, out->tokens.begin() + int64_t(at));
    for (size_t t = 0; t < size_t(positions); ++t)
      out->targets[at + t] = learned[t + 1] ? ids[t + 1] : kNotLearned;
    out->starts.push_back(out->num_tokens);
    out->num_tokens += positions;
  }
}

void SampleRows::prefetch(const Dataset& dataset, int64_t row) const {
  for (int64_t document : samples_of_row(row)) {
    int64_t begin = 0, end = 0;
    dataset.document_range(document, &begin, &end);
    dataset.prefetch(begin, std::min(end - begin, sequence_length_ + 1));
  }
}

std::vector<int64_t> SampleRows::samples_of_row(int64_t row) const {
  std::vector<int64_t> out;
  for (int64_t i = packing_.begins[size_t(row)]; i < packing_.begins[size_t(row) + 1]; ++i)
    out.push_back(documents_[size_t(packing_.items[size_t(i)])]);
  return out;
}

double SampleRows::fill() const {
  return double(num_positions_) / (double(num_rows()) * double(sequence_length_));
}

std::string SampleRows::in_words() const {
  return fmt::format(
      "{} samples in {} rows of {}, {:.1f} % filled; {:.1f} % of the tokens are learned{}{}",
      documents_.size(), num_rows(), sequence_length_, 100.0 * fill(),
      100.0 * double(num_learned_) / double(num_positions_ + int64_t(documents_.size())),
      counted(num_cut_, "samples cut to the length of a row"),
      counted(num_left_out_, "left out, too long or with nothing to learn left"));
}

}  // namespace forja
