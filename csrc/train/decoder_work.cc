// SPDX-License-Identifier: Apache-2.0
// What the actions of a pipeline schedule do in training.
#include "csrc/train/stage.h"

namespace forja {

PipelineWork::Transfers TrainEngine::Work::open_slot(int local, int slot) {
  const Stage& stage = *engine.stages_[size_t(local)];
  Slot& s = engine.stages_[size_t(local)]->slots[size_t(slot)];
  s.arena->release(0);
  stage.decoder->allocate_transfers(
      *s.arena, engine.config_.micro_batch_size * engine.config_.sequence_length, s.stash);
  return {s.stash.output, s.stash.d_output, s.stash.d_input};
}

void TrainEngine::Work::forward(int local, int slot, int microbatch, const Tensor& input) {
  Stage& stage = *engine.stages_[size_t(local)];
  Slot& s = stage.slots[size_t(slot)];
  s.stash.input = input;
  stage.decoder->forward(engine.context_, *s.arena, engine.input_of(step, microbatch), s.stash,
                         engine.device_inputs_[size_t(microbatch)].log_probabilities);
}

void TrainEngine::Work::backward(int local, int slot, int microbatch, BackwardPart part,
                                 bool completes) {
  Stage& stage = *engine.stages_[size_t(local)];
  Slot& s = stage.slots[size_t(slot)];
  engine.completing_ = completes;
  Arena& made = part == BackwardPart::both ? engine.workspace_ : *s.arena;
  stage.decoder->backward(engine.context_, made, engine.input_of(step, microbatch), s.stash, part);
}

void TrainEngine::Work::reduce_gradients(int local) {
  engine.sync_->stage_complete(engine.stages_[size_t(local)]->index);
}

}  // namespace forja
