// SPDX-License-Identifier: Apache-2.0
#include "forja/train/executor.h"

#include <algorithm>
#include <set>

#include "forja/base/error.h"
#include "forja/ops/elementwise.h"

namespace forja {

StageNeeds needs_of_stage(const Schedule& schedule, int stage) {
  const auto& actions = schedule.actions[size_t(schedule.rank_of_stage[size_t(stage)])];
  std::set<int> slots, buffers, computed, sent;
  bool sends = false;
  for (const Action& a : actions) sends |= a.stage == stage && a.kind == ActionKind::send_gradient;
  StageNeeds needs;
  for (const Action& a : actions) {
    if (a.stage != stage || a.microbatch < 0) continue;
    if (a.kind == ActionKind::recv_activation) buffers.insert(a.microbatch);
    if (a.kind == ActionKind::forward) slots.insert(a.microbatch);
    if (a.kind == ActionKind::send_gradient) sent.insert(a.microbatch);
    if (a.kind == ActionKind::backward || a.kind == ActionKind::backward_weight)
      computed.insert(a.microbatch);
    needs.slots = std::max(needs.slots, int(slots.size()));
    needs.receive_buffers = std::max(needs.receive_buffers, int(buffers.size()));
    if (!computed.count(a.microbatch) || (sends && !sent.count(a.microbatch))) continue;
    slots.erase(a.microbatch);
    buffers.erase(a.microbatch);
  }
  return needs;
}

Schedule make_executor_schedule(const std::string& name, int num_ranks, int virtual_stages,
                                int num_microbatches) {
  Schedule schedule = make_schedule(name, num_ranks, virtual_stages, num_microbatches);
  for (auto& actions : schedule.actions)
    for (Action& a : actions) a.overlaps_next = false;
  return add_communication(schedule);
}

PipelineExecutor::PipelineExecutor(const Schedule& schedule, Communicator& pp, const Context& ctx,
                                   TimeSplit& times, PipelineWork& work,
                                   std::vector<std::vector<Tensor>> receive_buffers)
    : pp_(&pp), context_(&ctx), times_(&times), work_(&work) {
  for (const int index : schedule.stages_of_rank(pp.rank())) {
    const StageNeeds needs = needs_of_stage(schedule, index);
    Stage stage;
    stage.index = index;
    stage.local = int(stages_.size());
    stage.is_first = index == 0;
    stage.is_last = index + 1 == schedule.num_stages();
    stage.slots.resize(size_t(needs.slots));
    stage.receive_buffers = std::move(receive_buffers[size_t(stage.local)]);
    for (int i = 0; i < int(stage.receive_buffers.size()); ++i) stage.free_buffers.push_back(i);
    stages_.push_back(std::move(stage));
  }
}

void PipelineExecutor::run(const Schedule& schedule, int64_t step) {
  running_ = &schedule;
  step_ = step;
  for (const Action& action : schedule.actions[size_t(pp_->rank())]) {
    if (!on_action_) {
      run_action(action);
      continue;
    }
    const auto begin = times_->now();
    run_action(action);
    times_->when_known(begin, times_->now(), [this, action, step](auto from, auto to) {
      on_action_(action, step, from, to);
    });
  }
  for (Stage& stage : stages_)
    for (Slot& slot : stage.slots) times_->wait(slot.sent, TimeKind::wait_pp);
}

void PipelineExecutor::run_action(const Action& action) {
  const ProfilerRange range(action.to_string().c_str());
  if (on_begin_) on_begin_(action);
  Stage& stage = *local_stage(action.stage);
  const int m = action.microbatch;
  switch (action.kind) {
    case ActionKind::forward:
      return forward(stage, m);
    case ActionKind::backward:
      return backward(stage, m, BackwardPart::both);
    case ActionKind::backward_input:
      return backward(stage, m, BackwardPart::input);
    case ActionKind::backward_weight:
      return backward(stage, m, BackwardPart::weight);
    case ActionKind::send_activation:
      return send(stage, m, true);
    case ActionKind::send_gradient:
      return send(stage, m, false);
    case ActionKind::recv_activation:
      return receive(stage, m, true);
    case ActionKind::recv_gradient:
      return receive(stage, m, false);
    case ActionKind::reduce_gradients:
      return work_->reduce_gradients(stage.local);
    case ActionKind::unshard:
    case ActionKind::reshard:
      return;  // layers are gathered around each of their uses
  }
}

// ---- Slots

PipelineExecutor::Stage* PipelineExecutor::local_stage(int index) {
  for (Stage& stage : stages_)
    if (stage.index == index) return &stage;
  return nullptr;
}

PipelineExecutor::Slot& PipelineExecutor::slot_of(Stage& stage, int m) {
  for (Slot& slot : stage.slots)
    if (slot.microbatch == m) return slot;
  fail("schedule {}: stage {} has no activations of micro-batch {}", running_->name, stage.index,
       m);
}

PipelineExecutor::Slot& PipelineExecutor::take_slot(Stage& stage, int m) {
  for (Slot& slot : stage.slots) {
    if (slot.microbatch >= 0) continue;
    // The gradient that was sent from it last may still be on its way.
    times_->wait(slot.sent, TimeKind::wait_pp);
    slot = {};
    slot.microbatch = m;
    slot.transfers = work_->open_slot(stage.local, place(stage, slot));
    return slot;
  }
  fail("schedule {}: stage {} holds more than {} micro-batches", running_->name, stage.index,
       stage.slots.size());
}

// A slot is free when its backward is done and its gradient is handed on.
void PipelineExecutor::release_if_done(Stage& stage, Slot& slot) {
  const bool sends = !stage.is_first && !local_stage(stage.index - 1);
  if (!slot.computed || (sends && !slot.gradient_sent)) return;
  if (slot.input_buffer >= 0) stage.free_buffers.push_back(slot.input_buffer);
  slot.input_buffer = -1;
  slot.microbatch = -1;
}

// ---- Computing

// Waits for the input of the slot's micro-batch.
Tensor PipelineExecutor::take_input(Stage& stage, Slot& slot) {
  if (stage.is_first) return {};
  const int m = slot.microbatch;
  if (Stage* before = local_stage(stage.index - 1)) return slot_of(*before, m).transfers.output;
  const auto found = std::find_if(stage.received.begin(), stage.received.end(),
                                  [m](const Received& r) { return r.microbatch == m; });
  FORJA_CHECK(found != stage.received.end(), "nothing was received for micro-batch {}", m);
  slot.input_buffer = found->buffer;
  times_->wait(found->event, TimeKind::wait_pp);
  stage.received.erase(found);
  return stage.receive_buffers[size_t(slot.input_buffer)];
}

void PipelineExecutor::forward(Stage& stage, int m) {
  Slot& slot = take_slot(stage, m);
  const Tensor input = take_input(stage, slot);
  const TimeSplit::Scope time(*times_, TimeKind::forward);
  work_->forward(stage.local, place(stage, slot), m, input);
}

// True when no later action of this rank adds to the gradients of the stage.
static bool is_last_of_stage(const std::vector<Action>& actions, int stage, int m,
                             BackwardPart part) {
  for (size_t i = actions.size(); i-- > 0;) {
    const Action& a = actions[i];
    if (a.stage != stage) continue;
    if (a.kind == ActionKind::backward || a.kind == ActionKind::backward_weight)
      return a.microbatch == m && (a.kind == ActionKind::backward) == (part == BackwardPart::both);
  }
  return false;
}

void PipelineExecutor::backward(Stage& stage, int m, BackwardPart part) {
  Slot& slot = slot_of(stage, m);
  if (part != BackwardPart::weight && !stage.is_last)
    times_->wait(slot.d_output, TimeKind::wait_pp);
  const bool completes =
      is_last_of_stage(running_->actions[size_t(pp_->rank())], stage.index, m, part);
  const TimeSplit::Scope time(*times_, TimeKind::backward);
  work_->backward(stage.local, place(stage, slot), m, part, completes);
  if (part != BackwardPart::weight && !stage.is_first) {
    if (Stage* before = local_stage(stage.index - 1))
      convert(*context_, slot.transfers.d_input, slot_of(*before, m).transfers.d_output);
  }
  if (part == BackwardPart::input) return;
  slot.computed = true;
  release_if_done(stage, slot);
}

// ---- Transfers

void PipelineExecutor::send(Stage& stage, int m, bool activation) {
  Slot& slot = slot_of(stage, m);
  const int peer = running_->rank_of_stage[size_t(stage.index + (activation ? 1 : -1))];
  const Tensor data = activation ? slot.transfers.output : slot.transfers.d_input;
  slot.sent = pp_->exchange({{PointToPoint::Kind::send, data, peer}},
                            {activation ? "activation" : "gradient", step_, stage.index});
  if (activation) return;
  slot.gradient_sent = true;
  release_if_done(stage, slot);
}

void PipelineExecutor::receive(Stage& stage, int m, bool activation) {
  const int peer = running_->rank_of_stage[size_t(stage.index + (activation ? -1 : 1))];
  const CommLabel label{activation ? "activation" : "gradient", step_, stage.index};
  if (!activation) {
    Slot& slot = slot_of(stage, m);
    slot.d_output =
        pp_->exchange({{PointToPoint::Kind::recv, slot.transfers.d_output, peer}}, label);
    return;
  }
  FORJA_CHECK(!stage.free_buffers.empty(),
              "schedule {}: stage {} receives more than it has room for", running_->name,
              stage.index);
  const int buffer = stage.free_buffers.back();
  stage.free_buffers.pop_back();
  stage.received.push_back(
      {m, buffer,
       pp_->exchange({{PointToPoint::Kind::recv, stage.receive_buffers[size_t(buffer)], peer}},
                     label)});
}

}  // namespace forja
