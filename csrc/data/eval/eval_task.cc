// SPDX-License-Identifier: Apache-2.0
#include "forja/data/eval_task.h"

#include <algorithm>

#include "csrc/data/eval/built_in_tasks.h"
#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

const std::vector<std::string> kMetrics = {"acc",
                                           "acc_norm",
                                           "perplexity",
                                           "exact_match",
                                           "acc_ambig",
                                           "acc_disambig",
                                           "bias_score_ambig",
                                           "bias_score_disambig",
                                           "word_perplexity",
                                           "byte_perplexity",
                                           "bits_per_byte",
                                           "token_perplexity"};

// The metrics that a kind of task can have.
std::vector<std::string> metrics_of(const std::string& output_type) {
  if (output_type == "loglikelihood") return {"perplexity", "acc"};
  if (output_type == "generate_until") return {"exact_match"};
  if (output_type == "loglikelihood_rolling")
    return {"word_perplexity", "byte_perplexity", "bits_per_byte", "token_perplexity"};
  return {"acc",          "acc_norm",         "acc_ambig",
          "acc_disambig", "bias_score_ambig", "bias_score_disambig"};
}

bool is_yaml(const std::string& name) { return name.ends_with(".yaml") || name.ends_with(".yml"); }

}  // namespace

void AnswerFilter::visit(ConfigVisitor& v) {
  v.field("name", name, "Named beside the score.");
  v.field("pattern", pattern,
          "Regular expression (PCRE2) whose match is the answer; \\K drops what it matched so far. "
          "Empty: all of the text.");
  v.field("last", last, "Of several matches the last one, not the first.");
}

void EvalTask::visit(ConfigVisitor& v) {
  v.field("name", name, "Named in the results.");
  v.field("version", version, "Changes when scores do.", positive<int64_t>());
  v.field("output_type", output_type,
          "multiple_choice: log-likelihoods of choices; loglikelihood: of one continuation; "
          "loglikelihood_rolling: of whole texts; generate_until: greedy continuations.",
          one_of({"multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"}));
  v.field("file", file, "How the names of its files end, in a folder.");
  v.field("fewshot_file", fewshot_file, "That end in the name of the file with examples.");
  v.field("labels_file", labels_file,
          "... of the file that has the field `label` of each document on a line.");
  v.field("columns", columns, "Fields of a .csv or .tsv file; a name twice makes a list.");
  v.field("description", description, "Template of what stands before everything else.");
  v.field("doc_to_text", doc_to_text, "Template of the context.");
  v.field("doc_to_choice", doc_to_choice, "Templates of the choices.");
  v.field("doc_to_target", doc_to_target,
          "Template of the answer: the number of a choice from 0, a choice, or the text.");
  v.field("target_delimiter", target_delimiter, "Between context and answer.");
  v.field("num_fewshot", num_fewshot, "Examples before each document.", not_negative<int64_t>());
  v.field("fewshot_sampler", fewshot_sampler, "Which examples.", one_of({"random", "first_n"}));
  v.field("until", until, "Texts that end a generated one.");
  v.field("max_new_tokens", max_new_tokens, "Longest generated text.", positive<int64_t>());
  v.list("filters", filters, "Ways of finding the answer in a generated text; each has a score.");
  v.field("regexes_to_ignore", regexes_to_ignore, "Removed before texts are compared.");
  v.field("ignore_case", ignore_case, "Of ASCII letters.");
  v.field("ignore_punctuation", ignore_punctuation, "Of ASCII.");
  v.field("metrics", metrics, ("What is computed: " + join(kMetrics, ", ") + ".").c_str());
  if (!v.reading()) return;
  if (name.empty()) v.fault("name", "is missing");
  if (output_type.empty()) v.fault("output_type", "is missing");
  if (metrics.empty()) v.fault("metrics", "is missing");
  const std::vector<std::string> possible = metrics_of(output_type);
  for (const std::string& metric : metrics) {
    if (std::find(possible.begin(), possible.end(), metric) == possible.end())
      v.fault("metrics", fmt::format("{} is none of a task of {}, which can have {}", metric,
                                     output_type, join(possible, ", ")));
  }
  if (output_type == "multiple_choice" && doc_to_choice.size() < 2)
    v.fault("doc_to_choice", "expected at least two choices");
  if (output_type != "loglikelihood_rolling" && doc_to_target.empty())
    v.fault("doc_to_target", "is missing");
  if (output_type == "generate_until" && filters.empty()) v.fault("filters", "is missing");
}

std::vector<std::string> eval_task_names() {
  std::vector<std::string> names;
  for (const BuiltInTask& task : built_in_tasks()) names.push_back(task.name);
  return names;
}

EvalTask find_eval_task(const std::string& name) {
  EvalTask task;
  const auto visit = [&](ConfigVisitor& v) { task.visit(v); };
  if (is_yaml(name)) {
    read_config_file(name, {}, visit);
    return task;
  }
  for (const BuiltInTask& built_in : built_in_tasks()) {
    if (built_in.name != name) continue;
    read_config_text(built_in.yaml, "built-in task " + name, {}, visit);
    return task;
  }
  const std::string near = nearest_name(name, eval_task_names());
  fail_input("unknown task {}; {}known: {}, or a file .yaml that describes one", name,
             near.empty() ? "" : fmt::format("did you mean {}? ", near),
             join(eval_task_names(), ", "));
}

}  // namespace forja
