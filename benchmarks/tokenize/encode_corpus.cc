// SPDX-License-Identifier: Apache-2.0
// Encodes a .jsonl corpus on one thread whenever a line comes in on standard input, and answers
// with one line: CPU seconds, tokens, and a hash of all ids (FNV-1a over little-endian int32).
// compare.py drives it.
//
//   encode_corpus TOKENIZER CORPUS.jsonl
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>
#include <vector>

#include "forja/base/error.h"
#include "forja/data/text_source.h"
#include "forja/data/tokenizer.h"

namespace {

uint64_t fnv1a(const std::vector<int32_t>& ids, uint64_t hash) {
  for (int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8)
      hash = (hash ^ (uint32_t(id) >> shift & 0xFF)) * 0x100000001B3ull;
  }
  return hash;
}

int run(const std::string& tokenizer_path, const std::string& corpus) {
  const auto tokenizer = forja::load_tokenizer(tokenizer_path);
  std::vector<std::string> texts;
  forja::TextSource source({corpus}, {});
  for (forja::RawDocument document; source.next(&document);) {
    texts.push_back(forja::document_text(std::move(document), {}));
  }
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<std::vector<int32_t>> ids(texts.size());
    const std::clock_t start = std::clock();
    for (size_t i = 0; i < texts.size(); ++i) tokenizer->encode(texts[i], {}, &ids[i]);
    const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
    uint64_t hash = 0xCBF29CE484222325ull;
    size_t tokens = 0;
    for (const auto& document : ids) {
      hash = fnv1a(document, hash);
      tokens += document.size();
    }
    fmt::print("{} {} {:016x}\n", seconds, tokens, hash);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: encode_corpus TOKENIZER CORPUS.jsonl\n");
    return 2;
  }
  try {
    return run(argv[1], argv[2]);
  } catch (const forja::Error& e) {
    fmt::print(stderr, "error: {}\n", e.what());
    return int(e.code());
  }
}
