// SPDX-License-Identifier: Apache-2.0
// forja eval MODEL --task NAME --data PATH ...
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "csrc/cli/checks.h"
#include "csrc/cli/eval_report.h"
#include "csrc/cli/generation.h"
#include "csrc/cli/run_on_ranks.h"
#include "forja/base/file.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/base/version.h"
#include "forja/cli/commands.h"
#include "forja/comm/world.h"
#include "forja/train/evaluation.h"

namespace forja {
namespace {

struct EvalArguments {
  GenerationArguments model;
  std::vector<std::string> tasks, data;
  EvalDataOptions read;
  int64_t max_length = 0, max_new_tokens = 0;
  EvalRunOptions run;
  std::string json, samples;
};

std::vector<EvalTask> find_tasks(const EvalArguments& a) {
  std::vector<std::string> names = a.tasks;
  if (names.empty()) names.assign(a.data.size(), "text");
  if (names.size() != a.data.size())
    fail_input("{} --task and {} --data: give each task its data, in the same order", names.size(),
               a.data.size());
  std::vector<EvalTask> tasks;
  for (const std::string& name : names) {
    EvalTask& task = tasks.emplace_back(find_eval_task(name));
    if (a.read.num_fewshot >= 0) task.num_fewshot = a.read.num_fewshot;
    if (a.max_new_tokens > 0) task.max_new_tokens = a.max_new_tokens;
  }
  return tasks;
}

// How many tokens the model sees at once.
int64_t max_length_of(const EvalArguments& a, const ModelConfig& model) {
  if (a.max_length > model.max_position_embeddings)
    fail_input("--max-length {}: the model has {} positions", a.max_length,
               model.max_position_embeddings);
  return a.max_length > 0 ? a.max_length : model.max_position_embeddings;
}

std::vector<EvalRequests> read_tasks(const EvalArguments& a, const GenerationModel& model) {
  const std::vector<EvalTask> tasks = find_tasks(a);
  const int64_t max_length = max_length_of(a, model.source.model);
  std::vector<EvalRequests> out;
  for (size_t i = 0; i < tasks.size(); ++i) {
    const EvalRequests& task = out.emplace_back(make_eval_requests(
        tasks[i], read_eval_sets(tasks[i], a.data[i], a.read), *model.tokenizer, max_length));
    if (task.num_truncated > 0)
      log_warning(
          "{}: {} texts are longer than the {} tokens that the model sees at once{} and "
          "lost their beginning",
          task.task.name, task.num_truncated, max_length,
          task.prompts.empty()
              ? ""
              : fmt::format(" less the {} to be generated", task.task.max_new_tokens));
  }
  return out;
}

std::unique_ptr<Generator> load_model(const EvalArguments& a, const GenerationModel& model,
                                      const std::vector<EvalRequests>& tasks) {
  int64_t longest = 1, generated = 0;
  for (const EvalRequests& task : tasks) {
    longest = std::max(longest, task.longest);
    generated = std::max(generated, int64_t(task.prompts.size()));
  }
  return make_generator(model.source, a.model.dtype(), std::min(generated, a.run.batch_texts),
                        longest);
}

void write_json(const EvalArguments& a, const GenerationModel& model, World& world,
                const std::vector<EvalRequests>& tasks, const std::vector<EvalResult>& results) {
  nlohmann::ordered_json json = {{"format_version", 1},
                                 {"model", model.source.weights},
                                 {"tokenizer", model.source.tokenizer},
                                 {"precision", a.model.precision},
                                 {"max_length", max_length_of(a, model.source.model)},
                                 {"limit", a.read.limit},
                                 {"ranks", world.size()},
                                 {"version", kVersion},
                                 {"git_revision", kGitRevision},
                                 {"tasks", nlohmann::ordered_json::array()}};
  for (size_t i = 0; i < tasks.size(); ++i)
    json["tasks"].push_back(eval_json(tasks[i], a.data[i], results[i]));
  write_file(a.json, json.dump(1) + "\n");
}

ExitCode run_eval(EvalArguments a, World& world) {
  if (world.rank() == 0)
    for (const std::string& file : {a.json, a.samples})
      if (!file.empty()) check_output_file(file);
  const GenerationModel model(a.model);
  a.run.stop = model.stop;
  const std::vector<EvalRequests> tasks = read_tasks(a, model);
  const auto generator = load_model(a, model, tasks);
  const auto begin = std::chrono::steady_clock::now();
  std::vector<EvalResult> results;
  std::string samples;
  int64_t documents = 0;
  for (const EvalRequests& task : tasks) {
    const EvalAnswers answers =
        answer_eval_requests(task, *model.tokenizer, *generator, a.run, world.communicator());
    results.push_back(summarize_eval(task, answers));
    if (!a.samples.empty() && world.rank() == 0) samples += eval_samples(task, answers);
    documents += task.num_documents();
  }
  if (world.rank() > 0) return ExitCode::ok;
  std::fputs(eval_table(tasks, results).c_str(), stdout);
  if (!a.json.empty()) write_json(a, model, world, tasks, results);
  if (!a.samples.empty()) write_file(a.samples, samples);
  log_info("{} documents in {}", documents,
           format_duration(
               std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()));
  return ExitCode::ok;
}

void add_options(CLI::App& command, EvalArguments& a) {
  command.add_option("model", a.model.model, "Run directory, checkpoint or Hugging Face directory")
      ->required();
  command
      .add_option("--data", a.data,
                  "A file or folder; may be given several times, one for each --task")
      ->required()
      ->allow_extra_args(false);  // MODEL may follow

  command
      .add_option("--task", a.tasks,
                  "How the data of the same place is read (default: text): " +
                      join(eval_task_names(), ", ") + ", or a .yaml file")
      ->allow_extra_args(false);
  command.add_option("--tokenizer", a.model.tokenizer,
                     "Tokenizer file or directory (default: the model's own)");
  command.add_option("--text-field", a.read.text_field, "Of .jsonl files of whole texts")
      ->capture_default_str();
  command.add_option("--limit", a.read.limit, "Only the first documents of each file; 0: all")
      ->check(number_from(0))
      ->capture_default_str();
  command
      .add_option("--num-fewshot", a.read.num_fewshot,
                  "Examples before each document (default: the task's)")
      ->check(number_from(0));
  command
      .add_option("--max-length", a.max_length,
                  "Tokens that the model sees at once (default: the model's positions)")
      ->check(number_from(1));
  command
      .add_option("--max-new-tokens", a.max_new_tokens,
                  "Longest generated answer (default: the task's)")
      ->check(number_from(1));
  command.add_option("--batch-tokens", a.run.batch_tokens, "Tokens that are scored at a time")
      ->check(number_from(1))
      ->capture_default_str();
  command.add_option("--precision", a.model.precision, "Of computing")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  command.add_option("--json", a.json, "Write every score to this file");
  command.add_option("--samples", a.samples,
                     "Write every document's texts, log-likelihoods and answers to this file "
                     "(a JSON object a line)");
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto arguments = std::make_shared<EvalArguments>();
  CLI::App* command = app.add_subcommand(
      "eval", "Score a model: perplexity, multiple choice, exact match; alone or under mpirun");
  add_options(*command, *arguments);
  command->callback(
      [arguments] { run_on_ranks([&](World& world) { return run_eval(*arguments, world); }); });
}

}  // namespace forja
