// SPDX-License-Identifier: Apache-2.0
// From texts to tokens. Source of what is a context and what a continuation, of windows and of
// truncation: lm-evaluation-harness 0.4.13, its interface of causal models.
#include <algorithm>

#include "forja/base/error.h"
#include "forja/data/python_text.h"
#include "forja/train/evaluation.h"

namespace forja {
namespace {

using Tokens = std::vector<int32_t>;

class Encoder {
 public:
  Encoder(const EvalTask& task, const Tokenizer& tokenizer, int64_t max_length)
      : task_(task), tokenizer_(tokenizer), max_length_(max_length) {}

  // Special tokens written out in a text are read as such. The first token of a text is not added
  // to one that begins with it.
  Tokens encode(const std::string& text, bool with_bos = true) const {
    const bool has =
        tokenizer_.bos_id() && text.starts_with(tokenizer_.token_text(*tokenizer_.bos_id()));
    return tokenizer_.encode(text,
                             {SpecialText::parsed, with_bos && tokenizer_.adds_bos() && !has});
  }

  Generator::ScoreRequest continuation(std::string context, std::string text) const {
    if (context.empty()) {
      Tokens tokens = encode(text, false);
      if (!tokens.empty() && tokens[0] == prefix()) return request(tokens, 1);
      tokens.insert(tokens.begin(), prefix());
      return request(tokens, 1);
    }
    const size_t kept = rstrip(context).size();  // spaces belong to the word after them
    text = context.substr(kept) + text;
    context.resize(kept);
    const size_t context_tokens = encode(context).size();
    return request(encode(context + text), int64_t(context_tokens));
  }

  std::vector<Generator::ScoreRequest> windows(const std::string& text) const {
    Tokens tokens = encode(text);
    tokens.insert(tokens.begin(), prefix());
    std::vector<Generator::ScoreRequest> out;
    const int64_t count = int64_t(tokens.size());
    for (int64_t done = 1; done < count;) {
      const int64_t end = std::min(count, done + max_length_);
      const int64_t begin = std::max<int64_t>(0, end - max_length_ - 1);
      out.push_back({{tokens.begin() + begin, tokens.begin() + end}, end - done});
      done = end;
    }
    return out;
  }

  // At most `room` tokens, the last ones.
  Tokens prompt(const std::string& context) const {
    Tokens tokens = encode(context);
    if (tokens.empty()) tokens.push_back(prefix());
    return tokens;
  }

 private:
  int32_t prefix() const {
    if (tokenizer_.bos_id()) return *tokenizer_.bos_id();
    if (tokenizer_.eos_id()) return *tokenizer_.eos_id();
    fail_input("task {}: the tokenizer has no token to begin a text with", task_.name);
  }
  static Generator::ScoreRequest request(Tokens tokens, int64_t context_tokens) {
    const int64_t targets = std::max<int64_t>(0, int64_t(tokens.size()) - context_tokens);
    return {std::move(tokens), targets};
  }

  const EvalTask& task_;
  const Tokenizer& tokenizer_;
  int64_t max_length_;
};

// Drops tokens on the left until `most` are left; true when there were any to drop.
bool truncate(Tokens& tokens, int64_t most) {
  const int64_t excess = int64_t(tokens.size()) - most;
  if (excess > 0) tokens.erase(tokens.begin(), tokens.begin() + excess);
  return excess > 0;
}

}  // namespace

int64_t EvalRequests::num_documents() const {
  int64_t count = 0;
  for (const EvalDocumentSet& set : sets) count += int64_t(set.documents.size());
  return count;
}

EvalRequests make_eval_requests(EvalTask task, std::vector<EvalDocumentSet> sets,
                                const Tokenizer& tokenizer, int64_t max_length) {
  EvalRequests out{std::move(task), std::move(sets), {}, {}};
  const Encoder encoder(out.task, tokenizer, max_length);
  const bool generates = out.task.output_type == "generate_until";
  const int64_t room = max_length - out.task.max_new_tokens;
  if (generates && room <= 0) {
    fail_input(
        "task {} generates up to {} tokens, and the model sees {} at once: use a smaller "
        "--max-new-tokens",
        out.task.name, out.task.max_new_tokens, max_length);
  }
  for (const EvalDocumentSet& set : out.sets) {
    for (const EvalDocument& document : set.documents) {
      if (generates) {
        out.prompts.push_back(encoder.prompt(document.context));
        Tokens& tokens = out.prompts.back();
        out.num_truncated += truncate(tokens, room);
        out.longest = std::max(out.longest, int64_t(tokens.size()) + out.task.max_new_tokens);
        continue;
      }
      auto& requests = out.scored.emplace_back();
      if (out.task.output_type == "loglikelihood_rolling") {
        requests = encoder.windows(document.continuations[0]);
      } else {
        for (const std::string& text : document.continuations)
          requests.push_back(encoder.continuation(document.context, text));
      }
      for (Generator::ScoreRequest& request : requests) {
        out.num_truncated += truncate(request.tokens, max_length + 1);
        request.num_targets = std::min(request.num_targets, int64_t(request.tokens.size()) - 1);
        out.longest = std::max(out.longest, int64_t(request.tokens.size()) - 1);
      }
    }
  }
  return out;
}

}  // namespace forja
