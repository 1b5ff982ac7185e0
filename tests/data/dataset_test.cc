// SPDX-License-Identifier: Apache-2.0
#include "forja/data/dataset.h"

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "forja/data/dataset_writer.h"
#include "tests/data/small_data.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

namespace fs = std::filesystem;
using testing::error_of;
using testing::TemporaryDirectory;
using Ids = std::vector<int32_t>;

class DatasetTest : public ::testing::Test {
 protected:
  DatasetTest() {
    tokenizer_path_ = testing::write_small_tokenizer(folder_.file("tokenizer.json"));
    tokenizer_ = load_tokenizer(tokenizer_path_);
  }

  // Documents 0, 1, ... of random lengths whose tokens count up from the document's number.
  std::vector<Ids> write(const std::string& name, int num_documents, int64_t shard_tokens) {
    std::mt19937 random(31);
    DatasetWriter writer(folder_.file(name), *tokenizer_, tokenizer_path_, *tokenizer_->eos_id(),
                         {shard_tokens});
    std::vector<Ids> documents;
    for (int d = 0; d < num_documents; ++d) {
      Ids ids;
      const int length = 1 + int(random() % 40);
      for (int i = 0; i < length; ++i) ids.push_back((d + i) % 300);
      writer.add_document(ids.data(), length, 2 * length);
      documents.push_back(ids);
    }
    writer.commit();
    return documents;
  }

  std::string open_error(const std::string& name) {
    return error_of([&] { Dataset dataset(folder_.file(name)); }, ExitCode::bad_input);
  }
  void expect_contains(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << '"' << part << "\" in \"" << text << '"';
  }
  std::map<std::string, std::string> files_of(const std::string& name) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(folder_.file(name))) {
      files[entry.path().filename().string()] = read_file(entry.path().string());
    }
    return files;
  }
  // Entries of the test's folder that a failed or finished run left beside the dataset.
  int leftovers() {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      const std::string name = entry.path().filename().string();
      count += name.find(".tmp") != name.npos || name.find(".old") != name.npos;
    }
    return count;
  }

  TemporaryDirectory folder_;
  std::string tokenizer_path_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(DatasetTest, WhatIsWrittenIsReadAtEveryPlace) {
  for (int64_t shard_tokens : {1, 50, 137, 100000}) {
    const std::string name = fmt::format("d{}", shard_tokens);
    const std::vector<Ids> documents = write(name, 60, shard_tokens);
    const Dataset dataset(folder_.file(name));
    Ids stream;
    std::vector<int64_t> starts;
    for (const Ids& document : documents) {
      starts.push_back(int64_t(stream.size()));
      stream.insert(stream.end(), document.begin(), document.end());
      stream.push_back(*tokenizer_->eos_id());
    }
    ASSERT_EQ(dataset.num_tokens(), int64_t(stream.size()));
    ASSERT_EQ(dataset.num_documents(), 60);
    EXPECT_EQ(dataset.info().dtype, DType::u16);
    for (int64_t first = 0; first < dataset.num_tokens(); ++first) {
      for (int64_t count : {int64_t(1), int64_t(33), dataset.num_tokens() - first}) {
        if (first + count > dataset.num_tokens()) continue;
        Ids tokens(static_cast<size_t>(count));
        dataset.read(first, count, tokens.data());
        ASSERT_TRUE(std::equal(tokens.begin(), tokens.end(), stream.begin() + first))
            << first << ' ' << count;
        Ids found, expected;
        dataset.document_starts(first, count, &found);
        for (int64_t start : starts) {
          if (start >= first && start < first + count) expected.push_back(int32_t(start - first));
        }
        ASSERT_EQ(found, expected) << first << ' ' << count;
      }
    }
    for (int64_t d = 0; d < 60; ++d) {
      int64_t begin = 0, end = 0;
      dataset.document_range(d, &begin, &end);
      EXPECT_EQ(begin, starts[size_t(d)]);
      EXPECT_EQ(end - begin, int64_t(documents[size_t(d)].size()) + 1);
    }
    dataset.verify();
  }
}

TEST_F(DatasetTest, ShardsAreCutBeforeTheyAreTooLarge) {
  write("d", 60, 100);
  const Dataset dataset(folder_.file("d"));
  EXPECT_GT(dataset.info().shards.size(), 5u);
  for (const ShardInfo& shard : dataset.info().shards) EXPECT_LE(shard.num_tokens, 100);
}

TEST_F(DatasetTest, LargeVocabulariesAreStoredAsInt32) {
  EXPECT_EQ(token_dtype(65536), DType::u16);
  EXPECT_EQ(token_dtype(65537), DType::i32);
  FORJA_REQUIRE_ASSET(path, "tokenizers/llama3");
  write_file(folder_.file("a.txt"), "Hola, \xC2\xBFqu\xC3\xA9 tal?");
  tokenize_files({folder_.file("a.txt")}, path, folder_.file("d"), {}, {});
  const Dataset dataset(folder_.file("d"));
  EXPECT_EQ(dataset.info().dtype, DType::i32);
  Ids tokens(static_cast<size_t>(dataset.num_tokens()));
  dataset.read(0, dataset.num_tokens(), tokens.data());
  EXPECT_EQ(tokens.back(), 128001);
  tokens.pop_back();
  EXPECT_EQ(load_tokenizer(folder_.file("d"))->decode(tokens), "Hola, \xC2\xBFqu\xC3\xA9 tal?");
}

TEST_F(DatasetTest, ThreadsDoNotChangeTheBytes) {
  std::mt19937 random(37);
  std::string lines;
  for (int i = 0; i < 3000; ++i) {
    lines +=
        nlohmann::json{{"text", testing::random_text(random, int(random() % 2000))}}.dump() + "\n";
  }
  write_file(folder_.file("a.jsonl"), lines);
  std::map<std::string, std::string> expected;
  for (int64_t threads : {1, 2, 7}) {
    TokenizeOptions options;
    options.num_threads = threads;
    options.output.shard_tokens = 500'000;
    const std::string name = fmt::format("t{}", threads);
    int64_t last_bytes = 0, calls = 0;
    tokenize_files({folder_.file("a.jsonl")}, tokenizer_path_, folder_.file(name), options,
                   [&](const TokenizeProgress& p) {
                     EXPECT_GE(p.bytes_done, last_bytes);
                     EXPECT_EQ(p.bytes_total, int64_t(lines.size()));
                     last_bytes = p.bytes_done;
                     ++calls;
                   });
    EXPECT_EQ(last_bytes, int64_t(lines.size()));
    EXPECT_GT(calls, 2);
    if (expected.empty()) expected = files_of(name);
    EXPECT_GT(expected.size(), 6u);
    EXPECT_TRUE(files_of(name) == expected) << threads;
  }
  EXPECT_EQ(leftovers(), 0);
}

TEST_F(DatasetTest, SpecialTokensInTextsStayText) {
  write_file(folder_.file("a.jsonl"),
             "{\"text\": \"a<|endoftext|>b\"}\n{\"text\": \"\"}\n{\"text\": \"c\"}\n");
  tokenize_files({folder_.file("a.jsonl")}, tokenizer_path_, folder_.file("d"), {}, {});
  const Dataset dataset(folder_.file("d"));
  EXPECT_EQ(dataset.num_documents(), 2);
  Ids tokens(static_cast<size_t>(dataset.num_tokens()));
  dataset.read(0, dataset.num_tokens(), tokens.data());
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), *tokenizer_->eos_id()), 2);
}

TEST_F(DatasetTest, FailuresLeaveNothingBehind) {
  write_file(folder_.file("bad.jsonl"), "{\"text\": \"good\"}\n{\"text\": oops}\n");
  write_file(folder_.file("blank.txt"), "  \n");
  const auto error = [&](const std::string& input, const TokenizeOptions& options = {}) {
    return error_of(
        [&] {
          tokenize_files({folder_.file(input)}, tokenizer_path_, folder_.file("out"), options, {});
        },
        ExitCode::bad_input);
  };
  expect_contains(error("bad.jsonl"), "bad.jsonl:2");
  expect_contains(error("blank.txt"), "no text");
  expect_contains(error("none.txt"), "none.txt");
  TokenizeOptions options;
  options.end_token = "<|nothing|>";
  expect_contains(error("blank.txt", options), "<|nothing|>");
  error_of([&] { DatasetWriter(folder_.file("out"), *tokenizer_, folder_.file("none"), 0, {}); },
           ExitCode::bad_input);
  EXPECT_FALSE(fs::exists(folder_.file("out")));
  EXPECT_EQ(leftovers(), 0);
}

// Of several faults the first in the order of the input is told, however many threads meet the
// others sooner.
TEST_F(DatasetTest, TheFirstFaultIsTold) {
  std::string lines;
  for (int i = 0; i < 40000; ++i) {
    lines += i == 20000 || i >= 30000
                 ? "oops\n"
                 : "{\"text\": \"the quick brown fox jumps over the lazy dog\"}\n";
  }
  write_file(folder_.file("a.jsonl"), lines);
  TokenizeOptions options;
  options.num_threads = 8;
  expect_contains(error_of(
                      [&] {
                        tokenize_files({folder_.file("a.jsonl")}, tokenizer_path_,
                                       folder_.file("out"), options, {});
                      },
                      ExitCode::bad_input),
                  "a.jsonl:20001:");
}

TEST_F(DatasetTest, OutputsAreNotReplacedByAccident) {
  write("d", 3, 100);
  write_file(folder_.file("a.txt"), "new text");
  TokenizeOptions options;
  const auto run = [&](const std::string& out) {
    tokenize_files({folder_.file("a.txt")}, tokenizer_path_, folder_.file(out), options, {});
  };
  expect_contains(error_of([&] { run("d"); }, ExitCode::bad_input), "--overwrite");
  options.output.existing = Existing::overwrite;
  run("d");
  EXPECT_EQ(Dataset(folder_.file("d")).num_documents(), 1);
  fs::create_directory(folder_.file("precious"));
  write_file(folder_.file("precious/thesis.tex"), "x");
  expect_contains(error_of([&] { run("precious"); }, ExitCode::bad_input), "not overwritten");
  EXPECT_TRUE(fs::exists(folder_.file("precious/thesis.tex")));
  fs::create_directory(folder_.file("empty"));
  run("empty");
  EXPECT_EQ(Dataset(folder_.file("empty")).num_documents(), 1);
  EXPECT_EQ(leftovers(), 0);
}

TEST_F(DatasetTest, DamagedDatasetsAreRefused) {
  write("d", 60, 100);
  const std::string tokens = folder_.file("d/shard-00001.tokens"),
                    manifest = folder_.file("d/manifest.json");
  const std::string good_tokens = read_file(tokens), good_manifest = read_file(manifest);
  expect_contains(open_error("none"), "no dataset");
  expect_contains(open_error("tokenizer.json"), "manifest.json");
  write_file(tokens, good_tokens.substr(0, good_tokens.size() - 2));
  expect_contains(open_error("d"), fmt::format("expected {} bytes, found {}", good_tokens.size(),
                                               good_tokens.size() - 2));
  fs::remove(tokens);
  expect_contains(open_error("d"), "shard-00001.tokens");
  // Another id in the vocabulary: only the checksum tells. One outside: reading tells.
  std::string damaged = good_tokens;
  damaged[0] = char(damaged[0] ^ 1);
  write_file(tokens, damaged);
  const std::string path = folder_.file("d");
  expect_contains(error_of([&] { Dataset(path).verify(); }, ExitCode::bad_input), "checksum");
  damaged[1] = '\x7F';
  write_file(tokens, damaged);
  expect_contains(error_of(
                      [&] {
                        const Dataset dataset(path);
                        Ids all(static_cast<size_t>(dataset.num_tokens()));
                        dataset.read(0, dataset.num_tokens(), all.data());
                      },
                      ExitCode::bad_input),
                  "shard-00001.tokens holds the id");
  write_file(tokens, good_tokens);
  Dataset(path).verify();

  const auto with = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json j = nlohmann::json::parse(good_manifest);
    j[nlohmann::json::json_pointer(key)] = value;
    write_file(manifest, j.dump());
    return open_error("d");
  };
  expect_contains(with("/version", 99), "version 99");
  expect_contains(with("/format", "other"), "not the manifest");
  expect_contains(with("/num_tokens", 1), "the manifest says 1");
  expect_contains(with("/num_tokens", "many"), "\"num_tokens\" is \"many\"");
  expect_contains(with("/dtype", "float"), "float");
  for (const std::string name : {"../x", "/x", "..", "", "a\\b"})
    expect_contains(with("/shards/0/name", name), "is no name of a file beside it");
  expect_contains(with("/shards/0/name", "shard-00001"), "shard-00001 is there twice");
  // Bytes that wrap around to those of the file, and sums that overflow.
  constexpr int64_t kWraps = int64_t(1) << 62;
  expect_contains(with("/shards/0/num_tokens", kWraps), "\"num_tokens\" is 4611686018427387904");
  expect_contains(with("/shards/0/num_tokens", int64_t(1) << 47), "more tokens or documents");
  expect_contains(with("/num_documents", 1e300), "\"num_documents\" is 1e+300");
  expect_contains(with("/tokenizer/vocab_size", int64_t(1) << 33), "\"vocab_size\" is 8589934592");
  expect_contains(with("/eos_id", 1 << 30), "\"eos_id\" is 1073741824");
  expect_contains(with("/shards/0/tokens_hash", "xyz"), "xyz");
  write_file(manifest, "{");
  expect_contains(open_error("d"), "damaged manifest");
}

TEST_F(DatasetTest, UnwritableOutputIsSaid) {
  write_file(folder_.file("file"), "x");
  write_file(folder_.file("a.txt"), "text");
  const std::string message = error_of([&] {
    tokenize_files({folder_.file("a.txt")}, tokenizer_path_, folder_.file("file/out"), {}, {});
  });
  expect_contains(message, "cannot create the directory");
}

TEST_F(DatasetTest, DescriptionShowsDecodedSamples) {
  write_file(folder_.file("a.jsonl"),
             "{\"text\": \"the quick brown fox\"}\n{\"text\": \"el veloz murci\xC3\xA9lago\"}\n");
  tokenize_files({folder_.file("a.jsonl")}, tokenizer_path_, folder_.file("d"), {}, {});
  const std::string text = describe_dataset(folder_.file("d"), true);
  expect_contains(text, "\"the quick brown fox<|endoftext|>\"");
  expect_contains(text, "verified");
  expect_contains(text, "uint16");
  EXPECT_TRUE(is_dataset(folder_.file("d")));
  EXPECT_FALSE(is_dataset(folder_.path()));
}

}  // namespace
}  // namespace forja
