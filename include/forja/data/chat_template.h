// SPDX-License-Identifier: Apache-2.0
// A model's chat template: Jinja, as in tokenizer_config.json, rendered as transformers'
// apply_chat_template does. https://huggingface.co/docs/transformers/chat_templating
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace forja {

class ChatTemplate {
 public:
  using Json = nlohmann::ordered_json;
  struct Text {
    std::string text;
    // Bytes [begin, end) of it that the model is to say, where the template marks them by
    // {% generation %}.
    std::vector<std::pair<size_t, size_t>> generated;
  };

  // `variables` are what every rendering sees: bos_token, eos_token and so on. Throws bad_input,
  // with `name` and the line, for what no published template uses.
  ChatTemplate(const std::string& source, const std::string& name, const Json& variables = {});
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // messages: [{"role": "user", "content": "..."}, ...]; `more` are further variables (tools,
  // enable_thinking). Throws bad_input when the template refuses them.
  Text render(const Json& messages, bool add_generation_prompt, const Json& more = {}) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The text of a directory's template, and where it is; "" where there is none.
struct ChatTemplateText {
  std::string source, name;
};
ChatTemplateText chat_template_text(const std::string& directory);

// The one of a Hugging Face directory: chat_template.jinja, or chat_template in
// tokenizer_config.json (the one named "default" of several), with its special tokens; none where
// there is neither. Throws bad_input for a damaged one.
std::optional<ChatTemplate> find_chat_template(const std::string& directory);

// The template in `file`, or, where that is empty, the one beside a tokenizer: in the directory
// that `tokenizer` names, or that of its tokenizer.json or .model. Its special tokens are those
// named there, else those of `usual`.
std::optional<ChatTemplate> load_chat_template(const std::string& file,
                                               const std::string& tokenizer,
                                               const ChatTemplate::Json& usual);

}  // namespace forja
