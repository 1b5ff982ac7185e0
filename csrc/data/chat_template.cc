// SPDX-License-Identifier: Apache-2.0
#include "forja/data/chat_template.h"

#include <filesystem>

#include "csrc/data/jinja/evaluator.h"
#include "forja/base/error.h"
#include "forja/base/file.h"

namespace forja {

using Json = ChatTemplate::Json;

struct ChatTemplate::Impl {
  std::string name;
  std::vector<jinja::Node> nodes;
  jinja::Dict variables;
};

namespace {

template <class Body>
auto named(const std::string& name, const Body& body) {
  try {
    return body();
  } catch (const Error& e) {
    fail_input("{}: {}", name, e.what());
  }
}

void add(jinja::Dict& to, const Json& variables) {
  for (const auto& [key, value] : variables.items()) to.set(key, jinja::Value::from_json(value));
}

// "bos_token": "<s>", or {"content": "<s>", ...}
Json special_tokens(const Json& config) {
  Json out = Json::object();
  for (const auto& [key, value] : config.items()) {
    if (key.size() < 6 || key.compare(key.size() - 6, 6, "_token") != 0) continue;
    if (value.is_string()) out[key] = value;
    if (value.is_object() && value.contains("content") && value["content"].is_string())
      out[key] = value["content"];
  }
  return out;
}

// "" where there is none.
std::string source_in(const Json& config) {
  const auto found = config.find("chat_template");
  if (found != config.end() && found->is_string()) return *found;
  if (found == config.end() || !found->is_array()) return "";
  for (const Json& one : *found)
    if (one.is_object() && one.contains("template") && one.value("name", Json()) == "default")
      return one["template"].is_string() ? one["template"].get<std::string>() : "";
  return "";
}

Json read_config(const std::string& path) {
  if (!std::filesystem::exists(path)) return Json::object();
  const Json config = Json::parse(read_file(path), nullptr, false);
  if (!config.is_object()) fail_input("{}: expected a JSON object", path);
  return config;
}

}  // namespace

ChatTemplate::ChatTemplate(const std::string& source, const std::string& name,
                           const Json& variables)
    : impl_(std::make_unique<Impl>()) {
  impl_->name = name;
  impl_->nodes = named(name, [&] { return jinja::parse(source); });
  for (const char* absent : {"tools", "documents"}) impl_->variables.set(absent, jinja::None{});
  add(impl_->variables, variables);
}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

ChatTemplate::Text ChatTemplate::render(const Json& messages, bool add_generation_prompt,
                                        const Json& more) const {
  jinja::Dict variables = impl_->variables;
  variables.set("messages", jinja::Value::from_json(messages));
  variables.set("add_generation_prompt", add_generation_prompt);
  add(variables, more);
  jinja::Rendered out = named(impl_->name, [&] { return jinja::render(impl_->nodes, variables); });
  return {std::move(out.text), std::move(out.generated)};
}

ChatTemplateText chat_template_text(const std::string& directory) {
  const std::string config_path = directory + "/tokenizer_config.json",
                    own_path = directory + "/chat_template.jinja";
  if (std::filesystem::exists(own_path)) return {read_file(own_path), own_path};
  return {source_in(read_config(config_path)), config_path + ", chat_template"};
}

namespace {

std::optional<ChatTemplate> template_in(const std::string& directory, const std::string& file,
                                        Json variables) {
  const ChatTemplateText found =
      file.empty() ? chat_template_text(directory) : ChatTemplateText{read_file(file), file};
  if (found.source.empty()) return {};
  variables.update(special_tokens(read_config(directory + "/tokenizer_config.json")));
  return ChatTemplate(found.source, found.name, variables);
}

}  // namespace

std::optional<ChatTemplate> find_chat_template(const std::string& directory) {
  return template_in(directory, "", Json::object());
}

std::optional<ChatTemplate> load_chat_template(const std::string& file,
                                               const std::string& tokenizer, const Json& usual) {
  namespace fs = std::filesystem;
  const fs::path path(tokenizer);
  const bool is_file = !fs::is_directory(path);
  const bool usual_name =
      path.filename() == "tokenizer.json" || path.filename() == "tokenizer.model";
  if (is_file && !usual_name) {
    if (file.empty()) return {};
    return ChatTemplate(read_file(file), file, usual);
  }
  const std::string directory = is_file ? path.parent_path().string() : tokenizer;
  return template_in(directory.empty() ? "." : directory, file, usual);
}

}  // namespace forja
