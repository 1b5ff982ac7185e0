// SPDX-License-Identifier: Apache-2.0
#include "forja/data/loader.h"

#include <filesystem>

#include "forja/data/dataset_writer.h"
#include "tests/data/small_data.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;
using Ids = std::vector<int32_t>;

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() : tokenizer_path_(testing::write_small_tokenizer(folder_.file("tokenizer.json"))) {
    tokenizer_ = load_tokenizer(tokenizer_path_);
  }

  // A dataset of documents of these lengths (end-of-text token included); ids count up through the
  // whole dataset.
  std::string write(const std::string& name, const std::vector<int>& lengths, int first_id = 0) {
    DatasetWriter writer(folder_.file(name), *tokenizer_, tokenizer_path_, kEnd, {37});
    int next = first_id;
    for (int length : lengths) {
      Ids ids;
      for (int i = 0; i + 1 < length; ++i) ids.push_back(next++ % 256);
      writer.add_document(ids.data(), int64_t(ids.size()), length);
    }
    writer.commit();
    return folder_.file(name);
  }

  DataConfig parse(const std::string& yaml, const std::vector<std::string>& overrides = {}) {
    DataConfig config;
    read_config_text(yaml, folder_.file("run.yaml"), overrides,
                     [&](ConfigVisitor& v) { config.visit(v); });
    return config;
  }
  void expect_contains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << '"' << part << "\" in \"" << text << '"';
  }

  static constexpr int32_t kEnd = 300;
  TemporaryDirectory folder_;
  std::string tokenizer_path_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(LoaderTest, ConfigTakesListsOrSinglePaths) {
  const DataConfig lists = parse(
      "tokenizer: tok.json\ntrain: [{path: a, weight: 0.9}, {path: /b}]\n"
      "valid: [{name: web, path: v}, {name: code, path: w}]\nsequence_length: 64\ndocument_mask: "
      "true\n");
  ASSERT_EQ(lists.train.size(), 2u);
  EXPECT_EQ(lists.tokenizer, folder_.file("tok.json"));
  EXPECT_EQ(lists.train[0].path, folder_.file("a"));
  EXPECT_EQ(lists.train[0].weight, 0.9);
  EXPECT_EQ(lists.train[1].path, "/b");
  EXPECT_EQ(lists.train[1].weight, 1.0);
  EXPECT_EQ(lists.valid[1].name, "code");
  EXPECT_EQ(lists.sequence_length, 64);
  EXPECT_TRUE(lists.document_mask);
  const DataConfig plain = parse("train: a\nvalid: data/valid\n");
  EXPECT_EQ(plain.train[0].path, folder_.file("a"));
  EXPECT_EQ(plain.valid[0].name, "valid");
  EXPECT_EQ(plain.valid[0].path, folder_.file("data/valid"));
  EXPECT_EQ(std::filesystem::absolute(parse("train: a\n", {"train=other"}).train[0].path),
            std::filesystem::absolute("other"));
  EXPECT_TRUE(parse("{}").train.empty());
}

TEST_F(LoaderTest, ConfigFaultsSayWhere) {
  const auto error = [&](const std::string& yaml) {
    return error_of([&] { parse(yaml); }, ExitCode::bad_input);
  };
  expect_contains(error("train: [{path: a, weight: -1}]"), "greater than 0");
  expect_contains(error("train: [{weight: 1}]"), "path");
  expect_contains(error("valid: [{path: a}]"), "name");
  expect_contains(error("valid: [{name: x, path: a}, {name: x, path: b}]"), "two sets");
  expect_contains(error("sequence_length: 0"), "run.yaml:1");
  expect_contains(error("sequence_lenght: 8"), "sequence_length");
  expect_contains(error("train: {path: a}"), "list");
}

TEST_F(LoaderTest, EveryTokenIsATargetOncePerEpoch) {
  const std::string path = write("d", {30, 5, 70, 1000, 3});
  const int64_t length = 16;
  const SampleStream stream({{path, 1.0}}, length, 7, SampleOrder::shuffled);
  const Dataset dataset(path);
  const int64_t n = stream.samples_per_epoch();
  EXPECT_EQ(n, (dataset.num_tokens() - 1) / length);
  Ids all(static_cast<size_t>(dataset.num_tokens()));
  TrainingRow row;
  dataset.read(0, dataset.num_tokens(), all.data());
  std::vector<bool> seen(static_cast<size_t>(n), false);
  for (int64_t s = 0; s < n; ++s) {
    stream.read(s, false, &row);
    const int64_t first = stream.sampler()(s).first_token;
    EXPECT_TRUE(std::equal(row.tokens.begin(), row.tokens.end(), all.begin() + first));
    EXPECT_TRUE(std::equal(row.targets.begin(), row.targets.end(), all.begin() + first + 1));
    seen[size_t(first / length)] = true;
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), n);
}

TEST_F(LoaderTest, MicroBatchWithoutAMaskIsOneSequenceASample) {
  const SampleStream stream({{write("d", {100, 100, 100}), 1.0}}, 8, 1, SampleOrder::sequential);
  testing::TensorBox box(1 << 20);
  Arena arena("batch", {}, 1 << 20);
  const MicroBatch batch = allocate_micro_batch(arena, 3, 8, false);
  const Tensor sequences = fill_micro_batch(stream, 2, 3, batch);
  ASSERT_TRUE(sequences.has_shape({3, 4}));
  for (int32_t i = 0; i < 3; ++i) {
    const int32_t* row = sequences.ptr<int32_t>() + 4 * i;
    EXPECT_EQ((std::vector<int32_t>(row, row + 4)), (Ids{8 * i, 8, 8 * i, 8}));
    for (int32_t t = 0; t < 8; ++t) {
      EXPECT_EQ(batch.tokens.ptr<int32_t>()[8 * i + t], 8 * (i + 2) + t);
      EXPECT_EQ(batch.targets.ptr<int32_t>()[8 * i + t], 8 * (i + 2) + t + 1);
      EXPECT_EQ(batch.positions.ptr<int32_t>()[8 * i + t], t);
    }
  }
  EXPECT_TRUE(fill_micro_batch(stream, 0, 1, batch).has_shape({1, 4}));
}

TEST_F(LoaderTest, DocumentMaskCutsSequencesAndRestartsPositions) {
  // Starts of documents: 0, 3, 8, 10, 30.
  const SampleStream stream({{write("d", {3, 5, 2, 20, 20}), 1.0}}, 8, 1, SampleOrder::sequential);
  Arena arena("batch", {}, 1 << 20);
  const MicroBatch batch = allocate_micro_batch(arena, 4, 8, true);
  const Tensor sequences = fill_micro_batch(stream, 0, 4, batch);
  const std::vector<Ids> expected = {{0, 3, 0, 3},   {3, 5, 3, 5},   {8, 2, 8, 2},  {10, 6, 10, 6},
                                     {16, 8, 16, 8}, {24, 6, 24, 6}, {30, 2, 30, 2}};
  ASSERT_EQ(sequences.size(0), int64_t(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    const int32_t* row = sequences.ptr<int32_t>() + 4 * i;
    EXPECT_EQ((Ids(row, row + 4)), expected[i]) << i;
    for (int32_t t = 0; t < row[1]; ++t) EXPECT_EQ(batch.positions.ptr<int32_t>()[row[0] + t], t);
  }
}

TEST_F(LoaderTest, BlendsByWeight) {
  const SampleStream stream({{write("a", {500}), 3.0}, {write("b", {500}), 1.0}}, 8, 1,
                            SampleOrder::shuffled);
  int64_t first = 0;
  for (int64_t s = 0; s < 400; ++s) first += stream.sampler()(s).source == 0;
  EXPECT_EQ(first, 300);
}

TEST_F(LoaderTest, MismatchesAreRefused) {
  DataConfig config;
  config.train = {{write("a", {100}), 1.0}};
  config.valid = {{"valid", write("v", {50})}};
  config.tokenizer = tokenizer_path_;
  config.sequence_length = 16;
  open_training_data(config, 1).check_vocabulary(512);
  EXPECT_EQ(open_validation_data(config, 0).samples_per_epoch(), 3);
  expect_contains(
      error_of([&] { open_training_data(config, 1).check_vocabulary(100); }, ExitCode::bad_input),
      "vocab_size is 100");
  config.tokenizer = testing::write_small_tokenizer(folder_.file("other.json"), 330);
  expect_contains(error_of([&] { open_training_data(config, 1); }, ExitCode::bad_input),
                  "another tokenizer");
  config.tokenizer = folder_.file("none.json");
  expect_contains(error_of([&] { open_training_data(config, 1); }, ExitCode::bad_input),
                  "no tokenizer");
  config.tokenizer = "";
  config.sequence_length = 100;
  expect_contains(error_of([&] { open_training_data(config, 1); }, ExitCode::bad_input),
                  "100 tokens, one sample needs");
  config.sequence_length = 16;
  config.train.push_back({folder_.file("nothing"), 1.0});
  expect_contains(error_of([&] { open_training_data(config, 1); }, ExitCode::bad_input), "nothing");
  config.train.clear();
  expect_contains(error_of([&] { open_training_data(config, 1); }, ExitCode::bad_input),
                  "data.train");
}

TEST_F(LoaderTest, DatasetsOfTwoTokenizersDoNotMix) {
  const std::string a = write("a", {100});
  tokenizer_path_ = testing::write_small_tokenizer(folder_.file("other.json"), 330);
  tokenizer_ = load_tokenizer(tokenizer_path_);
  const std::string b = write("b", {100});
  expect_contains(error_of(
                      [&] {
                        SampleStream({{a, 1.0}, {b, 1.0}}, 8, 1, SampleOrder::shuffled);
                      },
                      ExitCode::bad_input),
                  "different tokenizers");
}

// ---- Samples

class SampleRowsTest : public LoaderTest {
 protected:
  // Samples of these lengths; their ids are their numbers, of which every second token is learned.
  std::string write_samples(const std::string& name, const std::vector<int>& lengths,
                            DatasetKind kind = DatasetKind::samples) {
    DatasetWriterOptions options{50};  // shards of few samples
    options.kind = kind;
    DatasetWriter writer(folder_.file(name), *tokenizer_, tokenizer_path_, kEnd, options);
    for (size_t s = 0; s < lengths.size(); ++s) {
      Ids ids;
      std::vector<uint8_t> learned;
      for (int i = 0; i < lengths[s]; ++i) {
        ids.push_back(int32_t(10 * s) + i % 10);
        learned.push_back(uint8_t(i % 2));
      }
      writer.add_sample(ids.data(), learned.data(), lengths[s], 0);
    }
    writer.commit();
    Dataset(folder_.file(name)).verify();
    return folder_.file(name);
  }
  SampleStream stream(const std::string& path, const SamplesConfig& samples,
                      SampleOrder order = SampleOrder::sequential) {
    return SampleStream({{path, 1.0}}, kLength, 3, order, samples);
  }

  static constexpr int64_t kLength = 12;
};

TEST_F(SampleRowsTest, EverySampleOnceAnEpoch) {
  const std::vector<int> lengths = {5, 13, 2, 9, 4, 4, 7, 3, 11, 6, 2, 2};
  for (const char* packing : {"best_fit", "none"}) {
    SamplesConfig config;
    config.packing = packing;
    const SampleStream from =
        stream(write_samples(packing, lengths), config, SampleOrder::shuffled);
    int64_t positions = 0;
    std::vector<int> seen(lengths.size(), 0);
    for (int64_t r = 0; r < from.samples_per_epoch(); ++r) {
      TrainingRow row;
      from.read(r, false, &row);
      positions += row.num_tokens;
      ASSERT_EQ(row.tokens.size(), size_t(kLength));
      for (size_t p = 0; p < row.starts.size(); ++p) {
        const int32_t begin = row.starts[p];
        const int32_t end = p + 1 < row.starts.size() ? row.starts[p + 1] : row.num_tokens;
        const int32_t sample = row.tokens[size_t(begin)] / 10;
        ++seen[size_t(sample)];
        EXPECT_EQ(end - begin, lengths[size_t(sample)] - 1);
        for (int32_t t = begin; t < end; ++t) {
          const int32_t i = t - begin;
          EXPECT_EQ(row.tokens[size_t(t)], 10 * sample + i % 10);
          EXPECT_EQ(row.targets[size_t(t)], (i + 1) % 2 ? 10 * sample + (i + 1) % 10 : kNotLearned);
        }
      }
      for (size_t t = size_t(row.num_tokens); t < size_t(kLength); ++t) {
        EXPECT_EQ(row.tokens[t], kEnd);
        EXPECT_EQ(row.targets[t], kPadding);
      }
    }
    EXPECT_EQ(seen, std::vector<int>(lengths.size(), 1));
    EXPECT_DOUBLE_EQ(from.rows(0)->fill(),
                     double(positions) / double(from.samples_per_epoch() * kLength));
  }
}

TEST_F(SampleRowsTest, LongSamplesAreCutOrLeftOutAndCounted) {
  const std::string path = write_samples("d", {14, 5, 40});
  SamplesConfig config;
  const SampleStream cut = stream(path, config);
  EXPECT_NE(cut.rows(0)->in_words().find("3 samples in 3 rows of 12, 77.8 % filled"),
            std::string::npos)
      << cut.rows(0)->in_words();
  EXPECT_NE(cut.rows(0)->in_words().find("2 cut"), std::string::npos);
  TrainingRow row;
  cut.read(0, false, &row);
  EXPECT_EQ(row.num_tokens, 12);
  EXPECT_EQ(row.tokens, (Ids{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1}));
  config.too_long = "drop";
  const SampleStream dropped = stream(path, config);
  EXPECT_EQ(dropped.samples_per_epoch(), 1);
  EXPECT_NE(dropped.rows(0)->in_words().find("2 left out"), std::string::npos);
}

// The longer answer of a pair is cut, both where both are longer than half a row.
TEST_F(SampleRowsTest, PairsStayTogether) {
  const std::string path =
      write_samples("d", {5, 4, 20, 3, 30, 30, 3, 3}, DatasetKind::preference_pairs);
  SamplesConfig config;
  const SampleStream pairs = stream(path, config);
  const std::string words = pairs.rows(0)->in_words();
  EXPECT_NE(words.find("4 pairs in 3 rows of 12, 97.2 % filled"), std::string::npos) << words;
  EXPECT_NE(words.find("2 cut"), std::string::npos) << words;
  std::map<int32_t, int32_t> lengths;  // by sample
  for (int64_t r = 0; r < 3; ++r) {
    TrainingRow row;
    pairs.read(r, false, &row);
    ASSERT_EQ(row.starts.size() % 2, 0u);
    for (size_t p = 0; p < row.starts.size(); ++p) {
      const int32_t end = p + 1 < row.starts.size() ? row.starts[p + 1] : row.num_tokens;
      const int32_t sample = row.tokens[size_t(row.starts[p])] / 10;
      EXPECT_EQ(sample % 2, int32_t(p % 2)) << "the chosen one first";
      if (p % 2 == 1) {
        EXPECT_EQ(sample, row.tokens[size_t(row.starts[p - 1])] / 10 + 1);
      }
      lengths[sample] = end - row.starts[p];
    }
  }
  EXPECT_EQ(lengths, (std::map<int32_t, int32_t>{
                         {0, 4}, {1, 3}, {2, 10}, {3, 2}, {4, 6}, {5, 6}, {6, 2}, {7, 2}}));
  config.too_long = "drop";
  EXPECT_EQ(stream(path, config).rows(0)->samples_of_row(0), (std::vector<int64_t>{0, 1, 6, 7}));
}

TEST_F(SampleRowsTest, PastTheEndOfAValidationSetIsPadding) {
  const SampleStream from = stream(write_samples("d", {5, 6}), {});
  ASSERT_EQ(from.samples_per_epoch(), 1);
  TrainingRow row;
  from.read(1, false, &row);
  EXPECT_EQ(row.num_tokens, 0);
  EXPECT_EQ(std::count(row.targets.begin(), row.targets.end(), kPadding), kLength);
  from.read(0, false, &row);
  EXPECT_EQ(row.num_tokens, 9);
}

TEST_F(SampleRowsTest, AMicroBatchHasItsPaddingInShortPiecesAtTheEnd) {
  const SampleStream from =
      SampleStream({{write_samples("d", {5, 4, 90}), 1.0}}, 100, 3, SampleOrder::sequential);
  Arena arena("batch", {}, 1 << 20);
  const MicroBatch batch = allocate_micro_batch(arena, 2, 100, true);
  const Tensor pieces = fill_micro_batch(from, 0, 2, batch);
  std::vector<Ids> found;
  for (int64_t i = 0; i < pieces.size(0); ++i) {
    const int32_t* row = pieces.ptr<int32_t>() + 4 * i;
    found.push_back({row[0], row[1]});
    for (int32_t t = 0; t < row[1]; ++t) EXPECT_EQ(batch.positions.ptr<int32_t>()[row[0] + t], t);
  }
  EXPECT_EQ(found, (std::vector<Ids>{{0, 89}, {89, 4}, {93, 3}, {96, 4}, {100, 64}, {164, 36}}));
}

TEST_F(SampleRowsTest, TextAndSamplesBlend) {
  const SampleStream from({{write("text", {100, 100}), 1.0}, {write_samples("d", {5, 6}), 1.0}},
                          kLength, 3, SampleOrder::shuffled);
  int samples = 0;
  TrainingRow row;
  for (int64_t i = 0; i < 20; ++i) {
    from.read(i, true, &row);
    samples += row.num_tokens < kLength;
  }
  EXPECT_EQ(samples, 10);
  DataConfig config;
  config.train = {{folder_.file("text"), 1.0}};
  EXPECT_FALSE(config.masks_documents());
  config.train.push_back({folder_.file("d"), 1.0});
  EXPECT_TRUE(config.masks_documents());
  config.train = {{"x.jsonl", 1.0}};
  EXPECT_TRUE(config.masks_documents());
}

TEST_F(SampleRowsTest, DamagedMasksAreFound) {
  const std::string path = write_samples("d", {5, 6});
  const std::string name = path + "/shard-00000.learned";
  std::string mask = read_file(name);
  mask[1] = 7;
  write_file(name, mask);
  expect_contains(error_of([&] { Dataset(path).verify(); }, ExitCode::bad_input), "checksum");
  TrainingRow row;
  expect_contains(error_of([&] { stream(path, {}).read(0, false, &row); }, ExitCode::bad_input),
                  "expected 0 or 1");
  write_file(name, mask.substr(1));
  expect_contains(error_of([&] { Dataset{path}; }, ExitCode::bad_input), "expected 11 bytes");
}

}  // namespace
}  // namespace forja
