// SPDX-License-Identifier: Apache-2.0
#include "forja/train/progress.h"

#include <fmt/core.h>

#include <cmath>

#include "forja/base/log.h"
#include "forja/base/text.h"

namespace forja {

Progress::Progress(int64_t first_step, int64_t total_steps, int64_t log_every)
    : first_step_(first_step), total_steps_(total_steps), log_every_(log_every) {}

void Progress::show(const StepMetrics& m) {
  elapsed_s_ += m.step_time_s;
  const double left_s = elapsed_s_ / double(++num_shown_) * double(total_steps_ - m.step);
  const char* skipped = std::isfinite(m.gradient_norm) ? "  SKIPPED: gradient norm above its limit"
                                                       : "  SKIPPED: gradient not finite";
  const std::string line = fmt::format(
      "step {}/{}  loss {:.4f}  lr {:.2e}  norm {:.2f}  {} tok/s  MFU {:.1f} %  ETA {}{}", m.step,
      total_steps_, m.loss, m.lr, m.gradient_norm, format_count(m.tokens_per_s), m.mfu * 100.0,
      format_duration(left_s), m.skipped ? skipped : "");
  const bool last = m.step == total_steps_;
  if (!m.skipped && !last && log_live(line)) return;
  if (m.skipped || last || m.step % log_every_ == 0 || m.step == first_step_)
    log_line(LogLevel::info, line);
}

}  // namespace forja
