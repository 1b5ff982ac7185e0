// SPDX-License-Identifier: Apache-2.0
// The schedule executor: runs the actions of a pipeline schedule that are this rank's.
//
// It knows which micro-batches are alive, moves activations and gradients between ranks and calls
// the work of each action. Transfers are enqueued in the order of the list and waited for only
// where their data is used (a receive) or their memory is wanted again (a send). Activations of a
// micro-batch live in a slot from its forward to the end of its backward; the schedule says how
// many slots are needed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "forja/comm/communicator.h"
#include "forja/device/context.h"
#include "forja/nn/decoder.h"
#include "forja/parallel/schedule.h"
#include "forja/parallel/time_split.h"

namespace forja {

// The most micro-batches alive in a stage at once over the actions of its rank: from forward
// (activations), or from the receive (input buffers), to the end of backward.
struct StageNeeds {
  int slots = 0, receive_buffers = 0;
};
StageNeeds needs_of_stage(const Schedule& schedule, int stage);

// make_schedule with its transfers, as an executor runs it: a forward and a backward that may run
// together run one after the other, and transfers are in the order which that makes best.
Schedule make_executor_schedule(const std::string& name, int num_ranks, int virtual_stages,
                                int num_microbatches);

// What the actions of a rank do. `local` is the place of the stage among those of the rank, `slot`
// is less than StageNeeds::slots. Called from one thread, in the order of the schedule.
class PipelineWork {
 public:
  // What passes between stages of one slot; undefined at the ends of the pipeline.
  struct Transfers {
    Tensor output, d_output, d_input;
  };

  virtual ~PipelineWork() = default;
  // The slot is for another micro-batch from here on. Its transfers stay where they are until the
  // next call for the slot.
  virtual Transfers open_slot(int local, int slot) = 0;
  // From `input` (undefined in the first stage) to the slot's output.
  virtual void forward(int local, int slot, int microbatch, const Tensor& input) = 0;
  // From the slot's d_output to its d_input, or the weights' gradients, or both. `completes`: no
  // later action adds to the gradients of the stage.
  virtual void backward(int local, int slot, int microbatch, BackwardPart part, bool completes) = 0;
  // The gradients of the stage are whole.
  virtual void reduce_gradients(int local) = 0;
};

// Hears of every action as it ends.
using ActionListener =
    std::function<void(const Action& action, int64_t step, TimeSplit::Clock::time_point begin,
                       TimeSplit::Clock::time_point end)>;

class PipelineExecutor {
 public:
  // `schedule` is the one that needs most of all that will run: it places the stages and sizes
  // slots and buffers. receive_buffers[local][i] are the inputs that come from another rank,
  // StageNeeds::receive_buffers of each stage. Nothing is owned, and the context is read as it is
  // in each run.
  PipelineExecutor(const Schedule& schedule, Communicator& pp, const Context& ctx, TimeSplit& times,
                   PipelineWork& work, std::vector<std::vector<Tensor>> receive_buffers);

  // Called before each action.
  void set_begin_listener(std::function<void(const Action&)> on_begin) {
    on_begin_ = std::move(on_begin);
  }
  // Called after each action; nullptr: no longer.
  void set_listener(ActionListener on_action) { on_action_ = std::move(on_action); }

  // Runs a schedule of the same stages, and waits for the last sends.
  void run(const Schedule& schedule, int64_t step);

 private:
  // The activations of one micro-batch.
  struct Slot {
    PipelineWork::Transfers transfers;
    int microbatch = -1;  // -1: free
    bool computed = false, gradient_sent = false;
    int input_buffer = -1;  // of the stage's receive buffers
    Event d_output, sent;
  };
  // What was received for a micro-batch that has no slot yet.
  struct Received {
    int microbatch, buffer;
    Event event;
  };
  struct Stage {
    int index, local;
    bool is_first, is_last;  // of the pipeline
    std::vector<Slot> slots;
    std::vector<Tensor> receive_buffers;
    std::deque<Received> received;
    std::vector<int> free_buffers;
  };

  void run_action(const Action& action);
  void forward(Stage& stage, int m);
  void backward(Stage& stage, int m, BackwardPart part);
  void send(Stage& stage, int m, bool activation);
  void receive(Stage& stage, int m, bool activation);
  Tensor take_input(Stage& stage, Slot& slot);
  Stage* local_stage(int index);
  Slot& slot_of(Stage& stage, int m);
  Slot& take_slot(Stage& stage, int m);
  int place(const Stage& stage, const Slot& slot) const { return int(&slot - stage.slots.data()); }
  void release_if_done(Stage& stage, Slot& slot);

  Communicator* pp_;
  const Context* context_;
  TimeSplit* times_;
  PipelineWork* work_;
  std::vector<Stage> stages_;  // of this rank, ascending
  const Schedule* running_ = nullptr;
  int64_t step_ = 0;
  std::function<void(const Action&)> on_begin_;
  ActionListener on_action_;
};

}  // namespace forja
