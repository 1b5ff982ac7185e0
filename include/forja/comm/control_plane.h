// SPDX-License-Identifier: Apache-2.0
// A connection of every rank with rank 0 over TCP, beside the collectives and independent of them:
// it still works when they hang, and tells when a process ends.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "forja/comm/world.h"

namespace forja {

class ControlPlane {
 public:
  // They run on a thread of the control plane, one at a time.
  struct Handlers {
    // Every interval, from the start on.
    std::function<void()> tick;
    // On rank 0 of any other rank, elsewhere of rank 0. Within a connection, in order.
    std::function<void(int rank, const std::string& text)> message;
    // The process at the other end has ended without a goodbye. Called once. A connection that
    // breaks in another way is only silent from then on.
    std::function<void(int rank)> lost;
  };

  // Collective over the world, whose communicator it uses: returns when every rank has a connection
  // or has given up. A rank that cannot reach rank 0 goes on without, which rank 0 says.
  explicit ControlPlane(World& world);
  // Says goodbye. Not from a handler.
  ~ControlPlane();

  // What came before is handled then.
  void start(double interval_s, Handlers handlers);

  // From handlers only. From rank 0 to all others, elsewhere to rank 0. Never waits: what a
  // receiver is too slow for is dropped.
  void send(const std::string& text);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace forja
