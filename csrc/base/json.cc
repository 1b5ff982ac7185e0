// SPDX-License-Identifier: Apache-2.0
#include "forja/base/json.h"

#include <set>
#include <vector>

#include "forja/base/error.h"

namespace forja {
namespace {

using Json = nlohmann::json;

constexpr int kMostDepth = 100;
constexpr size_t kMostShown = 80, kMostReason = 300;

Json parse_with_keys_once(std::string_view text) {
  std::vector<std::set<std::string>> around;  // the keys so far of each object that is open
  return Json::parse(text, [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) around.emplace_back();
    if (event == Json::parse_event_t::object_end) around.pop_back();
    if (event == Json::parse_event_t::key &&
        !around.back().insert(value.get<std::string>()).second) {
      fail_input("the key {} is there twice", shown(value));
    }
    return true;
  });
}

}  // namespace

// Looks at brackets only: up to the first fault, the parser sees them in the same way.
void check_json_depth(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMostDepth)
        fail_input("values are nested deeper than {} at byte {}", kMostDepth, i);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
}

Json parse_json(std::string_view text, JsonKeys keys) {
  check_json_depth(text);
  try {
    return keys == JsonKeys::once ? parse_with_keys_once(text) : Json::parse(text);
  } catch (const Json::exception& e) {
    fail_input("not JSON: {}", std::string_view(e.what()).substr(0, kMostReason));
  }
}

std::string shown(const Json& json) {
  return json.is_structured() ? json.type_name() : json.dump().substr(0, kMostShown);
}

int64_t json_integer(const Json& json, std::string_view what, int64_t least, int64_t most) {
  const bool fits = json.is_number_integer() &&
                    (!json.is_number_unsigned() || json.get<uint64_t>() <= uint64_t(INT64_MAX));
  if (!fits || json.get<int64_t>() < least || json.get<int64_t>() > most)
    fail_input("{} is {}, expected a whole number in {}..{}", what, shown(json), least, most);
  return json.get<int64_t>();
}

}  // namespace forja
