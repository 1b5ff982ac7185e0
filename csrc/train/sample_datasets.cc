// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/sample_datasets.h"

#include <algorithm>
#include <filesystem>

#include "csrc/train/agreement.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/hash.h"
#include "forja/base/log.h"
#include "forja/base/philox.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/data/dataset_writer.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

constexpr uint64_t kSampleVersion = 1;  // another one: what a record becomes has changed

uint64_t hash_of_file(const std::string& path) {
  return file_exists(path) ? hash_text(MappedFile(path).text()) : 0;
}

// Of all that the dataset depends on.
uint64_t key_of(const std::string& file, const std::string& tokenizer, SampleOptions options) {
  const bool is_directory = fs::is_directory(tokenizer);
  const std::string folder = is_directory ? tokenizer : fs::path(tokenizer).parent_path().string();
  uint64_t key = mix_key(kSampleVersion, hash_text(MappedFile(file).text()));
  key = mix_key(key, tokenizer_file_hash(tokenizer));
  for (const char* name : {"tokenizer_config.json", "chat_template.jinja"})
    key = mix_key(key, hash_of_file((fs::path(folder) / name).string()));
  if (!options.chat_template.empty()) key = mix_key(key, hash_of_file(options.chat_template));
  options.chat_template.clear();
  return mix_key(key, hash_text(print_config([&](ConfigVisitor& v) { options.visit(v); })));
}

std::string directory_of(const RunConfig& config, const std::string& file, uint64_t key) {
  return fmt::format("{}/data/{}-{}", config.run_directory(), fs::path(file).stem().string(),
                     hash_hex(key));
}

// Whether it is there, and whole. A damaged one is removed.
bool is_made(const std::string& directory) {
  if (!file_exists(directory)) return false;
  try {
    Dataset{directory};
    return true;
  } catch (const Error& e) {
    log_warning("{}: it is made again", e.what());
  }
  fs::remove_all(directory);
  return false;
}

// What starts that were killed have left.
void remove_halves(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& item : fs::directory_iterator(folder, ignored))
    if (item.path().filename().string().find(".tmp-") != std::string::npos)
      fs::remove_all(item.path(), ignored);
}

// On the first rank. Its key.
uint64_t make_dataset(const RunConfig& config, const std::string& file,
                      const std::function<void()>& progress) {
  if (!file_exists(file)) fail_input("there is no file {}", file);
  const std::string& tokenizer = config.data.tokenizer;
  if (tokenizer.empty()) fail_input("data.tokenizer is missing: the samples of {} need one", file);
  const uint64_t key = key_of(file, tokenizer, config.data.samples.read);
  const std::string directory = directory_of(config, file, key);
  if (is_made(directory)) return key;
  remove_halves(fs::path(directory).parent_path());
  TokenizeOptions options;
  const DatasetInfo info = tokenize_samples({file}, tokenizer, directory, config.data.samples.read,
                                            options, [&](const TokenizeProgress&) { progress(); });
  log_info("{}: {} samples of {} tokens, kept in {}", file, info.num_documents, info.num_tokens,
           directory);
  return key;
}

}  // namespace

RunConfig with_tokenizer(RunConfig config) {
  const auto is_file = [](const auto& source) { return is_sample_file(source.path); };
  const bool has_files = std::any_of(config.data.train.begin(), config.data.train.end(), is_file) ||
                         std::any_of(config.data.valid.begin(), config.data.valid.end(), is_file);
  if (has_files && config.data.tokenizer.empty() && is_hf_directory(config.init.from))
    config.data.tokenizer = config.init.from;
  return config;
}

DataConfig make_sample_datasets(const RunConfig& config, World& world,
                                const std::function<void()>& progress) {
  DataConfig data = config.data;
  Communicator& ranks = world.communicator();
  const bool was_there = file_exists(config.run_directory());
  const auto replace = [&](std::string& path) {
    if (!is_sample_file(path)) return;
    std::string problem;
    int64_t outcome[2] = {0, int64_t(ExitCode::ok)};  // key, exit code
    try {
      if (world.rank() == 0) outcome[0] = int64_t(make_dataset(config, path, progress));
    } catch (const Error& e) {
      problem = e.what();
      outcome[1] = int64_t(e.code());
      // Nothing is left of a run that could not begin.
      std::error_code not_empty;
      fs::remove(config.run_directory() + "/data", not_empty);
      if (!was_there) fs::remove(config.run_directory(), not_empty);
    }
    ranks.broadcast(make_tensor(outcome, DType::i64, {2}), 0, {"samples"}).wait();
    problem = first_of_ranks(ranks, problem);
    if (!problem.empty()) throw Error(ExitCode(outcome[1]), problem);
    path = directory_of(config, path, uint64_t(outcome[0]));
  };
  for (TrainDataConfig& source : data.train) replace(source.path);
  for (ValidDataConfig& set : data.valid) replace(set.path);
  return data;
}

}  // namespace forja
