// SPDX-License-Identifier: Apache-2.0
// From records to tokens and the mask of those that are learned. Immutable: used by several threads
// at once.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "csrc/data/document_pipeline.h"
#include "csrc/data/sample_record.h"
#include "forja/data/chat_template.h"
#include "forja/data/samples.h"
#include "forja/data/tokenizer.h"

namespace forja {

class SampleEncoder {
 public:
  // The template is that of the options or the one beside the tokenizer; `eos_id` ends an answer
  // where there is none. The tokenizer is not owned.
  SampleEncoder(const Tokenizer& tokenizer, const std::string& tokenizer_path, int32_t eos_id,
                SampleOptions options);

  // What a record is; nothing where it has a fault that is to be skipped. Throws as add() does.
  std::optional<DatasetKind> kind_of(const RawDocument& document) const;

  // Fills the batch from its documents, which have to be of `kind`. Throws bad_input, with
  // file:line, at the first fault; or counts them, where they are to be skipped.
  void add(DocumentBatch* batch, DatasetKind kind) const;

 private:
  // Where in the learned bytes [begin, end) of a text learning ends.
  enum class Stop {
    end,            // there
    closing_token,  // at the last special token, where only white space follows it
    next_special,   // at the special token that follows, apart from white space
  };
  struct Span {
    size_t begin, end;
    Stop stop = Stop::end;
  };
  using Spans = std::vector<Span>;  // ascending, apart

  struct Encoded {
    std::vector<int32_t> ids;
    std::vector<uint8_t> learned;
    int64_t text_bytes = 0;
  };
  Encoded encode(const Dialogue& dialogue) const;
  Encoded encode_chat(const Dialogue& dialogue) const;
  Encoded encode_plain(const Dialogue& dialogue) const;
  void add_record(const RawDocument& document, DatasetKind kind, DocumentBatch* batch) const;

  std::string render(const Dialogue& dialogue, size_t num_messages, bool prompt) const;
  Spans said(const Dialogue& dialogue, const ChatTemplate::Text& whole) const;
  Spans said_by_prefixes(const Dialogue& dialogue, const std::string& whole, size_t first) const;
  static std::optional<Span> said_by_content(const ChatTemplate::Json& message,
                                             const std::string& whole, size_t begin, bool there);
  void mark(const Spans& spans, const std::vector<size_t>& ends, Encoded* out) const;
  void settle_end(Stop stop, size_t begin, size_t end, Encoded* out) const;

  const Tokenizer& tokenizer_;
  const std::string tokenizer_path_;
  const int32_t eos_id_;
  const SampleOptions options_;
  std::optional<ChatTemplate> template_;
};

}  // namespace forja
