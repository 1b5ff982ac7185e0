// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "csrc/report/sections.h"

namespace forja {
namespace {

constexpr int64_t kRawBuckets = 800, kSmoothBuckets = 500, kTimeSpans = 250;

Chart make_chart(const char* id, const char* title, const char* unit, YAxis y_axis) {
  Chart chart;
  chart.id = id;
  chart.title = title;
  chart.unit = unit;
  chart.y_axis = y_axis;
  return chart;
}

template <class Field>
Points points_of(const RunData& run, Field field, double scale = 1.0) {
  Points points;
  points.reserve(run.steps.size());
  for (const StepRecord& record : run.steps) {
    const double value = record.*field;
    if (std::isfinite(value)) points.push_back({double(record.step), value * scale});
  }
  return points;
}

int64_t smoothing_reach(size_t num_points) {
  return std::min<int64_t>(int64_t(num_points) / 100, 500);
}

// The values thin and faint, and their moving mean; short curves need none.
void add_smoothed(Chart& chart, const std::string& name, int color, const Points& points) {
  if (points.empty()) return;
  const int64_t reach = smoothing_reach(points.size());
  if (reach == 0) {
    chart.series.push_back({name, color, Stroke::line, points});
    return;
  }
  chart.series.push_back({name, color, Stroke::faint, thin_min_max(points, kRawBuckets)});
  chart.series.push_back(
      {"smoothed", color, Stroke::line, thin_last(smooth(points, reach), kSmoothBuckets)});
}

Chart loss_chart(const RunData& run) {
  Chart chart = make_chart("loss", "Loss", "nats per token", YAxis::linear_and_log);
  chart.tall = true;
  add_smoothed(chart, "train", 1, points_of(run, &StepRecord::loss));
  chart.is_loss = !chart.series.empty();
  int color = 2;
  for (const EvalSet& set : run.evals) {
    Points points;
    for (const EvalRecord& e : set.records) points.push_back({double(e.step), e.loss});
    if (points.empty()) continue;
    chart.series.push_back({set.name, color, Stroke::marked, thin_last(points, kSmoothBuckets)});
    color = color == 5 ? 2 : color + 1;
  }
  return chart;
}

// Scores of tasks: accuracies, or perplexities and bits.
Chart task_chart(const RunData& run, bool accuracies) {
  Chart chart = accuracies ? make_chart("accuracy", "Tasks: accuracy", "", YAxis::from_zero)
                           : make_chart("tasks", "Tasks: perplexity", "log scale", YAxis::log);
  int color = 1;
  for (const TaskSeries& task : run.tasks) {
    const auto is = [&](const char* kind) { return task.name.find(kind) != std::string::npos; };
    if (accuracies ? !is(", acc") : !is("perplexity") && !is("bits_per_byte")) continue;
    Points points;
    for (const auto& [step, value] : task.records)
      if (value >= 0 && (accuracies || value > 0)) points.push_back({double(step), value});
    if (points.empty()) continue;
    chart.series.push_back({task.name, color, Stroke::marked, thin_last(points, kSmoothBuckets)});
    color = color == 5 ? 1 : color + 1;
  }
  return chart;
}

Chart gradient_chart(const RunData& run) {
  Chart chart =
      make_chart("gradient", "Gradient norm", "global, before clipping", YAxis::from_zero);
  const Points points = points_of(run, &StepRecord::grad_norm);
  add_smoothed(chart, "norm", 1, points);
  Points sorted = points;
  std::sort(sorted.begin(), sorted.end(), [](const Point& a, const Point& b) { return a.y < b.y; });
  const bool wide =
      !sorted.empty() && sorted.front().y > 0 && sorted.back().y > 12 * sorted[sorted.size() / 2].y;
  if (wide) {
    chart.y_axis = YAxis::log;
    chart.unit += ", log scale";
  }
  for (const StepRecord& record : run.steps) {
    if (record.skipped) chart.events.push_back(double(record.step));
  }
  chart.event_name = "skipped steps";
  return chart;
}

Chart mfu_chart(const RunData& run) {
  Chart chart = make_chart("mfu", "Model FLOPs utilisation", "% of peak", YAxis::from_zero);
  add_smoothed(chart, "MFU", 1, points_of(run, &StepRecord::mfu, 100));
  const Points full = points_of(run, &StepRecord::mfu_full_attention, 100);
  if (!full.empty()) {
    const Points smoothed = smooth(full, smoothing_reach(full.size()));
    chart.series.push_back(
        {"counting full attention", 3, Stroke::line, thin_last(smoothed, kSmoothBuckets)});
  }
  return chart;
}

Chart memory_chart(const RunData& run) {
  double largest = 0;
  for (const StepRecord& record : run.steps) largest = std::fmax(largest, record.memory_bytes);
  const bool gib = largest >= double(int64_t(1) << 30);
  Chart chart = make_chart("memory", "Memory", gib ? "GiB" : "MiB", YAxis::from_zero);
  const Points points =
      points_of(run, &StepRecord::memory_bytes, gib ? std::ldexp(1.0, -30) : std::ldexp(1.0, -20));
  if (!points.empty()) {
    chart.series.push_back({"memory", 1, Stroke::line, thin_min_max(points, kSmoothBuckets)});
  }
  return chart;
}

// The mean of every part over spans of equally many recorded steps.
Chart time_chart(const RunData& run) {
  Chart chart = make_chart("time", "Where a step goes", "milliseconds", YAxis::from_zero);
  chart.tall = true;
  std::vector<const StepRecord*> records;
  for (const StepRecord& record : run.steps) {
    const auto known = [](float part) { return std::isfinite(part); };
    if (std::any_of(record.time_s.begin(), record.time_s.end(), known)) records.push_back(&record);
  }
  if (records.empty()) return chart;
  const size_t spans = std::min(records.size(), size_t(kTimeSpans));
  std::vector<Points> parts(kTimeParts.size(), Points(spans));
  double largest_s = 0;
  chart.edges.push_back(double(records.front()->step) - 0.5);
  for (size_t i = 0; i < spans; ++i) {
    const size_t begin = i * records.size() / spans, end = (i + 1) * records.size() / spans;
    const double x = double(records[begin]->step + records[end - 1]->step) / 2;
    double total_s = 0;
    for (size_t part = 0; part < parts.size(); ++part) {
      double sum_s = 0;
      for (size_t r = begin; r < end; ++r) {
        const float time_s = records[r]->time_s[part];
        if (time_s > 0) sum_s += time_s;
      }
      parts[part][i] = {x, sum_s / double(end - begin)};
      total_s += parts[part][i].y;
    }
    largest_s = std::max(largest_s, total_s);
    const double next =
        end < records.size() ? double(records[end]->step) : records[end - 1]->step + 1.0;
    chart.edges.push_back(next - 0.5);
  }
  const bool milliseconds = largest_s < 1.0;
  if (!milliseconds) chart.unit = "seconds";
  for (size_t part = 0; part < parts.size(); ++part) {
    const auto took_time = [](const Point& point) { return point.y > 0; };
    if (std::none_of(parts[part].begin(), parts[part].end(), took_time)) continue;
    for (Point& point : parts[part]) point.y *= milliseconds ? 1e3 : 1.0;
    chart.series.push_back(
        {kTimeLabels[part], kTimeColors[part], Stroke::line, std::move(parts[part])});
  }
  return chart;
}

}  // namespace

std::vector<Chart> make_charts(const RunData& run) {
  std::vector<Chart> charts;
  charts.push_back(loss_chart(run));
  charts.push_back(task_chart(run, true));
  charts.push_back(task_chart(run, false));
  charts.push_back(time_chart(run));
  charts.push_back(make_chart("throughput", "Throughput", "tokens/s", YAxis::from_zero));
  add_smoothed(charts.back(), "tokens/s", 1, points_of(run, &StepRecord::tokens_per_s));
  charts.push_back(mfu_chart(run));
  charts.push_back(make_chart("rate", "Learning rate", "", YAxis::from_zero));
  const Points rate = points_of(run, &StepRecord::lr);
  if (!rate.empty()) {
    charts.back().series.push_back(
        {"learning rate", 1, Stroke::line, thin_min_max(rate, kSmoothBuckets)});
  }
  charts.push_back(gradient_chart(run));
  charts.push_back(memory_chart(run));
  std::erase_if(charts, [](const Chart& chart) { return chart.series.empty(); });
  return charts;
}

XRange step_range(const RunData& run) {
  double low = INFINITY, high = -INFINITY;
  if (!run.steps.empty()) {
    low = double(run.steps.front().step);
    high = double(run.steps.back().step);
  }
  for (const EvalSet& set : run.evals) {
    if (set.records.empty()) continue;
    low = std::min(low, double(set.records.front().step));
    high = std::max(high, double(set.records.back().step));
  }
  if (!(low <= high)) return {0, 1};
  if (low <= 0.02 * high) low = 0;
  if (low == high) return {low - 0.5, high + 0.5};
  return {low, high};
}

double mean_of(const RunData& run, float StepRecord::*field, Weight weight) {
  double sum = 0, weights = 0;
  for (const StepRecord& record : run.steps) {
    if (!std::isfinite(record.*field)) continue;
    const bool timed = weight == Weight::time && record.step_time_s > 0;
    const double w = timed ? record.step_time_s : 1.0;
    sum += w * record.*field;
    weights += w;
  }
  return weights > 0 ? sum / weights : NAN;
}

LastLoss last_loss(const RunData& run) {
  const Points points = points_of(run, &StepRecord::loss);
  if (points.empty()) return {};
  const int64_t reach = smoothing_reach(points.size());
  return {smooth(points, reach).back().y, reach + 1};
}

}  // namespace forja
