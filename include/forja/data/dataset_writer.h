// SPDX-License-Identifier: Apache-2.0
// Writing datasets (see dataset.h): document by document, or from text files on all cores. A
// dataset is written to a directory beside its name and renamed when it is whole: nothing
// half-written ever has the name.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "forja/base/file.h"
#include "forja/data/dataset.h"
#include "forja/data/samples.h"
#include "forja/data/text_source.h"
#include "forja/data/tokenizer.h"

namespace forja {

enum class Existing { refuse, overwrite };  // what to do when the output directory is there already

struct DatasetWriterOptions {
  int64_t shard_tokens = int64_t(1) << 28;  // a shard begins anew before it would exceed this many
  Existing existing = Existing::refuse;
  DatasetKind kind = DatasetKind::text;
};

class DatasetWriter {
 public:
  // `tokenizer_path`: what load_tokenizer() read, copied into the dataset; "" leaves the copy out.
  // `eos_id` ends every document. Throws bad_input when `directory` exists and may not be replaced:
  // Existing::overwrite replaces a dataset or an empty directory, nothing else.
  DatasetWriter(std::string directory, const Tokenizer& tokenizer,
                const std::string& tokenizer_path, int32_t eos_id, DatasetWriterOptions options);
  // Without commit(): removes what was written.
  ~DatasetWriter() = default;
  DatasetWriter(const DatasetWriter&) = delete;
  DatasetWriter& operator=(const DatasetWriter&) = delete;

  // One document without its end-of-text token; `text_bytes`: the size of its text, for the
  // statistics.
  void add_document(const int32_t* ids, int64_t count, int64_t text_bytes);

  // One sample, as the model sees it, of a dataset of another kind than text; learned [count]: 1 or
  // 0.
  void add_sample(const int32_t* ids, const uint8_t* learned, int64_t count, int64_t text_bytes);

  // A record that had faults and was skipped.
  void count_left_out(int64_t records) { info_.num_left_out += records; }

  // Finishes the last shard, writes the manifest and gives the directory its name. Throws bad_input
  // when there is no document.
  DatasetInfo commit();

 private:
  void begin_shard();
  void end_shard();
  void make_room(int64_t count);
  void append_tokens(const int32_t* ids, int64_t count);
  void end_document(int64_t count, int64_t text_bytes);
  void flush();

  // Removed at the end, unless it was renamed.
  struct TemporaryFolder {
    std::string path;
    ~TemporaryFolder();
  };

  std::string directory_;
  TemporaryFolder temporary_;
  DatasetWriterOptions options_;
  DatasetInfo info_;
  std::unique_ptr<AtomicFile> tokens_, learned_;  // the latter of samples
  std::vector<uint8_t> buffer_, learned_buffer_;  // encoded tokens not yet written
  std::vector<int64_t> document_ends_;            // of the current shard
};

struct TokenizeOptions {
  TextSourceOptions text;
  DatasetWriterOptions output;
  int64_t num_threads = 0;  // 0: one for every core of this process
  std::string end_token;    // the text of the token that ends documents; "": the tokenizer's own
};

struct TokenizeProgress {
  int64_t bytes_done = 0, bytes_total = 0;  // of the input files, as stored
  int64_t num_tokens = 0, num_documents = 0;
};

// Tokenizes the files and folders `inputs` into the dataset `directory`. The result does not depend
// on the number of threads; memory is bounded by their number and the longest document. `progress`
// (may be empty) is called on the calling thread, often. Special tokens written in the texts stay
// plain text. Throws bad_input for faulty texts (the first fault in the order of the input) or a
// tokenizer without an end-of-text token, and leaves nothing behind.
DatasetInfo tokenize_files(const std::vector<std::string>& inputs,
                           const std::string& tokenizer_path, const std::string& directory,
                           const TokenizeOptions& options,
                           const std::function<void(const TokenizeProgress&)>& progress);

// Turns conversations, instructions and preference pairs (data/samples.h) into a dataset of samples
// in the same way; `options.text` is not read. Throws bad_input, with file:line, for records with
// faults, unless they are to be skipped: then they are counted, and a warning tells of the first.
DatasetInfo tokenize_samples(const std::vector<std::string>& inputs,
                             const std::string& tokenizer_path, const std::string& directory,
                             const SampleOptions& samples, const TokenizeOptions& options,
                             const std::function<void(const TokenizeProgress&)>& progress);

}  // namespace forja
