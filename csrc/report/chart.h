// SPDX-License-Identifier: Apache-2.0
// Charts as inline SVG. The drawing stretches with its box and the labels are HTML beside it, so
// that text keeps its size from a phone to a sheet of paper.
#pragma once

#include <string>
#include <vector>

#include "csrc/report/series.h"

namespace forja {

enum class Stroke { faint, line, marked };  // marked: a line with a dot at every point

struct Series {
  std::string name;
  int color = 1;  // 1..9, see page_style.cc
  Stroke stroke = Stroke::line;
  Points points;
};

enum class YAxis { fitted, from_zero, log, linear_and_log };  // linear_and_log: the reader switches

struct Chart {
  std::string id;     // letters, unique on the page
  std::string title;  // "Loss"
  std::string unit;   // "nats per token"
  YAxis y_axis = YAxis::fitted;
  std::vector<Series> series;
  bool tall = false;
  // Stacked areas instead of lines: the points of all series have the same x, and lie in the spans
  // [edges[i], edges[i + 1]). The first series lies on top.
  std::vector<double> edges;
  std::vector<double> events;  // vertical lines at these x
  std::string event_name;
  std::string note;      // HTML below the chart
  bool is_loss = false;  // the read-out adds bits per token and perplexity
};

struct XRange {
  double low = 0, high = 1;
};

// The chart as a <figure>. Long series are to be thinned before; values far above all others are
// cut at the frame, and a line below the chart says so.
std::string render_chart(const Chart& chart, const XRange& x);

// What the script needs for the read-outs, as a JSON object.
std::string chart_data(const Chart& chart);

}  // namespace forja
