// SPDX-License-Identifier: Apache-2.0
// The engine's passes without a backward: evaluation, scores, and what a model says of preference
// pairs, with and without its adapters.
#include <algorithm>
#include <iterator>

#include "csrc/train/batch_counts.h"
#include "csrc/train/stage.h"
#include "forja/ops/elementwise.h"
#include "forja/train/engine.h"

namespace forja {

// A micro-batch through every stage of this rank.
void TrainEngine::evaluate_microbatch(int64_t m, bool adapters, const Tensor& margins) {
  const int64_t rows = config_.micro_batch_size * config_.sequence_length / mesh_->dims.tp;
  const Schedule& s = schedule(config_.num_microbatches);
  const int rank = mesh_->coordinates.pp;
  ArenaScope scope(workspace_);
  const auto buffer = [&] {
    return allocate(workspace_, config_.compute_dtype, {rows, config_.model.hidden_size});
  };
  const Tensor in = buffer(), out = buffer();
  const auto transfer = [&](PointToPoint::Kind kind, const Tensor& x, int stage) {
    const int peer = s.rank_of_stage[size_t(stage)];
    if (peer == rank) {
      if (kind == PointToPoint::Kind::recv) convert(context_, out, x);
      return;
    }
    if (!context_.planning())
      times_.wait(mesh_->pp->exchange({{kind, x, peer}}, {"evaluation"}), TimeKind::wait_pp);
  };
  for (auto& stage : stages_) {
    const StageRange& range = stage->decoder->range();
    if (!range.has_embedding) transfer(PointToPoint::Kind::recv, in, stage->index - 1);
    DecoderInput input = input_of(0, m);
    input.rows.adapters = adapters;
    stage->decoder->evaluate(context_, input, in, out, device_inputs_[size_t(m)].log_probabilities,
                             margins);
    if (!range.has_head) transfer(PointToPoint::Kind::send, out, stage->index + 1);
  }
}

TrainEngine::Evaluation TrainEngine::evaluate(int64_t num_microbatches, const Fill& fill) {
  double sums[7] = {};  // log-probability, targets, and those of preferences
  sync_->use_others();
  const bool counts = has_scores(), pairs = config_.preference.is_on();
  preference_ = {};
  for (int64_t m = 0; m < num_microbatches; ++m) {
    Inputs& in = host_inputs_[0];
    in.sequences = fill(m, in.batch);
    upload(0);
    if (pairs) refer(1);
    evaluate_microbatch(0, true);
    if (pairs && counts) {
      preference_.add(preference_loss(config_.preference, local_answers(0), reference_[0], 0.0,
                                      in.batch.targets, {}, {}));
    }
    sums[0] -= local_loss(1);  // waits, on every rank: the host's batch is written anew
    if (counts) sums[1] += double(num_targets_of(in.batch));
  }
  if (pairs) sums[0] = 0.0;
  const PreferenceSums& p = preference_;
  const double of_pairs[] = {p.loss, p.chosen_reward, p.rejected_reward, p.num_accurate,
                             p.num_pairs};
  std::copy(std::begin(of_pairs), std::end(of_pairs), sums + 2);
  mesh_->world->all_reduce(make_tensor(sums, DType::f64, {7}), ReduceOp::sum, {"evaluation"})
      .wait();
  return {sums[0], int64_t(sums[1]), {sums[2], sums[3], sums[4], sums[5], sums[6]}};
}

void TrainEngine::score(int64_t num_microbatches, const Fill& fill, const OnScores& on_scores) {
  sync_->use_others();
  // Evaluation reads no coefficients: their memory takes the margins.
  Inputs &host = host_inputs_[0], &device = device_inputs_[0];
  for (int64_t m = 0; m < num_microbatches; ++m) {
    host.sequences = fill(m, host.batch);
    upload(0);
    evaluate_microbatch(0, true, device.coefficients);
    for (const auto& values : {&Inputs::log_probabilities, &Inputs::coefficients})
      copy_bytes(context_, (host.*values).data, (device.*values).data, (host.*values).num_bytes());
    synchronize(context_);  // on every rank: the host's batch is written anew
    if (has_scores()) on_scores(m, host.log_probabilities, host.coefficients);
  }
}

// ---- Preference pairs

bool TrainEngine::has_head() const { return stages_.back()->decoder->range().has_head; }
bool TrainEngine::has_scores() const { return has_head() && mesh_->coordinates.tp == 0; }

// To the host; to be waited for.
void TrainEngine::download_log_probabilities(int64_t m) {
  const Tensor& host = host_inputs_[size_t(m)].log_probabilities;
  copy_bytes(context_, host.data, device_inputs_[size_t(m)].log_probabilities.data,
             host.num_bytes());
}

// Of a micro-batch whose log-probabilities are there. Waits for the device.
std::vector<Answer> TrainEngine::local_answers(int64_t m) {
  download_log_probabilities(m);
  synchronize(context_);
  const Inputs& in = host_inputs_[size_t(m)];
  return answers_of(in.batch.targets, in.log_probabilities,
                    without_padding(in.batch, in.sequences));
}

// What the model without its adapters says of the step's pairs.
void TrainEngine::refer(int64_t num_microbatches) {
  const TimeSplit::Scope time(times_, TimeKind::forward);
  reference_.assign(size_t(num_microbatches), {});
  for (int64_t m = 0; m < num_microbatches; ++m) {
    evaluate_microbatch(m, false);
    if (has_head()) reference_[size_t(m)] = local_answers(m);
  }
}

// Sets the coefficients of a micro-batch by its log-probabilities; every tensor-parallel rank has
// all of them, and computes the same.
void TrainEngine::weigh(int64_t m) {
  if (context_.planning()) return;
  const std::vector<Answer> answers = local_answers(m);
  const Inputs& in = host_inputs_[size_t(m)];
  const PreferenceSums sums =
      preference_loss(config_.preference, answers, reference_[size_t(m)], pair_weight_,
                      in.batch.targets, without_padding(in.batch, in.sequences), in.coefficients);
  if (mesh_->coordinates.tp == 0) preference_.add(sums);
  copy_bytes(context_, device_inputs_[size_t(m)].coefficients.data, in.coefficients.data,
             in.coefficients.num_bytes());
}

}  // namespace forja
