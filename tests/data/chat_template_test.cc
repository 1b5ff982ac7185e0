// SPDX-License-Identifier: Apache-2.0
// Chat templates beside transformers' rendering of them (tests/golden/chat_templates.json).
#include "forja/data/chat_template.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using Json = ChatTemplate::Json;

const Json& golden() {
  const char* const other = std::getenv("FORJA_CHAT_REFERENCE");
  static const Json json = Json::parse(
      read_file(other ? other : testing::source_dir() + "/tests/golden/chat_templates.json"));
  return json;
}

void expect_as_transformers(const std::string& name, const ChatTemplate& chat, const Json& wanted,
                            const std::string& conversation) {
  const Json more = wanted["tools"].is_null() ? Json::object() : Json{{"tools", wanted["tools"]}};
  const auto render = [&] {
    return chat.render(golden()["conversations"][conversation], wanted["add_generation_prompt"],
                       more);
  };
  SCOPED_TRACE(name + ", " + conversation);
  if (wanted.contains("refused")) {
    EXPECT_THROW(render(), Error);
    return;
  }
  const ChatTemplate::Text found = render();
  if (wanted.contains("text")) {
    EXPECT_EQ(found.text, wanted["text"].get<std::string>());
    EXPECT_EQ(Json(found.generated), wanted["generated"]);
  } else {
    const auto* bytes = reinterpret_cast<const Bytef*>(found.text.data());
    EXPECT_EQ(int64_t(found.text.size()), wanted["bytes"].get<int64_t>()) << found.text;
    EXPECT_EQ(crc32(0, bytes, uInt(found.text.size())), wanted["crc32"].get<uLong>()) << found.text;
  }
}

void expect_all(const std::string& name, const ChatTemplate& chat, const Json& results) {
  for (const auto& [conversation, list] : results.items())
    for (const Json& wanted : list) expect_as_transformers(name, chat, wanted, conversation);
}

TEST(ChatTemplate, AsTransformers) {
  int num_templates = 0;
  for (const auto& [name, one] : golden()["templates"].items()) {
    if (!one.contains("source")) continue;
    expect_all(name, ChatTemplate(one["source"], name, golden()["variables"]), one["results"]);
    ++num_templates;
  }
  EXPECT_GE(num_templates, 12);
}

TEST(ChatTemplate, PublishedOnes) {
  for (const auto& [name, one] : golden()["templates"].items()) {
    if (!one.contains("asset")) continue;
    const std::string path = testing::asset(one["asset"]);
    if (path.empty()) GTEST_SKIP() << "no " << one["asset"] << " in FORJA_TEST_ASSETS";
    const Json config = Json::parse(read_file(path));
    expect_all(name, ChatTemplate(config["chat_template"], name, golden()["variables"]),
               one["results"]);
  }
}

std::string refusal(const std::string& source, const Json& messages = Json::array()) {
  try {
    ChatTemplate(source, "some.jinja").render(messages, false);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_input);
    return e.what();
  }
  return "accepted";
}

TEST(ChatTemplate, RefusesByNameAndLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\n{% include 'x' %}", "some.jinja: line 2: the statement \"include\" is not supported"},
      {"{% call x() %}{% endcall %}", "\"call\" is not supported"},
      {"\n\n{{ 'a' | rot13 }}", "line 3: the filter \"rot13\" is not supported"},
      {"{{ 'a' is prime }}", "the test \"prime\" is not supported"},
      {"{{ 'a'.encode() }}", "the method \"encode\" is not supported"},
      {"{{ unknown() }}", "\"unknown\", which is undefined is called"},
      {"{{ missing.part }}", "\"missing\", which is undefined has no \"part\""},
      {"{% if x %}", "endif is missing"},
      {"{% for x in y recursive %}{% endfor %}", "recursive"},
      {"{{ 1 +", "not closed"},
      {"{{ 'a }}", "the string is not closed"},
      {"{# a", "the comment is not closed"},
      {"{{ 1 1 }}", "expected }}, found 1"},
      {"{{ 'a' + 1 }}", "a string + a number"},
      {"{{ 1 // 0 }}", "a division by 0"},
      {"{% set x.y = 1 %}", "x is no namespace"},
      {"{% set a, b = [1] %}", "1 values for 2 names"},
      {"{{ raise_exception('roles must alternate') }}", "refuses it: roles must alternate"},
      {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "macros call each other"},
      {"{{ range(1000000) }}", "more than 100000"},
      {"{{ ! }}", "\"!\" is not expected"},
      {"{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}",
       "more than 2000000 steps"},
      {"{% set ns = namespace(x='12') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}"
       "{% endfor %}",
       "a text of more than"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}"
       "{% endfor %}",
       "more than 2000000 steps"},
      {"{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor "
       "%}",
       "100 deep"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}"
       "{% endfor %}{{ ns.x }}",
       "a text of more than"},
  };
  for (const auto& [source, words] : cases)
    EXPECT_NE(refusal(source).find(words), std::string::npos) << source << "\n" << refusal(source);
  EXPECT_NE(refusal(std::string(5000, '(')).find("accepted"), std::string::npos) << "text";
  const std::string brackets = std::string(5000, '(') + "1" + std::string(5000, ')');
  EXPECT_NE(refusal("{{ " + brackets + " }}").find("deep"), std::string::npos);
  std::string nested;
  for (int i = 0; i < 5000; ++i) nested += "{% if true %}";
  EXPECT_NE(refusal(nested).find("deep"), std::string::npos);
}

TEST(ChatTemplate, OfAHuggingFaceDirectory) {
  const testing::TemporaryDirectory folder;
  const Json messages = {{{"role", "user"}, {"content", "x"}}};
  const auto text = [&] { return find_chat_template(folder.path())->render(messages, false).text; };
  EXPECT_FALSE(find_chat_template(folder.path()));
  const std::string config = folder.file("tokenizer_config.json");
  write_file(config, R"({"bos_token": {"content": "<b>"}, "eos_token": "<e>"})");
  EXPECT_FALSE(find_chat_template(folder.path()));
  write_file(config, R"({"bos_token": {"content": "<b>"}, "eos_token": "<e>",
                         "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"})");
  EXPECT_EQ(text(), "<b>x<e>");
  write_file(config, R"({"chat_template": [{"name": "rag", "template": "no"},
                                           {"name": "default", "template": "yes"}]})");
  EXPECT_EQ(text(), "yes");
  write_file(folder.file("chat_template.jinja"), "own {{ messages | length }}\n");
  EXPECT_EQ(text(), "own 1");
  write_file(config, "[1]");
  EXPECT_THROW(find_chat_template(folder.path()), Error);
}

}  // namespace
}  // namespace forja
