// SPDX-License-Identifier: Apache-2.0
// A chat template, with a conversation that reaches much of what templates do.
#include "forja/data/chat_template.h"
#include "tests/fuzz/fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const ChatTemplate::Json messages = {
      {{"role", "system"}, {"content", "be ñ"}},
      {{"role", "user"}, {"content", {{{"type", "text"}, {"text", " 1 + 1? "}}}}},
      {{"role", "assistant"}, {"content", "2"}, {"n", 1.5}, {"none", nullptr}, {"yes", true}}};
  fuzzing::accepts([&] {
    const ChatTemplate chat(std::string(fuzzing::text_of(data, size)), "input",
                            {{"bos_token", "<s>"}});
    const ChatTemplate::Text out = chat.render(messages, true);
    for (const auto& [begin, end] : out.generated)
      fuzzing::require(begin <= end && end <= out.text.size(), "what is generated is in the text");
  });
  return 0;
}
