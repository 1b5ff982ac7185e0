// SPDX-License-Identifier: Apache-2.0
// Scores of a model on evaluation tasks (forja/data/eval_task.h): their documents become requests
// of tokens, the requests are dealt over the ranks of a group, each of which has the whole model,
// and every rank gets the metrics. The numbers are bitwise the same however many ranks there are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "forja/comm/communicator.h"
#include "forja/data/eval_task.h"
#include "forja/data/tokenizer.h"
#include "forja/train/generator.h"

namespace forja {

// A task in tokens. Documents are numbered over all sets.
struct EvalRequests {
  EvalTask task;
  std::vector<EvalDocumentSet> sets;
  // Of each document: one request a continuation, or the windows of a text; empty where texts are
  // generated.
  std::vector<std::vector<Generator::ScoreRequest>> scored;
  std::vector<std::vector<int32_t>> prompts;  // of generated texts
  int64_t num_truncated = 0;                  // requests that lost tokens on the left
  int64_t longest = 0;                        // what a model must have room for, in tokens

  int64_t num_documents() const;
};

// Encodes as lm-evaluation-harness does for causal models: a continuation's tokens are those of the
// whole text after as many as the context has; what is longer than max_length loses its first
// tokens; windows of a text overlap by one token. task.max_new_tokens bounds generated texts.
// Throws bad_input when max_length leaves no room for a prompt, or the tokenizer has no token to
// begin a text with and one is needed.
EvalRequests make_eval_requests(EvalTask task, std::vector<EvalDocumentSet> sets,
                                const Tokenizer& tokenizer, int64_t max_length);

struct EvalAnswers {
  std::vector<std::vector<Generator::Score>> scores;  // by document and request
  std::vector<std::string> texts;                     // by document, where texts are generated
};

struct EvalRunOptions {
  int64_t batch_tokens = 2048;  // scored at a time
  int64_t batch_texts = 16;     // generated at a time; the generator has as many sequences
  std::vector<int32_t> stop;    // ids that end a generated text
};

// Collective over `ranks`.
EvalAnswers answer_eval_requests(const EvalRequests& requests, const Tokenizer& tokenizer,
                                 Generator& generator, const EvalRunOptions& options,
                                 Communicator& ranks);

struct EvalMetric {
  std::string name, filter;  // filter: of generated texts
  double value = 0.0;        // NaN where no document counts for it
  // Standard error: the sample's standard deviation over the root of the number of documents, for
  // means; of a perplexity by the delta method. None for ratios of sums.
  std::optional<double> stderr_value;
};

struct EvalScore {
  std::string name;  // of a set, or of the task: of all its documents
  int64_t num_documents = 0;
  std::vector<EvalMetric> metrics;
};

struct EvalResult {
  EvalScore total;
  std::vector<EvalScore> sets;  // empty where there is one
};

EvalResult summarize_eval(const EvalRequests& requests, const EvalAnswers& answers);

}  // namespace forja
