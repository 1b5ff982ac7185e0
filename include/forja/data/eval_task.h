// SPDX-License-Identifier: Apache-2.0
// Evaluation tasks as data: how the documents of a file become texts that a model scores or
// continues, and by which metrics. The built-in ones, and those of a YAML file with the keys below,
// are read the same way. Names of keys, prompts and counting are those of EleutherAI's
// lm-evaluation-harness, so that scores can be compared: Gao et al., "A framework for few-shot
// language model evaluation".
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "forja/base/config.h"

namespace forja {

// How an answer is found in a text that a model made.
struct AnswerFilter {
  std::string name;
  std::string pattern;  // regular expression whose match is the answer; empty: all of the text
  bool last = false;    // of several matches the last one, not the first
  void visit(ConfigVisitor& v);
};

// The templates (doc_to_*, description) are Jinja, over the fields of a document and `set_name`.
struct EvalTask {
  std::string name;
  int64_t version = 1;
  // multiple_choice: log-likelihoods of choices; loglikelihood: of one continuation;
  // loglikelihood_rolling: of whole texts; generate_until: greedy continuations.
  std::string output_type;
  std::string file, fewshot_file, labels_file;  // how the names of files end
  std::vector<std::string> columns;             // of .csv and .tsv; a name twice makes a list
  std::string description;
  std::string doc_to_text, doc_to_target;
  std::vector<std::string> doc_to_choice;
  std::string target_delimiter = " ";
  int64_t num_fewshot = 0;
  std::string fewshot_sampler = "random";  // random, first_n
  std::vector<std::string> until;
  int64_t max_new_tokens = 256;
  std::vector<AnswerFilter> filters;
  std::vector<std::string> regexes_to_ignore;
  bool ignore_case = false, ignore_punctuation = false;
  std::vector<std::string> metrics;

  void visit(ConfigVisitor& v);
};

// A built-in task, or that of the YAML file `name` (which ends in .yaml or .yml). Throws bad_input
// with the nearest name for an unknown one.
EvalTask find_eval_task(const std::string& name);
std::vector<std::string> eval_task_names();

// Legend: a document is a line of the file.
struct EvalDocument {
  int64_t line = 0;                        // from 1
  std::string context;                     // examples included; empty where there is none
  std::vector<std::string> continuations;  // choices or the target, with the delimiter before them
  int64_t gold = 0;                        // of the choices
  std::string target;                      // what a generated answer is compared with
  nlohmann::ordered_json fields;
};

// The documents of one file: all of the task, or a part of it with a score of its own (a subject, a
// phenomenon).
struct EvalDocumentSet {
  std::string name, file;
  std::vector<EvalDocument> documents;
};

struct EvalDataOptions {
  int64_t limit = 0;                // documents of each set; 0: all
  int64_t num_fewshot = -1;         // -1: as the task says
  std::string text_field = "text";  // of a .jsonl object, for loglikelihood_rolling
};

// Reads the task's files: `path` is one of them, or a folder in which all that end in task.file are
// found; of a loglikelihood_rolling task whatever TextSource reads. Examples come from the file
// beside whose name ends in task.fewshot_file instead, drawn as lm-evaluation-harness draws them
// with its default seed. Throws bad_input with file:line for what is missing or of another format.
std::vector<EvalDocumentSet> read_eval_sets(const EvalTask& task, const std::string& path,
                                            const EvalDataOptions& options);

// The answer in a generated text, "[invalid]" where there is none.
std::string find_answer(const AnswerFilter& filter, const std::string& text);
// Are they the same, but for what the task ignores?
bool is_exact_match(const EvalTask& task, const std::string& answer, const std::string& target);

}  // namespace forja
