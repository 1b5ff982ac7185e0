// SPDX-License-Identifier: Apache-2.0
// A record of a file with samples, whatever its format, as what is said in it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "forja/data/chat_template.h"
#include "forja/data/dataset.h"
#include "forja/data/samples.h"

namespace forja {

struct Dialogue {
  using Json = ChatTemplate::Json;

  // As a chat template reads it.
  Json messages = Json::array();
  Json tools;                // null: none
  size_t first_learned = 0;  // the first message that may be learned

  // Of one instruction with its answer, which are messages too.
  bool is_instruction = false;
  std::string system, instruction, input, answer;
};

struct SampleRecord {
  DatasetKind kind = DatasetKind::samples;
  std::vector<Dialogue> dialogues;  // one, or chosen and rejected
};

// Throws bad_input for what is no JSON object, has none of the formats, lacks a field, or names a
// role that nobody knows.
SampleRecord read_sample_record(const std::string& json, const SampleOptions& options);

}  // namespace forja
