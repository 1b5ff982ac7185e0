// SPDX-License-Identifier: Apache-2.0
#include "csrc/cli/generation.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "csrc/cli/checks.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/json.h"

namespace forja {
namespace {

// What generation_config.json of a Hugging Face directory names beside the tokenizer's own:
// "eos_token_id": 2 or [2, 5].
std::vector<int32_t> stop_tokens(const ModelSource& source, const Tokenizer& tokenizer) {
  std::vector<int32_t> out;
  if (tokenizer.eos_id()) out.push_back(*tokenizer.eos_id());
  const std::string path = source.weights + "/generation_config.json";
  if (!std::filesystem::exists(path)) return out;
  nlohmann::json config = parse_json(read_file(path));
  if (!config.is_object() || !config.contains("eos_token_id")) return out;
  nlohmann::json& ids = config["eos_token_id"];
  if (!ids.is_array()) ids = nlohmann::json::array({ids});
  for (const nlohmann::json& id : ids) {
    if (id.is_null()) continue;
    const auto stop =
        int32_t(json_integer(id, path + ", eos_token_id", 0, tokenizer.vocab_size() - 1));
    if (std::find(out.begin(), out.end(), stop) == out.end()) out.push_back(stop);
  }
  return out;
}

}  // namespace

void add_generation_options(CLI::App& command, GenerationArguments& a) {
  command.add_option("model", a.model, "Run directory, checkpoint or Hugging Face directory")
      ->required();
  command.add_option("--tokenizer", a.tokenizer,
                     "Tokenizer file or directory (default: the model's own)");
  command.add_option("--max-new-tokens", a.max_new_tokens, "Longest continuation")
      ->check(number_from(1))
      ->capture_default_str();
  command.add_option("--temperature", a.sampling.temperature, "0 is greedy")
      ->check(number_from(0))
      ->capture_default_str();
  command.add_option("--top-k", a.sampling.top_k, "Keep the k likeliest tokens; 0 keeps all")
      ->check(number_from(0))
      ->capture_default_str();
  command
      .add_option("--top-p", a.sampling.top_p, "Keep the likeliest tokens up to this probability")
      ->check(number_from(0, 1))
      ->capture_default_str();
  command.add_option("--seed", a.sampling.seed, "Same seed, same text")
      ->check(number_from(0))
      ->capture_default_str();
  command.add_option("--precision", a.precision, "Of computing")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
}

GenerationModel::GenerationModel(const GenerationArguments& a)
    : source(find_model(a.model, a.tokenizer)), tokenizer(load_tokenizer(source.tokenizer)) {
  if (tokenizer->vocab_size() > source.model.vocab_size) {
    fail_input("the tokenizer {} has {} ids, the model {} has {}: they do not belong together",
               source.tokenizer, tokenizer->vocab_size(), source.weights, source.model.vocab_size);
  }
  stop = stop_tokens(source, *tokenizer);
}

std::vector<int32_t> GenerationModel::encode_prompt(const std::string& prompt) const {
  std::vector<int32_t> ids =
      tokenizer->encode(prompt, {SpecialText::parsed, tokenizer->adds_bos()});
  if (!ids.empty()) return ids;
  if (tokenizer->bos_id()) return {*tokenizer->bos_id()};
  if (tokenizer->eos_id()) return {*tokenizer->eos_id()};
  fail_input("the prompt is empty, and the tokenizer has no token to begin a text with");
}

}  // namespace forja
