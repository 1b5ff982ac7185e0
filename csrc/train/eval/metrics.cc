// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "csrc/train/eval/bias_metrics.h"
#include "forja/data/python_text.h"
#include "forja/train/evaluation.h"

namespace forja {
namespace {

// One document and what the model made of it.
struct Answered {
  const EvalTask& task;
  const EvalDocument& document;
  const std::vector<Generator::ScoreRequest>* requests = nullptr;
  const std::vector<Generator::Score>* scores = nullptr;
  const std::string* text = nullptr;
};

// The first of the likeliest choices, each log-likelihood divided by its choice's length.
template <class Length>
int64_t best_choice(const Answered& a, const Length& length) {
  int64_t best = 0;
  double highest = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < a.scores->size(); ++i) {
    const double value = (*a.scores)[i].log_probability / length(a.document.continuations[i]);
    if (value > highest) best = int64_t(i);
    highest = std::max(highest, value);
  }
  return best;
}

MetricSample choice_sample(const Answered& a, const std::string& metric) {
  const auto one = [](const std::string&) { return 1.0; };
  if (metric == "acc") return {double(best_choice(a, one) == a.document.gold)};
  if (metric == "acc_norm") {
    const auto characters = [&](const std::string& continuation) {
      return double(num_characters(continuation) - num_characters(a.task.target_delimiter));
    };
    return {double(best_choice(a, characters) == a.document.gold)};
  }
  return bias_sample(metric, a.document.fields, std::min<int64_t>(best_choice(a, one), 2),
                     a.document.gold);
}

MetricSample text_sample(const Answered& a, const std::string& metric) {
  double sum = 0.0;
  int64_t tokens = 0;
  for (const Generator::Score& score : *a.scores) sum += score.log_probability;
  for (const Generator::ScoreRequest& request : *a.requests) tokens += request.num_targets;
  const std::string& text = a.document.continuations[0];
  const int64_t weight = metric == "word_perplexity"    ? num_words(text)
                         : metric == "token_perplexity" ? tokens
                                                        : int64_t(text.size());
  return {sum, double(weight)};
}

MetricSample sample_of(const Answered& a, const std::string& metric, const AnswerFilter* filter) {
  const std::string& type = a.task.output_type;
  if (type == "generate_until")
    return {double(is_exact_match(a.task, find_answer(*filter, *a.text), a.document.target))};
  if (type == "loglikelihood_rolling") return text_sample(a, metric);
  if (type == "multiple_choice") return choice_sample(a, metric);
  const Generator::Score& score = (*a.scores)[0];
  return {metric == "acc" ? double(score.greedy) : score.log_probability};
}

double mean(const std::vector<MetricSample>& samples, int group) {
  double sum = 0.0, weight = 0.0;
  for (const MetricSample& s : samples) {
    if (s.group != group || s.weight == 0.0) continue;
    sum += s.value;
    weight += s.weight;
  }
  return weight > 0.0 ? sum / weight : std::numeric_limits<double>::quiet_NaN();
}

// Of the mean over the samples that count, at least two of weight 1.
std::optional<double> standard_error(const std::vector<MetricSample>& samples, double mean) {
  double squares = 0.0, count = 0.0;
  for (const MetricSample& s : samples) {
    if (s.weight == 0.0) continue;
    squares += (s.value - mean) * (s.value - mean);
    ++count;
  }
  if (count < 2.0) return {};
  return std::sqrt(squares / (count - 1.0) / count);
}

EvalMetric metric_of(const std::string& name, const std::string& filter,
                     const std::vector<MetricSample>& samples) {
  EvalMetric out{name, filter, mean(samples, 0), {}};
  if (name == "bias_score_disambig") {
    out.value -= mean(samples, 1);
  } else if (name == "word_perplexity" || name == "byte_perplexity" || name == "token_perplexity") {
    out.value = std::exp(-out.value);
  } else if (name == "bits_per_byte") {
    out.value /= -std::log(2.0);
  } else {
    out.stderr_value = standard_error(samples, out.value);
    if (name == "perplexity") {
      out.value = std::exp(-out.value);
      if (out.stderr_value) *out.stderr_value *= out.value;
    }
  }
  return out;
}

// Of documents [begin, end).
EvalScore score_of(const std::string& name, const EvalTask& task,
                   const std::vector<Answered>& documents, size_t begin, size_t end) {
  EvalScore out{name, int64_t(end - begin), {}};
  std::vector<const AnswerFilter*> filters;
  for (const AnswerFilter& filter : task.filters) filters.push_back(&filter);
  if (filters.empty()) filters.push_back(nullptr);
  for (const std::string& metric : task.metrics) {
    for (const AnswerFilter* filter : filters) {
      std::vector<MetricSample> samples;
      for (size_t i = begin; i < end; ++i)
        samples.push_back(sample_of(documents[i], metric, filter));
      out.metrics.push_back(metric_of(metric, filter ? filter->name : "", samples));
    }
  }
  return out;
}

}  // namespace

EvalResult summarize_eval(const EvalRequests& requests, const EvalAnswers& answers) {
  std::vector<Answered> documents;
  for (const EvalDocumentSet& set : requests.sets) {
    for (const EvalDocument& document : set.documents) {
      const size_t i = documents.size();
      Answered answered{requests.task, document};
      if (i < answers.scores.size()) {
        answered.requests = &requests.scored[i];
        answered.scores = &answers.scores[i];
      }
      if (i < answers.texts.size()) answered.text = &answers.texts[i];
      documents.push_back(answered);
    }
  }
  EvalResult out;
  out.total = score_of(requests.task.name, requests.task, documents, 0, documents.size());
  if (requests.sets.size() < 2) return out;
  size_t begin = 0;
  for (const EvalDocumentSet& set : requests.sets) {
    const size_t end = begin + set.documents.size();
    out.sets.push_back(
        score_of(requests.task.name + "_" + set.name, requests.task, documents, begin, end));
    begin = end;
  }
  return out;
}

}  // namespace forja
