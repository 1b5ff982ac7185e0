// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/document_pipeline.h"

#include <sched.h>

#include <algorithm>

#include "forja/base/error.h"

namespace forja {
namespace {

constexpr int64_t kBatchBytes = 1 << 20, kBatchDocuments = 4096;

int64_t available_cores() {
  cpu_set_t cores;
  if (sched_getaffinity(0, sizeof cores, &cores) != 0) return 1;
  return std::max(1, CPU_COUNT(&cores));
}

}  // namespace

DocumentPipeline::DocumentPipeline(TextSource& source, int64_t num_threads,
                                   std::function<void(DocumentBatch*)> make)
    : source_(source), make_(std::move(make)) {
  if (num_threads < 0) fail_input("{} threads: expected 0 (all cores) or more", num_threads);
  if (num_threads == 0) num_threads = available_cores();
  max_under_way_ = 4 * num_threads + 2;
  threads_.emplace_back([this] { read_all(); });
  for (int64_t i = 0; i < num_threads; ++i) threads_.emplace_back([this] { work(); });
}

DocumentPipeline::~DocumentPipeline() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::unique_ptr<DocumentBatch> DocumentPipeline::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_.count(next_) > 0 || (all_read_ && next_ == num_read_); });
  const auto at = done_.find(next_);
  if (at == done_.end()) return nullptr;
  std::unique_ptr<DocumentBatch> batch = std::move(at->second);
  done_.erase(at);
  ++next_;
  lock.unlock();
  changed_.notify_all();
  if (batch->error) std::rethrow_exception(batch->error);
  return batch;
}

// The reader thread.
void DocumentPipeline::read_all() {
  bool more = true;
  while (more) {
    auto batch = std::make_unique<DocumentBatch>();
    try {
      more = read_batch(batch.get());
    } catch (...) {
      // What was read before the fault comes first.
      if (!batch->documents.empty() && !hand_over(std::move(batch))) return;
      batch = std::make_unique<DocumentBatch>();
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

bool DocumentPipeline::read_batch(DocumentBatch* batch) {
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
bool DocumentPipeline::hand_over(std::unique_ptr<DocumentBatch> batch) {
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
void DocumentPipeline::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !waiting_.empty() || all_read_; });
    if (stopping_ || waiting_.empty()) return;
    std::unique_ptr<DocumentBatch> batch = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    try {
      if (!batch->error) make_(batch.get());
    } catch (...) {
      batch->error = std::current_exception();
    }
    lock.lock();
    const int64_t number = batch->number;
    done_[number] = std::move(batch);
    changed_.notify_all();
  }
}

}  // namespace forja
