// SPDX-License-Identifier: Apache-2.0
#include "forja/data/text_source.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>

#include "csrc/data/byte_stream.h"
#include "csrc/data/json_elements.h"
#include "forja/base/error.h"
#include "forja/base/text.h"

namespace forja {
namespace fs = std::filesystem;

namespace {

enum class Format { text, json_lines, json_array };

// What the name says, compression aside; nothing for an unknown extension.
std::optional<Format> format_of(const fs::path& file) {
  fs::path name = file.filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string extension = name.extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") return Format::json_lines;
  if (extension == ".json") return Format::json_array;
  if (extension.empty() || extension == ".txt" || extension == ".text" || extension == ".md")
    return Format::text;
  return std::nullopt;
}

void add_folder(const std::string& folder, std::vector<std::string>* files) {
  std::vector<std::string> found;
  std::error_code error;
  for (auto at = fs::recursive_directory_iterator(
           folder, fs::directory_options::follow_directory_symlink, error);
       !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    const fs::path name = at->path().filename();
    if (at->is_regular_file() && name.has_extension() && name.string()[0] != '.' &&
        format_of(name) && format_of(name) != Format::json_array) {
      found.push_back(at->path().string());
    }
  }
  if (error) fail_input("cannot list the folder {}: {}", folder, error.message());
  if (found.empty())
    fail_input("the folder {} holds no .txt or .jsonl file (nor .gz or .zst of them)", folder);
  std::sort(found.begin(), found.end());
  files->insert(files->end(), found.begin(), found.end());
}

bool is_blank(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); });
}

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

// Lines of one file, put together to documents.
class TextSource::Reader {
 public:
  Reader(const std::string& path, const TextSourceOptions& options)
      : options_(options),
        file_(std::make_shared<const std::string>(path)),
        stream_(open_byte_stream(path)),
        format_(*format_of(path)) {}

  bool next(RawDocument* document) {
    document->file = file_;
    document->is_json = format_ != Format::text;
    do {
      document->bytes.clear();
      document->line = line_;
      document->offset = offset_;
      const bool found = format_ == Format::json_array ? next_element(document)
                         : document->is_json           ? append_line(&document->bytes)
                         : options_.document_separator.empty()
                             ? append_all(&document->bytes)
                             : append_until_separator(&document->bytes);
      if (!found) return false;
    } while (is_blank(document->bytes));
    return true;
  }

  int64_t stored_bytes_done() const { return stream_->stored_bytes_done(); }

 private:
  // More bytes into buffer_ (whose first begin_ bytes are used up); false at the end of the file.
  bool refill() {
    constexpr size_t kChunk = 1 << 20;
    buffer_.erase(0, begin_);
    begin_ = 0;
    const size_t held = buffer_.size();
    buffer_.resize(held + kChunk);
    buffer_.resize(held + size_t(stream_->read(buffer_.data() + held, kChunk)));
    if (at_start_ && buffer_.size() >= kByteOrderMark.size()) {
      if (buffer_.starts_with(kByteOrderMark)) {
        buffer_.erase(0, kByteOrderMark.size());
        offset_ = int64_t(kByteOrderMark.size());
      }
      at_start_ = false;
    }
    return buffer_.size() > held;
  }

  // One line with its end; false when there is none left.
  bool append_line(std::string* out) {
    size_t searched = begin_;
    size_t found;
    while ((found = buffer_.find('\n', searched)) == buffer_.npos) {
      searched = buffer_.size() - begin_;  // begin_ becomes 0
      if (!refill()) break;
    }
    const size_t end = found == buffer_.npos ? buffer_.size() : found + 1;
    if (end == begin_) return false;
    out->append(buffer_, begin_, end - begin_);
    offset_ += int64_t(end - begin_);
    begin_ = end;
    ++line_;
    return true;
  }

  // One element of the array that the file is; the file is in memory as a whole.
  bool next_element(RawDocument* document) {
    if (!elements_) {
      std::string text;
      append_all(&text);
      elements_ = std::make_unique<JsonElements>(std::move(text), *file_);
    }
    if (!elements_->next(&document->bytes, &document->line)) return false;
    document->offset = offset_ + elements_->offset();
    return true;
  }

  bool append_all(std::string* out) {
    bool any = false;
    while (begin_ < buffer_.size() || refill()) {
      any = true;
      out->append(buffer_, begin_, buffer_.npos);
      begin_ = buffer_.size();
    }
    return any;
  }

  bool append_until_separator(std::string* out) {
    bool any = false;
    std::string line;
    while (line.clear(), append_line(&line)) {
      any = true;
      std::string_view bare = line;
      while (bare.ends_with('\n') || bare.ends_with('\r')) bare.remove_suffix(1);
      if (bare == options_.document_separator) break;
      *out += line;
    }
    return any;
  }

  const TextSourceOptions& options_;
  std::shared_ptr<const std::string> file_;
  std::unique_ptr<ByteStream> stream_;
  Format format_;
  std::string buffer_;
  size_t begin_ = 0;
  int64_t line_ = 1, offset_ = 0;
  bool at_start_ = true;
  std::unique_ptr<JsonElements> elements_;  // of an array
};

TextSource::TextSource(const std::vector<std::string>& inputs, TextSourceOptions options)
    : options_(std::move(options)) {
  if (inputs.empty()) fail_input("no input files were given");
  for (const std::string& input : inputs) {
    if (!fs::exists(input)) fail_input("there is no file or folder {}", input);
    if (fs::is_directory(input)) {
      add_folder(input, &files_);
    } else if (format_of(input)) {
      files_.push_back(input);
    } else {
      fail_input(
          "{}: expected a .txt, .jsonl or .json file (also .gz or .zst of them), or a folder",
          input);
    }
  }
  for (const std::string& file : files_) bytes_total_ += int64_t(fs::file_size(file));
}

TextSource::~TextSource() = default;

bool TextSource::next(RawDocument* document) {
  while (true) {
    if (reader_ && reader_->next(document)) return true;
    if (reader_) bytes_done_ += reader_->stored_bytes_done();
    reader_.reset();
    if (next_file_ == files_.size()) return false;
    reader_ = std::make_unique<Reader>(files_[next_file_++], options_);
  }
}

int64_t TextSource::bytes_done() const {
  return bytes_done_ + (reader_ ? reader_->stored_bytes_done() : 0);
}

}  // namespace forja
