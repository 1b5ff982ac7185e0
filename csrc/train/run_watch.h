// SPDX-License-Identifier: Apache-2.0
// The flight record of this rank of a run, and the watchdog over all of them.
#pragma once

#include <memory>
#include <string>

#include "forja/comm/flight_record.h"
#include "forja/comm/world.h"
#include "forja/parallel/parallel_dims.h"
#include "forja/train/watchdog.h"

namespace forja {

class RunWatch {
 public:
  // Collective. A job in which nothing moves for `limit_s` is ended, with the reason told; 0:
  // never.
  RunWatch(World& world, double limit_s);

  FlightRecord& record() { return record_; }
  // Collective.
  void watch(const Mesh& mesh);
  // One file of each rank in `directory` from here on; where that cannot be, a warning.
  void keep_in(const std::string& directory);

 private:
  void end_job(const std::string& why);

  World& world_;
  const double limit_s_;
  FlightRecord record_;
  std::unique_ptr<Watchdog> watchdog_;  // of the record
};

}  // namespace forja
