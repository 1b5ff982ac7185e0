// SPDX-License-Identifier: Apache-2.0
#include "forja/data/tokenizer.h"

#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "forja/base/file.h"
#include "forja/base/text.h"
#include "tests/data/small_data.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using nlohmann::json;
using testing::error_of;
using testing::TemporaryDirectory;
using Ids = std::vector<int32_t>;

json small_json() { return json::parse(testing::small_tokenizer_json()); }

std::unique_ptr<Tokenizer> load(const json& j) {
  const TemporaryDirectory folder;
  write_file(folder.file("tokenizer.json"), j.dump());
  return load_tokenizer(folder.path());
}

std::string refusal(const json& j) {
  return error_of([&] { load(j); }, ExitCode::bad_input);
}

json added(int id, const std::string& content, bool special) {
  return {{"id", id},        {"content", content}, {"special", special}, {"single_word", false},
          {"lstrip", false}, {"rstrip", false},    {"normalized", false}};
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << '"' << part << "\" in \"" << text << '"';
}

TEST(Tokenizer, RandomTextsComeBack) {
  std::vector<std::unique_ptr<Tokenizer>> all;
  all.push_back(load(small_json()));
  for (const char* name : {"gpt2/tokenizer.json", "llama3/tokenizer.json", "llama2/tokenizer.model",
                           "mistral/tokenizer.json", "mistral/tokenizer.model.v3"}) {
    const std::string path = testing::asset(std::string("tokenizers/") + name);
    if (!path.empty()) all.push_back(load_tokenizer(path));
  }
  for (const auto& tokenizer : all) {
    std::mt19937 random(11);
    // SentencePiece's own mark U+2581 comes back as a space, and its library drops NUL bytes.
    const bool marks = tokenizer->strips_first_space();
    for (int round = 0; round < 500; ++round) {
      std::string text = testing::random_text(random, int(random() % 80));
      if (marks && (text.find("\xE2\x96\x81") != text.npos || text.find('\0') != text.npos))
        continue;
      const Ids ids = tokenizer->encode(text);
      ASSERT_EQ(tokenizer->decode(ids), text) << tokenizer->kind();
      for (int32_t id : ids) ASSERT_LT(id, tokenizer->vocab_size());
    }
  }
}

TEST(Tokenizer, SpecialTokensAreTextUnlessParsed) {
  const auto tokenizer = load(small_json());
  const int32_t end = *tokenizer->eos_id();
  EXPECT_EQ(end, tokenizer->vocab_size() - 1);
  const std::string text = "fox<|endoftext|>dog";
  const Ids plain = tokenizer->encode(text);
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  EXPECT_EQ(tokenizer->decode(plain), text);
  const Ids parsed = tokenizer->encode(text, {SpecialText::parsed});
  EXPECT_EQ(std::count(parsed.begin(), parsed.end(), end), 1);
  EXPECT_EQ(tokenizer->decode(parsed), text);
  EXPECT_EQ(tokenizer->find_special("<|endoftext|>"), end);
  EXPECT_EQ(tokenizer->find_special("fox"), std::nullopt);
  EXPECT_TRUE(tokenizer->is_special(end));
  EXPECT_FALSE(tokenizer->is_special(0));
}

TEST(Tokenizer, AddedTokensAreFoundLongestFirstWithTheirFlags) {
  json j = small_json();
  const int n = int(j["model"]["vocab"].size());
  j["added_tokens"] = {added(n, "<x>", false), added(n + 1, "<x><y>", false),
                       added(n + 2, "<s>", true), added(n + 3, "word", false)};
  j["added_tokens"][0]["lstrip"] = true;
  j["added_tokens"][0]["rstrip"] = true;
  j["added_tokens"][3]["single_word"] = true;
  const auto t = load(j);
  const auto count = [&](const std::string& text, int id,
                         SpecialText special = SpecialText::plain) {
    const Ids ids = t->encode(text, {special});
    return std::count(ids.begin(), ids.end(), id);
  };
  EXPECT_EQ(t->encode("<x><y>"), Ids{n + 1});
  EXPECT_EQ(t->encode("<x><x><y>"), (Ids{n, n + 1}));
  EXPECT_EQ(t->encode("fox  <x>  dog"), [&] {
    Ids ids = t->encode("fox");
    ids.push_back(n);
    for (int32_t id : t->encode("dog")) ids.push_back(id);
    return ids;
  }());
  EXPECT_EQ(count("a<s>b", n + 2), 0);
  EXPECT_EQ(count("a<s>b", n + 2, SpecialText::parsed), 1);
  EXPECT_EQ(count("a word, words, my_word", n + 3), 1);
  EXPECT_EQ(t->vocab_size(), n + 4);
}

TEST(Tokenizer, NamesOfTokensComeFromTheConfigBeside) {
  const TemporaryDirectory folder;
  json j = small_json();
  const int n = int(j["model"]["vocab"].size());
  j["added_tokens"] = {added(n, "<a>", true), added(n + 1, "</s>", true),
                       added(n + 2, "<b>", true)};
  write_file(folder.file("tokenizer.json"), j.dump());
  EXPECT_EQ(load_tokenizer(folder.path())->eos_id(), n + 1);
  EXPECT_EQ(load_tokenizer(folder.path())->bos_id(), std::nullopt);
  write_file(folder.file("tokenizer_config.json"),
             R"({"eos_token": {"content": "<b>"}, "bos_token": "<a>", "add_bos_token": true})");
  const auto t = load_tokenizer(folder.file("tokenizer.json"));
  EXPECT_EQ(t->eos_id(), n + 2);
  EXPECT_EQ(t->bos_id(), n);
  EXPECT_TRUE(t->adds_bos());
  EXPECT_EQ(t->encode("fox", {SpecialText::plain, true})[0], n);
  EXPECT_EQ(t->encode("", {SpecialText::plain, true}), Ids{n});
  EXPECT_EQ(t->encode(""), Ids{});
  EXPECT_EQ(t->hash(), tokenizer_file_hash(folder.path()));
}

TEST(Tokenizer, PublishedNames) {
  FORJA_REQUIRE_ASSET(gpt2, "tokenizers/gpt2");
  FORJA_REQUIRE_ASSET(llama2, "tokenizers/llama2");
  FORJA_REQUIRE_ASSET(llama3, "tokenizers/llama3");
  const auto a = load_tokenizer(gpt2), b = load_tokenizer(llama2), c = load_tokenizer(llama3),
             d = load_tokenizer(llama3 + "/tokenizer.model");
  EXPECT_EQ(a->eos_id(), 50256);
  EXPECT_EQ(a->vocab_size(), 50257);
  EXPECT_EQ(b->bos_id(), 1);
  EXPECT_EQ(b->eos_id(), 2);
  EXPECT_EQ(b->encode("<s>a</s>", {SpecialText::parsed}), (Ids{1, 263, 2}));
  EXPECT_EQ(c->vocab_size(), 128256);
  EXPECT_EQ(c->bos_id(), 128000);
  EXPECT_EQ(c->eos_id(), 128001);
  EXPECT_EQ(d->vocab_size(), c->vocab_size());
  for (int32_t id = 127990; id < 128256; ++id)
    EXPECT_EQ(d->token_bytes(id), c->token_bytes(id)) << id;
}

TEST(Tokenizer, MergesAreTextsOrPairs) {
  json pairs = small_json();
  for (json& merge : pairs["model"]["merges"]) {
    const std::vector<std::string> two = split(merge.get<std::string>(), ' ');
    merge = two;
  }
  EXPECT_EQ(load(pairs)->encode("the quick brown fox"),
            load(small_json())->encode("the quick brown fox"));
}

TEST(Tokenizer, NfcAndPrefixSpace) {
  json j = small_json();
  const std::string decomposed = "hindu\xCC\x81 e\xCC\x81", composed = "hind\xC3\xBA \xC3\xA9";
  EXPECT_EQ(load(j)->decode(load(j)->encode(decomposed)), decomposed);
  j["normalizer"] = {{"type", "NFC"}};
  const auto t = load(j);
  EXPECT_EQ(t->decode(t->encode(decomposed)), composed);
  EXPECT_EQ(t->encode(decomposed), t->encode(composed));
  j["pre_tokenizer"]["add_prefix_space"] = true;
  const auto prefixed = load(j);
  EXPECT_EQ(prefixed->encode("fox"), t->encode(" fox"));
  EXPECT_EQ(prefixed->encode(" fox"), t->encode(" fox"));
}

TEST(Tokenizer, ManyThreadsGiveTheSameIds) {
  const auto t = load(small_json());
  std::mt19937 random(5);
  std::vector<std::string> texts;
  for (int i = 0; i < 200; ++i) texts.push_back(testing::random_text(random, 100));
  std::vector<Ids> expected, found(texts.size());
  for (const std::string& text : texts) expected.push_back(t->encode(text));
  std::vector<std::thread> threads;
  for (size_t k = 0; k < 4; ++k) {
    threads.emplace_back([&, k] {
      for (size_t i = k; i < texts.size(); i += 4) found[i] = t->encode(texts[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(found, expected);
}

TEST(StreamingDecoder, HoldsBackIncompleteCharacters) {
  const auto t = load(small_json());
  const std::string text =
      "\xF0\x9F\xA6\x99 \xE4\xB8\xAD";  // a llama and a Chinese character, in single bytes
  StreamingDecoder decoder(*t);
  std::string all;
  std::vector<size_t> sizes;
  for (int32_t id : t->encode(text)) {
    const std::string part = decoder.push(id);
    EXPECT_TRUE(is_valid_utf8(part, nullptr));
    sizes.push_back(part.size());
    all += part;
  }
  EXPECT_EQ(all, text);
  EXPECT_EQ(sizes[0], 0u);
  EXPECT_EQ(decoder.finish(), "");
  decoder.push(t->encode(text)[0]);
  expect_contains(decoder.finish(), "\xEF\xBF\xBD");
}

TEST(StreamingDecoder, ReplacesWrongBytes) {
  const auto t = load(small_json());
  const int32_t lone = t->encode("\xC2\x80")[1];  // a continuation byte
  StreamingDecoder decoder(*t);
  EXPECT_EQ(decoder.push(lone), "\xEF\xBF\xBD");
}

TEST(StreamingDecoder, DropsTheDummyPrefixOnlyAtTheStart) {
  FORJA_REQUIRE_ASSET(llama2, "tokenizers/llama2");
  const auto t = load_tokenizer(llama2);
  const Ids ids = t->encode("Hello");
  StreamingDecoder start(*t), later(*t, false);
  EXPECT_EQ(start.push(1), "");  // <s>
  EXPECT_EQ(start.push(ids[0]), "Hello");
  EXPECT_EQ(start.push(ids[0]), " Hello");
  EXPECT_EQ(later.push(ids[0]), " Hello");
}

TEST(TokenizerErrors, WrongIdsAndTexts) {
  const auto t = load(small_json());
  expect_contains(error_of([&] { t->decode({-1}); }, ExitCode::bad_input), "-1");
  expect_contains(error_of([&] { t->decode({int32_t(t->vocab_size())}); }, ExitCode::bad_input),
                  "vocabulary of");
  expect_contains(error_of([&] { t->encode("ab\xFF"); }, ExitCode::bad_input), "offset 2");
}

TEST(TokenizerErrors, UnsupportedComponentsAreNamed) {
  const auto with = [](const char* key, const json& value) {
    json j = small_json();
    j[json::json_pointer(key)] = value;
    return j;
  };
  expect_contains(refusal(with("/normalizer", {{"type", "Lowercase"}})), "Lowercase");
  expect_contains(refusal(with("/pre_tokenizer", {{"type", "BertPreTokenizer"}})),
                  "BertPreTokenizer");
  expect_contains(refusal(with("/post_processor", {{"type", "RobertaProcessing"}})),
                  "RobertaProcessing");
  expect_contains(refusal(with("/decoder", {{"type", "WordPiece"}})), "WordPiece");
  expect_contains(refusal(with("/model/type", "Unigram")), "Unigram");
  expect_contains(refusal(with("/model/end_of_word_suffix", "</w>")), "</w>");
  expect_contains(refusal(with("/model/dropout", 0.1)), "dropout");
  expect_contains(refusal(with("/pre_tokenizer", nullptr)), "ByteLevel");
  expect_contains(
      refusal(with("/pre_tokenizer",
                   {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Removed"}})),
      "Removed");
}

TEST(TokenizerErrors, DamagedFiles) {
  const TemporaryDirectory folder;
  const auto error = [&](const std::string& name, const std::string& content) {
    write_file(folder.file(name), content);
    return error_of([&] { load_tokenizer(folder.file(name)); }, ExitCode::bad_input);
  };
  expect_contains(error_of([&] { load_tokenizer(folder.file("none.json")); }, ExitCode::bad_input),
                  "none.json");
  expect_contains(error_of([&] { load_tokenizer(folder.path()); }, ExitCode::bad_input),
                  "no tokenizer.json");
  expect_contains(error("a.json", ""), "empty");
  expect_contains(error("a.json", "{\"model\": "), "not JSON");
  expect_contains(error("a.json", "[]"), "model");
  expect_contains(error("a.json", R"({"model": {"type": "BPE", "vocab": {}, "merges": []}})"),
                  "empty");
  expect_contains(error("a.json", R"({"model": {"vocab": {"a": 0}, "merges": ["a b"]}})"), "merge");
  expect_contains(error("a.json", R"({"model": {"vocab": {"a": 0}, "merges": [3]}})"),
                  "two tokens");
  expect_contains(error("a.json", R"({"model": {"vocab": {"a": 0, "b": 0}, "merges": []}})"),
                  "id 0");
  expect_contains(error("a.json", R"({"model": {"vocab": {"a": -1}, "merges": []}})"), "-1");
  expect_contains(error("a.json", R"({"model": {"vocab": {"a": 99999999999}, "merges": []}})"),
                  "99999999999");
  // A table by id would be larger than any file that asks for it.
  expect_contains(error("a.json", R"({"model": {"vocab": {"a": 16777215}, "merges": []}})"),
                  "is 16777215, expected a whole number in 0..65535");
  expect_contains(error("a.json", R"({"model": {"vocab": {"a": 0}, "merges": []},)"
                                  R"("added_tokens": [{"id": 16777215, "content": "b"}]})"),
                  "is 16777215, expected a whole number in 0..65535");
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  expect_contains(error("a.json", R"({"model": {"vocab": {"a": 0}, "merges": [)" + deep + "]}}"),
                  "nested deeper");
  expect_contains(error("a.json", R"({"model": 3})"), "BPE");
  expect_contains(error("b.model", "some text that is no model"), "SentencePiece");
  expect_contains(error("b.model", "YQ== 0\nYg== 2\n"), ":2: expected rank 1");
  expect_contains(error("b.model", "YQ== 0\nYg=\n"), ":2: expected");
  expect_contains(error("b.model", "YQ== 0\nYg== 1\n"), "2 tokens");
}

TEST(TokenizerErrors, RandomDamageNeverCrashes) {
  const std::string good = testing::small_tokenizer_json(300);
  const TemporaryDirectory folder;
  std::mt19937 random(17);
  for (int round = 0; round < 300; ++round) {
    std::string text = good;
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = char(random() % 128);
    if (round % 3 == 0) text.resize(random() % text.size());
    write_file(folder.file("tokenizer.json"), text);
    try {
      const auto t = load_tokenizer(folder.path());
      t->decode(t->encode("the quick brown fox"));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::bad_input) << e.what();
    }
  }
}

TEST(DescribeTokenizer, SaysWhatItIs) {
  const TemporaryDirectory folder;
  testing::write_small_tokenizer(folder.file("tokenizer.json"));
  const std::string text = describe_tokenizer(folder.path());
  expect_contains(text, "byte-level BPE");
  expect_contains(text, "<|endoftext|>");
}

}  // namespace
}  // namespace forja
