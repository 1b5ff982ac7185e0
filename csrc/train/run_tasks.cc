// SPDX-License-Identifier: Apache-2.0
#include "csrc/train/run_tasks.h"

#include <algorithm>
#include <numeric>
#include <type_traits>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/data/tokenizer.h"

namespace forja {
namespace {

// The run's own, or the copy beside its training data.
std::unique_ptr<Tokenizer> tokenizer_of(const RunConfig& config) {
  const std::string& own = config.data.tokenizer;
  auto tokenizer =
      load_tokenizer(!own.empty() && file_exists(own) ? own : config.data.train.at(0).path);
  if (tokenizer->vocab_size() > config.model.vocab_size)
    fail_input("eval.tasks: the tokenizer has {} ids, the model {}", tokenizer->vocab_size(),
               config.model.vocab_size);
  return tokenizer;
}

int64_t num_inputs(const Generator::ScoreRequest& request) {
  return int64_t(request.tokens.size()) - 1;
}

}  // namespace

// Tasks point into their requests, which stay where they are when a task is moved.
static_assert(std::is_nothrow_move_constructible_v<EvalRequests>);

RunTasks::RunTasks(const RunConfig& config)
    : sequence_length_(config.data.sequence_length), document_mask_(config.data.document_mask) {
  if (config.eval.tasks.empty()) return;
  const auto tokenizer = tokenizer_of(config);
  for (const EvalTaskConfig& task : config.eval.tasks) tasks_.push_back(read(task, *tokenizer));
}

RunTasks::Task RunTasks::read(const EvalTaskConfig& config, const Tokenizer& tokenizer) const {
  const EvalTask task = find_eval_task(config.file.empty() ? config.name : config.file);
  if (task.output_type == "generate_until")
    fail_input(
        "eval.tasks: {} generates texts, which a run does not: evaluate its checkpoints with "
        "forja eval",
        task.name);
  for (const Task& other : tasks_)
    if (other.requests.task.name == task.name)
      fail_input("eval.tasks: two tasks have the name {}", task.name);
  Task out;
  out.requests = make_eval_requests(
      task,
      read_eval_sets(task, config.path, {.limit = config.limit, .num_fewshot = config.num_fewshot}),
      tokenizer, sequence_length_);
  for (const auto& of_document : out.requests.scored)
    for (const Generator::ScoreRequest& request : of_document)
      if (request.num_targets > 0) out.all.push_back(&request);
  std::vector<size_t> order(out.all.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return out.all[a]->tokens.size() > out.all[b]->tokens.size();
  });
  int64_t used = 0;
  for (const size_t i : order) {
    const int64_t more = num_inputs(*out.all[i]);
    if (out.samples.empty() || !document_mask_ || used + more > sequence_length_) {
      out.samples.emplace_back();
      used = 0;
    }
    out.samples.back().push_back(i);
    used += more;
  }
  return out;
}

// Samples from `first_sample` on; rows that are left over have no target.
Tensor RunTasks::fill(const Task& task, size_t first_sample, const MicroBatch& batch) const {
  const int64_t length = sequence_length_, count = batch.tokens.size(0) / length;
  int64_t num_sequences = 0;
  const auto add_sequence = [&](int64_t begin, int64_t rows) {
    int32_t* bounds = batch.sequences.ptr<int32_t>() + 4 * num_sequences++;
    for (const int64_t bound : {begin, rows, begin, rows}) *bounds++ = int32_t(bound);
    for (int64_t i = 0; i < rows; ++i) {
      batch.positions.ptr<int32_t>()[begin + i] = int32_t(i);
      batch.tokens.ptr<int32_t>()[begin + i] = 0;
      batch.targets.ptr<int32_t>()[begin + i] = -1;
    }
  };
  for (int64_t s = 0; s < count; ++s) {
    int64_t begin = s * length;
    const int64_t end = begin + length;
    const size_t sample = first_sample + size_t(s);
    for (const size_t r : sample < task.samples.size() ? task.samples[sample] : Sample{}) {
      const Generator::ScoreRequest& request = *task.all[r];
      const int64_t inputs = num_inputs(request);
      add_sequence(begin, document_mask_ ? inputs : length);
      for (int64_t i = 0; i < inputs; ++i) {
        batch.tokens.ptr<int32_t>()[begin + i] = request.tokens[size_t(i)];
        if (i >= inputs - request.num_targets)
          batch.targets.ptr<int32_t>()[begin + i] = request.tokens[size_t(i) + 1];
      }
      begin += document_mask_ ? inputs : length;
    }
    if (begin < end) add_sequence(begin, end - begin);
  }
  return batch.sequences.slice(0, 0, num_sequences);
}

EvalAnswers RunTasks::answer(const Task& task, TrainEngine& engine, const Mesh& mesh) const {
  std::vector<double> values(2 * task.all.size(), 0.0);  // log-probability, targets missed
  const int64_t of_micro_batch = engine.micro_batch_size();
  const auto first_sample = [&](int64_t m) {
    return size_t((m * mesh.dims.dp + mesh.coordinates.dp) * of_micro_batch);
  };
  const int64_t round = of_micro_batch * mesh.dims.dp;
  const int64_t rounds = (int64_t(task.samples.size()) + round - 1) / round;
  engine.score(
      rounds,
      [&](int64_t m, const MicroBatch& batch) { return fill(task, first_sample(m), batch); },
      [&](int64_t m, const Tensor& log_probabilities, const Tensor& margins) {
        for (int64_t s = 0; s < of_micro_batch; ++s) {
          const size_t sample = first_sample(m) + size_t(s);
          if (sample >= task.samples.size()) break;
          int64_t row = s * sequence_length_;
          for (const size_t r : task.samples[sample]) {
            const int64_t end = row + num_inputs(*task.all[r]);
            for (int64_t i = end - task.all[r]->num_targets; i < end; ++i) {
              values[2 * r] += double(log_probabilities.ptr<float>()[i]);
              values[2 * r + 1] += margins.ptr<float>()[i] < 0.0f;
            }
            row = end;
          }
        }
      });
  mesh.world
      ->all_reduce(make_tensor(values.data(), DType::f64, {int64_t(values.size())}), ReduceOp::sum,
                   {"scores"})
      .wait();
  EvalAnswers out;
  size_t r = 0;
  for (const auto& of_document : task.requests.scored) {
    auto& scores = out.scores.emplace_back();
    for (const Generator::ScoreRequest& request : of_document) {
      Generator::Score& score = scores.emplace_back();
      if (request.num_targets == 0) continue;
      score = {values[2 * r], values[2 * r + 1] == 0.0};
      ++r;
    }
  }
  return out;
}

TaskMetrics RunTasks::evaluate(TrainEngine& engine, const Mesh& mesh) const {
  TaskMetrics out;
  for (const Task& task : tasks_) {
    const EvalResult result = summarize_eval(task.requests, answer(task, engine, mesh));
    for (const EvalMetric& metric : result.total.metrics) {
      auto& values = out[task.requests.task.name];
      values[metric.name] = metric.value;
      if (metric.stderr_value) values[metric.name + "_stderr"] = *metric.stderr_value;
    }
  }
  return out;
}

}  // namespace forja
