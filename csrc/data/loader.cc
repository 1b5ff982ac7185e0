// SPDX-License-Identifier: Apache-2.0
#include "forja/data/loader.h"

#include <algorithm>
#include <cstring>

#include "forja/base/error.h"
#include "forja/base/hash.h"
#include "forja/data/tokenizer.h"

namespace forja {

void TrainDataConfig::visit(ConfigVisitor& v) {
  v.path("path", path, "A dataset made by forja tokenize, or a .jsonl or .json file of samples.");
  v.field("weight", weight, "Its share of the samples, relative to the others.",
          positive<double>());
  if (v.reading() && path.empty()) v.fault("path", "expected the path of a dataset");
}

void ValidDataConfig::visit(ConfigVisitor& v) {
  v.field("name", name, "What its metrics are called.");
  v.path("path", path, "A dataset made by forja tokenize, or a .jsonl or .json file of samples.");
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
          "Attention stays inside documents and positions restart there; samples always have it.");
  v.section("samples", samples, "Conversations, instructions and the like to fine-tune on.");
  if (!v.reading()) return;
  for (size_t i = 0; i < valid.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (valid[i].name == valid[j].name)
        v.fault("valid", fmt::format("two sets have the name \"{}\"", valid[i].name));
    }
  }
}

bool DataConfig::masks_documents() const {
  const auto has_samples = [](const auto& source) {
    const std::string manifest = source.path + "/manifest.json";
    return is_sample_file(source.path) ||
           (is_dataset(source.path) &&
            parse_manifest(MappedFile(manifest).text(), manifest).has_masks());
  };
  return document_mask || std::any_of(train.begin(), train.end(), has_samples) ||
         std::any_of(valid.begin(), valid.end(), has_samples);
}

SampleStream::SampleStream(const std::vector<TrainDataConfig>& sources, int64_t sequence_length,
                           uint64_t seed, SampleOrder order, const SamplesConfig& samples)
    : sequence_length_(sequence_length), order_(order) {
  if (sources.empty()) fail_input("data.train names no dataset; forja tokenize makes one");
  std::vector<SampleSource> sizes;
  for (const TrainDataConfig& source : sources) {
    Dataset opened(source.path);
    std::optional<SampleRows> rows;
    if (opened.info().has_masks()) {
      rows.emplace(opened, samples, sequence_length);
    } else if (opened.num_tokens() <= sequence_length) {
      fail_input("the dataset {} has {} tokens, one sample needs sequence_length + 1 = {}",
                 source.path, opened.num_tokens(), sequence_length + 1);
    }
    sizes.push_back({opened.num_tokens(), source.weight, rows ? rows->num_rows() : 0});
    sources_.push_back({std::move(opened), std::move(rows)});
    const DatasetInfo& info = sources_.back().dataset.info();
    if (info.tokenizer_hash != tokenizer_hash()) {
      fail_input("the datasets {} and {} were made by different tokenizers ({} and {})",
                 sources[0].path, source.path, hash_hex(tokenizer_hash()),
                 hash_hex(info.tokenizer_hash));
    }
  }
  sampler_ = std::make_unique<Sampler>(std::move(sizes), sequence_length, seed, order);
}

void SampleStream::read(int64_t sample, bool document_starts, TrainingRow* row) const {
  const Sampler::Sample at = (*sampler_)(sample);
  const Source& source = sources_[size_t(at.source)];
  if (source.rows) {
    const bool past = order_ == SampleOrder::sequential && at.epoch > 0;
    return source.rows->read(source.dataset, past ? source.rows->num_rows() : at.index, row);
  }
  const size_t length = size_t(sequence_length_);
  row->tokens.resize(length + 1);
  source.dataset.read(at.first_token, sequence_length_ + 1, row->tokens.data());
  row->targets.assign(row->tokens.begin() + 1, row->tokens.end());
  row->tokens.pop_back();
  row->num_tokens = int32_t(length);
  row->starts.clear();
  if (document_starts)
    source.dataset.document_starts(at.first_token, sequence_length_, &row->starts);
  // The first piece begins with the row.
  if (row->starts.empty() || row->starts[0] != 0) row->starts.insert(row->starts.begin(), 0);
}

void SampleStream::prefetch(int64_t first_sample, int64_t count) const {
  for (int64_t i = 0; i < count; ++i) {
    const Sampler::Sample at = (*sampler_)(first_sample + i);
    const Source& source = sources_[size_t(at.source)];
    if (source.rows) {
      source.rows->prefetch(source.dataset, at.index);
    } else {
      source.dataset.prefetch(at.first_token, sequence_length_ + 1);
    }
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
        dataset(0).directory(), vocab_size(), model_vocab_size, vocab_size());
  }
}

void SampleStream::check_tokenizer(const std::string& path) const {
  const uint64_t hash = tokenizer_file_hash(path);
  if (hash != tokenizer_hash()) {
    fail_input(
        "the dataset {} was made by another tokenizer than {}: expected the hash {}, found {}; "
        "tokenize the texts "
        "again with it, or name the dataset's own tokenizer",
        dataset(0).directory(), path, hash_hex(tokenizer_hash()), hash_hex(hash));
  }
}

SampleStream open_training_data(const DataConfig& config, uint64_t seed) {
  SampleStream stream(config.train, config.sequence_length, seed, SampleOrder::shuffled,
                      config.samples);
  if (!config.tokenizer.empty()) stream.check_tokenizer(config.tokenizer);
  return stream;
}

SampleStream open_validation_data(const DataConfig& config, size_t set) {
  SampleStream stream({{config.valid.at(set).path, 1.0}}, config.sequence_length, 0,
                      SampleOrder::sequential, config.samples);
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

namespace {

constexpr int32_t kPaddingPiece = 64;

// Pieces of rows, as attention reads them.
class Pieces {
 public:
  explicit Pieces(const MicroBatch& batch) : batch_(batch) {}

  void add(int64_t begin, int64_t end) {
    FORJA_CHECK(used_ < batch_.sequences.size(0), "sequences {} are too few",
                batch_.sequences.to_string());
    const int32_t first = int32_t(begin), length = int32_t(end - begin);
    const int32_t fields[4] = {first, length, first, length};
    std::memcpy(batch_.sequences.ptr<int32_t>() + used_++ * 4, fields, sizeof fields);
    for (int32_t t = 0; t < length; ++t) batch_.positions.ptr<int32_t>()[begin + t] = t;
  }

  Tensor used() const { return batch_.sequences.slice(0, 0, used_); }

 private:
  const MicroBatch& batch_;
  int64_t used_ = 0;
};

}  // namespace

Tensor fill_micro_batch(const SampleStream& stream, int64_t first_sample, int64_t count,
                        const MicroBatch& batch) {
  const int64_t length = stream.sequence_length();
  FORJA_CHECK(count * length <= batch.tokens.size(0), "{} samples of {} tokens in a batch of {}",
              count, length, batch.tokens.to_string());
  const size_t row_bytes = size_t(length) * sizeof(int32_t);
  TrainingRow row;
  Pieces pieces(batch);
  std::vector<std::pair<int64_t, int64_t>> padding;
  for (int64_t i = 0; i < count; ++i) {
    stream.read(first_sample + i, batch.document_mask, &row);
    const int64_t begin = i * length;
    std::memcpy(batch.tokens.ptr<int32_t>() + begin, row.tokens.data(), row_bytes);
    std::memcpy(batch.targets.ptr<int32_t>() + begin, row.targets.data(), row_bytes);
    for (size_t s = 0; s < row.starts.size(); ++s) {
      const int32_t end = s + 1 < row.starts.size() ? row.starts[s + 1] : row.num_tokens;
      pieces.add(begin + row.starts[s], begin + end);
    }
    for (int64_t t = row.num_tokens; t < length; t += kPaddingPiece)
      padding.emplace_back(begin + t, begin + std::min(t + kPaddingPiece, length));
  }
  for (const auto& [begin, end] : padding) pieces.add(begin, end);
  return pieces.used();
}

}  // namespace forja
