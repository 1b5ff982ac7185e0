// SPDX-License-Identifier: Apache-2.0
// Published expectations: text to exact ids, and back.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "forja/base/file.h"
#include "forja/base/text.h"
#include "forja/data/tokenizer.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

// llama.cpp's vectors. NAME.inp: texts of any number of lines, separated by a line
// "__ggml_vocab_test__". NAME.out: one line a text, its ids separated by spaces; special tokens
// written in a text count as plain text.
std::vector<std::string> read_texts(const std::string& path) {
  const std::string all = read_file(path), separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  size_t at = 0;
  for (size_t found; (found = all.find(separator, at)) != all.npos; at = found + separator.size()) {
    texts.push_back(all.substr(at, found - at));
  }
  texts.push_back(all.substr(at));
  return texts;
}

std::vector<std::vector<int32_t>> read_ids(const std::string& path) {
  std::vector<std::vector<int32_t>> lists;
  std::vector<std::string> lines = split(read_file(path), '\n');
  if (lines.back().empty()) lines.pop_back();
  for (const std::string& line : lines) {
    lists.emplace_back();
    for (const std::string& word : split(line, ' ')) {
      if (!word.empty()) lists.back().push_back(std::stoi(word));
    }
  }
  return lists;
}

// `prefix`: what the tokenizer puts before a text, which decoding removes again only where its kind
// says so.
void expect_vectors(const std::string& tokenizer_asset, const std::string& vectors) {
  FORJA_REQUIRE_ASSET(file, tokenizer_asset);
  FORJA_REQUIRE_ASSET(inputs, "vectors/llama.cpp-tokenizers/ggml-vocab-" + vectors + ".gguf.inp");
  FORJA_REQUIRE_ASSET(outputs, "vectors/llama.cpp-tokenizers/ggml-vocab-" + vectors + ".gguf.out");
  const auto tokenizer = load_tokenizer(file);
  std::vector<std::string> texts = read_texts(inputs);
  const std::vector<std::vector<int32_t>> expected = read_ids(outputs);
  if (texts.size() == expected.size() + 1 && texts.back().empty()) texts.pop_back();
  ASSERT_EQ(texts.size(), expected.size());
  EXPECT_GE(texts.size(), 46u);
  for (size_t i = 0; i < texts.size(); ++i) {
    SCOPED_TRACE(fmt::format("text {}: \"{}\"", i, texts[i]));
    const std::vector<int32_t> ids = tokenizer->encode(texts[i]);
    EXPECT_EQ(ids, expected[i]);
    EXPECT_EQ(tokenizer->decode(ids), texts[i]);
    StreamingDecoder stream(*tokenizer);
    std::string streamed;
    for (int32_t id : ids) {
      const std::string part = stream.push(id);
      EXPECT_TRUE(is_valid_utf8(part, nullptr));
      streamed += part;
    }
    EXPECT_EQ(streamed + stream.finish(), texts[i]);
  }
}

TEST(TokenizerVectors, Gpt2) { expect_vectors("tokenizers/gpt2/tokenizer.json", "gpt-2"); }
TEST(TokenizerVectors, Llama3) { expect_vectors("tokenizers/llama3/tokenizer.json", "llama-bpe"); }
TEST(TokenizerVectors, Llama3Tiktoken) {
  expect_vectors("tokenizers/llama3/tokenizer.model", "llama-bpe");
}
TEST(TokenizerVectors, Qwen2) { expect_vectors("tokenizers/qwen2.5/tokenizer.json", "qwen2"); }
TEST(TokenizerVectors, Llama2SentencePiece) {
  expect_vectors("tokenizers/llama2/tokenizer.model", "llama-spm");
}

// The same vocabulary as a tokenizer.json and as a SentencePiece model.
TEST(TokenizerVectors, MistralJsonAgreesWithSentencePiece) {
  FORJA_REQUIRE_ASSET(json, "tokenizers/mistral/tokenizer.json");
  FORJA_REQUIRE_ASSET(model, "tokenizers/mistral/tokenizer.model.v1");
  FORJA_REQUIRE_ASSET(inputs, "vectors/llama.cpp-tokenizers/ggml-vocab-llama-spm.gguf.inp");
  const auto a = load_tokenizer(json), b = load_tokenizer(model);
  EXPECT_EQ(a->vocab_size(), b->vocab_size());
  EXPECT_EQ(a->bos_id(), b->bos_id());
  EXPECT_EQ(a->eos_id(), b->eos_id());
  EXPECT_TRUE(a->adds_bos());
  for (const std::string& text : read_texts(inputs)) {
    EXPECT_EQ(a->encode(text), b->encode(text)) << '"' << text << '"';
    EXPECT_EQ(a->decode(a->encode(text)), text);
  }
}

// gpt-tokenizer's TestPlans.txt: blocks "EncodingName: r50k_base / Sample: text of any number of
// lines / Encoded: [ids]"; r50k_base is GPT-2.
TEST(TokenizerVectors, Gpt2TestPlans) {
  FORJA_REQUIRE_ASSET(file, "tokenizers/gpt2/tokenizer.json");
  FORJA_REQUIRE_ASSET(plans, "vectors/gpt-tokenizer/TestPlans.txt");
  const auto tokenizer = load_tokenizer(file);
  const std::string all = read_file(plans);
  const std::string head = "EncodingName: r50k_base\nSample: ", middle = "\nEncoded: ";
  int count = 0;
  for (size_t at = all.find(head); at != all.npos; at = all.find(head, at + 1)) {
    const size_t begin = at + head.size(), end = all.find(middle, begin);
    const size_t list = end + middle.size();
    const std::string text = all.substr(begin, end - begin);
    const auto expected = nlohmann::json::parse(all.substr(list, all.find(']', list) + 1 - list))
                              .get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer->encode(text), expected) << '"' << text << '"';
    EXPECT_EQ(tokenizer->decode(expected), text);
    ++count;
  }
  EXPECT_EQ(count, 64);
}

}  // namespace
}  // namespace forja
