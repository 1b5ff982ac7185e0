// SPDX-License-Identifier: Apache-2.0
#include "forja/data/loader.h"

#include <algorithm>
#include <cstring>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/data/tokenizer.h"

namespace forja {

void TrainDataConfig::visit(ConfigVisitor& v) {
  v.path("path", path, "A dataset made by forja tokenize.");
  v.field("weight", weight, "Its share of the samples, relative to the others.",
          positive<double>());
  if (v.reading() && path.empty()) v.fault("path", "expected the path of a dataset");
}

void ValidDataConfig::visit(ConfigVisitor& v) {
  v.field("name", name, "What its metrics are called.");
  v.path("path", path, "A dataset made by forja tokenize.");
  if (v.reading() && name.empty()) v.fault("name", "expected a name for its metrics");
  if (v.reading() && path.empty()) v.fault("path", "expected the path of a dataset");
}

void DataConfig::visit(ConfigVisitor& v) {
  const char* train_doc = "Training datasets: a path, or a list of {path, weight}.";
  const char* valid_doc = "Validation datasets: a path, or a list of {name, path}.";
  v.path("tokenizer", tokenizer,
         "tokenizer.json, a SentencePiece or tiktoken .model, or a directory that holds one.");
  if (v.reading() && v.is_scalar("train")) {
    train.resize(1);
    v.path("train", train[0].path, train_doc);
  } else {
    v.list("train", train, train_doc);
  }
  if (v.reading() && v.is_scalar("valid")) {
    valid.resize(1);
    valid[0].name = "valid";
    v.path("valid", valid[0].path, valid_doc);
  } else {
    v.list("valid", valid, valid_doc);
  }
  v.field("sequence_length", sequence_length, "Tokens of a sample.", positive<int64_t>());
  v.field("document_mask", document_mask,
          "Attention stays inside documents and positions restart there.");
  if (!v.reading()) return;
  for (size_t i = 0; i < valid.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (valid[i].name == valid[j].name)
        v.fault("valid", fmt::format("two sets have the name \"{}\"", valid[i].name));
    }
  }
}

SampleStream::SampleStream(const std::vector<TrainDataConfig>& sources, int64_t sequence_length,
                           uint64_t seed, SampleOrder order)
    : sequence_length_(sequence_length) {
  if (sources.empty()) fail_input("data.train names no dataset; forja tokenize makes one");
  std::vector<SampleSource> sizes;
  for (const TrainDataConfig& source : sources) {
    datasets_.emplace_back(source.path);
    const Dataset& dataset = datasets_.back();
    if (dataset.num_tokens() <= sequence_length) {
      fail_input("the dataset {} has {} tokens, one sample needs sequence_length + 1 = {}",
                 source.path, dataset.num_tokens(), sequence_length + 1);
    }
    if (dataset.info().tokenizer_hash != tokenizer_hash()) {
      fail_input("the datasets {} and {} were made by different tokenizers ({} and {})",
                 sources[0].path, source.path, hash_hex(tokenizer_hash()),
                 hash_hex(dataset.info().tokenizer_hash));
    }
    sizes.push_back({dataset.num_tokens(), source.weight});
  }
  sampler_ = std::make_unique<Sampler>(std::move(sizes), sequence_length, seed, order);
}

void SampleStream::read(int64_t sample, int32_t* tokens,
                        std::vector<int32_t>* document_starts) const {
  const Sampler::Sample at = (*sampler_)(sample);
  const Dataset& dataset = datasets_[size_t(at.source)];
  dataset.read(at.first_token, sequence_length_ + 1, tokens);
  if (document_starts) dataset.document_starts(at.first_token, sequence_length_, document_starts);
}

void SampleStream::prefetch(int64_t first_sample, int64_t count) const {
  for (int64_t i = 0; i < count; ++i) {
    const Sampler::Sample at = (*sampler_)(first_sample + i);
    datasets_[size_t(at.source)].prefetch(at.first_token, sequence_length_ + 1);
  }
}

int64_t SampleStream::samples_per_epoch() const {
  int64_t sum = 0;
  for (int64_t i = 0; i < num_sources(); ++i) sum += sampler_->samples_per_epoch(i);
  return sum;
}

void SampleStream::check_vocabulary(int64_t model_vocab_size) const {
  if (vocab_size() > model_vocab_size) {
    fail_input(
        "the tokenizer of {} has {} ids, the model's vocab_size is {}: set vocab_size to {} or "
        "more",
        datasets_[0].directory(), vocab_size(), model_vocab_size, vocab_size());
  }
}

void SampleStream::check_tokenizer(const std::string& path) const {
  const uint64_t hash = tokenizer_file_hash(path);
  if (hash != tokenizer_hash()) {
    fail_input(
        "the dataset {} was made by another tokenizer than {}: expected the hash {}, found {}; "
        "tokenize the texts "
        "again with it, or name the dataset's own tokenizer",
        datasets_[0].directory(), path, hash_hex(tokenizer_hash()), hash_hex(hash));
  }
}

SampleStream open_training_data(const DataConfig& config, uint64_t seed) {
  SampleStream stream(config.train, config.sequence_length, seed, SampleOrder::shuffled);
  if (!config.tokenizer.empty()) stream.check_tokenizer(config.tokenizer);
  return stream;
}

SampleStream open_validation_data(const DataConfig& config, size_t set) {
  SampleStream stream({{config.valid.at(set).path, 1.0}}, config.sequence_length, 0,
                      SampleOrder::sequential);
  if (!config.tokenizer.empty()) stream.check_tokenizer(config.tokenizer);
  return stream;
}

MicroBatch allocate_micro_batch(Arena& arena, int64_t batch_size, int64_t sequence_length,
                                bool document_mask) {
  const int64_t rows = batch_size * sequence_length;
  MicroBatch batch;
  batch.tokens = allocate(arena, DType::i32, {rows});
  batch.targets = allocate(arena, DType::i32, {rows});
  batch.positions = allocate(arena, DType::i32, {rows});
  batch.sequences = allocate(arena, DType::i32, {document_mask ? rows : batch_size, 4});
  batch.document_mask = document_mask;
  return batch;
}

Tensor fill_micro_batch(const SampleStream& stream, int64_t first_sample, int64_t count,
                        const MicroBatch& batch) {
  const int64_t length = stream.sequence_length();
  FORJA_CHECK(count * length <= batch.tokens.size(0), "{} samples of {} tokens in a batch of {}",
              count, length, batch.tokens.to_string());
  std::vector<int32_t> sample(size_t(length) + 1), starts;
  int32_t* sequences = batch.sequences.ptr<int32_t>();
  int64_t used = 0;
  for (int64_t i = 0; i < count; ++i) {
    stream.read(first_sample + i, sample.data(), batch.document_mask ? &starts : nullptr);
    const int64_t row = i * length;
    std::memcpy(batch.tokens.ptr<int32_t>() + row, sample.data(), size_t(length) * sizeof(int32_t));
    std::memcpy(batch.targets.ptr<int32_t>() + row, sample.data() + 1,
                size_t(length) * sizeof(int32_t));
    // Pieces between the starts; the first begins with the sample.
    if (starts.empty() || starts[0] != 0) starts.insert(starts.begin(), 0);
    for (size_t s = 0; s < starts.size(); ++s, ++used) {
      const int32_t begin = starts[s];
      const int32_t end = s + 1 < starts.size() ? starts[s + 1] : int32_t(length);
      FORJA_CHECK(used < batch.sequences.size(0), "sequences {} are too few",
                  batch.sequences.to_string());
      const int32_t first = int32_t(row) + begin;
      const int32_t fields[4] = {first, end - begin, first, end - begin};
      std::memcpy(sequences + used * 4, fields, sizeof fields);
      for (int32_t t = begin; t < end; ++t) batch.positions.ptr<int32_t>()[row + t] = t - begin;
    }
    starts.clear();
  }
  return batch.sequences.slice(0, 0, used);
}

}  // namespace forja
