// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "csrc/data/document_pipeline.h"
#include "csrc/data/sample_encoder.h"
#include "forja/base/error.h"
#include "forja/base/log.h"
#include "forja/data/dataset_writer.h"

namespace forja {
namespace {

int32_t end_id(const Tokenizer& tokenizer, const std::string& path, const std::string& wanted) {
  const std::optional<int32_t> id =
      wanted.empty() ? tokenizer.eos_id() : tokenizer.find_special(wanted);
  if (id) return *id;
  if (!wanted.empty()) fail_input("the tokenizer {} has no special token \"{}\"", path, wanted);
  fail_input("the tokenizer {} names no end-of-text token; name one with --end-token", path);
}

void add_texts(DocumentBatch* batch, const Tokenizer& tokenizer, const TextSourceOptions& options) {
  for (RawDocument& document : batch->documents) {
    const std::string text = document_text(std::move(document), options);
    const size_t before = batch->ids.size();
    tokenizer.encode(text, {}, &batch->ids);
    batch->lengths.push_back(int64_t(batch->ids.size() - before));
    batch->text_bytes.push_back(int64_t(text.size()));
  }
  batch->documents.clear();
}

// Everything through the pipeline and into the writer.
class Work {
 public:
  Work(const std::vector<std::string>& inputs, const TokenizeOptions& options)
      : options_(options), source_(inputs, options.text) {
    done_.bytes_total = source_.bytes_total();
  }

  DatasetInfo run(DatasetWriter& writer, const std::function<void(DocumentBatch*)>& make,
                  const std::function<void(const TokenizeProgress&)>& progress) {
    {
      DocumentPipeline pipeline(source_, options_.num_threads, make);
      while (const std::unique_ptr<DocumentBatch> batch = pipeline.next()) {
        add(*batch, writer);
        if (progress) progress(done_);
      }
    }
    if (!first_fault_.empty()) {
      log_warning("{} record{} left out; the first: {}", left_out_, left_out_ == 1 ? "" : "s",
                  first_fault_);
    }
    return writer.commit();
  }

 private:
  void add(const DocumentBatch& batch, DatasetWriter& writer) {
    const bool samples = options_.output.kind != DatasetKind::text;
    size_t at = 0;
    for (size_t i = 0; i < batch.lengths.size(); at += size_t(batch.lengths[i]), ++i) {
      const int64_t length = batch.lengths[i];
      if (length == 0) continue;  // an empty text is no document
      if (samples) {
        writer.add_sample(&batch.ids[at], &batch.learned[at], length, batch.text_bytes[i]);
      } else {
        writer.add_document(&batch.ids[at], length, batch.text_bytes[i]);
      }
      done_.num_documents += 1;
      done_.num_tokens += length + (samples ? 0 : 1);
    }
    done_.bytes_done = batch.bytes_done;
    writer.count_left_out(batch.num_left_out);
    left_out_ += batch.num_left_out;
    if (first_fault_.empty()) first_fault_ = batch.first_fault;
  }

  const TokenizeOptions& options_;
  TextSource source_;
  TokenizeProgress done_;
  int64_t left_out_ = 0;
  std::string first_fault_;
};

// What the first record of the input is decides what all have to be.
DatasetKind kind_of_input(const std::vector<std::string>& inputs, const TextSourceOptions& options,
                          const SampleEncoder& encoder) {
  TextSource source(inputs, options);
  RawDocument document;
  while (source.next(&document))
    if (const auto kind = encoder.kind_of(document)) return *kind;
  return DatasetKind::samples;
}

}  // namespace

DatasetInfo tokenize_files(const std::vector<std::string>& inputs,
                           const std::string& tokenizer_path, const std::string& directory,
                           const TokenizeOptions& options,
                           const std::function<void(const TokenizeProgress&)>& progress) {
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(tokenizer_path);
  const int32_t eos = end_id(*tokenizer, tokenizer_path, options.end_token);
  Work work(inputs, options);
  DatasetWriter writer(directory, *tokenizer, tokenizer_path, eos, options.output);
  const auto make = [&](DocumentBatch* batch) { add_texts(batch, *tokenizer, options.text); };
  return work.run(writer, make, progress);
}

DatasetInfo tokenize_samples(const std::vector<std::string>& inputs,
                             const std::string& tokenizer_path, const std::string& directory,
                             const SampleOptions& samples, const TokenizeOptions& tokenize,
                             const std::function<void(const TokenizeProgress&)>& progress) {
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(tokenizer_path);
  const int32_t eos = end_id(*tokenizer, tokenizer_path, tokenize.end_token);
  const SampleEncoder encoder(*tokenizer, tokenizer_path, eos, samples);
  TokenizeOptions options = tokenize;
  Work work(inputs, options);
  options.output.kind = kind_of_input(inputs, options.text, encoder);
  DatasetWriter writer(directory, *tokenizer, tokenizer_path, eos, options.output);
  const auto make = [&](DocumentBatch* batch) { encoder.add(batch, options.output.kind); };
  return work.run(writer, make, progress);
}

}  // namespace forja
