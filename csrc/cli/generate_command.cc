// SPDX-License-Identifier: Apache-2.0
// forja generate MODEL --prompt TEXT ... and forja chat MODEL
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>

#include "csrc/cli/checks.h"
#include "csrc/cli/load_model.h"
#include "forja/base/file.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/cli/commands.h"
#include "forja/device/cpu_topology.h"

namespace forja {
namespace {

struct GenerateArguments {
  std::string model, tokenizer, precision = "fp32";
  std::vector<std::string> prompts;
  std::string prompt_file;
  int64_t max_new_tokens = 200;
  SamplingOptions sampling;
  bool greedy = false, ignore_eos = false;
};

void add_common_options(CLI::App& command, GenerateArguments& a) {
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

DType dtype_of_name(const std::string& precision) {
  return precision == "bf16" ? DType::bf16 : DType::f32;
}

std::vector<std::string> read_prompts(const GenerateArguments& a) {
  std::vector<std::string> prompts = a.prompts;
  if (!a.prompt_file.empty()) {
    for (const std::string& line : split(read_file(a.prompt_file), '\n')) {
      if (!trim(line).empty()) prompts.push_back(line);
    }
  }
  if (prompts.empty()) fail_input("no prompt: give --prompt TEXT or --prompt-file FILE");
  return prompts;
}

void check_vocabulary(const Tokenizer& tokenizer, const ModelSource& source) {
  if (tokenizer.vocab_size() > source.model.vocab_size) {
    fail_input("the tokenizer {} has {} ids, the model {} has {}: they do not belong together",
               source.tokenizer, tokenizer.vocab_size(), source.weights, source.model.vocab_size);
  }
}

// The ids of a prompt; a model must be given at least one token to continue.
std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, const std::string& prompt) {
  EncodeOptions options{SpecialText::parsed, tokenizer.adds_bos()};
  std::vector<int32_t> ids = tokenizer.encode(prompt, options);
  if (!ids.empty()) return ids;
  if (tokenizer.bos_id()) return {*tokenizer.bos_id()};
  if (tokenizer.eos_id()) return {*tokenizer.eos_id()};
  fail_input("the prompt is empty, and the tokenizer has no token to begin a text with");
}

std::vector<int32_t> stop_tokens(const Tokenizer& tokenizer, bool ignore_eos) {
  if (ignore_eos || !tokenizer.eos_id()) return {};
  return {*tokenizer.eos_id()};
}

void run_generate(const GenerateArguments& a) {
  const ModelSource source = find_model(a.model, a.tokenizer);
  const auto tokenizer = load_tokenizer(source.tokenizer);
  check_vocabulary(*tokenizer, source);
  const std::vector<std::string> texts = read_prompts(a);
  std::vector<std::vector<int32_t>> prompts;
  int64_t longest = 0;
  for (const std::string& text : texts) {
    prompts.push_back(encode_prompt(*tokenizer, text));
    longest = std::max(longest, int64_t(prompts.back().size()));
  }
  const int64_t room = source.model.max_position_embeddings - longest;
  if (room <= 0) {
    fail_input("a prompt of {} tokens: the model has {} positions", longest,
               source.model.max_position_embeddings);
  }
  GenerateOptions options{std::min(a.max_new_tokens, room), a.sampling,
                          stop_tokens(*tokenizer, a.ignore_eos)};
  if (a.greedy) options.sampling.temperature = 0.0;
  const auto generator = make_generator(source, dtype_of_name(a.precision), int64_t(prompts.size()),
                                        longest + options.max_new_tokens);

  std::vector<StreamingDecoder> decoders(prompts.size(), StreamingDecoder(*tokenizer, false));
  std::vector<std::string> outputs(texts);
  int64_t made = 0;
  const bool stream = prompts.size() == 1;
  if (stream) std::cout << texts[0] << std::flush;
  const auto begin = std::chrono::steady_clock::now();
  generate(*generator, prompts, options, [&](int64_t sequence, int32_t id) {
    const std::string piece = decoders[size_t(sequence)].push(id);
    ++made;
    outputs[size_t(sequence)] += piece;
    if (stream) std::cout << piece << std::flush;
  });
  const double elapsed_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string rest = decoders[i].finish();
    if (stream) {
      std::cout << rest << "\n";
    } else {
      std::cout << "--- " << i + 1 << "\n" << outputs[i] << rest << "\n";
    }
  }
  std::cout << std::flush;
  log_info("{} tokens in {} ({:.1f} tokens/s)", made, format_duration(elapsed_s),
           double(made) / elapsed_s);
}

void run_chat(const GenerateArguments& a) {
  const ModelSource source = find_model(a.model, a.tokenizer);
  const auto tokenizer = load_tokenizer(source.tokenizer);
  check_vocabulary(*tokenizer, source);
  const auto generator =
      make_generator(source, dtype_of_name(a.precision), 1,
                     std::min<int64_t>(source.model.max_position_embeddings, 8192));
  log_info("Type a text to be continued; an empty line forgets it, end of input (Ctrl-D) leaves.");
  uint64_t turn = 0;
  for (std::string line; std::cout << "> " << std::flush, std::getline(std::cin, line);) {
    if (trim(line).empty()) {
      generator->reset();
      continue;
    }
    std::vector<int32_t> ids = generator->length(0) == 0
                                   ? encode_prompt(*tokenizer, line)
                                   : tokenizer->encode("\n" + line, {SpecialText::parsed, false});
    GenerateOptions options{a.max_new_tokens, a.sampling, stop_tokens(*tokenizer, false)};
    options.sampling.seed += turn++;
    const int64_t room = generator->max_tokens() - generator->length(0) - int64_t(ids.size());
    if (room <= 0) {
      log_warning("the model's {} positions are used up: starting again", generator->max_tokens());
      generator->reset();
      continue;
    }
    options.max_new_tokens = std::min(options.max_new_tokens, room);
    StreamingDecoder decoder(*tokenizer, false);
    generate(*generator, {ids}, options,
             [&](int64_t, int32_t id) { std::cout << decoder.push(id) << std::flush; });
    std::cout << decoder.finish() << "\n";
  }
  std::cout << "\n";
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand("generate", "Continue texts with a model");
  add_common_options(*command, *arguments);
  command->add_option("--prompt", arguments->prompts,
                      "Text to continue; may be given several times");
  command->add_option("--prompt-file", arguments->prompt_file, "A file with a prompt on each line");
  command->add_flag("--greedy", arguments->greedy, "The same as --temperature 0");
  command->add_flag("--ignore-eos", arguments->ignore_eos, "Go on after the end-of-text token");
  command->callback([arguments] {
    apply_cpu_plan(plan_cpus(0, 1));
    run_generate(*arguments);
  });
}

void add_chat_command(CLI::App& app) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand("chat", "Talk to a model on the terminal");
  add_common_options(*command, *arguments);
  command->callback([arguments] {
    apply_cpu_plan(plan_cpus(0, 1));
    run_chat(*arguments);
  });
}

}  // namespace forja
