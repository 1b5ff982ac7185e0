// SPDX-License-Identifier: Apache-2.0
// A World whose ranks are threads of this process.
#pragma once

#include <exception>
#include <functional>
#include <thread>

#include "forja/comm/world.h"

namespace forja::testing {

class LocalWorld : public World {
 public:
  explicit LocalWorld(Communicator& communicator)
      : communicator_(communicator), hosts_(size_t(communicator.size()), "local") {}
  Communicator& communicator() override { return communicator_; }
  int local_rank() const override { return communicator_.rank(); }
  int local_size() const override { return communicator_.size(); }
  const std::vector<std::string>& hosts() const override { return hosts_; }
  std::string launcher() const override { return "local"; }
  [[noreturn]] void abort(ExitCode) override { std::terminate(); }

 private:
  Communicator& communicator_;
  std::vector<std::string> hosts_;
};

// Runs `body` on every rank; rethrows the error of the lowest rank that has one. Every rank must
// fail together, or not.
inline void run_world(int size, const std::function<void(World&)>& body) {
  auto communicators = make_local_communicators(size);
  std::vector<std::exception_ptr> errors(communicators.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < communicators.size(); ++r) {
    threads.emplace_back([&, r] {
      try {
        LocalWorld world(*communicators[r]);
        body(world);
      } catch (...) {
        errors[r] = std::current_exception();
      }
    });
  }
  for (std::thread& t : threads) t.join();
  for (const std::exception_ptr& e : errors)
    if (e) std::rethrow_exception(e);
}

}  // namespace forja::testing
