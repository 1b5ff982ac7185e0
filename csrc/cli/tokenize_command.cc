// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include <chrono>
#include <memory>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/cli/commands.h"
#include "forja/data/dataset_writer.h"

namespace forja {
namespace {

struct Arguments {
  std::vector<std::string> inputs;
  std::string tokenizer, out;
  bool overwrite = false;
  TokenizeOptions options;
  bool has_samples = false;
  SampleOptions samples;
};

void describe_result(const Arguments& a, const DatasetInfo& info, const std::string& time) {
  const std::string shards =
      fmt::format("{} shard{}", info.shards.size(), info.shards.size() == 1 ? "" : "s");
  if (!info.has_masks()) {
    log_info("{}: {} tokens in {} documents, {} of text, {:.2f} bytes a token, {}, {}", a.out,
             format_count(double(info.num_tokens)), format_count(double(info.num_documents)),
             format_bytes(double(info.num_text_bytes)),
             double(info.num_text_bytes) / double(info.num_tokens), shards, time);
    return;
  }
  const bool pairs = info.kind == DatasetKind::preference_pairs;
  log_info("{}: {} {} of {} tokens, {:.1f} % of them learned, {}, {}", a.out,
           info.num_documents / (pairs ? 2 : 1), pairs ? "preference pairs" : "samples",
           format_count(double(info.num_tokens)),
           100.0 * double(info.num_learned) / double(info.num_tokens), shards, time);
}

void run(const Arguments& a) {
  using Clock = std::chrono::steady_clock;
  const SampleOptions& s = a.samples;
  if (!(s.prompt_field + s.completion_field).empty() && s.format != "auto" &&
      s.format != "prompt-completion") {
    fail_input("--prompt-field and --completion-field are of --samples prompt-completion, not {}",
               s.format);
  }
  check_writable(a.out);
  const Clock::time_point start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  double next_line_s = 0.0;
  const auto progress = [&](const TokenizeProgress& p) {
    if (seconds() < next_line_s) return;
    const double done = p.bytes_total > 0 ? double(p.bytes_done) / double(p.bytes_total) : 1.0;
    const double left_s = done > 0.0 ? seconds() * (1.0 - done) / done : 0.0;
    const std::string line = fmt::format(
        "{:3.0f}%  {} of {}  {} tokens  {}/s  {} left", 100.0 * done,
        format_bytes(double(p.bytes_done)), format_bytes(double(p.bytes_total)),
        format_count(double(p.num_tokens)),
        format_bytes(double(p.bytes_done) / std::max(seconds(), 1e-9)), format_duration(left_s));
    // A live line where there is a terminal, else a plain line now and then.
    if (log_live(line)) {
      next_line_s = seconds() + 0.1;
    } else {
      if (next_line_s > 0.0) log_info("{}", line);
      next_line_s = seconds() + 10.0;
    }
  };
  DatasetInfo info;
  try {
    info = a.has_samples
               ? tokenize_samples(a.inputs, a.tokenizer, a.out, a.samples, a.options, progress)
               : tokenize_files(a.inputs, a.tokenizer, a.out, a.options, progress);
  } catch (...) {
    log_live("");
    throw;
  }
  log_live("");
  describe_result(a, info, format_duration(seconds()));
}

void add_sample_options(CLI::App& command, Arguments& a) {
  SampleOptions& s = a.samples;
  command
      .add_option("--samples", s.format,
                  "The input is conversations, instructions or preference pairs to fine-tune on; "
                  "auto: in the format that the fields of each record say")
      ->check(CLI::IsMember(
          {"auto", "messages", "sharegpt", "alpaca", "prompt-completion", "preference"}))
      ->each([&a](const std::string&) { a.has_samples = true; });
  const auto of_samples = [&](CLI::Option* option) {
    option->needs(command.get_option("--samples"));
    return option;
  };
  of_samples(command.add_option("--learn", s.learn, "Tokens that the loss counts"))
      ->check(CLI::IsMember({"assistant", "last", "all"}))
      ->capture_default_str();
  of_samples(command.add_option("--prompt", s.prompt,
                                "What an instruction becomes; auto: chat where there is a chat "
                                "template, else alpaca"))
      ->check(CLI::IsMember({"auto", "chat", "alpaca", "plain"}))
      ->capture_default_str();
  of_samples(command.add_option("--chat-template", s.chat_template,
                                "File of a chat template (default: the tokenizer's own)"));
  of_samples(command.add_option("--prompt-field", s.prompt_field,
                                "Name of the prompt in records of a prompt and a completion"));
  of_samples(command.add_option("--completion-field", s.completion_field,
                                "Name of the completion in them"));
  of_samples(command.add_flag("--skip-malformed", s.skip_malformed,
                              "Leave out and count records with faults"));
}

}  // namespace

void add_tokenize_command(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("tokenize", "Turn text files into a dataset of token ids");
  command
      ->add_option("inputs", a->inputs,
                   ".txt, .jsonl or .json files (also .gz and .zst), or folders of them")
      ->required();
  command
      ->add_option("--tokenizer", a->tokenizer,
                   "tokenizer.json or .model file, or a directory with one")
      ->required();
  command->add_option("--out", a->out, "Directory of the dataset to write")->required();
  command
      ->add_option("--text-field", a->options.text.text_field,
                   "Field of a .jsonl object that holds the text")
      ->capture_default_str();
  command->add_option(
      "--document-separator", a->options.text.document_separator,
      "A line of a .txt file that ends a document (default: a file is one document)");
  command->add_option("--end-token", a->options.end_token,
                      "Special token that ends documents (default: the tokenizer's own)");
  command->add_option("--threads", a->options.num_threads, "Threads that tokenize; 0: one a core")
      ->capture_default_str();
  command
      ->add_option("--shard-tokens", a->options.output.shard_tokens, "Tokens of a shard, at most")
      ->capture_default_str();
  add_sample_options(*command, *a);
  command->add_flag("--overwrite", a->overwrite, "Replace a dataset that is there already");
  command->callback([a] {
    if (a->overwrite) a->options.output.existing = Existing::overwrite;
    run(*a);
  });
}

}  // namespace forja
