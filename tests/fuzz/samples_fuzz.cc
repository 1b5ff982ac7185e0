// SPDX-License-Identifier: Apache-2.0
// A record to fine-tune on: a conversation, an instruction or a preference pair.
#include <memory>

#include "csrc/data/sample_encoder.h"
#include "forja/base/file.h"
#include "tests/data/small_data.h"
#include "tests/fuzz/fuzzing.h"

namespace forja {
namespace {

// A tokenizer and a template beside it.
class Encoders {
 public:
  Encoders() {
    sandbox_.write("tokenizer.json", testing::small_tokenizer_json(270));
    const char* const chat =
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|endoftext|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}";
    sandbox_.write("chat.jinja", chat);
    tokenizer_ = load_tokenizer(sandbox_.file("tokenizer.json"));
    SampleOptions with_template;
    with_template.chat_template = sandbox_.file("chat.jinja");
    chat_ = make(with_template);
    plain_ = make({});
  }

  void use(const std::string& record) const {
    RawDocument document;
    document.bytes = record;
    document.file = std::make_shared<const std::string>("x.jsonl");
    document.is_json = true;
    for (const auto* encoder : {chat_.get(), plain_.get()}) {
      fuzzing::accepts([&] {
        DocumentBatch batch;
        const DatasetKind kind = *encoder->kind_of(document);
        batch.documents.push_back(document);
        encoder->add(&batch, kind);
        check(batch, kind);
      });
    }
  }

 private:
  std::unique_ptr<SampleEncoder> make(const SampleOptions& options) const {
    return std::make_unique<SampleEncoder>(*tokenizer_, sandbox_.file("tokenizer.json"),
                                           *tokenizer_->eos_id(), options);
  }

  static void check(const DocumentBatch& batch, DatasetKind kind) {
    fuzzing::require(batch.lengths.size() == (kind == DatasetKind::samples ? 1 : 2),
                     "a record is one sample, or two");
    fuzzing::require(batch.ids.size() == batch.learned.size(), "every token has its mask");
    size_t at = 0;
    for (int64_t length : batch.lengths) {
      fuzzing::require(batch.learned[at] == 0, "the first token is not learned");
      int64_t learned = 0;
      for (int64_t i = 0; i < length; ++i) learned += batch.learned[at++];
      fuzzing::require(learned > 0, "something is learned");
    }
  }

  fuzzing::Sandbox sandbox_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<SampleEncoder> chat_, plain_;
};

}  // namespace
}  // namespace forja

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forja;
  static const Encoders encoders;
  encoders.use(std::string(fuzzing::text_of(data, size)));
  return 0;
}
