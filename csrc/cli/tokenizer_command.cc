// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>

#include <chrono>
#include <memory>

#include "csrc/cli/checks.h"
#include "forja/base/error.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/cli/commands.h"
#include "forja/data/bpe_trainer.h"

namespace forja {
namespace {

struct Arguments {
  std::vector<std::string> inputs;
  std::string out;
  TextSourceOptions text;
  BpeTrainerOptions options;
};

void train(const Arguments& a) {
  using Clock = std::chrono::steady_clock;
  check_output_file(a.out);
  const Clock::time_point start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  double next_line_s = 0.0;
  const auto progress = [&](const TrainTokenizerProgress& p) {
    if (seconds() < next_line_s) return;
    next_line_s = seconds() + 0.1;
    log_live(p.num_tokens == 0
                 ? fmt::format("reading {} of {}", format_bytes(double(p.bytes_done)),
                               format_bytes(double(p.bytes_total)))
                 : fmt::format("{} of {} tokens", p.num_tokens, a.options.vocab_size));
  };
  TrainTokenizerResult result;
  try {
    result = train_tokenizer(a.inputs, a.text, a.options, a.out, progress);
  } catch (...) {
    log_live("");
    throw;
  }
  log_live("");
  if (result.vocab_size < a.options.vocab_size) {
    log_warning("the texts have pairs for {} tokens only, {} were asked for", result.vocab_size,
                a.options.vocab_size);
  }
  log_info("{}: a vocabulary of {} from {} of text in {} documents, {}", a.out, result.vocab_size,
           format_bytes(double(result.num_text_bytes)), format_count(double(result.num_documents)),
           format_duration(seconds()));
}

}  // namespace

void add_tokenizer_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("tokenizer", "Make tokenizers");
  command->require_subcommand(1);
  auto a = std::make_shared<Arguments>();
  CLI::App* training =
      command->add_subcommand("train", "Train a byte-level BPE tokenizer on text files");
  training
      ->add_option("inputs", a->inputs,
                   ".txt or .jsonl files (also .gz and .zst), or folders of them")
      ->required();
  training
      ->add_option("--vocab-size", a->options.vocab_size,
                   "Tokens, the 256 bytes and the end-of-text token included")
      ->required();
  training->add_option("--out", a->out, "The tokenizer.json to write")->required();
  training
      ->add_option("--text-field", a->text.text_field,
                   "Field of a .jsonl object that holds the text")
      ->capture_default_str();
  training->add_option(
      "--document-separator", a->text.document_separator,
      "A line of a .txt file that ends a document (default: a file is one document)");
  training->callback([a] { train(*a); });
}

}  // namespace forja
