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
};

void run(const Arguments& a) {
  using Clock = std::chrono::steady_clock;
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
    info = tokenize_files(a.inputs, a.tokenizer, a.out, a.options, progress);
  } catch (...) {
    log_live("");
    throw;
  }
  log_live("");
  log_info("{}: {} tokens in {} documents, {} of text, {:.2f} bytes a token, {} shard{}, {}", a.out,
           format_count(double(info.num_tokens)), format_count(double(info.num_documents)),
           format_bytes(double(info.num_text_bytes)),
           double(info.num_text_bytes) / double(info.num_tokens), info.shards.size(),
           info.shards.size() == 1 ? "" : "s", format_duration(seconds()));
}

}  // namespace

void add_tokenize_command(CLI::App& app) {
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("tokenize", "Turn text files into a dataset of token ids");
  command
      ->add_option("inputs", a->inputs,
                   ".txt or .jsonl files (also .gz and .zst), or folders of them")
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
  command->add_flag("--overwrite", a->overwrite, "Replace a dataset that is there already");
  command->callback([a] {
    if (a->overwrite) a->options.output.existing = Existing::overwrite;
    run(*a);
  });
}

}  // namespace forja
