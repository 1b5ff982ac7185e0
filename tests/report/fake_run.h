// SPDX-License-Identifier: Apache-2.0
// Run directories as a trainer leaves them, for tests of the report.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "forja/base/philox.h"

namespace forja::testing {

struct FakeRun {
  int64_t steps = 2000;
  int64_t planned_steps = 2500;
  int64_t eval_every = 100;
  uint64_t seed = 1;
};

inline void write_text(const std::string& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

// A standard normal number of (seed, step, site).
inline double fake_noise(const FakeRun& run, int64_t step, uint64_t site) {
  const Philox4 r = philox(run.seed, uint64_t(step), site);
  float value, other;
  normal_pair(r.v[0], r.v[1], &value, &other);
  return value;
}

// The line of one training step: a loss that falls as a power law, rare gradient spikes, a slow
// step at every hundredth (a checkpoint), and a step that the optimizer skipped at every 701st.
inline std::string fake_step(const FakeRun& run, int64_t step) {
  const double progress = double(step) / double(run.planned_steps),
               warmup = run.planned_steps * 0.02;
  const bool skipped = step % 701 == 0;
  const double loss = 2.1 + 8.6 * std::pow(1.0 + step / (0.01 * run.planned_steps), -0.55) +
                      0.06 * fake_noise(run, step, 1);
  const double lr = 6e-4 * std::min(step / warmup, 0.1 + 0.45 * (1 + std::cos(M_PI * progress)));
  const double spike = step % 397 == 0 ? 9.0 : 1.0;
  const double norm =
      spike * (0.35 + 3.0 * std::exp(-step / warmup)) * std::exp(0.2 * fake_noise(run, step, 2));
  const double slow = 1.0 + 0.02 * std::abs(fake_noise(run, step, 3));
  const double forward = 0.142 * slow, backward = 0.287 * slow;
  const double communication = 0.034 * (1 + 0.3 * std::abs(fake_noise(run, step, 4)));
  const double optimizer = 0.028, data = 0.002, other = step % 100 == 0 ? 0.35 : 0.004;
  const double time = forward + backward + communication + optimizer + data + other;
  return fmt::format(
      R"({{"step":{},"tokens":{},"loss":{},"lr":{:.6g},"grad_norm":{},"step_time_s":{:.5f},)"
      R"("tokens_per_s":{:.1f},"mfu":{:.4f},"mfu_full_attention":{:.4f},"memory_bytes":{},"skipped":{},)"
      R"("time":{{"data":{:.5f},"forward":{:.5f},"backward":{:.5f},"wait_dp":{:.5f},)"
      R"("optimizer":{:.5f},"other":{:.5f}}}}})",
      step, step * 4096, skipped ? "null" : fmt::format("{:.5f}", loss), lr,
      skipped ? "null" : fmt::format("{:.5f}", norm), time, 4096 / time, 0.31 / time, 0.335 / time,
      int64_t(3'221'225'472) + step % 3 * 1'048'576, skipped, data, forward, backward,
      communication, optimizer, other);
}

inline std::string fake_eval(const FakeRun& run, int64_t step) {
  const double progress = std::pow(1.0 + step / (0.01 * run.planned_steps), -0.55);
  const double web = 2.2 + 8.4 * progress + 0.15 * std::pow(double(step) / run.planned_steps, 3);
  const double code = 1.6 + 8.8 * progress;
  return fmt::format(
      R"({{"step":{},"eval":{{"web":{{"loss":{:.5f},"perplexity":{:.5f},"tokens":10240}},)"
      R"("code":{{"loss":{:.5f},"perplexity":{:.5f},"tokens":10240}}}}}})",
      step, web, std::exp(web), code, std::exp(code));
}

inline const char* fake_run_json() {
  return R"({"format_version":1,"name":"gpt2-124m <web & code>",
"model":{"parameters":124439808,"layers":12,"hidden_size":768},"ranks":4,"hosts":["gs01r1b01","gs01r1b02"],
"layout":"4 ranks = pp 1 x dp 4 x cp 1 x tp 1","launcher":"srun","device":"cpu","precision":"bf16",
"peak_flops":2.6e11,"peak_source":"measured","threads_per_rank":20,"version":"0.1.0",
"git_revision":"e514b2d","started":"2026-11-22T15:00:00Z","cpu":"Intel Xeon Platinum 8460Y+"}
)";
}

inline std::string fake_config(const FakeRun& run) {
  return fmt::format(
      "name: gpt2-124m\n"
      "data:\n"
      "  tokenizer: tok.json\n"
      "  train: [{{path: data/web, weight: 0.9}}, {{path: data/code, weight: 0.1}}]\n"
      "  valid: {{web: data/web-valid, code: data/code-valid}}\n"
      "  sequence_length: 1024\n"
      "train: {{steps: {}, global_batch_size: 4}}  # <script>alert(1)</script>\n",
      run.planned_steps);
}

// The whole directory.
inline void write_fake_run(const std::string& directory, const FakeRun& run) {
  std::filesystem::create_directories(directory);
  write_text(directory + "/run.json", fake_run_json());
  write_text(directory + "/config.yaml", fake_config(run));
  std::ofstream metrics(directory + "/metrics.jsonl");
  for (int64_t step = 1; step <= run.steps; ++step) {
    metrics << fake_step(run, step) << '\n';
    if (step % run.eval_every == 0) metrics << fake_eval(run, step) << '\n';
  }
}

}  // namespace forja::testing
