// SPDX-License-Identifier: Apache-2.0
// Scores of a tiny random model on files of every built-in task's format, against
// lm-evaluation-harness in fp64 (tests/golden/eval, made by make_eval_reference.py).
#include "forja/train/evaluation.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "forja/base/file.h"
#include "forja/checkpoint/hf_model.h"
#include "tests/testing/local_world.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using Json = nlohmann::json;

std::string golden() { return testing::source_dir() + "/tests/golden/eval"; }

const Json& reference() {
  static const Json json = Json::parse(read_file(golden() + "/reference.json"));
  return json;
}

std::unique_ptr<Generator> load_generator(int64_t num_sequences) {
  const ModelConfig model = read_model_config(golden() + "/config.json");
  return std::make_unique<Generator>(
      model, DType::f32, num_sequences, model.max_position_embeddings,
      [](const Context& ctx, ParameterStore& store) { load_hf_weights(ctx, golden(), store); });
}

struct Evaluated {
  EvalRequests requests;
  EvalAnswers answers;
  EvalResult result;
};

Evaluated evaluate(const Json& test_case, Communicator& ranks, int64_t batch_tokens = 300) {
  const auto tokenizer = load_tokenizer(golden());
  EvalTask task = find_eval_task(test_case["task"]);
  task.max_new_tokens = reference()["max_new_tokens"];
  EvalDataOptions options;
  if (!test_case["num_fewshot"].is_null()) options.num_fewshot = test_case["num_fewshot"];
  const std::string path = golden() + "/data/" + test_case["path"].get<std::string>();
  Evaluated out;
  out.requests = make_eval_requests(task, read_eval_sets(task, path, options), *tokenizer, 160);
  const EvalRunOptions run{batch_tokens, 2, {*tokenizer->eos_id()}};
  const auto generator = load_generator(run.batch_texts);
  out.answers = answer_eval_requests(out.requests, *tokenizer, *generator, run, ranks);
  out.result = summarize_eval(out.requests, out.answers);
  return out;
}

Evaluated evaluate_alone(const Json& test_case) {
  const auto self = make_self_communicator();
  return evaluate(test_case, *self);
}

class Evaluation : public ::testing::TestWithParam<size_t> {
 protected:
  const Json& test_case() const { return reference()["cases"][GetParam()]; }
};

// Of broken UTF-8 sequences, which a random model makes, one mark: who decodes them counts them in
// ways of their own.
std::string with_single_marks(std::string text) {
  const std::string mark = "\xEF\xBF\xBD";
  for (size_t at = 0; (at = text.find(mark + mark)) != text.npos;) text.erase(at, mark.size());
  return text;
}

// What fp32 of another program is off by, ten times: sums in another order.
double tolerance(double expected) {
  const double error = reference()["float32_relative_error"];
  return 10.0 * error * std::max(1.0, std::abs(expected));
}

TEST_P(Evaluation, DocumentsAreScoredAsByTheHarness) {
  const Evaluated found = evaluate_alone(test_case());
  const Json& documents = test_case()["documents"];
  ASSERT_EQ(found.requests.num_documents(), int64_t(documents.size()));
  for (size_t d = 0; d < documents.size(); ++d) {
    if (documents[d].is_string()) {
      EXPECT_EQ(with_single_marks(found.answers.texts[d]), with_single_marks(documents[d]));
      continue;
    }
    const auto& scores = found.answers.scores[d];
    if (documents[d][0].is_number()) {  // a text, in windows
      double sum = 0.0;
      for (const auto& score : scores) sum += score.log_probability;
      EXPECT_NEAR(sum, documents[d][0], tolerance(sum));
      continue;
    }
    ASSERT_EQ(scores.size(), documents[d].size());
    for (size_t i = 0; i < scores.size(); ++i) {
      EXPECT_NEAR(scores[i].log_probability, documents[d][i][0],
                  tolerance(scores[i].log_probability));
      EXPECT_EQ(scores[i].greedy, documents[d][i][1].get<bool>());
    }
  }
}

TEST_P(Evaluation, MetricsAreTheHarness) {
  const EvalScore score = evaluate_alone(test_case()).result.total;
  Json left = test_case()["scores"];
  for (const EvalMetric& metric : score.metrics) {
    if (metric.name == "token_perplexity") continue;  // ours alone
    const std::string filter = "," + (metric.filter.empty() ? "none" : metric.filter);
    const double expected = left.at(metric.name + filter);
    // Log-likelihoods enter perplexities by their exponential.
    EXPECT_NEAR(metric.value, expected, 1e-4 * std::max(1.0, std::abs(expected))) << metric.name;
    const auto error = left.find(metric.name + "_stderr" + filter);
    if (error != left.end() && error->is_number()) {
      ASSERT_TRUE(metric.stderr_value) << metric.name;
      EXPECT_NEAR(*metric.stderr_value, error->get<double>(), 1e-12) << metric.name;
    }
    left.erase(metric.name + filter);
    left.erase(metric.name + "_stderr" + filter);
  }
  EXPECT_TRUE(left.empty()) << left;
}

// Bit by bit.
TEST_P(Evaluation, IsTheSameOnAnyNumberOfRanks) {
  const Evaluated alone = evaluate_alone(test_case());
  for (const int ranks : {2, 4}) {
    std::vector<Evaluated> all(static_cast<size_t>(ranks));
    testing::run_world(ranks, [&](World& world) {
      all[size_t(world.rank())] = evaluate(test_case(), world.communicator());
    });
    for (const Evaluated& one : all) {
      EXPECT_EQ(one.answers.texts, alone.answers.texts);
      ASSERT_EQ(one.answers.scores.size(), alone.answers.scores.size());
      for (size_t d = 0; d < alone.answers.scores.size(); ++d)
        for (size_t i = 0; i < alone.answers.scores[d].size(); ++i)
          EXPECT_EQ(one.answers.scores[d][i].log_probability,
                    alone.answers.scores[d][i].log_probability);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Evaluation, ::testing::Range(size_t(0), reference()["cases"].size()),
    [](const auto& test) {
      return reference()["cases"][test.param]["name"].template get<std::string>();
    });

TEST(EvaluationParts, BatchesDoNotMatter) {
  const auto self = make_self_communicator();
  const Json& test_case = reference()["cases"][0];
  const Evaluated single = evaluate(test_case, *self, 1), packed = evaluate(test_case, *self, 4096);
  for (size_t d = 0; d < single.answers.scores.size(); ++d)
    for (size_t i = 0; i < single.answers.scores[d].size(); ++i) {
      const double score = single.answers.scores[d][i].log_probability;
      EXPECT_NEAR(packed.answers.scores[d][i].log_probability, score, tolerance(score));
    }
}

// Requests that differ in their last token only read the same row.
TEST(EvaluationParts, SharedInputsGiveEachTokenItsScore) {
  const auto generator = load_generator(0);
  const std::vector<int32_t> text = {0, 20, 30, 40};
  double sum = 0.0;
  std::vector<Generator::ScoreRequest> requests;
  for (int32_t last = 0; last < 320; ++last) {
    requests.push_back({text, 1});
    requests.back().tokens.push_back(last);
  }
  int greedy = 0;
  for (const Generator::Score& score : generator->score(requests)) {
    sum += std::exp(score.log_probability);
    greedy += score.greedy;
  }
  EXPECT_NEAR(sum, 1.0, 1e-5);  // 320 probabilities in fp32
  EXPECT_EQ(greedy, 1);
}

TEST(EvaluationParts, TruncationIsCounted) {
  const auto tokenizer = load_tokenizer(golden());
  const EvalTask task = find_eval_task("piqa");
  const auto sets = read_eval_sets(task, golden() + "/data", {});
  const EvalRequests all = make_eval_requests(task, sets, *tokenizer, 160);
  EXPECT_EQ(all.num_truncated, 0);
  const EvalRequests cut = make_eval_requests(task, sets, *tokenizer, 10);
  EXPECT_EQ(cut.num_truncated, 16);  // two choices of eight documents
  EXPECT_EQ(cut.longest, 10);
  const auto& whole = all.scored[0][0].tokens;
  EXPECT_EQ(cut.scored[0][0].tokens, std::vector<int32_t>(whole.end() - 11, whole.end()));
}

TEST(EvaluationParts, AnswersNeedRoom) {
  const auto tokenizer = load_tokenizer(golden());
  const EvalTask task = find_eval_task("mgsm_es");
  const auto sets = read_eval_sets(task, golden() + "/data", {});
  const std::string error = testing::error_of(
      [&] { make_eval_requests(task, sets, *tokenizer, 160); }, ExitCode::bad_input);
  EXPECT_EQ(
      error,
      "task mgsm_es generates up to 256 tokens, and the model sees 160 at once: use a smaller "
      "--max-new-tokens");
}

// A folder of several files: one score each, and one of all.
TEST(EvaluationParts, SetsHaveScoresOfTheirOwn) {
  const Evaluated found =
      evaluate_alone({{"task", "blimp"}, {"path", "blimp"}, {"num_fewshot", nullptr}});
  ASSERT_EQ(found.result.sets.size(), 2u);
  EXPECT_EQ(found.result.sets[0].name, "blimp_causative");
  EXPECT_EQ(found.result.sets[1].name, "blimp_wh_island");
  EXPECT_EQ(found.result.total.num_documents, 10);
  const auto value = [](const EvalScore& score) { return score.metrics[0].value; };
  EXPECT_NEAR(value(found.result.total),
              (value(found.result.sets[0]) + value(found.result.sets[1])) / 2, 1e-12);
}

}  // namespace
}  // namespace forja
