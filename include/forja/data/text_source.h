// SPDX-License-Identifier: Apache-2.0
// Documents from text files: .txt (also .text, .md and files without an extension) and .jsonl (also
// .ndjson), each also compressed as .gz or .zst, and folders of them (searched recursively for .txt
// and .jsonl, in sorted order). A .jsonl line is one document: an object with a text field. So is
// each element of the array that a .json file holds, which is read into memory as a whole. A .txt
// file is one document, unless a separator line cuts it. White-space-only documents and a byte
// order mark are left out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace forja {

struct TextSourceOptions {
  std::string text_field = "text";  // of a .jsonl object
  std::string document_separator;   // a line of a .txt file that only holds this; empty: none
};

// A document as it stands in its file. Its text is extracted by document_text(), which may run on
// another thread.
struct RawDocument {
  std::string bytes;                        // the text, or the JSON line
  std::shared_ptr<const std::string> file;  // where it is, for messages
  int64_t line = 0;                         // its first line, from 1
  int64_t offset = 0;                       // of its first byte in the (decompressed) file
  bool is_json = false;
};

class TextSource {
 public:
  // Finds the files; throws bad_input for a missing path, an unknown kind of file, a folder without
  // texts.
  TextSource(const std::vector<std::string>& inputs, TextSourceOptions options);
  ~TextSource();

  // The next document; false at the end. Throws bad_input for a truncated or damaged .gz or .zst.
  bool next(RawDocument* document);

  const std::vector<std::string>& files() const { return files_; }
  int64_t bytes_total() const { return bytes_total_; }  // of all files, as stored
  int64_t bytes_done() const;                           // of those, how many were read

 private:
  class Reader;  // of one file

  std::vector<std::string> files_;
  TextSourceOptions options_;
  int64_t bytes_total_ = 0, bytes_done_ = 0;
  size_t next_file_ = 0;
  std::unique_ptr<Reader> reader_;
};

// The text of a document; takes its bytes. Throws bad_input with file:line: invalid UTF-8 (with the
// byte offset), bad JSON, a missing text field.
std::string document_text(RawDocument&& document, const TextSourceOptions& options);

}  // namespace forja
