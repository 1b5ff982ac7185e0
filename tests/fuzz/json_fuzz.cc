// SPDX-License-Identifier: Apache-2.0
// JSON of any kind: what is read, written and read again is the same.
#include "forja/base/json.h"

#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  const std::string_view text = fuzzing::text_of(data, size);
  nlohmann::json value, once;
  const bool good = fuzzing::accepts([&] { value = parse_json(text); });
  const bool unique = fuzzing::accepts([&] { once = parse_json(text, JsonKeys::once); });
  fuzzing::require(good || !unique, "fewer texts are JSON where keys may not be repeated");
  if (!good) return 0;
  fuzzing::require(!unique || once == value, "without repeated keys, both ways read the same");
  const std::string written = value.dump();
  fuzzing::require(parse_json(written, JsonKeys::once).dump() == written,
                   "written JSON reads back");
  shown(value);
  fuzzing::accepts([&] { json_integer(value, "a value"); });
  return 0;
}
