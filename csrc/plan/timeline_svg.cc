// SPDX-License-Identifier: Apache-2.0
#include "forja/plan/timeline_svg.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "forja/base/text.h"

namespace forja {
namespace {

constexpr double kMargin = 16, kLabelWidth = 58, kRowHeight = 26, kRowGap = 4;
constexpr double kTop = 16, kBelow = 72, kLineHeight = 16;
constexpr double kMinWidth = 720, kMaxWidth = 6000, kWantedCell = 22;
constexpr double kCharWidth = 6.6, kMinTextCell = 11;

// Colours of Okabe and Ito, "Color Universal Design" (2008), lightened, so that dark letters can be
// read on all of them in either theme.
constexpr const char* kStyle = R"css(
:root { --page: #ffffff; --text: #1b2126; --muted: #5b6670; --idle: #eef1f3; --edge: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --page: #121517; --text: #e5e9ec; --muted: #9aa5ad; --idle: #23292d; --edge: #121517; }
}
:root { background: var(--page); }
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; fill: var(--text); }
.page { fill: var(--page); }
.idle { fill: var(--idle); }
.cell { stroke: var(--edge); stroke-width: 1; }
.f { fill: #6fb1e0; } .b { fill: #ef9a5f; } .i { fill: #f0c04e; } .w { fill: #62bd98; }
.f.late { fill: #b3d7ef; } .b.late { fill: #f7cdaf; } .i.late { fill: #f7e0a6; } .w.late { fill: #b0dfcb; }
.n text { fill: #14191d; text-anchor: middle; font-size: 11px; }
.tick { fill: var(--muted); text-anchor: middle; }
.muted { fill: var(--muted); }
)css";

std::string escape_xml(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += (unsigned char)c < 0x20 ? ' ' : c;
    }
  }
  return out;
}

// Coordinates with at most one digit behind the point.
std::string px(double value) {
  const double tenths = std::round(value * 10);
  return std::fmod(tenths, 10) == 0 ? fmt::format("{:.0f}", tenths / 10)
                                    : fmt::format("{:.1f}", tenths / 10);
}

// Lines of at most `width` pixels, broken between words.
std::vector<std::string> wrap(const std::string& text, double width) {
  const size_t length = size_t(width / kCharWidth);
  std::vector<std::string> lines;
  for (const std::string& word : split(text, ' ')) {
    if (lines.empty() || lines.back().size() + 1 + word.size() > length) {
      lines.push_back(word);
    } else {
      lines.back() += " " + word;
    }
  }
  return lines;
}

struct Look {
  ActionKind kind;
  const char* letter;
  const char* name;
};
constexpr Look kLooks[] = {{ActionKind::forward, "f", "forward"},
                           {ActionKind::backward, "b", "backward"},
                           {ActionKind::backward_input, "i", "input gradient"},
                           {ActionKind::backward_weight, "w", "weight gradients"}};

class Drawing {
 public:
  Drawing(const Schedule& schedule, const Simulation& simulation)
      : schedule_(schedule), simulation_(simulation) {
    double shortest = simulation.makespan;
    for (const std::vector<TimedAction>& timeline : simulation.timeline) {
      for (const TimedAction& timed : timeline) {
        if (is_computing(timed.action.kind) && timed.end > timed.begin)
          shortest = std::min(shortest, timed.end - timed.begin);
      }
    }
    const double wanted = shortest > 0 ? kWantedCell * simulation.makespan / shortest : kMinWidth;
    plot_width_ = std::clamp(wanted, kMinWidth, kMaxWidth);
    scale_ = simulation.makespan > 0 ? plot_width_ / simulation.makespan : 1.0;
  }

  std::string render(const std::string& caption) const {
    const double width = kLabelWidth + plot_width_ + 2 * kMargin;
    const std::vector<std::string> lines = wrap(caption, width - 2 * kMargin);
    const double height = bottom() + kBelow + kLineHeight * double(lines.size());
    std::string svg = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" "
        "viewBox=\"0 0 {0} {1}\" role=\"img\">\n<title>{2}</title>\n<style>{3}</style>\n"
        "<rect class=\"page\" width=\"{0}\" height=\"{1}\"/>\n",
        px(width), px(height), escape_xml(caption), kStyle);
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) svg += row(rank);
    svg += axis() + legend();
    for (size_t i = 0; i < lines.size(); ++i) {
      svg += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", px(kMargin),
                         px(bottom() + kBelow + kLineHeight * double(i)), escape_xml(lines[i]));
    }
    return svg + "</svg>\n";
  }

 private:
  double left() const { return kMargin + kLabelWidth; }
  double top(int rank) const { return kTop + rank * (kRowHeight + kRowGap); }
  double bottom() const { return top(schedule_.num_ranks()); }

  std::string row(int rank) const {
    std::string out = fmt::format(
        "<text x=\"{}\" y=\"{}\">rank {}</text><rect class=\"idle\" x=\"{}\" y=\"{}\" "
        "width=\"{}\" height=\"{}\"/>\n",
        px(kMargin), px(top(rank) + kRowHeight / 2 + 4), rank, px(left()), px(top(rank)),
        px(plot_width_), px(kRowHeight));
    for (const Look& look : kLooks) out += cells(rank, look);
    return out + numbers(rank) + "\n";
  }

  struct Box {
    double x, y, width, height;
  };
  // The forward of an overlapped pair has the upper half of its row, the backward the lower.
  Box box(int rank, const TimedAction& timed, bool second_of_pair) const {
    const bool half = timed.action.overlaps_next || second_of_pair;
    return {left() + timed.begin * scale_, top(rank) + (second_of_pair ? kRowHeight / 2 : 0),
            (timed.end - timed.begin) * scale_, half ? kRowHeight / 2 : kRowHeight};
  }

  // Calls body(timed, box) for every computing action of a rank.
  template <class Body>
  void for_each_cell(int rank, Body&& body) const {
    bool pair = false;
    for (const TimedAction& timed : simulation_.timeline[size_t(rank)]) {
      if (!is_computing(timed.action.kind)) continue;
      body(timed, box(rank, timed, pair));
      pair = timed.action.overlaps_next;
    }
  }

  // All cells of one colour are one path each for the first stage of the rank and for the others.
  std::string cells(int rank, const Look& look) const {
    const std::vector<int> stages = schedule_.stages_of_rank(rank);
    const int first_stage = stages.empty() ? 0 : stages.front();
    std::string paths[2];
    for_each_cell(rank, [&](const TimedAction& timed, const Box& b) {
      if (timed.action.kind != look.kind) return;
      paths[timed.action.stage == first_stage ? 0 : 1] += fmt::format(
          "M{} {}h{}v{}h-{}z", px(b.x), px(b.y), px(b.width), px(b.height), px(b.width));
    });
    std::string out;
    for (const bool late : {false, true}) {
      if (paths[late].empty()) continue;
      out += fmt::format("<path class=\"cell {}{}\" d=\"{}\"/>\n", look.letter, late ? " late" : "",
                         paths[late]);
    }
    return out;
  }

  std::string numbers(int rank) const {
    std::string out;
    for_each_cell(rank, [&](const TimedAction& timed, const Box& b) {
      const std::string text = std::to_string(timed.action.microbatch);
      if (b.width < std::max(kMinTextCell, kCharWidth * double(text.size()) + 2)) return;
      out += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>", px(b.x + b.width / 2),
                         px(b.y + b.height / 2 + 4), text);
    });
    return "<g class=\"n\">" + out + "</g>";
  }

  // At most about ten ticks, at multiples of 1, 2 or 5.
  std::string axis() const {
    double step = 1;
    for (const double factor : {2.0, 2.5, 2.0, 2.0, 2.5, 2.0, 2.0, 2.5, 2.0}) {
      if (simulation_.makespan / step <= 12) break;
      step *= factor;
    }
    std::string out;
    for (double t = 0; t <= simulation_.makespan + 1e-9; t += step) {
      out += fmt::format("<text class=\"tick\" x=\"{}\" y=\"{}\">{:g}</text>",
                         px(left() + t * scale_), px(bottom() + 14), t);
    }
    return out + "\n";
  }

  std::string legend() const {
    const double y = bottom() + 34;
    double x = kMargin;
    std::string out;
    for (const Look& look : kLooks) {
      if (!has(look.kind)) continue;
      out += fmt::format(
          "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"14\" height=\"14\"/><text x=\"{}\" "
          "y=\"{}\">{}</text>",
          look.letter, px(x), px(y), px(x + 20), px(y + 11), look.name);
      x += 44 + kCharWidth * double(std::char_traits<char>::length(look.name));
    }
    const bool several = schedule_.num_stages() > schedule_.num_ranks();
    out += fmt::format("<text class=\"muted\" x=\"{}\" y=\"{}\">numbers are micro-batches{}</text>",
                       px(x), px(y + 11), several ? "; paler: a rank's later stages" : "");
    return out + "\n";
  }

  bool has(ActionKind kind) const {
    for (const std::vector<Action>& list : schedule_.actions) {
      for (const Action& action : list) {
        if (action.kind == kind) return true;
      }
    }
    return false;
  }

  const Schedule& schedule_;
  const Simulation& simulation_;
  double plot_width_ = kMinWidth, scale_ = 1.0;
};

}  // namespace

std::string render_timeline_svg(const Schedule& schedule, const Simulation& simulation,
                                const std::string& caption) {
  return Drawing(schedule, simulation).render(caption);
}

}  // namespace forja
