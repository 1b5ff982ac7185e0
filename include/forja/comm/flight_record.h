// SPDX-License-Identifier: Apache-2.0
// What a rank did last: a ring of its newest events in memory or, once there is a run directory, in
// a memory-mapped file, which outlives the process however that ends. From it the hang watchdog
// reads where the rank stands, and `forja inspect RUN/flight` after the end.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forja/comm/communicator.h"

namespace forja {

// One half of an exchange: the number-th send to, or receive from, a rank of the world.
struct TransferStatus {
  int rank = 0;
  bool sends = false;
  int64_t number = 0;
};

// A call that was made and has not ended.
struct PendingCall {
  CommKind kind = CommKind::barrier;
  std::string purpose;
  int64_t number = 0;  // among the calls of its group, from 0
  int64_t step = -1;
  int layer = -1;
  double waiting_s = 0.0;                 // since it was the first of its group
  std::vector<TransferStatus> transfers;  // of an exchange
};

struct GroupStatus {
  std::string name;    // "dp"
  int first_rank = 0;  // the lowest of its ranks in the world: with the name, which group it is
  int size = 0;
  int64_t calls = 0;                   // made so far
  std::vector<TransferStatus> made;    // by peer and direction, how many (number) were asked for
  std::optional<PendingCall> pending;  // the oldest
};

// Where a rank stands.
struct RankStatus {
  int rank = 0;
  int pid = 0;
  std::string host;
  std::string activity;  // "forward 3 of stage 0"
  int64_t step = -1;
  double idle_s = 0.0;    // since anything moved on it
  double silent_s = 0.0;  // since it gave this status
  bool lost = false;      // its process has ended without a word
  std::vector<GroupStatus> groups;
};

std::string to_json(const RankStatus& status);
// Throws on anything else.
RankStatus rank_status_from_json(const std::string& text);

// Any thread may call anything. The groups' communicators keep what they need of it.
class FlightRecord {
 public:
  FlightRecord(int rank, std::string host);
  ~FlightRecord();

  // From here on in this file. An older one is kept beside it as PATH.previous. Throws when it
  // cannot be written.
  void keep_in(const std::string& path);

  // Collective in `group`: the calls of the group from here on are recorded. world_rank is this
  // rank's.
  void watch(Communicator& group, const std::string& name);

  // What the rank does from here on. The step stays where it is -1.
  void set_activity(std::string_view text, int64_t step = -1);
  // Something moved.
  void progressed();

  RankStatus status() const;

 private:
  class Journal;
  struct State;
  std::shared_ptr<State> state_;
};

// Where the ranks stood whose records are in `directory`, and what they did last, at most
// `num_events` of each, in words. Throws bad_input where there are none.
std::string describe_flight_records(const std::string& directory, int num_events);

}  // namespace forja
