// SPDX-License-Identifier: Apache-2.0
// The steps of a run as bars over time, for a viewer (Perfetto): what every rank's schedule did,
// what the time of its computing thread went to, and what its groups transferred.
//
// The format is that of Chrome's tracing ("Trace Event Format", Duffy and Sinclair): a process is
// a rank, a thread is a track, times are microseconds. Nested and overlapping bars do not occur in
// a track.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "forja/comm/communicator.h"
#include "forja/parallel/parallel_dims.h"
#include "forja/parallel/schedule.h"
#include "forja/parallel/time_split.h"

namespace forja {

class TrainEngine;

// What one rank recorded; each list in the order of time.
struct RankTrace {
  using TimePoint = std::chrono::steady_clock::time_point;
  struct StepSpan {
    int64_t step;
    TimePoint begin, end;
  };
  struct ActionSpan {
    Action action;
    int64_t step;
    TimePoint begin, end;
  };
  struct TimeSpan {
    TimeKind kind;
    TimePoint begin, end;
  };
  struct Group {
    std::string name;  // as the mesh calls it: "tp"
    std::vector<CommSpan> spans;
  };

  TimePoint zero;  // the same moment on every rank
  std::vector<StepSpan> steps;
  std::vector<ActionSpan> actions;
  std::vector<TimeSpan> times;
  std::vector<Group> groups;

  // The events of the rank in JSON, separated by commas.
  std::string events(int rank, const ParallelDims::Coordinates& at) const;
};

// The file, of the events of every rank.
std::string trace_file(const std::vector<std::string>& events_of_ranks);

// The texts of all ranks in rank order on rank 0, nothing on the others. Collective.
std::vector<std::string> gather_texts(Communicator& world, const std::string& text);

// Records what a rank does from now on. Every rank makes one, and calls finish, at the same place.
class StepTrace {
 public:
  // The engine and the mesh are not owned. Collective: every rank's zero is the end of a barrier.
  StepTrace(TrainEngine& engine, Mesh& mesh);
  ~StepTrace();  // records no longer
  StepTrace(const StepTrace&) = delete;
  StepTrace& operator=(const StepTrace&) = delete;

  void add_step(int64_t step, RankTrace::TimePoint begin, RankTrace::TimePoint end);
  int64_t num_steps() const { return int64_t(trace_.steps.size()); }

  // Records no longer. The file on rank 0, "" on the others. Collective.
  std::string finish();

 private:
  struct GroupTrace {
    const char* name;
    Communicator* communicator;
    std::shared_ptr<CommTrace> trace;
  };
  void detach();

  TrainEngine& engine_;
  Mesh& mesh_;
  RankTrace trace_;
  std::vector<GroupTrace> groups_;  // those of several ranks
};

}  // namespace forja
