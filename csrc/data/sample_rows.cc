// SPDX-License-Identifier: Apache-2.0
#include "forja/data/sample_rows.h"

#include <algorithm>
#include <numeric>

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
  if (dataset.info().kind == DatasetKind::text) {
    fail_input("the dataset {} holds text: expected samples to train on", dataset.directory());
  }
  of_item_ = dataset.info().kind == DatasetKind::preference_pairs ? 2 : 1;
  choose(dataset, config);
  if (documents_.empty()) {
    fail_input("no sample of {} has anything to learn in its first {} tokens", dataset.directory(),
               sequence_length + 1);
  }
  std::vector<int32_t> items;
  for (size_t i = 0; i < lengths_.size(); i += of_item_)
    items.push_back(std::accumulate(&lengths_[i], &lengths_[i] + of_item_, 0));
  packing_ = config.packing == "none" ? pack_none(int64_t(items.size()))
                                      : pack_best_fit(items, sequence_length);
}

// What of a sample goes into a row, where it may have `most` positions.
SampleRows::Piece SampleRows::piece_of(const Dataset& dataset, int64_t document, int64_t most) {
  int64_t begin = 0, end = 0;
  dataset.document_range(document, &begin, &end);
  return {document, int32_t(std::min(end - begin - 1, most)), end - begin - 1 > most};
}

// The most positions of each side of a pair: what the shorter leaves, half a row at least.
std::vector<int64_t> SampleRows::room_of(const Dataset& dataset, int64_t item) const {
  if (of_item_ == 1) return {sequence_length_};
  const int64_t half = sequence_length_ / 2;
  std::vector<int64_t> out;
  for (int64_t side = 0; side < 2; ++side) {
    const int64_t other = piece_of(dataset, 2 * item + 1 - side, sequence_length_).length;
    out.push_back(std::max(half, sequence_length_ - other));
  }
  return out;
}

void SampleRows::choose(const Dataset& dataset, const SamplesConfig& config) {
  num_learned_ = dataset.info().num_learned;
  const int64_t of_item = int64_t(of_item_);
  for (int64_t item = 0; item < dataset.num_documents() / of_item; ++item) {
    const std::vector<int64_t> room = room_of(dataset, item);
    std::vector<Piece> pieces;
    bool fits = true, learns = true;
    int64_t lost = 0;
    for (int64_t i = 0; i < of_item; ++i) {
      const int64_t document = item * of_item + i;
      pieces.push_back(piece_of(dataset, document, room[size_t(i)]));
      learns &= pieces.back().length > 0;
      if (!pieces.back().is_cut) continue;
      fits = false;
      int64_t begin = 0, end = 0;
      dataset.document_range(document, &begin, &end);
      const int64_t kept = count_learned(dataset, begin, begin + pieces.back().length + 1);
      learns &= kept > 0;
      lost += count_learned(dataset, begin, end) - kept;
    }
    if (!learns || (!fits && config.too_long == "drop")) {
      ++num_left_out_;
      for (const Piece& piece : pieces) {
        int64_t begin = 0, end = 0;
        dataset.document_range(piece.document, &begin, &end);
        num_learned_ -= count_learned(dataset, begin, end);
      }
      continue;
    }
    num_learned_ -= lost;
    num_cut_ += !fits;
    for (const Piece& piece : pieces) {
      documents_.push_back(piece.document);
      lengths_.push_back(piece.length);
      num_positions_ += piece.length;
    }
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
  for (const size_t sample : pieces_of_row(row)) {
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

std::vector<size_t> SampleRows::pieces_of_row(int64_t row) const {
  std::vector<size_t> out;
  for (int64_t i = packing_.begins[size_t(row)]; i < packing_.begins[size_t(row) + 1]; ++i)
    for (size_t k = 0; k < of_item_; ++k)
      out.push_back(size_t(packing_.items[size_t(i)]) * of_item_ + k);
  return out;
}

std::vector<int64_t> SampleRows::samples_of_row(int64_t row) const {
  std::vector<int64_t> out;
  for (const size_t piece : pieces_of_row(row)) out.push_back(documents_[piece]);
  return out;
}

double SampleRows::fill() const {
  return double(num_positions_) / (double(num_rows()) * double(sequence_length_));
}

std::string SampleRows::in_words() const {
  return fmt::format(
      "{} {} in {} rows of {}, {:.1f} % filled; {:.1f} % of the tokens are learned{}{}",
      documents_.size() / of_item_, of_item_ == 1 ? "samples" : "pairs", num_rows(),
      sequence_length_, 100.0 * fill(),
      100.0 * double(num_learned_) / double(num_positions_ + int64_t(documents_.size())),
      counted(num_cut_, "cut to the length of a row"),
      counted(num_left_out_, "left out, too long or with nothing to learn left"));
}

}  // namespace forja
