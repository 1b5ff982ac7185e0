// SPDX-License-Identifier: Apache-2.0
// Notices a job that does not go on: a rank that does not arrive at a call, that stopped or died,
// ranks that wait for each other, a network that does not deliver.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "forja/comm/flight_record.h"
#include "forja/comm/world.h"

namespace forja {

class Watchdog {
 public:
  // Collective. Every rank tells rank 0 over TCP where its record stands, some ten times in
  // `limit_s`, and at most every 5 seconds. When some rank and all that it waits for have not moved
  // for limit_s, or a process has ended without a word, rank 0 calls on_hang with the reason in
  // words; when rank 0 is the one, another rank does. It is called once, on the watchdog's thread,
  // and may end the process. The record is not owned.
  Watchdog(World& world, FlightRecord& record, double limit_s,
           std::function<void(const std::string& why)> on_hang);
  ~Watchdog();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace forja
