// SPDX-License-Identifier: Apache-2.0
// Schedules as CSV, in the grammar of PyTorch's pipelining: a row for each rank, a cell for each
// action; an empty cell is a wait.
#include <algorithm>
#include <charconv>

#include "csrc/parallel/schedule/internal.h"
#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

constexpr ActionKind kKinds[] = {
    ActionKind::forward,         ActionKind::backward,        ActionKind::backward_input,
    ActionKind::backward_weight, ActionKind::send_activation, ActionKind::recv_activation,
    ActionKind::send_gradient,   ActionKind::recv_gradient,   ActionKind::unshard,
    ActionKind::reshard,         ActionKind::reduce_gradients};
constexpr std::string_view kOverlap = "OVERLAP_F_B";
constexpr int kMaxNumber = 1 << 20;  // of a stage or micro-batch

// Takes a number from the front of `text`; -1 where there is none, or one that is far too large.
int take_number(std::string_view& text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0 || number > kMaxNumber) return -1;
  text.remove_prefix(size_t(end - text.data()));
  return number;
}

// "2F0", "0UNSHARD"; nothing where it is none.
std::optional<Action> parse_action(std::string_view text) {
  const int stage = take_number(text);
  const size_t letters = std::min(text.find_first_of("0123456789"), text.size());
  const std::string_view name = text.substr(0, letters);
  text.remove_prefix(letters);
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&](ActionKind k) { return name == kind_name(k); });
  if (stage < 0 || kind == std::end(kKinds)) return {};
  Action action{*kind, stage};
  if (is_computing(*kind) || is_transfer(*kind)) {
    action.microbatch = take_number(text);
    if (action.microbatch < 0) return {};
  }
  return text.empty() ? std::optional(action) : std::nullopt;
}

// The action of a cell, or the two of "(0F1;3B0)OVERLAP_F_B"; none where the cell is wrong.
std::vector<Action> parse_cell(std::string_view cell) {
  if (!cell.starts_with('(')) {
    const std::optional<Action> action = parse_action(cell);
    return action ? std::vector<Action>{*action} : std::vector<Action>{};
  }
  const size_t middle = cell.find(';'), close = cell.find(')');
  if (middle == cell.npos || close == cell.npos || close < middle) return {};
  if (cell.substr(close + 1) != kOverlap) return {};
  std::optional<Action> first = parse_action(trim(cell.substr(1, middle - 1)));
  const std::optional<Action> second =
      parse_action(trim(cell.substr(middle + 1, close - middle - 1)));
  if (!first || !second) return {};
  first->overlaps_next = true;
  return {*first, *second};
}

class Parser {
 public:
  Parser(const std::string& file, int num_ranks, int virtual_stages, int num_microbatches)
      : file_(file), num_ranks_(num_ranks), virtual_stages_(virtual_stages) {
    schedule_.name = file;
    schedule_.num_microbatches = num_microbatches;
  }

  Schedule parse(const std::string& text) {
    std::vector<std::string> lines = split(text, '\n');
    while (!lines.empty() && trim(lines.back()).empty()) lines.pop_back();
    if (int(lines.size()) != num_ranks_) {
      fail_input("{}: expected a row for each of {} ranks, found {} rows", file_, num_ranks_,
                 lines.size());
    }
    for (const std::string& line : lines) parse_row(line);
    check_stages();
    if (const std::optional<ScheduleFault> fault = find_fault(schedule_)) {
      if (fault->index < 0) fail_input("{}:{}: {}", file_, fault->rank + 1, fault->message);
      fail_at(fault->rank, cells_[size_t(fault->rank)][size_t(fault->index)], fault->message);
    }
    return std::move(schedule_);
  }

 private:
  void parse_row(const std::string& line) {
    const int rank = schedule_.num_ranks();
    schedule_.actions.emplace_back();
    cells_.emplace_back();
    const std::vector<std::string> cells = split(line, ',');
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string_view cell = trim(cells[i]);
      if (cell.empty()) continue;
      const int number = int(i) + 1;
      const std::vector<Action> actions = parse_cell(cell);
      if (actions.empty()) {
        fail_at(rank, number,
                fmt::format("\"{}\" is no action: expected one like 0F1, 0B1, 0I1, 0W1, 0SEND_F1, "
                            "0RECV_B1, 0REDUCE_GRAD or (0F1;3B0){}",
                            cell, kOverlap));
      }
      for (const Action& action : actions) add(rank, number, action);
    }
    if (schedule_.actions.back().empty()) fail_input("{}:{}: no action in it", file_, rank + 1);
  }

  void add(int rank, int cell, const Action& action) {
    const int num_stages = num_ranks_ * virtual_stages_;
    if (action.stage >= num_stages) {
      fail_at(rank, cell,
              fmt::format("{}: expected {} stages = {} ranks x virtual_stages {}",
                          action.to_string(), num_stages, num_ranks_, virtual_stages_));
    }
    // The row that names a stage first has it.
    schedule_.rank_of_stage.resize(size_t(num_stages), -1);
    int& owner = schedule_.rank_of_stage[size_t(action.stage)];
    if (owner < 0) owner = rank;
    schedule_.actions.back().push_back(action);
    cells_.back().push_back(cell);
  }

  void check_stages() {
    for (int s = 0; s < schedule_.num_stages(); ++s) {
      if (schedule_.rank_of_stage[size_t(s)] >= 0) continue;
      fail_input("{}: expected {} stages = {} ranks x virtual_stages {}; stage {} has no action",
                 file_, schedule_.num_stages(), num_ranks_, virtual_stages_, s);
    }
  }

  [[noreturn]] void fail_at(int rank, int cell, const std::string& message) const {
    fail_input("{}:{}:{}: {}", file_, rank + 1, cell, message);
  }

  const std::string& file_;
  int num_ranks_, virtual_stages_;
  Schedule schedule_;
  std::vector<std::vector<int>> cells_;  // the number of the cell of every action
};

}  // namespace

Schedule parse_schedule(const std::string& text, const std::string& file, int num_ranks,
                        int virtual_stages, int num_microbatches) {
  return Parser(file, num_ranks, virtual_stages, num_microbatches).parse(text);
}

std::string to_csv(const Schedule& schedule) {
  std::string csv;
  for (const std::vector<Action>& list : schedule.actions) {
    std::vector<std::string> cells;
    for (size_t i = 0; i < list.size(); ++i) {
      std::string cell = list[i].to_string();
      if (list[i].overlaps_next && i + 1 < list.size()) {
        ++i;
        cell = fmt::format("({};{}){}", cell, list[i].to_string(), kOverlap);
      }
      cells.push_back(std::move(cell));
    }
    csv += join(cells, ",") + "\n";
  }
  return csv;
}

}  // namespace forja
