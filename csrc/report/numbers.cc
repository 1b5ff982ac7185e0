// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/numbers.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace forja {
namespace {

struct Suffix {
  double scale;
  const char* text;
};

Suffix suffix_of(double largest, double first_thousand) {
  if (largest >= 1e12) return {1e12, "T"};
  if (largest >= 1e9) return {1e9, "B"};
  if (largest >= 1e6) return {1e6, "M"};
  if (largest >= first_thousand) return {1e3, "k"};
  return {1.0, ""};
}

// "3.0e-04" as "3e-4" (trim) or "3.000e-04" as "3.000e-4".
std::string format_exponent(double value, int decimals, bool trim) {
  const std::string text = fmt::format("{:.{}e}", value, decimals);
  const size_t e = text.find('e');
  std::string mantissa = text.substr(0, e);
  if (trim && mantissa.find('.') != mantissa.npos) {
    mantissa.erase(mantissa.find_last_not_of('0') + 1);
    if (mantissa.back() == '.') mantissa.pop_back();
  }
  return fmt::format("{}e{}", mantissa, std::atoi(text.c_str() + e + 1));
}

// The fewest decimals that show `value` to a millionth.
int decimals_of(double value) {
  for (int decimals = 0; decimals < 6; ++decimals) {
    const double power = std::pow(10.0, decimals);
    if (std::abs(std::round(value * power) / power - value) <= 1e-6 * std::abs(value)) {
      return decimals;
    }
  }
  return 6;
}

}  // namespace

double nice_step(double low, double high, int target) {
  const double raw = (high - low) / target;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (raw <= factor * power * (1 + 1e-9)) return factor * power;
  }
  return 10.0 * power;
}

std::vector<double> linear_ticks(double low, double high, int target) {
  if (!(high > low)) return {low};
  const double step = nice_step(low, high, target);
  std::vector<double> ticks;
  const double slack = 1e-9 * (high - low);
  for (double i = std::ceil((low - slack) / step); i * step <= high + slack; ++i) {
    ticks.push_back(i * step + 0.0);
  }
  return ticks;
}

std::vector<double> log_ticks(double low, double high, int target) {
  const int first = int(std::floor(std::log10(low))), last = int(std::ceil(std::log10(high)));
  const std::vector<std::vector<double>> mantissas = {
      {1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 5, 7}, {1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9}};
  const int stride = std::max(1, (last - first) / (2 * target));
  for (const auto& set : mantissas) {
    std::vector<double> ticks;
    for (int decade = first; decade <= last; decade += stride) {
      for (const double mantissa : set) {
        const double tick = mantissa * std::pow(10.0, decade);
        if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) ticks.push_back(tick);
      }
    }
    if (int(ticks.size()) >= std::min(target, 4)) return ticks;
  }
  return linear_ticks(low, high, target);
}

std::vector<std::string> tick_labels(const std::vector<double>& ticks, bool each) {
  double largest = 0.0;
  for (const double tick : ticks) largest = std::max(largest, std::abs(tick));
  const Suffix shared = suffix_of(largest, 1e4);
  int shared_decimals = 0;
  for (const double tick : ticks) {
    shared_decimals = std::max(shared_decimals, decimals_of(tick / shared.scale));
  }
  std::vector<std::string> labels;
  for (const double tick : ticks) {
    const Suffix suffix = each ? suffix_of(std::abs(tick), 1e4) : shared;
    const double scaled = tick / suffix.scale;
    const int decimals = each ? decimals_of(scaled) : shared_decimals;
    if (tick == 0.0) {
      labels.push_back("0");
    } else if (each ? std::abs(tick) < 1e-3 : largest < 0.01) {
      labels.push_back(format_exponent(tick, 2, true));
    } else {
      labels.push_back(fmt::format("{:.{}f}{}", scaled, decimals, suffix.text));
    }
  }
  return labels;
}

std::string format_value(double value) {
  if (std::isnan(value)) return "\xe2\x80\x93";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  const double size = std::abs(value);
  if (size == 0.0) return "0";
  if (size < 1e-3) return format_exponent(value, 3, false);
  if (size < 999.95) {
    const int decimals = std::clamp(3 - int(std::floor(std::log10(size))), 1, 6);
    return fmt::format("{:.{}f}", value, decimals);
  }
  if (size < 999999.5) return format_integer(std::llround(value));
  const Suffix suffix = suffix_of(size, 1e3);
  if (size / suffix.scale >= 1e6) return format_exponent(value, 3, false);
  const double scaled = size / suffix.scale;
  const int decimals = std::clamp(3 - int(std::floor(std::log10(scaled))), 0, 3);
  return fmt::format("{:.{}f}{}", value / suffix.scale, decimals, suffix.text);
}

std::string format_integer(int64_t value) {
  std::string text = std::to_string(value);
  const int64_t sign = value < 0 ? 1 : 0;
  for (int64_t i = int64_t(text.size()) - 3; i > sign; i -= 3) text.insert(size_t(i), 1, ',');
  return text;
}

}  // namespace forja
