// SPDX-License-Identifier: Apache-2.0
// The schedule executor: what each action of a pipeline schedule does on this rank.
//
// Transfers are enqueued and waited for only where their data is used (a receive) or their memory
// is wanted again (a send). Activations of a micro-batch live in a slot from its forward to the end
// of its backward; the schedule says how many slots are needed.
#include <algorithm>
#include <set>

#include "csrc/train/stage.h"
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

TrainEngine::Stage* TrainEngine::local_stage(int index) {
  for (auto& stage : stages_)
    if (stage->index == index) return stage.get();
  return nullptr;
}

TrainEngine::Slot& TrainEngine::slot_of(Stage& stage, int m) {
  for (Slot& slot : stage.slots)
    if (slot.microbatch == m) return slot;
  fail("schedule {}: stage {} has no activations of micro-batch {}", running_->name, stage.index,
       m);
}

TrainEngine::Slot& TrainEngine::take_slot(Stage& stage, int m) {
  for (Slot& slot : stage.slots) {
    if (slot.microbatch >= 0) continue;
    // The gradient that was sent from it last may still be on its way.
    times_.wait(slot.sent, TimeKind::wait_pp);
    slot.microbatch = m;
    slot.computed = slot.gradient_sent = false;
    slot.input = slot.d_output = slot.sent = {};
    slot.arena->release(0);
    stage.decoder->allocate_transfers(
        *slot.arena, config_.micro_batch_size * config_.sequence_length, slot.stash);
    return slot;
  }
  fail("schedule {}: stage {} holds more than {} micro-batches", running_->name, stage.index,
       stage.slots.size());
}

void TrainEngine::run(const Action& action, int64_t step) {
  Stage& stage = *local_stage(action.stage);
  const int m = action.microbatch;
  switch (action.kind) {
    case ActionKind::forward:
      return forward(stage, m, step);
    case ActionKind::backward:
      return backward(stage, m, step, BackwardPart::both);
    case ActionKind::backward_input:
      return backward(stage, m, step, BackwardPart::input);
    case ActionKind::backward_weight:
      return backward(stage, m, step, BackwardPart::weight);
    case ActionKind::send_activation:
      return send(stage, m, true, step);
    case ActionKind::send_gradient:
      return send(stage, m, false, step);
    case ActionKind::recv_activation:
      return receive(stage, m, true, step);
    case ActionKind::recv_gradient:
      return receive(stage, m, false, step);
    case ActionKind::reduce_gradients:
      return sync_->stage_complete(stage.index);
    case ActionKind::unshard:
    case ActionKind::reshard:
      return;  // layers are gathered around each of their uses
  }
}

void TrainEngine::forward(Stage& stage, int m, int64_t step) {
  Slot& slot = take_slot(stage, m);
  const StageRange& range = stage.decoder->range();
  if (!range.has_embedding) {
    if (Stage* before = local_stage(stage.index - 1)) {
      slot.stash.input = slot_of(*before, m).stash.output;
    } else {
      const auto found = std::find_if(stage.received.begin(), stage.received.end(),
                                      [m](const Stage::Received& r) { return r.microbatch == m; });
      FORJA_CHECK(found != stage.received.end(), "nothing was received for micro-batch {}", m);
      slot.input_buffer = found->buffer;
      slot.stash.input = stage.receive_buffers[size_t(found->buffer)];
      times_.wait(found->event, TimeKind::wait_pp);
      stage.received.erase(found);
    }
  }
  const TimeSplit::Scope time(times_, TimeKind::forward);
  stage.decoder->forward(context_, *slot.arena, input_of(step, m), slot.stash,
                         log_probabilities_[size_t(m)]);
  if (range.has_head) add_loss(m);
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

void TrainEngine::backward(Stage& stage, int m, int64_t step, BackwardPart part) {
  Slot& slot = slot_of(stage, m);
  const StageRange& range = stage.decoder->range();
  if (part != BackwardPart::weight && !range.has_head)
    times_.wait(slot.d_output, TimeKind::wait_pp);
  completing_ =
      is_last_of_stage(running_->actions[size_t(mesh_->coordinates.pp)], stage.index, m, part);
  const TimeSplit::Scope time(times_, TimeKind::backward);
  Arena& made = part == BackwardPart::both ? workspace_ : *slot.arena;
  stage.decoder->backward(context_, made, input_of(step, m), slot.stash, part);
  if (part != BackwardPart::weight && !range.has_embedding) {
    if (Stage* before = local_stage(stage.index - 1))
      convert(context_, slot.stash.d_input, slot_of(*before, m).stash.d_output);
  }
  if (part == BackwardPart::input) return;
  slot.computed = true;
  release_if_done(stage, slot);
}

// A slot is free when its backward is done and its gradient is handed on.
void TrainEngine::release_if_done(Stage& stage, Slot& slot) {
  const bool sends = !stage.decoder->range().has_embedding && !local_stage(stage.index - 1);
  if (!slot.computed || (sends && !slot.gradient_sent)) return;
  if (slot.input_buffer >= 0) stage.free_buffers.push_back(slot.input_buffer);
  slot.input_buffer = -1;
  slot.microbatch = -1;
}

void TrainEngine::send(Stage& stage, int m, bool activation, int64_t step) {
  Slot& slot = slot_of(stage, m);
  const int peer = running_->rank_of_stage[size_t(stage.index + (activation ? 1 : -1))];
  const Tensor data = activation ? slot.stash.output : slot.stash.d_input;
  slot.sent = mesh_->pp->exchange({{PointToPoint::Kind::send, data, peer}},
                                  {activation ? "activation" : "gradient", step, stage.index});
  if (activation) return;
  slot.gradient_sent = true;
  release_if_done(stage, slot);
}

void TrainEngine::receive(Stage& stage, int m, bool activation, int64_t step) {
  const int peer = running_->rank_of_stage[size_t(stage.index + (activation ? -1 : 1))];
  const CommLabel label{activation ? "activation" : "gradient", step, stage.index};
  if (!activation) {
    Slot& slot = slot_of(stage, m);
    slot.d_output =
        mesh_->pp->exchange({{PointToPoint::Kind::recv, slot.stash.d_output, peer}}, label);
    return;
  }
  FORJA_CHECK(!stage.free_buffers.empty(),
              "schedule {}: stage {} receives more than it has room for", running_->name,
              stage.index);
  const int buffer = stage.free_buffers.back();
  stage.free_buffers.pop_back();
  stage.received.push_back(
      {m, buffer,
       mesh_->pp->exchange(
           {{PointToPoint::Kind::recv, stage.receive_buffers[size_t(buffer)], peer}}, label)});
}

}  // namespace forja
