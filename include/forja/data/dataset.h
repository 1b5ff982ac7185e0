// SPDX-License-Identifier: Apache-2.0
// A tokenized dataset: a directory that is read through memory maps.
//
//   manifest.json            what follows, sizes and checksums; format "forja-dataset", version 1
//                            for text, 2 for samples
//   shard-00000.tokens       the ids of its documents; uint16 when the vocabulary has at most
//   65,536
//                            ids, else int32; little-endian, no header
//   shard-00000.documents    int64 per document: the end of its tokens in the shard
//   shard-00000.learned      of samples: uint8 per token: 1 where the model is to say it, else 0
//   tokenizer.json or .model a copy of the tokenizer that made it (load_tokenizer(directory) reads
//                            it)
//
// A document of text ends with the end-of-text token, which its end includes. A sample
// (data/samples.h) is a document of the very tokens that the model sees; of preference pairs, the
// documents 2 i and 2 i + 1 are the chosen and the rejected sample of pair i. A document lies in
// one shard. The shards in order are one stream of tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "forja/base/dtype.h"
#include "forja/base/file.h"

namespace forja {

// What the documents of a dataset are.
enum class DatasetKind { text, samples, preference_pairs };

struct ShardInfo {
  std::string name;  // "shard-00000"
  int64_t num_tokens = 0, num_documents = 0;
  // Of the files' bytes; the last 0 where there is no such file.
  uint64_t tokens_hash = 0, documents_hash = 0, learned_hash = 0;
};

struct DatasetInfo {
  DatasetKind kind = DatasetKind::text;
  DType dtype = DType::i32;  // u16 or i32
  int64_t num_tokens = 0, num_documents = 0;
  int64_t num_text_bytes = 0;  // of the documents, as UTF-8
  int64_t num_learned = 0;     // tokens; of samples
  int64_t num_left_out = 0;    // records that had faults and were skipped; of samples
  bool has_masks() const { return kind != DatasetKind::text; }
  int32_t eos_id = 0;
  int64_t vocab_size = 0;
  uint64_t tokenizer_hash = 0;
  std::string tokenizer_kind;
  std::vector<ShardInfo> shards;
};

inline constexpr int kDatasetVersion = 2;  // the newest

// The dtype that ids below vocab_size are stored in.
DType token_dtype(int64_t vocab_size);

// Between DatasetInfo and the text of manifest.json; `path` names it in messages (bad_input).
std::string print_manifest(const DatasetInfo& info);
DatasetInfo parse_manifest(std::string_view text, const std::string& path);

// An open dataset. Immutable: may be read from several threads at once.
class Dataset {
 public:
  // Maps the shards of `directory`: time and memory grow with their number only. Throws bad_input
  // when it is no dataset, of another version, or the size of a file is not what the manifest says.
  explicit Dataset(std::string directory);

  const std::string& directory() const { return directory_; }
  const DatasetInfo& info() const { return info_; }
  int64_t num_tokens() const { return info_.num_tokens; }
  int64_t num_documents() const { return info_.num_documents; }

  // Tokens [first, first + count) of the stream into `tokens`. An id outside the vocabulary is
  // bad_input: the file is damaged.
  void read(int64_t first, int64_t count, int32_t* tokens) const;

  // The same of the mask of samples: 1 where a token is learned, else 0 (bad_input for others).
  void read_learned(int64_t first, int64_t count, uint8_t* learned) const;

  // Starts reading the same tokens from the disk, and returns at once.
  void prefetch(int64_t first, int64_t count) const;

  // Replaces `starts` by the offsets in [0, count), ascending, at which a document begins in
  // [first, first + count). bad_input where the ends of documents there are not in order.
  void document_starts(int64_t first, int64_t count, std::vector<int32_t>* starts) const;

  // The tokens of a document: [*begin, *end) of the stream. bad_input where it ends before it
  // begins.
  void document_range(int64_t document, int64_t* begin, int64_t* end) const;

  // Reads everything: checksums, document ends in order, ids in the vocabulary. Throws bad_input at
  // the first fault.
  void verify() const;

 private:
  struct Shard {
    MappedFile tokens, documents, learned;        // the last of samples
    int64_t first_token = 0, first_document = 0;  // in the stream
    int64_t num_tokens = 0, num_documents = 0;
    const int64_t* ends() const { return reinterpret_cast<const int64_t*>(documents.data()); }
  };

  MappedFile map_checked(const std::string& name, int64_t expected_bytes) const;
  size_t shard_of_token(int64_t token) const;
  [[noreturn]] void damaged_ends(size_t shard) const;
  void verify_shard(size_t shard) const;

  std::string directory_;
  DatasetInfo info_;
  std::vector<Shard> shards_;
};

// How learned and special tokens are told from others.
enum class SampleStyle {
  brackets,  // [[learned]]
  colours,   // of a terminal: learned ones green, special ones magenta
};

// A few lines about a dataset for people: sizes, tokenizer, shards, the first tokens of some
// documents as text, of samples as the model sees them. With `verify`, everything is read and
// checked.
std::string describe_dataset(const std::string& directory, bool verify,
                             SampleStyle style = SampleStyle::brackets);

// True when `path` is a directory with a dataset's manifest.
bool is_dataset(const std::string& path);

}  // namespace forja
