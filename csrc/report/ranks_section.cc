// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/ranks_section.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <numeric>
#include <string_view>
#include <vector>

#include "csrc/report/html.h"
#include "csrc/report/numbers.h"
#include "forja/base/file.h"
#include "forja/base/text.h"

namespace forja {
namespace {

using nlohmann::json;

constexpr size_t kMostRows = 64, kMostColumns = 120, kMostNamed = 8;
// A cell is as dark as many of these per cents are below its value.
constexpr std::array kLevels = {5, 10, 20, 40, 80};

struct Interval {
  int64_t first_step, last_step;
  std::vector<int> rows;  // per cent above the median: the most of the ranks that share a row
};

struct RankRecord {
  int64_t sum = 0, times_slow = 0;  // of per cents above the median; of comparisons
  int worst = 0;
};

struct RankTable {
  std::vector<Interval> intervals;
  std::vector<RankRecord> ranks;

  size_t num_rows() const { return std::min(ranks.size(), kMostRows); }
  // Without memory of all ranks in all intervals.
  void add(const json& line) {
    const auto above = line.at("above").get<std::vector<int>>();
    const auto step = line.at("step").get<int64_t>(), steps = line.at("steps").get<int64_t>();
    if (above.size() != ranks.size()) *this = {{}, std::vector<RankRecord>(above.size())};
    if (above.empty()) return;
    Interval interval{step - steps + 1, step, std::vector<int>(num_rows(), 0)};
    for (size_t r = 0; r < above.size(); ++r) {
      int& row = interval.rows[r * num_rows() / above.size()];
      row = std::max(row, above[r]);
      ranks[r].sum += above[r];
      ranks[r].worst = std::max(ranks[r].worst, above[r]);
    }
    for (const json& slow : line.at("slow")) ranks.at(slow.get<size_t>()).times_slow += 1;
    intervals.push_back(std::move(interval));
  }
};

RankTable read_ranks(const std::string& path) {
  RankTable table;
  const MappedFile file(path);
  std::string_view rest = file.text();
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view text = trim(rest.substr(0, end));
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    try {
      const json line = json::parse(text.begin(), text.end(), nullptr, false);
      if (line.is_object()) table.add(line);
    } catch (const std::exception&) {
      // A line that was cut short, or is of no comparison, says nothing.
    }
  }
  return table;
}

// One path a level, each cell a square of side 1.
std::string strip(const RankTable& table) {
  const size_t rows = table.num_rows(), count = table.intervals.size(),
               columns = std::min(count, kMostColumns);
  std::array<std::string, kLevels.size()> paths;
  for (size_t x = 0; x < columns; ++x) {
    for (size_t y = 0; y < rows; ++y) {
      int value = 0;
      for (size_t i = x * count / columns; i < (x + 1) * count / columns; ++i)
        value = std::max(value, table.intervals[i].rows[y]);
      const auto level = std::lower_bound(kLevels.begin(), kLevels.end(), value) - kLevels.begin();
      if (level > 0) paths[size_t(level) - 1] += fmt::format("M{} {}h1v1h-1z", x, y);
    }
  }
  std::string html = fmt::format(
      "<svg class=\"heat\" viewBox=\"0 0 {0} {1}\" preserveAspectRatio=\"none\" role=\"img\" "
      "aria-label=\"ranks over steps\" style=\"height:{2}px\">",
      columns, rows, std::clamp<size_t>(10 * rows, 40, 320));
  for (size_t level = 0; level < paths.size(); ++level) {
    if (!paths[level].empty())
      html += fmt::format("<path class=\"l{}\" d=\"{}\"/>", level + 1, paths[level]);
  }
  return html + "</svg>\n";
}

std::string legend() {
  std::string html = "<p class=\"note\">per cent above the median of the rank's stage: ";
  for (size_t level = 0; level < kLevels.size(); ++level)
    html +=
        fmt::format("<i class=\"swatch area heat l{}\"></i>above {} ", level + 1, kLevels[level]);
  return html + "</p>\n";
}

// run.json has a host for each rank.
std::string host_of(const json& info, size_t rank, size_t num_ranks) {
  const auto hosts = info.find("hosts");
  if (hosts == info.end() || !hosts->is_array() || hosts->size() != num_ranks) return "";
  return (*hosts)[rank].is_string() ? (*hosts)[rank].get<std::string>() : "";
}

std::string slowest(const RankTable& table, const json& info) {
  std::vector<size_t> order(table.ranks.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return table.ranks[a].sum > table.ranks[b].sum; });
  order.resize(std::min(order.size(), kMostNamed));
  std::string html =
      "<div class=\"scroll\"><table><thead><tr><th>slowest ranks</th><th>host</th><th>above the "
      "median, mean</th><th>at most</th><th>named slow</th></tr></thead><tbody>\n";
  const auto count = int64_t(table.intervals.size());
  for (size_t r : order) {
    const RankRecord& rank = table.ranks[r];
    html += fmt::format(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{:.1f} %</td><td>{} %</td><td>{} of {}"
        "</td></tr>\n",
        format_integer(int64_t(r)), escape_html(host_of(info, r, table.ranks.size())),
        double(rank.sum) / double(count), rank.worst, format_integer(rank.times_slow),
        format_integer(count));
  }
  return html + "</tbody></table></div>\n";
}

}  // namespace

std::string ranks_section(const std::string& run_dir, const json& info) {
  const std::string path = run_dir + "/ranks.jsonl";
  if (!std::filesystem::exists(path)) return "";
  const RankTable table = read_ranks(path);
  if (table.intervals.empty()) return "";
  const size_t ranks = table.ranks.size(), rows = table.num_rows();
  return fmt::format(
      "<section class=\"card wide\" id=\"ranks\"><h2>Ranks <small>own time of each beside the "
      "others: {} ranks from top to bottom{}, steps {} to {} from left to right</small></h2>\n"
      "{}{}{}</section>\n",
      format_integer(int64_t(ranks)),
      rows < ranks ? fmt::format(" (the slowest of those in each of {} rows)", rows) : "",
      format_integer(table.intervals.front().first_step),
      format_integer(table.intervals.back().last_step), strip(table), legend(),
      slowest(table, info));
}

}  // namespace forja
