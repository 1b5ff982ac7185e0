// SPDX-License-Identifier: Apache-2.0
// One thread reads batches of documents, `num_threads` make tokens of them, the calling thread
// takes the batches in the order of the input. The number of batches under way is bounded, so is
// the memory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "forja/data/text_source.h"

namespace forja {

struct DocumentBatch {
  int64_t number = 0;  // in the order of the input
  std::vector<RawDocument> documents;
  int64_t bytes_done = 0;  // of the input, when it had been read

  std::vector<int32_t> ids;                  // of all documents
  std::vector<uint8_t> learned;              // of samples: for each id
  std::vector<int64_t> lengths, text_bytes;  // of each
  int64_t num_left_out = 0;                  // of samples: records with faults ...
  std::string first_fault;                   // ... and the first fault
  std::exception_ptr error;                  // instead
};

class DocumentPipeline {
 public:
  // `make` fills the batch from its documents, on any of the threads; 0 threads: one a core.
  DocumentPipeline(TextSource& source, int64_t num_threads,
                   std::function<void(DocumentBatch*)> make);
  ~DocumentPipeline();

  // The next batch in the order of the input; nothing at the end. Throws what its making threw.
  std::unique_ptr<DocumentBatch> next();

 private:
  void read_all();
  bool read_batch(DocumentBatch* batch);
  bool hand_over(std::unique_ptr<DocumentBatch> batch);
  void work();

  TextSource& source_;
  const std::function<void(DocumentBatch*)> make_;
  int64_t max_under_way_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<DocumentBatch>> waiting_;
  std::map<int64_t, std::unique_ptr<DocumentBatch>> done_;
  int64_t num_read_ = 0, next_ = 0;
  bool all_read_ = false, stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace forja
