// SPDX-License-Identifier: Apache-2.0
#include "forja/base/stop_signal.h"

#include <csignal>

namespace forja {
namespace {

// A handler can reach nothing else.
volatile std::sig_atomic_t g_received = 0;

void remember(int signal) { g_received = signal; }

}  // namespace

StopSignal::StopSignal() {
  g_received = 0;
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGUSR1, &action, nullptr);
}

StopSignal::~StopSignal() {
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGUSR1, SIG_DFL);
}

const char* StopSignal::received() const {
  return g_received == 0 ? nullptr : g_received == SIGTERM ? "SIGTERM" : "SIGUSR1";
}

}  // namespace forja
