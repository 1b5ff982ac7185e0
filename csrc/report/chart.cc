// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "csrc/report/html.h"
#include "csrc/report/numbers.h"

namespace forja {
namespace {

constexpr double kWidth = 4000, kHeight = 1000;  // of the drawing; the box decides its size
constexpr size_t kMaxDots = 120, kMaxEventLines = 40;
constexpr int kXTicks = 6, kYTicks = 5;

struct Axis {
  double low = 0, high = 1;
  bool log = false;
  std::vector<double> ticks;

  // 0 at the low end, 1 at the high end; what lies outside stays at the end.
  double position(double value) const {
    if (log) value = std::log(std::max(value, low * 1e-9));
    const double a = log ? std::log(low) : low, b = log ? std::log(high) : high;
    return std::clamp((value - a) / (b - a), 0.0, 1.0);
  }
};

// The values that the y axis has to show: of every curve, or of the top of the stack.
std::vector<double> shown_values(const Chart& chart) {
  std::vector<double> values;
  if (!chart.edges.empty()) {
    values.assign(chart.edges.size() - 1, 0.0);
    for (const Series& series : chart.series) {
      for (size_t i = 0; i < values.size(); ++i) values[i] += series.points[i].y;
    }
  } else {
    for (const Series& series : chart.series) {
      for (const Point& point : series.points) values.push_back(point.y);
    }
  }
  std::sort(values.begin(), values.end());
  return values;
}

Axis make_log_axis(const std::vector<double>& values) {
  Axis axis;
  axis.log = true;
  const auto positive = std::upper_bound(values.begin(), values.end(), 0.0);
  if (positive != values.end()) {
    const double margin = std::max(std::pow(values.back() / *positive, 0.03), 1.01);
    axis.low = *positive / margin;
    axis.high = values.back() * margin;
  } else {
    axis.low = 0.1;
  }
  axis.ticks = log_ticks(axis.low, axis.high, kYTicks);
  return axis;
}

Axis make_linear_axis(const std::vector<double>& values, bool from_zero) {
  const auto quantile = [&](double q) { return values[size_t(q * double(values.size() - 1))]; };
  double low = quantile(0.0), high = quantile(1.0);
  // A few values far above all others would press the rest flat.
  const double bulk = quantile(0.99) - (from_zero ? 0.0 : low);
  if (values.size() >= 20 && high - quantile(0.99) > 3.0 * bulk && bulk > 0) {
    high = quantile(0.99) + 0.5 * bulk;
  }
  if (from_zero) low = std::min(low, 0.0);
  if (!(high - low > 1e-6 * std::max(std::abs(high), std::abs(low)))) {  // a constant
    const double room = high == 0.0 ? 1.0 : 0.05 * std::abs(high);
    low = from_zero ? std::min(low, 0.0) : low - room;
    high += room;
  }
  Axis axis;
  const double step = nice_step(low, high, kYTicks);
  axis.low = std::floor(low / step + 1e-9) * step;
  axis.high = std::ceil(high / step - 1e-9) * step;
  axis.ticks = linear_ticks(axis.low, axis.high, kYTicks);
  return axis;
}

class Drawing {
 public:
  Drawing(const Chart& chart, const XRange& x, Axis y) : chart_(chart), x_(x), y_(std::move(y)) {}

  // The labels, the SVG and the crosshair of one frame.
  std::string frame(const char* kind) const {
    std::string html = fmt::format(
        "<div class=\"frame {}{}\" data-low=\"{:.9g}\" data-high=\"{:.9g}\" data-log=\"{}\">", kind,
        chart_.tall ? " tall" : "", y_.low, y_.high, y_.log ? 1 : 0);
    html += "<div class=\"ys\" aria-hidden=\"true\">";
    const std::vector<std::string> y_labels = tick_labels(y_.ticks, y_.log);
    for (size_t i = 0; i < y_.ticks.size(); ++i) {
      html += fmt::format("<span style=\"bottom:{:.2f}%\">{}</span>",
                          100 * y_.position(y_.ticks[i]), y_labels[i]);
    }
    html += fmt::format(
        "</div><div class=\"plot\" tabindex=\"0\"><svg viewBox=\"0 0 {} {}\" "
        "preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
        kWidth, kHeight, escape_html(chart_.title + " over steps, in " + chart_.unit));
    html += grid();
    if (chart_.edges.empty()) {
      for (const Series& series : chart_.series) html += curve(series);
    } else {
      html += stack();
    }
    html += events();
    html += "</svg></div><div class=\"xs\" aria-hidden=\"true\">" + x_labels() + "</div></div>\n";
    return html;
  }

 private:
  int64_t px(double x) const {
    return std::llround(kWidth * std::clamp((x - x_.low) / (x_.high - x_.low), 0.0, 1.0));
  }
  int64_t py(double y) const { return std::llround(kHeight * (1 - y_.position(y))); }

  std::vector<double> x_ticks() const {
    std::vector<double> ticks = linear_ticks(x_.low, x_.high, kXTicks);
    std::erase_if(ticks, [](double tick) { return tick != std::round(tick); });
    return ticks;
  }

  std::string x_labels() const {
    const std::vector<double> ticks = x_ticks();
    const std::vector<std::string> labels = tick_labels(ticks);
    std::string html;
    for (size_t i = 0; i < ticks.size(); ++i) {
      const double position = 100.0 * double(px(ticks[i])) / kWidth;
      html += fmt::format("<span{} style=\"left:{:.2f}%\">{}</span>",
                          i % 2 == 1 ? " class=\"minor\"" : "", position, labels[i]);
    }
    return html;
  }

  std::string grid() const {
    std::string path;
    for (const double tick : y_.ticks) path += fmt::format("M0 {}H{}", py(tick), kWidth);
    std::string html = fmt::format("<path class=\"grid\" d=\"{}\"/>", path);
    html += fmt::format("<path class=\"axis\" d=\"M0 {}H{}\"/>", kHeight, kWidth);
    return html;
  }

  std::string curve(const Series& series) const {
    if (series.points.empty()) return "";
    std::string path, dots;
    for (const Point& point : series.points) {
      const int64_t x = px(point.x), y = py(point.y);
      path += fmt::format("{}{} {}", path.empty() ? "M" : "L", x, y);
      dots += fmt::format("M{} {}h0", x, y);
    }
    const char* kind = series.stroke == Stroke::faint ? "faint" : "line";
    std::string html = fmt::format("<path class=\"{} c{}\" d=\"{}\"/>", kind, series.color, path);
    const bool marked = series.stroke == Stroke::marked && series.points.size() <= kMaxDots;
    if (marked || series.points.size() == 1) {
      html += fmt::format("<path class=\"halo\" d=\"{0}\"/><path class=\"dots c{1}\" d=\"{0}\"/>",
                          dots, series.color);
    }
    return html;
  }

  // Every area reaches from its top down to the axis; the later, lower ones cover it.
  std::string stack() const {
    const size_t spans = chart_.edges.size() - 1;
    std::vector<double> top(spans, 0.0);
    for (const Series& series : chart_.series) {
      for (size_t i = 0; i < spans; ++i) top[i] += series.points[i].y;
    }
    std::string html;
    for (const Series& series : chart_.series) {
      std::string path = fmt::format("M{} {}", px(chart_.edges[0]), kHeight);
      for (size_t i = 0; i < spans; ++i) {
        path += fmt::format("V{}H{}", py(top[i]), px(chart_.edges[i + 1]));
        top[i] -= series.points[i].y;
      }
      html += fmt::format("<path class=\"area c{}\" d=\"{}V{}Z\"/>", series.color, path, kHeight);
    }
    return html;
  }

  std::string events() const {
    std::set<int64_t> places;
    for (const double x : chart_.events) places.insert(px(x) / 8 * 8);
    const bool few = places.size() <= kMaxEventLines;  // many would bury the curve
    std::string path;
    for (const int64_t x : places) path += fmt::format("M{} 0V{}", x, few ? kHeight : kHeight / 30);
    const char* kind = few ? "event" : "event many";
    return path.empty() ? "" : fmt::format("<path class=\"{}\" d=\"{}\"/>", kind, path);
  }

  const Chart& chart_;
  XRange x_;
  Axis y_;
};

std::string legend(const Chart& chart) {
  std::string html = "<div class=\"legend\">";
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series& series = chart.series[i];
    const char* kind = !chart.edges.empty()              ? "area"
                       : series.stroke == Stroke::faint  ? "faint"
                       : series.stroke == Stroke::marked ? "marked"
                                                         : "line";
    html += fmt::format(
        "<span class=\"key\"><i class=\"swatch {} c{}\"></i>{} <b data-series=\"{}\">{}</b></span>",
        kind, series.color, escape_html(series.name), i, format_value(series.points.back().y));
  }
  if (!chart.events.empty()) {
    html +=
        fmt::format("<span class=\"key\"><i class=\"swatch event\"></i>{} <b>{}</b></span>",
                    escape_html(chart.event_name), format_integer(int64_t(chart.events.size())));
  }
  return html + "</div>";
}

std::string step_read_out(const Chart& chart) {
  const double last = chart.series.front().points.back().x;
  return fmt::format("<span class=\"at\">step <b data-step>{}</b></span>",
                     format_integer(std::llround(last)));
}

// The curve that bits per token and perplexity are read from: the smoothed one where there is one.
size_t read_series(const Chart& chart) {
  return chart.series.size() > 1 && chart.series[1].stroke == Stroke::line ? 1 : 0;
}

std::string loss_read_out(const Chart& chart) {
  const Series& read = chart.series[read_series(chart)];
  const double loss = read.points.back().y;
  return fmt::format(
      "<p class=\"derived\">{}: <b data-bits>{}</b> bits per token, perplexity "
      "<b data-perplexity>{}</b></p>",
      escape_html(read.name), format_value(loss / std::log(2.0)), format_value(std::exp(loss)));
}

std::string cut_note(const std::vector<double>& values, const Axis& axis) {
  const auto above = values.end() - std::upper_bound(values.begin(), values.end(), axis.high);
  if (above == 0) return "";
  return fmt::format("<p class=\"note\">Cut at the frame: values up to {}.</p>",
                     format_value(values.back()));
}

}  // namespace

std::string render_chart(const Chart& chart, const XRange& x) {
  const std::vector<double> values = shown_values(chart);
  if (values.empty()) return "";
  const bool both = chart.y_axis == YAxis::linear_and_log && values.front() > 0;
  std::string html =
      fmt::format("<figure class=\"chart{}\" id=\"{}\">\n", chart.tall ? " wide" : "", chart.id);
  if (both) {
    html += fmt::format(
        "<input type=\"checkbox\" class=\"scale\" id=\"{0}-log\">"
        "<label class=\"switch\" for=\"{0}-log\"><span>linear</span><span>log</span></label>",
        chart.id);
  }
  html += fmt::format(
      "<figcaption><div class=\"title\"><h2>{} <small>{}</small></h2>{}</div>{}{}</figcaption>\n",
      escape_html(chart.title), escape_html(chart.unit), step_read_out(chart), legend(chart),
      chart.is_loss ? loss_read_out(chart) : "");
  if (chart.y_axis == YAxis::log && values.back() > 0) {
    html += Drawing(chart, x, make_log_axis(values)).frame("only");
  } else {
    const Axis axis = make_linear_axis(values, chart.y_axis == YAxis::from_zero);
    html += Drawing(chart, x, axis).frame(both ? "linear" : "only");
    if (both) html += Drawing(chart, x, make_log_axis(values)).frame("log");
    html += cut_note(values, axis);
  }
  html += chart.note + "</figure>\n";
  return html;
}

std::string chart_data(const Chart& chart) {
  std::string json = "{\"stacked\":";
  json += chart.edges.empty() ? "false" : "true";
  if (chart.is_loss) json += fmt::format(",\"loss\":{}", read_series(chart));
  json += ",\"series\":[";
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const Series& series = chart.series[s];
    std::string xs, ys;
    for (const Point& point : series.points) {
      xs += fmt::format("{}{}", xs.empty() ? "" : ",", std::llround(point.x));
      ys += fmt::format("{}{:.5g}", ys.empty() ? "" : ",", point.y);
    }
    json += fmt::format("{}{{\"color\":{},\"faint\":{},\"x\":[{}],\"y\":[{}]}}", s ? "," : "",
                        series.color, series.stroke == Stroke::faint, xs, ys);
  }
  return json + "]}";
}

}  // namespace forja
