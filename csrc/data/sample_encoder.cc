// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/sample_encoder.h"

#include <algorithm>

#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace {

// https://github.com/tatsu-lab/stanford_alpaca, with a line end before the answer, so that no token
// is of both.
std::string alpaca_prompt(const Dialogue& d) {
  const std::string rest =
      d.input.empty() ? "." : ", paired with an input that provides further context.";
  std::string text = d.system.empty()
                         ? "Below is an instruction that describes a task" + rest +
                               " Write a response that appropriately completes the request."
                         : d.system;
  text += "\n\n### Instruction:\n" + d.instruction;
  if (!d.input.empty()) text += "\n\n### Input:\n" + d.input;
  return text + "\n\n### Response:\n";
}

std::string plain_prompt(const Dialogue& d) {
  std::string text = d.system.empty() ? "" : d.system + "\n\n";
  text += d.instruction;
  return d.input.empty() ? text : text + "\n\n" + d.input;
}

// For templates beside which nothing names them.
ChatTemplate::Json special_tokens_of(const Tokenizer& tokenizer) {
  ChatTemplate::Json out = ChatTemplate::Json::object();
  if (tokenizer.bos_id()) out["bos_token"] = tokenizer.token_text(*tokenizer.bos_id());
  if (tokenizer.eos_id()) out["eos_token"] = tokenizer.token_text(*tokenizer.eos_id());
  return out;
}

bool is_assistant(const ChatTemplate::Json& message) { return message["role"] == "assistant"; }

bool has_no_weight(const ChatTemplate::Json& message) {
  return message.contains("weight") && message["weight"] == 0;
}

}  // namespace

SampleEncoder::SampleEncoder(const Tokenizer& tokenizer, const std::string& tokenizer_path,
                             int32_t eos_id, SampleOptions options)
    : tokenizer_(tokenizer),
      tokenizer_path_(tokenizer_path),
      eos_id_(eos_id),
      options_(std::move(options)),
      template_(load_chat_template(options_.chat_template, tokenizer_path,
                                   special_tokens_of(tokenizer))) {
  if (options_.prompt == "chat" && !template_) {
    fail_input("prompt: chat needs a chat template, and {} has none: give one (chat_template)",
               tokenizer_path);
  }
}

std::string SampleEncoder::render(const Dialogue& d, size_t num_messages, bool prompt) const {
  ChatTemplate::Json messages = ChatTemplate::Json::array();
  for (size_t i = 0; i < num_messages; ++i) messages.push_back(d.messages[i]);
  const auto more =
      d.tools.is_null() ? ChatTemplate::Json::object() : ChatTemplate::Json{{"tools", d.tools}};
  return template_->render(messages, prompt, more).text;
}

// What each message adds is found by rendering the messages before it, and with it.
SampleEncoder::Spans SampleEncoder::said_by_prefixes(const Dialogue& d, const std::string& whole,
                                                     size_t first) const {
  Spans out;
  for (size_t i = first; i < d.messages.size(); ++i) {
    if (!is_assistant(d.messages[i]) || has_no_weight(d.messages[i])) continue;
    const std::string asked = render(d, i, true), answered = render(d, i + 1, false);
    const bool is_asked = whole.starts_with(asked);
    // There may be no prompt for an answer, or always one: it tells nothing then.
    const bool prompts = i == 0 || asked != render(d, i, false);
    std::optional<Span> span;
    if (is_asked && prompts && whole.starts_with(answered)) {
      span = {asked.size(), std::max(asked.size(), answered.size()), Stop::closing_token};
    } else if (is_asked) {
      span = said_by_content(d.messages[i], whole, asked.size(), prompts);
    }
    if (!span) {
      fail_input(
          "what the assistant says in message {} cannot be found: the chat template gives another "
          "text for the messages up to it than those have in the whole conversation; mark it in "
          "the "
          "template by {{% generation %}}, or learn all tokens",
          i + 1);
    }
    out.push_back(*span);
  }
  return out;
}

// The message's own text from `begin` on, or, where it is to be `there`, right there, up to the
// special token that closes it. Some templates write the last message otherwise than earlier ones.
std::optional<SampleEncoder::Span> SampleEncoder::said_by_content(const ChatTemplate::Json& message,
                                                                  const std::string& whole,
                                                                  size_t begin, bool there) {
  if (!message.contains("content") || !message["content"].is_string()) return std::nullopt;
  const std::string_view content = trim(message["content"].get_ref<const std::string&>());
  const size_t at = there ? whole.find_first_not_of(" \t\r\n", begin) : whole.find(content, begin);
  if (content.empty() || at == whole.npos || whole.compare(at, content.size(), content) != 0)
    return std::nullopt;
  return Span{at, at + content.size(), Stop::next_special};
}

SampleEncoder::Spans SampleEncoder::said(const Dialogue& d, const ChatTemplate::Text& whole) const {
  size_t first = d.first_learned;
  if (options_.learn == "all" && first == 0) return {{0, whole.text.size()}};
  if (options_.learn == "last") {
    for (size_t i = first; i < d.messages.size(); ++i)
      if (is_assistant(d.messages[i])) first = i;
  }
  if (whole.generated.empty()) return said_by_prefixes(d, whole.text, first);
  size_t from = 0;
  if (first > 0) {
    const std::string before = render(d, first, false);
    if (!whole.text.starts_with(before)) {
      fail_input(
          "the chat template gives another text for the first {} messages than those have in the "
          "whole conversation, so where what is learned begins cannot be found",
          first);
    }
    from = before.size();
  }
  std::vector<size_t> messages;
  for (size_t i = 0; i < d.messages.size(); ++i)
    if (is_assistant(d.messages[i])) messages.push_back(i);
  const bool one_each = messages.size() == whole.generated.size();
  Spans out;
  for (size_t k = 0; k < whole.generated.size(); ++k) {
    const auto& [begin, end] = whole.generated[k];
    const bool counts = !one_each || !has_no_weight(d.messages[messages[k]]);
    if (begin >= from && counts) out.push_back({begin, end});
  }
  if (!one_each && std::any_of(d.messages.begin(), d.messages.end(), has_no_weight)) {
    fail_input(
        "a message has the weight 0, and the chat template marks {} texts for {} messages of the "
        "assistant, so which of them is that cannot be told",
        whole.generated.size(), messages.size());
  }
  return out;
}

// The tokens [begin, end) are learned, so far.
void SampleEncoder::settle_end(Stop stop, size_t begin, size_t end, Encoded* out) const {
  const auto is_space = [&](size_t i) { return trim(tokenizer_.token_bytes(out->ids[i])).empty(); };
  const auto is_special = [&](size_t i) { return tokenizer_.is_special(out->ids[i]); };
  if (stop == Stop::closing_token) {
    size_t last = end;
    while (last > begin && !is_special(last - 1) && is_space(last - 1)) --last;
    if (last > begin && is_special(last - 1))
      std::fill(out->learned.begin() + int64_t(last), out->learned.begin() + int64_t(end), 0);
  }
  if (stop == Stop::next_special) {
    size_t next = end;
    while (next < out->ids.size() && !is_special(next) && is_space(next)) ++next;
    if (next < out->ids.size() && is_special(next))
      std::fill(out->learned.begin() + int64_t(end), out->learned.begin() + int64_t(next) + 1, 1);
  }
}

// A token is learned when a byte of it lies in a span, or it ends there without any of its own.
void SampleEncoder::mark(const Spans& spans, const std::vector<size_t>& ends, Encoded* out) const {
  out->learned.assign(out->ids.size(), 0);
  size_t i = 0;
  for (const Span& span : spans) {
    const auto begin_of = [&](size_t token) { return token == 0 ? 0 : ends[token - 1]; };
    while (i < ends.size() && ends[i] <= span.begin) ++i;
    const size_t first = i;
    for (; i < ends.size() && begin_of(i) < span.end; ++i) out->learned[i] = 1;
    for (; i > first && i < ends.size() && ends[i] == span.end; ++i) out->learned[i] = 1;
    if (i > first) settle_end(span.stop, first, i, out);
  }
}

SampleEncoder::Encoded SampleEncoder::encode_chat(const Dialogue& d) const {
  const auto more =
      d.tools.is_null() ? ChatTemplate::Json::object() : ChatTemplate::Json{{"tools", d.tools}};
  const ChatTemplate::Text whole = template_->render(d.messages, false, more);
  const Spans spans = said(d, whole);
  Encoded out;
  std::vector<size_t> ends;
  tokenizer_.encode(whole.text, {SpecialText::parsed, false}, &out.ids, &ends);
  out.text_bytes = int64_t(whole.text.size());
  mark(spans, ends, &out);
  return out;
}

SampleEncoder::Encoded SampleEncoder::encode_plain(const Dialogue& d) const {
  const std::string prompt = options_.prompt == "plain" ? plain_prompt(d) : alpaca_prompt(d);
  Encoded out;
  std::vector<size_t> ends;
  const std::string text = prompt + d.answer;
  tokenizer_.encode(text, {SpecialText::plain, tokenizer_.adds_bos()}, &out.ids, &ends);
  out.text_bytes = int64_t(text.size());
  const bool all = options_.learn == "all" && d.first_learned == 0;
  mark({{all ? 0 : prompt.size(), text.size()}}, ends, &out);
  out.ids.push_back(eos_id_);
  out.learned.push_back(1);
  return out;
}

SampleEncoder::Encoded SampleEncoder::encode(const Dialogue& d) const {
  const bool chat = d.is_instruction
                        ? options_.prompt == "chat" || (options_.prompt == "auto" && template_)
                        : true;
  if (chat && !template_) {
    fail_input(
        "a conversation needs a chat template, and {} has none: give the directory of a model that "
        "has one, or the file of a template (chat_template)",
        tokenizer_path_);
  }
  Encoded out = chat ? encode_chat(d) : encode_plain(d);
  // The first token follows nothing, so it is never learned.
  if (!out.learned.empty()) out.learned[0] = 0;
  if (std::find(out.learned.begin(), out.learned.end(), 1) == out.learned.end())
    fail_input("there is nothing to learn: the assistant says nothing in it");
  return out;
}

void SampleEncoder::add_record(const RawDocument& document, DatasetKind kind,
                               DocumentBatch* batch) const {
  const SampleRecord record = read_sample_record(document.bytes, options_);
  if (record.kind != kind) {
    fail_input("this is {}, and what was read before {}: a dataset has one of the two",
               record.kind == DatasetKind::samples ? "a single sample" : "a preference pair",
               kind == DatasetKind::samples ? "were single samples" : "were preference pairs");
  }
  std::vector<Encoded> samples;
  for (const Dialogue& dialogue : record.dialogues) samples.push_back(encode(dialogue));
  for (const Encoded& s : samples) {
    batch->ids.insert(batch->ids.end(), s.ids.begin(), s.ids.end());
    batch->learned.insert(batch->learned.end(), s.learned.begin(), s.learned.end());
    batch->lengths.push_back(int64_t(s.ids.size()));
    batch->text_bytes.push_back(s.text_bytes);
  }
}

void SampleEncoder::add(DocumentBatch* batch, DatasetKind kind) const {
  for (const RawDocument& document : batch->documents) {
    const auto place = [&](const Error& e) {
      return fmt::format("{}:{}: {}", *document.file, document.line, e.what());
    };
    try {
      if (!document.is_json) fail_input("expected a .jsonl or .json file of samples");
      add_record(document, kind, batch);
    } catch (const Error& e) {
      if (e.code() != ExitCode::bad_input) throw;
      if (!options_.skip_malformed) fail_input("{}", place(e));
      if (batch->num_left_out++ == 0) batch->first_fault = place(e);
    }
  }
  batch->documents.clear();
}

std::optional<DatasetKind> SampleEncoder::kind_of(const RawDocument& document) const {
  try {
    if (!document.is_json) fail_input("expected a .jsonl or .json file of samples");
    return read_sample_record(document.bytes, options_).kind;
  } catch (const Error& e) {
    if (options_.skip_malformed) return std::nullopt;
    fail_input("{}:{}: {}", *document.file, document.line, e.what());
  }
}

}  // namespace forja
