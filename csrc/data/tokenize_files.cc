// SPDX-License-Identifier: Apache-2.0
// One thread reads batches of documents, `num_threads` tokenize them, the calling thread writes
// them in order. The number of batches under way is bounded, so is the memory.
#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "forja/base/error.h"
#include "forja/data/dataset_writer.h"

namespace forja {
namespace {

constexpr int64_t kBatchBytes = 1 << 20, kBatchDocuments = 4096;

struct Batch {
  int64_t number = 0;  // in the order of the input
  std::vector<RawDocument> documents;
  int64_t bytes_done = 0;  // of the input, when it had been read

  std::vector<int32_t> ids;                  // of all documents
  std::vector<int64_t> lengths, text_bytes;  // of each
  std::exception_ptr error;                  // instead
};

class Pipeline {
 public:
  Pipeline(TextSource& source, const Tokenizer& tokenizer, const TextSourceOptions& text,
           int64_t num_threads)
      : source_(source), tokenizer_(tokenizer), text_(text), max_under_way_(4 * num_threads + 2) {
    threads_.emplace_back([this] { read_all(); });
    for (int64_t i = 0; i < num_threads; ++i) threads_.emplace_back([this] { work(); });
  }

  ~Pipeline() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // The next batch in the order of the input; nothing at the end. Throws what its making threw.
  std::unique_ptr<Batch> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock,
                  [&] { return done_.count(next_) > 0 || (all_read_ && next_ == num_read_); });
    const auto at = done_.find(next_);
    if (at == done_.end()) return nullptr;
    std::unique_ptr<Batch> batch = std::move(at->second);
    done_.erase(at);
    ++next_;
    lock.unlock();
    changed_.notify_all();
    if (batch->error) std::rethrow_exception(batch->error);
    return batch;
  }

 private:
  // The reader thread.
  void read_all() {
    bool more = true;
    while (more) {
      auto batch = std::make_unique<Batch>();
      try {
        more = read_batch(batch.get());
      } catch (...) {
        // What was read before the fault comes first.
        if (!batch->documents.empty() && !hand_over(std::move(batch))) return;
        batch = std::make_unique<Batch>();
        batch->error = std::current_exception();
        more = false;
      }
      if ((!batch->documents.empty() || batch->error) && !hand_over(std::move(batch))) return;
    }
    {
      const std::lock_guard lock(mutex_);
      all_read_ = true;
    }
    changed_.notify_all();
  }

  bool read_batch(Batch* batch) {
    int64_t bytes = 0;
    while (bytes < kBatchBytes && int64_t(batch->documents.size()) < kBatchDocuments) {
      RawDocument document;
      if (!source_.next(&document)) return false;
      bytes += int64_t(document.bytes.size());
      batch->documents.push_back(std::move(document));
      batch->bytes_done = source_.bytes_done();
    }
    return true;
  }

  // False when the pipeline stops.
  bool hand_over(std::unique_ptr<Batch> batch) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopping_ || num_read_ - next_ < max_under_way_; });
    if (stopping_) return false;
    batch->number = num_read_++;
    waiting_.push_back(std::move(batch));
    lock.unlock();
    changed_.notify_all();
    return true;
  }

  // A worker thread.
  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopping_ || !waiting_.empty() || all_read_; });
      if (stopping_ || waiting_.empty()) return;
      std::unique_ptr<Batch> batch = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      try {
        if (!batch->error) tokenize(batch.get());
      } catch (...) {
        batch->error = std::current_exception();
      }
      lock.lock();
      const int64_t number = batch->number;
      done_[number] = std::move(batch);
      changed_.notify_all();
    }
  }

  void tokenize(Batch* batch) const {
    for (RawDocument& document : batch->documents) {
      const std::string text = document_text(std::move(document), text_);
      const size_t before = batch->ids.size();
      tokenizer_.encode(text, {}, &batch->ids);
      batch->lengths.push_back(int64_t(batch->ids.size() - before));
      batch->text_bytes.push_back(int64_t(text.size()));
    }
    batch->documents.clear();
  }

  TextSource& source_;
  const Tokenizer& tokenizer_;
  const TextSourceOptions& text_;
  const int64_t max_under_way_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Batch>> waiting_;
  std::map<int64_t, std::unique_ptr<Batch>> done_;
  int64_t num_read_ = 0, next_ = 0;
  bool all_read_ = false, stopping_ = false;
  std::vector<std::thread> threads_;
};

int64_t available_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
  return std::max(1, CPU_COUNT(&cores));
}

int32_t end_id(const Tokenizer& tokenizer, const std::string& path, const std::string& wanted) {
  const std::optional<int32_t> id =
      wanted.empty() ? tokenizer.eos_id() : tokenizer.find_special(wanted);
  if (id) return *id;
  if (!wanted.empty()) fail_input("the tokenizer {} has no special token \"{}\"", path, wanted);
  fail_input("the tokenizer {} names no end-of-text token; name one with --end-token", path);
}

}  // namespace

DatasetInfo tokenize_files(const std::vector<std::string>& inputs,
                           const std::string& tokenizer_path, const std::string& directory,
                           const TokenizeOptions& options,
                           const std::function<void(const TokenizeProgress&)>& progress) {
  if (options.num_threads < 0)
    fail_input("{} threads: expected 0 (all cores) or more", options.num_threads);
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(tokenizer_path);
  const int32_t eos = end_id(*tokenizer, tokenizer_path, options.end_token);
  TextSource source(inputs, options.text);
  DatasetWriter writer(directory, *tokenizer, tokenizer_path, eos, options.output);
  TokenizeProgress done;
  done.bytes_total = source.bytes_total();
  {
    const int64_t num_threads = options.num_threads > 0 ? options.num_threads : available_cores();
    Pipeline pipeline(source, *tokenizer, options.text, num_threads);
    while (const std::unique_ptr<Batch> batch = pipeline.next()) {
      const int32_t* ids = batch->ids.data();
      for (size_t i = 0; i < batch->lengths.size(); ++i) {
        // An empty text is no document.
        if (batch->lengths[i] > 0) {
          writer.add_document(ids, batch->lengths[i], batch->text_bytes[i]);
          done.num_documents += 1;
          done.num_tokens += batch->lengths[i] + 1;
        }
        ids += batch->lengths[i];
      }
      done.bytes_done = batch->bytes_done;
      if (progress) progress(done);
    }
  }
  return writer.commit();
}

}  // namespace forja
