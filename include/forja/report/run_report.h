// SPDX-License-Identifier: Apache-2.0
// The report of a training run: one HTML page that opens offline, in light and dark, on a phone and
// on paper.
#pragma once

#include <string>

namespace forja {

// The page of the run in `run_dir`. It is self-contained (inline SVG, style and script; its content
// security policy forbids every request) and stays below 2 MB however long the run: curves are
// thinned to the lowest and highest value of some hundred spans of steps. All of it but the
// read-outs under the pointer and the theme button shows without JavaScript.
//
// Files of the directory:
//   metrics.jsonl  one object a line, in order. A training step {"step", "tokens" (all so far),
//   "loss" (nats per
//                  token), "lr", "grad_norm", "step_time_s", "tokens_per_s", "mfu" and
//                  "mfu_full_attention" (0..1), "memory_bytes", "skipped", "time": {"data",
//                  "forward", "backward", "recompute", "wait_tp", "wait_pp", "wait_dp",
//                  "optimizer", "other"} (seconds)}, or an evaluation {"step", "eval": {NAME:
//                  {"loss", "perplexity", "tokens"}}}. Only "step" is required; null stands for a
//                  value that is not finite. Where steps repeat (a run that went back to a
//                  checkpoint), the later line holds. A last line cut short is left out; a damaged
//                  one elsewhere is reported on the page with its line number.
//   run.json       name, model, layout and machine (format_version 1). Optional.
//   config.yaml    the resolved configuration, shown as it is. Optional.
//
// Memory: about 100 bytes a step beside the mapped file. Throws bad_input where the directory or
// metrics.jsonl is missing, where not one line of metrics.jsonl can be used, or where run.json has
// a newer format version.
std::string render_run_report(const std::string& run_dir);

}  // namespace forja
