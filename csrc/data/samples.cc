// SPDX-License-Identifier: Apache-2.0
#include "forja/data/samples.h"

#include <filesystem>

namespace forja {

void SampleOptions::visit(ConfigVisitor& v) {
  v.field("format", format,
          "Of the records of .jsonl and .json files; auto: by the fields of each (see "
          "docs/fine-tuning-data.md).",
          one_of({"auto", "messages", "sharegpt", "alpaca", "prompt-completion", "preference"}));
  v.field("prompt_field", prompt_field,
          "Name of the prompt in records of a prompt and a completion; empty: prompt.");
  v.field("completion_field", completion_field,
          "Name of the completion in them; empty: completion.");
  v.field("learn", learn,
          "Tokens that the loss counts: what the assistant says, its last message only, or all.",
          one_of({"assistant", "last", "all"}));
  v.field("prompt", prompt,
          "What an instruction becomes: a conversation by the chat template, Alpaca's prompt, or "
          "its plain text; auto: chat where there is a template, else alpaca.",
          one_of({"auto", "chat", "alpaca", "plain"}));
  v.path("chat_template", chat_template,
         "File of a chat template (Jinja); empty: the one beside the tokenizer.");
  v.field("skip_malformed", skip_malformed,
          "Leave out and count records with faults, which otherwise end the run.");
  if (!v.reading()) return;
  if (format != "auto" && format != "prompt-completion" &&
      !(prompt_field.empty() && completion_field.empty()))
    v.fault("format", "prompt_field and completion_field are of the format prompt-completion");
}

void SamplesConfig::visit(ConfigVisitor& v) {
  read.visit(v);
  v.field(
      "packing", packing,
      "best_fit: as many samples in a row of sequence_length tokens as fit, each apart from the "
      "others; none: one.",
      one_of({"best_fit", "none"}));
  v.field("too_long", too_long,
          "What becomes of a sample that a row has no room for: its beginning is kept, or nothing.",
          one_of({"truncate", "drop"}));
}

bool is_sample_file(const std::string& path) {
  std::filesystem::path name = std::filesystem::path(path).filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string extension = name.extension().string();
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

}  // namespace forja
