// SPDX-License-Identifier: Apache-2.0
#include "csrc/parallel/schedule/execution.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

bool is_gradient(ActionKind kind) {
  return kind == ActionKind::backward || kind == ActionKind::backward_input;
}

}  // namespace

Execution::Execution(const Schedule& schedule, const ActionTimes& times, Delivery delivery)
    : schedule_(schedule),
      times_(times),
      delivery_(delivery),
      end_(schedule.num_stages(), schedule.num_microbatches, kNever),
      ranks_(size_t(schedule.num_ranks())),
      timeline_(size_t(schedule.num_ranks())),
      busy_(size_t(schedule.num_ranks()), 0.0) {
  FORJA_CHECK(times.stage_scale.empty() || int(times.stage_scale.size()) == schedule.num_stages(),
              "{} stage scales for {} stages", times.stage_scale.size(), schedule.num_stages());
}

void Execution::run() {
  for (bool progress = true; progress;) {
    progress = false;
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      progress |= compute(rank);
      progress |= transfer(rank);
    }
  }
  if (finished()) return;
  std::vector<std::string> standing;
  for (int rank = 0; rank < schedule_.num_ranks(); ++rank) standing.push_back(explain_rank(rank));
  fail_input("schedule {} deadlocks: {}", schedule_.name, join(standing, "; "));
}

// Runs the list up to an action whose data are not there yet; true where it came further.
bool Execution::compute(int rank) {
  Rank& r = ranks_[size_t(rank)];
  const std::vector<Action>& list = schedule_.actions[size_t(rank)];
  const size_t before = r.next;
  while (r.next < list.size()) {
    const Action& action = list[r.next];
    if (!is_computing(action.kind)) {
      if (is_transfer(action.kind) && delivery_ == Delivery::queued)
        r.queue.push_back({action, r.free_at});
      ++r.next;
      continue;
    }
    const size_t together = action.overlaps_next ? 2 : 1;
    double begin = r.free_at, length = 0.0;
    for (size_t i = r.next; i < r.next + together; ++i) {
      begin = std::max(begin, ready_at(list[i]));
      length = std::max(length, duration(list[i]));
    }
    if (begin == kNever) break;
    for (size_t i = r.next; i < r.next + together; ++i)
      record(rank, list[i], begin, begin + length);
    busy_[size_t(rank)] += length;
    r.free_at = begin + length;
    r.next += together;
  }
  return r.next != before;
}

// Moves what stands at the head of the rank's queue and of its peer's; true where anything moved.
bool Execution::transfer(int rank) {
  bool moved = false;
  while (const Rank::Posted* mine = head(rank)) {
    const Action action = mine->action, other = other_side(action);
    const int peer = rank_of(other.stage);
    const Rank::Posted* theirs = head(peer);
    if (!theirs || !(theirs->action == other)) break;
    Rank &a = ranks_[size_t(rank)], &b = ranks_[size_t(peer)];
    const double begin = std::max({mine->at, theirs->at, a.queue_free_at, b.queue_free_at});
    const double end = begin + times_.transfer;
    record(rank, action, begin, end);
    record(peer, other, begin, end);
    a.queue_free_at = b.queue_free_at = end;
    ++a.queue_head;
    ++b.queue_head;
    moved = true;
  }
  return moved;
}

// What a computing action needs from another stage, as an action of that stage or as the transfer
// that brings it.
std::optional<Action> Execution::needs(const Action& action) const {
  const bool forward = action.kind == ActionKind::forward;
  if (!forward && !is_gradient(action.kind)) return {};
  const int s = action.stage, m = action.microbatch, from = forward ? s - 1 : s + 1;
  if (from < 0 || from >= schedule_.num_stages()) return {};
  if (delivery_ == Delivery::queued && rank_of(from) != rank_of(s))
    return Action{forward ? ActionKind::recv_activation : ActionKind::recv_gradient, s, m};
  return Action{forward ? ActionKind::forward : ActionKind::backward_input, from, m};
}

double Execution::ready_at(const Action& action) const {
  const std::optional<Action> need = needs(action);
  return need ? end_of(*need) : 0.0;
}

double Execution::end_of(const Action& action) const {
  return end_(action.kind, action.stage, action.microbatch);
}

double Execution::duration(const Action& action) const {
  const double scale = times_.stage_scale.empty() ? 1.0 : times_.stage_scale[size_t(action.stage)];
  switch (action.kind) {
    case ActionKind::forward:
      return scale * times_.forward;
    case ActionKind::backward:
      return scale * (times_.backward_input + times_.backward_weight);
    case ActionKind::backward_input:
      return scale * times_.backward_input;
    default:
      return scale * times_.backward_weight;
  }
}

void Execution::record(int rank, const Action& action, double begin, double end) {
  end_(action.kind, action.stage, action.microbatch) = end;
  // Whoever waits for the gradient need not know whether the weights' come with it.
  if (action.kind == ActionKind::backward)
    end_(ActionKind::backward_input, action.stage, action.microbatch) = end;
  timeline_[size_t(rank)].push_back({action, begin, end});
}

const Execution::Rank::Posted* Execution::head(int rank) const {
  const Rank& r = ranks_[size_t(rank)];
  return r.queue_head < r.queue.size() ? &r.queue[r.queue_head] : nullptr;
}

bool Execution::finished() const {
  for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
    if (head(rank) || ranks_[size_t(rank)].next < schedule_.actions[size_t(rank)].size())
      return false;
  }
  return true;
}

// "rank 1 stands at 1F1, which waits for 0F1 of rank 0".
std::string Execution::explain_rank(int rank) const {
  const std::vector<Action>& list = schedule_.actions[size_t(rank)];
  const size_t next = ranks_[size_t(rank)].next;
  std::string text = fmt::format("rank {} has run its list", rank);
  if (next < list.size()) {
    const size_t together = list[next].overlaps_next ? 2 : 1;
    for (size_t i = next; i < next + together; ++i) {
      if (ready_at(list[i]) != kNever) continue;
      text = fmt::format("rank {} stands at {}, which waits for {}", rank, list[i].to_string(),
                         name_of(*needs(list[i])));
      break;
    }
  }
  if (const Rank::Posted* first = head(rank)) {
    text += fmt::format(", and its transfers at {}, which waits for {}", first->action.to_string(),
                        name_of(other_side(first->action)));
  }
  return text;
}

// "0F1 of rank 0"; a gradient by the name that it has in the schedule.
std::string Execution::name_of(Action action) const {
  const int rank = rank_of(action.stage);
  const std::vector<Action>& list = schedule_.actions[size_t(rank)];
  if (std::find(list.begin(), list.end(), action) == list.end() && is_gradient(action.kind))
    action.kind = ActionKind::backward;
  return fmt::format("{} of rank {}", action.to_string(), rank);
}

}  // namespace forja
