// SPDX-License-Identifier: Apache-2.0
// From the `data` section of a run to the tensors of a micro-batch. Reading is a copy out of a
// memory map, cheap beside a training step. Every rank reads the samples it needs by their global
// index; nothing is exchanged.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "forja/base/config.h"
#include "forja/data/dataset.h"
#include "forja/data/sample_rows.h"
#include "forja/data/sampler.h"
#include "forja/data/samples.h"
#include "forja/device/arena.h"
#include "forja/tensor/tensor.h"

namespace forja {

struct TrainDataConfig {
  std::string path;
  double weight = 1.0;
  void visit(ConfigVisitor& v);
};

struct ValidDataConfig {
  std::string name;
  std::string path;
  void visit(ConfigVisitor& v);
};

// `train` and `valid` are lists, or the path of a single dataset (named "valid" there). A path may
// also be a file of samples, of which a run makes a dataset first.
struct DataConfig {
  std::string tokenizer;
  std::vector<TrainDataConfig> train;
  std::vector<ValidDataConfig> valid;
  int64_t sequence_length = 1024;
  bool document_mask = false;
  SamplesConfig samples;
  void visit(ConfigVisitor& v);

  // Whether attention stays inside documents: as configured, and always where there are samples,
  // as far as the datasets that are there already tell.
  bool masks_documents() const;
};

// The samples of one or several datasets: each a row of T tokens. Immutable: may be read from
// several threads at once.
class SampleStream {
 public:
  // Opens the datasets. Throws bad_input when one is missing or damaged, smaller than a sample, or
  // made by another tokenizer than the first.
  SampleStream(const std::vector<TrainDataConfig>& sources, int64_t sequence_length, uint64_t seed,
               SampleOrder order, const SamplesConfig& samples = {});

  // Sample `sample` >= 0 (global over all ranks and steps). Of text, target i is token i + 1, and
  // documents begin at its `starts` where `document_starts` is set, else only the row does. In
  // sequential order, samples past the end of a dataset of samples (sample_rows.h) are padding.
  void read(int64_t sample, bool document_starts, TrainingRow* row) const;

  // Starts reading samples [first_sample, first_sample + count) from the disk, and returns at once.
  void prefetch(int64_t first_sample, int64_t count) const;

  int64_t sequence_length() const { return sequence_length_; }
  int64_t num_sources() const { return int64_t(sources_.size()); }
  const Dataset& dataset(int64_t source) const { return sources_[size_t(source)].dataset; }
  // Of a dataset of samples; nothing of text.
  const std::optional<SampleRows>& rows(int64_t source) const {
    return sources_[size_t(source)].rows;
  }
  const Sampler& sampler() const { return *sampler_; }
  // Samples until every source was seen once, were they not blended: the size of a validation set.
  int64_t samples_per_epoch() const;
  int64_t vocab_size() const { return dataset(0).info().vocab_size; }  // of the tokenizer
  uint64_t tokenizer_hash() const { return dataset(0).info().tokenizer_hash; }

  // Throws bad_input when the data has ids that a model of that vocabulary lacks.
  void check_vocabulary(int64_t model_vocab_size) const;
  // Throws bad_input when the datasets were not made by the tokenizer at `path`.
  void check_tokenizer(const std::string& path) const;

 private:
  struct Source {
    Dataset dataset;
    std::optional<SampleRows> rows;
  };

  std::vector<Source> sources_;
  int64_t sequence_length_;
  SampleOrder order_;
  std::unique_ptr<Sampler> sampler_;
};

// The streams of a run, checked against its tokenizer where it names one.
SampleStream open_training_data(const DataConfig& config, uint64_t seed);
SampleStream open_validation_data(const DataConfig& config,
                                  size_t set);  // config.valid[set], in order

// Legend: B samples, T tokens each, N = B T rows.
struct MicroBatch {
  Tensor tokens;     // [N] int32
  Tensor targets;    // [N] int32; kNotLearned and kPadding where there is none
  Tensor positions;  // [N] int32: within the sample, or within the document under a document mask
  Tensor sequences;  // [capacity, 4] int32: q_begin, q_length, k_begin, k_length, as attention
                     // reads them; capacity is B, or N under a document mask
  bool document_mask = false;
};

// Memory for batches of B samples of T tokens, in `arena`.
MicroBatch allocate_micro_batch(Arena& arena, int64_t batch_size, int64_t sequence_length,
                                bool document_mask);

// Fills `batch` with samples [first_sample, first_sample + count), count <= B: the first count T
// rows of each tensor. Returns the view of the rows of `sequences` in use: one a sample, or one a
// document (piece) under a document mask, which samples to fine-tune on need. Those of padding are
// short, so that it costs little, and come last.
Tensor fill_micro_batch(const SampleStream& stream, int64_t first_sample, int64_t count,
                        const MicroBatch& batch);

}  // namespace forja
