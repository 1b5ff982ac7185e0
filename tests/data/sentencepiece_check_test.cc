// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/sentencepiece_check.h"

#include <cstring>

#include "forja/data/tokenizer.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

std::string field(int number, const std::string& bytes) {
  std::string out(1, char(number << 3 | 2));
  size_t size = bytes.size();
  for (; size > 0x7F; size >>= 7) out += char((size & 0x7F) | 0x80);
  out += char(size);
  return out + bytes;
}

// A model whose map replaces "a" by "b": a unit is an offset (from bit 10), "has a leaf" (bit 8)
// and a byte; the leaf itself, where the bytes of the children begin, points to a text.
struct Map {
  std::vector<uint32_t> units = std::vector<uint32_t>(768);
  static constexpr uint32_t kA = 256 + 'a';
  std::string texts = std::string("b\0", 2);

  Map() {
    for (uint32_t i = 0; i < 768; ++i) units[i] = (i & 0xFF) ^ 1;  // of no byte
    units[0] = 256 << 10;                           // the root's children begin at 256
    units[kA] = 'a' | 1 << 8 | ((kA ^ 512) << 10);  // those of "a" at 512
    units[512] = 1u << 31;                          // its leaf: text 0
  }
  std::string model() const {
    std::string map(4 + units.size() * 4, '\0');
    const auto bytes = uint32_t(units.size() * 4);
    std::memcpy(map.data(), &bytes, 4);
    std::memcpy(map.data() + 4, units.data(), bytes);
    return field(3, field(1, "name") + field(2, map + texts));
  }
};

std::string fault(const std::string& model) {
  return testing::error_of([&] { check_sentencepiece_model(model); }, ExitCode::bad_input);
}

TEST(SentencePieceCheck, WholeModels) {
  check_sentencepiece_model("");
  check_sentencepiece_model(field(3, field(1, "identity") + field(2, "")));
  check_sentencepiece_model(Map().model());
  // One that the library made: its rule is that of an n without a tilde.
  const auto tokenizer =
      load_tokenizer(testing::source_dir() + "/tests/fuzz/corpus/tokenizer_model/bpe_with_a_map");
  EXPECT_EQ(tokenizer->encode("fri\xC3\xB1"), tokenizer->encode("frin"));
}

TEST(SentencePieceCheck, MapsThatLeadOutside) {
  const std::string damaged = "its normalisation map is damaged";
  Map map;
  map.units[0] = 768 << 10;  // children behind the end
  EXPECT_EQ(fault(map.model()), damaged);
  map = {};
  map.units[512] = 1u << 31 | 2;  // a text behind the end
  EXPECT_EQ(fault(map.model()), damaged);
  map = {};
  map.texts = "b";  // without an end
  EXPECT_EQ(fault(map.model()), damaged);
  map = {};
  map.units[Map::kA] = 'a' | 'a' << 10;  // the children of "a" are those of the root
  EXPECT_EQ(fault(map.model()), damaged);
  EXPECT_EQ(fault(field(3, field(2, std::string(3, 'x')))), "its normalisation map is truncated");
  map = {};
  map.units.clear();
  EXPECT_EQ(fault(map.model()), damaged);
}

TEST(SentencePieceCheck, OtherFiles) {
  EXPECT_EQ(fault("text"), "a field of kind 4 is in it");
  EXPECT_EQ(fault("\x1A\x7Fx"), "it ends within a field");
  EXPECT_EQ(fault(std::string(11, '\xFF')), "a number in it has no end");
}

}  // namespace
}  // namespace forja
