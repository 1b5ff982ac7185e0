// SPDX-License-Identifier: Apache-2.0
#include "forja/data/text_source.h"

#include <zlib.h>
#include <zstd.h>

#include <filesystem>

#include "forja/base/file.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;
using Strings = std::vector<std::string>;

std::string gzip(const std::string& text) {
  z_stream z{};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&z, text.size()) + 64, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = uInt(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = uInt(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

Strings read_all(const Strings& inputs, const TextSourceOptions& options = {}) {
  TextSource source(inputs, options);
  Strings texts;
  for (RawDocument document; source.next(&document);)
    texts.push_back(document_text(std::move(document), options));
  EXPECT_EQ(source.bytes_done(), source.bytes_total());
  return texts;
}

class TextSourceTest : public ::testing::Test {
 protected:
  std::string put(const std::string& name, const std::string& content) {
    std::filesystem::create_directories(std::filesystem::path(folder_.file(name)).parent_path());
    write_file(folder_.file(name), content);
    return folder_.file(name);
  }
  std::string error(const std::string& name, const std::string& content,
                    const TextSourceOptions& options = {}) {
    put(name, content);
    return error_of([&] { read_all({folder_.file(name)}, options); }, ExitCode::bad_input);
  }
  void expect_error(const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << '"' << part << "\" in \"" << message << '"';
  }

  TemporaryDirectory folder_;
};

TEST_F(TextSourceTest, ATextFileIsOneDocument) {
  EXPECT_EQ(read_all({put("a.txt", "one\n\ntwo")}), Strings{"one\n\ntwo"});
  EXPECT_EQ(read_all({put("noextension", "x")}), Strings{"x"});
  EXPECT_EQ(read_all({put("bom.txt", "\xEF\xBB\xBFx")}), Strings{"x"});
}

TEST_F(TextSourceTest, ElementsOfAnArrayAreDocuments) {
  const std::string array = "\xEF\xBB\xBF[\n {\"text\": \"a, \\\"]\"},\n\n{\"text\": \"b\"}]\n";
  EXPECT_EQ(read_all({put("a.json", array)}), (Strings{"a, \"]", "b"}));
  EXPECT_EQ(read_all({put("a.json.gz", gzip(array))}), (Strings{"a, \"]", "b"}));
  TextSource source({folder_.file("a.json")}, {});
  RawDocument document;
  ASSERT_TRUE(source.next(&document));
  EXPECT_EQ(document.line, 2);
  EXPECT_EQ(document.offset, 3 + 3);
  ASSERT_TRUE(source.next(&document));
  EXPECT_EQ(document.line, 4);
  EXPECT_FALSE(source.next(&document));
  // A folder may hold other things that are called .json.
  put("folder/a.jsonl", "{\"text\": \"x\"}\n");
  put("folder/config.json", "{}");
  EXPECT_EQ(read_all({folder_.file("folder")}), Strings{"x"});
}

TEST_F(TextSourceTest, ASeparatorCutsATextFile) {
  TextSourceOptions options;
  options.document_separator = "%";
  const std::string path = put("fortunes", "one\ntwo\n%\nthree %\r\n%\r\n \n%\n\n%\nlast");
  EXPECT_EQ(read_all({path}, options), (Strings{"one\ntwo\n", "three %\r\n", "last"}));
}

TEST_F(TextSourceTest, JsonLines) {
  const std::string lines =
      "{\"text\": \"a \\u00e9 \\n\", \"id\": [1, {\"text\": \"no\"}]}\n\n{\"id\": {\"text\": "
      "\"no\"}, \"text\": \"b\"}\r\n{\"text\":\"c\"}";
  EXPECT_EQ(read_all({put("a.jsonl", lines)}), (Strings{"a \xC3\xA9 \n", "b", "c"}));
  TextSourceOptions options;
  options.text_field = "content";
  EXPECT_EQ(read_all({put("b.jsonl", "{\"text\": 1, \"content\": \"x\"}\n")}, options),
            Strings{"x"});
}

TEST_F(TextSourceTest, LongLinesAndDocumentsCrossBuffers) {
  std::string lines, all;
  Strings expected;
  for (int i = 0; i < 5; ++i) {
    expected.push_back(std::string(size_t(700'000 * i + 10), char('a' + i)));
    lines += "{\"text\": \"" + expected.back() + "\"}\n";
    all += expected.back() + "\n";
  }
  EXPECT_TRUE(read_all({put("a.jsonl", lines)}) == expected);
  EXPECT_TRUE(read_all({put("a.jsonl.gz", gzip(lines))}) == expected);
  EXPECT_TRUE(read_all({put("a.jsonl.zst", zstd(lines))}) == expected);
  EXPECT_TRUE(read_all({put("a.txt", all)}) == Strings{all});
}

TEST_F(TextSourceTest, CompressedFilesMayBeConcatenated) {
  EXPECT_EQ(read_all({put("a.txt.gz", gzip("one ") + gzip("two"))}), Strings{"one two"});
  EXPECT_EQ(read_all({put("a.txt.zst", zstd("one ") + zstd("two"))}), Strings{"one two"});
}

TEST_F(TextSourceTest, FoldersAreSearchedInOrder) {
  put("d/b.txt", "2");
  put("d/a.txt.gz", gzip("1"));
  put("d/sub/c.jsonl", "{\"text\": \"3\"}\n");
  put("d/other.pdf", "no");
  put("d/empty.txt", "");
  EXPECT_EQ(read_all({folder_.file("d")}), (Strings{"1", "2", "3"}));
}

TEST_F(TextSourceTest, WhatIsNotThereIsSaid) {
  expect_error(error_of([&] { read_all({folder_.file("none")}); }, ExitCode::bad_input), "none");
  put("e/x.pdf", "");
  expect_error(error_of([&] { read_all({folder_.file("e")}); }, ExitCode::bad_input),
               "no .txt or .jsonl");
  expect_error(error("x.pdf", "text"), ".txt, .jsonl or .json");
  expect_error(error_of([] { read_all({}); }, ExitCode::bad_input), "no input");
}

TEST_F(TextSourceTest, FaultsNameFileAndLine) {
  expect_error(error("a.txt", "ab\ncd\nx\xC3(\n"),
               "a.txt:3: invalid UTF-8: wrong byte 0xc3 at byte offset 7");
  expect_error(error("a.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"\xFF\"}\n"),
               "a.jsonl:3: invalid UTF-8: wrong byte 0xff at byte offset 25");
  expect_error(error("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n"),
               "a.jsonl:2: not JSON: syntax error");
  expect_error(error("a.jsonl", "{\"text\": \"\\ud800\"}\n"), "a.jsonl:1: not JSON");
  expect_error(error("a.jsonl", "{\"body\": \"a\", \"id\": 3}\n"),
               "a.jsonl:1: the object has no field \"text\"; its fields: body, id");
  expect_error(error("a.jsonl", "{\"text\": [\"a\"]}\n"),
               "a.jsonl:1: the field \"text\" is not text");
  expect_error(error("a.jsonl", "[\"text\", \"a\"]\n"), "a.jsonl:1: expected a JSON object");
  expect_error(error("a.jsonl", "\"text\"\n"), "a.jsonl:1: expected a JSON object");
}

TEST_F(TextSourceTest, DamagedCompressionIsSaid) {
  const std::string text(100'000, 'x'),
      noise = "this is no compressed data at all, not in the least";
  const std::string gz = gzip(text), zst = zstd(text);
  expect_error(error("a.txt.gz", gz.substr(0, gz.size() / 2)), "truncated");
  expect_error(error("a.txt.gz", gz.substr(0, gz.size() - 4)), "truncated");
  expect_error(error("a.txt.gz", noise), "damaged gzip");
  expect_error(error("a.txt.gz", ""), "truncated");
  expect_error(error("a.txt.zst", zst.substr(0, zst.size() - 1)), "truncated");
  expect_error(error("a.txt.zst", noise), "damaged zstd");
  expect_error(error("a.txt.zst", ""), "truncated");
}

}  // namespace
}  // namespace forja
