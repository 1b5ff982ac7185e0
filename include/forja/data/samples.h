// SPDX-License-Identifier: Apache-2.0
// Samples to fine-tune on: conversations, instructions with their answers, and pairs of a chosen
// and a rejected answer, as JSON objects. A sample is the tokens that the model sees and a mask of
// those that it is to say. docs/fine-tuning-data.md shows each format.
//
//   messages           {"messages": [{"role": "user", "content": "..."}, ...], "tools": [...]}
//   sharegpt           {"conversations": [{"from": "human", "value": "..."}, ...]}
//   alpaca             {"instruction": "...", "input": "...", "output": "..."}
//   prompt-completion  {"prompt": "...", "completion": "..."}, or other names of the two fields
//   preference         any of these for the prompt, with "chosen" and "rejected" (a text, a message
//                      or a list of them) in place of the answer
//
// A conversation becomes text by the model's chat template, and its tokens are those that
// transformers' apply_chat_template(tokenize=True) gives. An instruction becomes a conversation of
// two messages where there is a template, else a prompt in the form of Stanford Alpaca's
// (https://github.com/tatsu-lab/stanford_alpaca), the answer and the end-of-text token.
//
// Learned are the tokens of which at least one byte lies in what the model says: the template's
// {% generation %} blocks where it has them, else what each assistant message adds to the text of
// the messages before it and the prompt for an answer, up to the special token that closes it.
#pragma once

#include <string>

#include "forja/base/config.h"

namespace forja {

struct SampleOptions {
  std::string format = "auto";                 // auto: by the fields of each record
  std::string prompt_field, completion_field;  // of prompt-completion
  std::string learn = "assistant";             // assistant, last, all
  std::string prompt = "auto";                 // of instructions: auto, chat, alpaca, plain
  std::string chat_template;                   // a file; empty: the tokenizer's own
  bool skip_malformed = false;
  void visit(ConfigVisitor& v);
};

// What a run does with them: `data.samples`.
struct SamplesConfig {
  SampleOptions read;                 // of files; a dataset has been made with options of its own
  std::string packing = "best_fit";   // best_fit, none
  std::string too_long = "truncate";  // truncate, drop
  void visit(ConfigVisitor& v);
};

// True for the names of files with samples: .jsonl, .ndjson or .json, also .gz or .zst of them.
bool is_sample_file(const std::string& path);

}  // namespace forja
