// SPDX-License-Identifier: Apache-2.0
// Batches are the same for any number of ranks, which take turns at them: so are the numbers.
#include <algorithm>
#include <numeric>

#include "forja/base/json.h"
#include "forja/base/log.h"
#include "forja/train/evaluation.h"

namespace forja {
namespace {

using Json = nlohmann::json;
using Batch = std::vector<size_t>;  // indices of requests

void show_progress(const EvalRequests& requests, size_t done, size_t all, Communicator& ranks) {
  if (ranks.rank() == 0)
    log_live(fmt::format("{}: {} of {} batches", requests.task.name, done, all));
}

// The longest first, neighbours of equal length and nearly equal tokens side by side.
std::vector<Batch> batches_of(const std::vector<const Generator::ScoreRequest*>& requests,
                              int64_t batch_tokens) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const auto &x = requests[a]->tokens, &y = requests[b]->tokens;
    return x.size() != y.size() ? x.size() > y.size() : x < y;
  });
  std::vector<Batch> batches;
  int64_t tokens = 0;
  for (const size_t i : order) {
    const int64_t more = int64_t(requests[i]->tokens.size()) - 1;
    if (batches.empty() || tokens + more > batch_tokens) {
      batches.emplace_back();
      tokens = 0;
    }
    batches.back().push_back(i);
    tokens += more;
  }
  return batches;
}

void score_all(const EvalRequests& all, Generator& generator, int64_t batch_tokens,
               Communicator& ranks, EvalAnswers& out) {
  std::vector<const Generator::ScoreRequest*> requests;
  std::vector<Generator::Score*> places;
  for (size_t d = 0; d < all.scored.size(); ++d) {
    out.scores.emplace_back(all.scored[d].size());
    for (size_t i = 0; i < all.scored[d].size(); ++i) {
      if (all.scored[d][i].num_targets == 0) continue;  // no token more than the context: certain
      requests.push_back(&all.scored[d][i]);
      places.push_back(&out.scores[d][i]);
    }
  }
  const std::vector<Batch> batches = batches_of(requests, batch_tokens);
  std::vector<double> values(2 * requests.size(), 0.0);  // log-probability, greedy
  for (size_t b = size_t(ranks.rank()); b < batches.size(); b += size_t(ranks.size())) {
    show_progress(all, b, batches.size(), ranks);
    std::vector<Generator::ScoreRequest> batch;
    for (const size_t i : batches[b]) batch.push_back(*requests[i]);
    const std::vector<Generator::Score> scores = generator.score(batch);
    for (size_t i = 0; i < scores.size(); ++i) {
      values[2 * batches[b][i]] = scores[i].log_probability;
      values[2 * batches[b][i] + 1] = scores[i].greedy ? 1.0 : 0.0;
    }
  }
  ranks
      .all_reduce(make_tensor(values.data(), DType::f64, {int64_t(values.size())}), ReduceOp::sum,
                  {"scores"})
      .wait();
  for (size_t i = 0; i < requests.size(); ++i)
    *places[i] = {values[2 * i], values[2 * i + 1] == 1.0};
}

// The place of the first of the texts that end a generated one.
size_t end_of(const std::string& text, const std::vector<std::string>& until) {
  size_t end = text.size();
  for (const std::string& stop : until)
    if (!stop.empty()) end = std::min(end, text.find(stop));
  return end;
}

std::vector<std::string> generate_texts(const EvalRequests& all, const Batch& batch,
                                        const Tokenizer& tokenizer, Generator& generator,
                                        const std::vector<int32_t>& stop) {
  std::vector<std::vector<int32_t>> prompts;
  for (const size_t i : batch) prompts.push_back(all.prompts[i]);
  const GenerateOptions options{all.task.max_new_tokens, {.temperature = 0.0}, stop};
  std::vector<std::string> texts(batch.size());
  std::vector<StreamingDecoder> decoders(batch.size(), StreamingDecoder(tokenizer, true));
  generator.reset();
  generate(generator, prompts, options, [&](int64_t sequence, int32_t id) {
    std::string& text = texts[size_t(sequence)];
    if (!tokenizer.is_special(id)) text += decoders[size_t(sequence)].push(id);
    return end_of(text, all.task.until) == text.size();
  });
  for (size_t i = 0; i < texts.size(); ++i) {
    texts[i] += decoders[i].finish();
    texts[i].resize(end_of(texts[i], all.task.until));
  }
  return texts;
}

void generate_all(const EvalRequests& all, const Tokenizer& tokenizer, Generator& generator,
                  const EvalRunOptions& options, Communicator& ranks, EvalAnswers& out) {
  Batch order(all.prompts.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return all.prompts[a].size() > all.prompts[b].size();
  });
  const size_t size = size_t(options.batch_texts), count = (order.size() + size - 1) / size;
  Json mine = Json::array();  // [number of the document, text]
  for (size_t b = size_t(ranks.rank()); b < count; b += size_t(ranks.size())) {
    show_progress(all, b, count, ranks);
    const Batch batch(order.begin() + int64_t(b * size),
                      order.begin() + int64_t(std::min(order.size(), (b + 1) * size)));
    const auto texts = generate_texts(all, batch, tokenizer, generator, options.stop);
    for (size_t i = 0; i < batch.size(); ++i) mine.push_back({batch[i], texts[i]});
  }
  out.texts.resize(all.prompts.size());
  for (const std::string& of_rank : all_gather_text(ranks, mine.dump(), {"generated texts"}))
    for (const Json& text : parse_json(of_rank))
      out.texts[text[0].get<size_t>()] = text[1].get<std::string>();
}

}  // namespace

EvalAnswers answer_eval_requests(const EvalRequests& requests, const Tokenizer& tokenizer,
                                 Generator& generator, const EvalRunOptions& options,
                                 Communicator& ranks) {
  EvalAnswers out;
  if (requests.task.output_type == "generate_until") {
    generate_all(requests, tokenizer, generator, options, ranks, out);
  } else {
    score_all(requests, generator, options.batch_tokens, ranks, out);
  }
  log_live("");
  return out;
}

}  // namespace forja
