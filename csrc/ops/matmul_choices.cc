// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/matmul_choices.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/json.h"
#include "forja/base/log.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormatVersion = 1;
constexpr int kRounds = 5;  // after one that warms up
constexpr double kMargin = 0.02;
constexpr std::string_view kLibrary = "cublaslt ", kCustom = "custom";

std::string to_text(const MatmulWay& way) {
  return way.custom ? std::string(kCustom) : fmt::format("{}{}", kLibrary, way.algorithm);
}

MatmulWay way_of(std::string_view text) {
  if (text == kCustom) return {.custom = true};
  MatmulWay way;
  const char* end = text.data() + text.size();
  const bool named = text.substr(0, kLibrary.size()) == kLibrary;
  const char* number = text.data() + (named ? kLibrary.size() : 0);
  const auto [stop, error] = std::from_chars(number, end, way.algorithm);
  FORJA_CHECK(named && error == std::errc() && stop == end && way.algorithm >= 0,
              "\"{}\" is no way of a product", text.substr(0, 80));
  return way;
}

std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + '\n';
  return text;
}

// The file's text; "" where there is none that can be read.
std::string read_if_there(const std::string& file) {
  if (file.empty() || !file_exists(file)) return {};
  try {
    return read_file(file);
  } catch (const Error& e) {
    log_info("{}: not used ({})", file, e.what());
    return {};
  }
}

void write_if_possible(const std::string& file, const std::string& text) {
  if (file.empty()) return;
  try {
    make_directories(std::filesystem::path(file).parent_path());
    write_file(file, text);
  } catch (const Error& e) {
    log_info("{}: not written ({})", file, e.what());
  }
}

}  // namespace

MatmulWay fastest_way(MatmulTrial& trial) {
  const std::vector<MatmulWay> ways = trial.ways();
  if (ways.empty()) return {};
  std::vector<double> least(ways.size(), std::numeric_limits<double>::infinity());
  for (int round = 0; round <= kRounds; ++round) {
    for (size_t i = 0; i < ways.size(); ++i) {
      const double seconds = trial.seconds(ways[i]);
      if (round > 0) least[i] = std::min(least[i], seconds);
    }
  }
  const auto best = std::min_element(least.begin(), least.end());
  return least[0] <= *best * (1.0 + kMargin) ? ways[0] : ways[size_t(best - least.begin())];
}

void MatmulChoices::want(const std::string& product, MakeTrial trial) {
  wanted_.try_emplace(product, std::move(trial));
}

MatmulWay MatmulChoices::find(const std::string& product) {
  const auto found = chosen_.find(product);
  if (found != chosen_.end()) return found->second;
  num_unknown_ += wanted_.count(product) == 0;
  return {};
}

// Takes over what is known and may be chosen; the products that are left are to be measured.
std::vector<std::string> MatmulChoices::missing(const Table& known) {
  std::vector<std::string> left;
  for (const auto& [product, make] : wanted_) {
    const std::vector<MatmulWay> ways = make()->ways();
    const auto entry = known.find(product);
    if (entry != known.end() && std::find(ways.begin(), ways.end(), entry->second) != ways.end())
      chosen_[product] = entry->second;
    else if (ways.size() > 1)
      left.push_back(product);
  }
  return left;
}

int64_t MatmulChoices::settle(const std::string& file, const TextExchange& exchange) {
  const std::string text = exchange.all_gather(exchange.rank == 0 ? read_if_there(file) : "")[0];
  Tables tables;
  try {
    if (!text.empty()) tables = parse(text);
  } catch (const Error& e) {
    log_info("{}: not used ({})", file, e.what());
  }
  const std::vector<std::string> left = missing(tables[machine_]);
  std::vector<std::string> asked;  // by this rank, with the machine: others may have another one
  for (const std::string& product : left) asked.push_back(machine_ + '\t' + product);
  std::string before;
  const std::vector<std::string> all = exchange.all_gather(join(asked));
  for (int rank = 0; rank < exchange.rank; ++rank) before += '\n' + all[size_t(rank)];
  Tables measured;
  for (size_t i = 0; i < left.size(); ++i) {
    if (before.find('\n' + asked[i] + '\n') != std::string::npos) continue;
    try {
      measured[machine_][left[i]] = fastest_way(*wanted_.at(left[i])());
    } catch (const Error& e) {
      log_info("{}: not measured ({})", left[i], e.what());
    }
  }
  const std::vector<std::string> results = exchange.all_gather(to_json(measured));
  bool anything_new = false;
  for (const std::string& of_rank : results) {
    for (const auto& [machine, table] : parse(of_rank)) {
      anything_new |= !table.empty();
      for (const auto& [product, way] : table) tables[machine][product] = way;
    }
  }
  missing(tables[machine_]);
  if (exchange.rank == 0 && anything_new) write_if_possible(file, to_json(tables));
  return int64_t(measured[machine_].size());
}

// {"format_version": 1, "machines": {machine: {product: way}}}
std::string MatmulChoices::to_json(const Tables& tables) {
  Json machines = Json::object();
  for (const auto& [machine, table] : tables) {
    Json& of_machine = machines[machine] = Json::object();
    for (const auto& [product, way] : table) of_machine[product] = to_text(way);
  }
  return Json{{"format_version", kFormatVersion}, {"machines", machines}}.dump(1) + '\n';
}

MatmulChoices::Tables MatmulChoices::parse(std::string_view json) {
  Tables tables;
  try {
    const nlohmann::json all = parse_json(json);
    const int64_t version = json_integer(all.at("format_version"), "format_version");
    FORJA_CHECK(version == kFormatVersion, "format version {}, this build has {}", version,
                kFormatVersion);
    for (const auto& [machine, table] : all.at("machines").items())
      for (const auto& [product, way] : table.items())
        tables[machine][product] = way_of(way.get<std::string>());
  } catch (const Json::exception& e) {
    fail("no choices of products: {}", e.what());
  }
  return tables;
}

std::string matmul_choices_file() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  std::string folder = variable("FORJA_CACHE");
  if (folder.empty() && !variable("XDG_CACHE_HOME").empty())
    folder = variable("XDG_CACHE_HOME") + "/forja";
  if (folder.empty() && !variable("HOME").empty()) folder = variable("HOME") + "/.cache/forja";
  return folder.empty() ? "" : folder + "/matmul.json";
}

}  // namespace forja
