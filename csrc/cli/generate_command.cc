// SPDX-License-Identifier: Apache-2.0
// forja generate MODEL --prompt TEXT ...
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>

#include "csrc/cli/generation.h"
#include "forja/base/file.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/cli/commands.h"
#include "forja/device/cpu_topology.h"

namespace forja {
namespace {

struct GenerateArguments : GenerationArguments {
  std::vector<std::string> prompts;
  std::string prompt_file;
  bool greedy = false, ignore_eos = false;
};

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

void run_generate(const GenerateArguments& a) {
  const GenerationModel model(a);
  const std::vector<std::string> texts = read_prompts(a);
  std::vector<std::vector<int32_t>> prompts;
  int64_t longest = 0;
  for (const std::string& text : texts) {
    prompts.push_back(model.encode_prompt(text));
    longest = std::max(longest, int64_t(prompts.back().size()));
  }
  const int64_t room = model.source.model.max_position_embeddings - longest;
  if (room <= 0) {
    fail_input("a prompt of {} tokens: the model has {} positions", longest,
               model.source.model.max_position_embeddings);
  }
  GenerateOptions options{std::min(a.max_new_tokens, room), a.sampling,
                          a.ignore_eos ? std::vector<int32_t>{} : model.stop};
  if (a.greedy) options.sampling.temperature = 0.0;
  const auto generator = make_generator(model.source, a.dtype(), int64_t(prompts.size()),
                                        longest + options.max_new_tokens);

  std::vector<StreamingDecoder> decoders(prompts.size(), StreamingDecoder(*model.tokenizer, false));
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
    return true;
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

}  // namespace

void add_generate_command(CLI::App& app) {
  auto arguments = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand("generate", "Continue texts with a model");
  add_generation_options(*command, *arguments);
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

}  // namespace forja
