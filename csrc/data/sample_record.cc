// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/sample_record.h"

#include <algorithm>
#include <array>
#include <utility>

#include "forja/base/error.h"
#include "forja/base/json.h"
#include "forja/base/text.h"

namespace forja {
namespace {

using Json = ChatTemplate::Json;

// For a message: the value, cut where it is long, or the name of its type.
std::string brief(const Json& json) {
  return json.is_structured()
             ? json.type_name()
             : json.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80);
}

bool has_array(const Json& record, const char* key) {
  return record.contains(key) && record[key].is_array();
}

const Json& field(const Json& record, const std::string& key) {
  if (record.contains(key)) return record[key];
  std::vector<std::string> names;
  for (const auto& [name, value] : record.items()) names.push_back(name);
  fail_input("the record has no field \"{}\"; its fields: {}", key, join(names, ", "));
}

std::string text_field(const Json& record, const std::string& key) {
  const Json& value = field(record, key);
  if (!value.is_string()) fail_input("the field \"{}\" is {}, expected text", key, brief(value));
  return value;
}

// "" where it is missing or null.
std::string optional_text(const Json& record, const char* key) {
  if (!record.contains(key) || record[key].is_null()) return "";
  return text_field(record, key);
}

Json message(const char* role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

constexpr std::array kRoles = {"system", "user", "assistant", "tool", "developer"};

Json checked_message(const Json& m) {
  if (!m.is_object()) fail_input("a message is {}, expected an object", brief(m));
  const std::string role = text_field(m, "role");
  if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end())
    fail_input("the role \"{}\" is unknown: expected system, developer, user, assistant or tool",
               role);
  const bool calls = m.contains("tool_calls") && !m["tool_calls"].is_null();
  const Json content = m.contains("content") ? m["content"] : Json();
  if (!content.is_string() && !content.is_array() && !(content.is_null() && calls)) {
    fail_input("the content of a message of the role {} is {}, expected text", role,
               m.contains("content") ? brief(content) : "missing");
  }
  if (m.contains("weight") && m["weight"] != 0 && m["weight"] != 1)
    fail_input("the weight of a message is {}, expected 0 (not learned) or 1", brief(m["weight"]));
  return m;
}

// {"from": "human", "value": "..."}
Json message_of_sharegpt(const Json& turn) {
  static constexpr std::array<std::pair<const char*, const char*>, 9> kNames = {
      {{"human", "user"},
       {"user", "user"},
       {"gpt", "assistant"},
       {"assistant", "assistant"},
       {"chatgpt", "assistant"},
       {"system", "system"},
       {"tool", "tool"},
       {"observation", "tool"},
       {"function_response", "tool"}}};
  if (!turn.is_object()) fail_input("a turn is {}, expected an object", brief(turn));
  const std::string from = text_field(turn, "from");
  for (const auto& [name, role] : kNames)
    if (from == name) return message(role, text_field(turn, "value"));
  fail_input(
      "a turn is from \"{}\", which is unknown: expected human, user, gpt, assistant, chatgpt, "
      "system, tool, observation or function_response",
      from);
}

// A message of either form.
Json message_of(const Json& m) {
  return m.is_object() && m.contains("from") ? message_of_sharegpt(m) : checked_message(m);
}

void add_messages(const Json& list, Dialogue* to) {
  if (list.empty()) fail_input("the list of messages is empty");
  for (const Json& m : list) to->messages.push_back(message_of(m));
}

Dialogue conversation(const Json& record, const char* key) {
  const Json& list = field(record, key);
  if (!list.is_array()) fail_input("the field \"{}\" is {}, expected a list", key, brief(list));
  Dialogue out;
  if (std::string system = optional_text(record, "system"); !system.empty())
    out.messages.push_back(message("system", system));
  add_messages(list, &out);
  if (record.contains("tools")) out.tools = record["tools"];
  return out;
}

// Without the answer.
Dialogue question(const Json& record, const std::string& instruction, const std::string& input) {
  Dialogue out;
  out.is_instruction = true;
  out.system = optional_text(record, "system");
  out.instruction = instruction;
  out.input = input;
  if (!out.system.empty()) out.messages.push_back(message("system", out.system));
  out.messages.push_back(
      message("user", input.empty() ? instruction : instruction + "\n\n" + input));
  return out;
}

void add_answer(const std::string& answer, Dialogue* to) {
  to->answer = answer;
  to->messages.push_back(message("assistant", answer));
}

// "chosen" or "rejected", after the dialogue that asks for it.
Dialogue answered(Dialogue asked, const Json& record, const char* key) {
  const Json& answer = field(record, key);
  if (answer.is_string()) {
    add_answer(answer, &asked);
  } else if (answer.is_array()) {
    add_messages(answer, &asked);
    asked.is_instruction = false;
  } else if (answer.is_object()) {
    asked.messages.push_back(message_of(answer));
    asked.is_instruction = false;
  } else {
    fail_input("the field \"{}\" is {}, expected text, a message or a list of messages", key,
               brief(answer));
  }
  return asked;
}

Dialogue preference_prompt(const Json& record) {
  if (has_array(record, "messages")) return conversation(record, "messages");
  if (has_array(record, "conversations")) return conversation(record, "conversations");
  if (has_array(record, "prompt")) return conversation(record, "prompt");
  if (record.contains("instruction"))
    return question(record, text_field(record, "instruction"), optional_text(record, "input"));
  if (record.contains("prompt")) return question(record, text_field(record, "prompt"), "");
  if (has_array(record, "chosen")) return {};  // the whole conversation twice
  fail_input(
      "the record has \"chosen\" and \"rejected\", and no \"prompt\", \"instruction\", "
      "\"messages\" or \"conversations\" before them");
}

SampleRecord preference(const Json& record) {
  SampleRecord out{DatasetKind::preference_pairs, {}};
  const Dialogue asked = preference_prompt(record);
  for (const char* key : {"chosen", "rejected"})
    out.dialogues.push_back(answered(asked, record, key));
  Dialogue &chosen = out.dialogues[0], &rejected = out.dialogues[1];
  size_t common = 0;
  while (common < std::min(chosen.messages.size(), rejected.messages.size()) &&
         chosen.messages[common] == rejected.messages[common])
    ++common;
  if (common == chosen.messages.size() && common == rejected.messages.size())
    fail_input("the chosen and the rejected answer are the same");
  chosen.first_learned = rejected.first_learned = common;
  return out;
}

std::string format_of(const Json& record, const SampleOptions& options) {
  if (options.format != "auto") return options.format;
  if (!options.prompt_field.empty() || !options.completion_field.empty())
    return "prompt-completion";
  if (record.contains("chosen") && record.contains("rejected")) return "preference";
  if (has_array(record, "messages")) return "messages";
  if (has_array(record, "conversations")) return "sharegpt";
  if (record.contains("instruction") && record.contains("output")) return "alpaca";
  if (record.contains("prompt") && record.contains("completion")) return "prompt-completion";
  std::vector<std::string> names;
  for (const auto& [name, value] : record.items()) names.push_back(name);
  fail_input(
      "the format is none that is recognised by the fields ({}): expected messages; conversations; "
      "instruction and output; prompt and completion; or chosen and rejected. Other names of a "
      "prompt and its completion can be given (prompt_field, completion_field); plain text to "
      "train "
      "on becomes a dataset by forja tokenize",
      join(names, ", "));
}

const std::string& named(const std::string& name, const std::string& usual) {
  return name.empty() ? usual : name;
}

}  // namespace

SampleRecord read_sample_record(const std::string& json, const SampleOptions& options) {
  check_json_depth(json);
  Json record;
  try {
    record = Json::parse(json);
  } catch (const Json::exception& e) {
    const std::string reason = e.what();
    const size_t at = reason.find("syntax error");
    fail_input("not JSON: {}", reason.substr(at == reason.npos ? 0 : at, 300));
  }
  if (!record.is_object()) fail_input("expected a JSON object, found {}", brief(record));
  const std::string format = format_of(record, options);
  if (format == "preference") return preference(record);
  SampleRecord out;
  if (format == "messages" || format == "sharegpt") {
    out.dialogues.push_back(
        conversation(record, format == "messages" ? "messages" : "conversations"));
  } else if (format == "alpaca") {
    out.dialogues.push_back(
        question(record, text_field(record, "instruction"), optional_text(record, "input")));
    add_answer(text_field(record, "output"), &out.dialogues[0]);
  } else {
    out.dialogues.push_back(
        question(record, text_field(record, named(options.prompt_field, "prompt")), ""));
    add_answer(text_field(record, named(options.completion_field, "completion")),
               &out.dialogues[0]);
  }
  return out;
}

}  // namespace forja
