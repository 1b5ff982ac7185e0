// SPDX-License-Identifier: Apache-2.0
// forja chat MODEL [--system TEXT]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "csrc/cli/generation.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/cli/commands.h"
#include "forja/data/chat_template.h"
#include "forja/device/cpu_topology.h"

namespace forja {
namespace {

constexpr int64_t kMostPositions = 8192;  // of the cache

struct ChatArguments : GenerationArguments {
  std::string system;
};

// What was said, as the model reads it: by its chat template, or one text that goes on.
class Conversation {
 public:
  Conversation(const GenerationModel& model, const std::string& system)
      : model_(model), system_(system) {
    if (std::filesystem::is_directory(model.source.tokenizer))
      template_ = find_chat_template(model.source.tokenizer);
    if (!template_ && !system.empty()) {
      fail_input("--system needs a chat template, and {} has none", model.source.tokenizer);
    }
    forget();
  }

  bool has_template() const { return template_.has_value(); }

  void forget() {
    messages_ = ChatTemplate::Json::array();
    text_.clear();
    if (!system_.empty()) add("system", system_);
  }

  // All of it, up to where the model has to answer.
  std::vector<int32_t> ask(const std::string& line) {
    if (template_) {
      add("user", line);
      const std::string text = template_->render(messages_, true).text;
      return model_.tokenizer->encode(text, {SpecialText::parsed, false});
    }
    text_ += (text_.empty() ? "" : "\n") + line;
    return model_.encode_prompt(text_);
  }

  void answer(const std::string& text) {
    if (template_) {
      add("assistant", text);
    } else {
      text_ += text;
    }
  }

 private:
  void add(const char* role, const std::string& content) {
    messages_.push_back({{"role", role}, {"content", content}});
  }

  const GenerationModel& model_;
  const std::string system_;
  std::optional<ChatTemplate> template_;
  ChatTemplate::Json messages_;
  std::string text_;
};

// Feeds the model only what its cache does not begin with. False where there is no room.
bool reply(Generator& generator, std::vector<int32_t>& cached, const std::vector<int32_t>& ids,
           const GenerationModel& model, GenerateOptions options, std::string* said) {
  cached.resize(size_t(generator.length(0)));
  const bool goes_on =
      cached.size() < ids.size() && std::equal(cached.begin(), cached.end(), ids.begin());
  if (!goes_on) {
    generator.reset();
    cached.clear();
  }
  const int64_t room = generator.max_tokens() - int64_t(ids.size());
  if (room <= 0) return false;
  options.max_new_tokens = std::min(options.max_new_tokens, room);
  const std::vector<int32_t> fed(ids.begin() + int64_t(cached.size()), ids.end());
  cached = ids;
  StreamingDecoder decoder(*model.tokenizer, false);
  const auto say = [&](const std::string& piece) {
    std::cout << piece << std::flush;
    *said += piece;
  };
  generate(generator, {fed}, options, [&](int64_t, int32_t id) {
    cached.push_back(id);
    say(decoder.push(id));
    return true;
  });
  say(decoder.finish());
  return true;
}

void run_chat(const ChatArguments& a) {
  const GenerationModel model(a);
  Conversation conversation(model, a.system);
  const auto generator =
      make_generator(model.source, a.dtype(), 1,
                     std::min<int64_t>(model.source.model.max_position_embeddings, kMostPositions));
  log_info("{}; an empty line forgets what was said, end of input (Ctrl-D) leaves",
           conversation.has_template() ? "Type a message"
                                       : "No chat template: type a text to be continued");
  std::vector<int32_t> cached;
  uint64_t turn = 0;
  for (std::string line; std::cout << "> " << std::flush, std::getline(std::cin, line);) {
    if (trim(line).empty()) {
      conversation.forget();
      continue;
    }
    GenerateOptions options{a.max_new_tokens, a.sampling, model.stop};
    options.sampling.seed += turn++;
    std::string said;
    if (reply(*generator, cached, conversation.ask(line), model, options, &said)) {
      conversation.answer(said);
      std::cout << "\n";
    } else {
      log_warning("the model's {} positions are used up: starting again", generator->max_tokens());
      conversation.forget();
    }
  }
  std::cout << "\n";
}

}  // namespace

void add_chat_command(CLI::App& app) {
  auto arguments = std::make_shared<ChatArguments>();
  CLI::App* command = app.add_subcommand("chat", "Talk to a model on the terminal");
  add_generation_options(*command, *arguments);
  command->add_option("--system", arguments->system,
                      "What the model is told first, where it has a chat template");
  command->callback([arguments] {
    apply_cpu_plan(plan_cpus(0, 1));
    run_chat(*arguments);
  });
}

}  // namespace forja
