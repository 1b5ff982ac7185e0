// SPDX-License-Identifier: Apache-2.0
// Ranks that are threads of one process. Every collective is: publish a pointer, meet, read the
// others, meet again. Reductions go in rank order, so every rank computes the same bits.
#include <barrier>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "csrc/comm/transport.h"

namespace forja {
namespace {

// What the ranks of one group share.
struct Meeting {
  explicit Meeting(int n) : size(n), published(size_t(n)), colors(size_t(n)), barrier(n) {}

  const int size;
  std::vector<const void*> published;
  std::vector<std::pair<int, int>> colors;  // color, key of a split
  std::barrier<> barrier;

  std::mutex mutex;  // of the mailboxes and of the children
  std::condition_variable changed;
  std::map<std::pair<int, int>, const Tensor*> mail;  // (from, to) -> a waiting send
  std::map<int, std::shared_ptr<Meeting>> children;   // of the split in progress, by color
};

class LocalTransport : public Transport {
 public:
  LocalTransport(std::shared_ptr<Meeting> meeting, int rank)
      : meeting_(std::move(meeting)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return meeting_->size; }
  std::string backend() const override { return "local"; }

  void all_reduce(const Tensor& data, ReduceOp op) override {
    std::vector<uint8_t> sum(size_t(data.num_bytes()));
    publish(data.data);
    reduce_range(data, op, sum.data(), 0, data.num_elements());
    meet();  // everyone has read
    std::memcpy(data.data, sum.data(), sum.size());
  }

  void reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op) override {
    std::vector<uint8_t> sum(size_t(out.num_bytes()));
    publish(in.data);
    reduce_range(in, op, sum.data(), out.num_elements() * rank_, out.num_elements());
    meet();
    std::memcpy(out.data, sum.data(), sum.size());
  }

  void all_gather(const Tensor& in, const Tensor& out) override {
    publish(in.data);
    for (int r = 0; r < size(); ++r) {
      uint8_t* part = static_cast<uint8_t*>(out.data) + r * in.num_bytes();
      if (part != meeting_->published[size_t(r)]) {
        std::memcpy(part, meeting_->published[size_t(r)], size_t(in.num_bytes()));
      }
    }
    meet();
  }

  void broadcast(const Tensor& data, int root) override {
    publish(data.data);
    if (rank_ != root)
      std::memcpy(data.data, meeting_->published[size_t(root)], size_t(data.num_bytes()));
    meet();
  }

  void all_to_all(const Tensor& in, const Tensor& out) override {
    const int64_t part = in.num_bytes() / size();
    publish(in.data);
    for (int r = 0; r < size(); ++r) {
      std::memcpy(static_cast<uint8_t*>(out.data) + r * part,
                  static_cast<const uint8_t*>(meeting_->published[size_t(r)]) + rank_ * part,
                  size_t(part));
    }
    meet();
  }

  // A send leaves a pointer; the receiver copies and takes it away; the send ends then.
  void exchange(const std::vector<PointToPoint>& parts) override {
    std::vector<Progress> progress(parts.size(), Progress::waiting);
    size_t left = parts.size();
    std::unique_lock lock(meeting_->mutex);
    while (left > 0) {
      bool moved = false;
      for (size_t i = 0; i < parts.size(); ++i) {
        if (progress[i] == Progress::done || !advance(parts[i], progress[i])) continue;
        moved = true;
        if (progress[i] == Progress::done) --left;
      }
      if (moved) {
        meeting_->changed.notify_all();
      } else {
        meeting_->changed.wait(lock);
      }
    }
  }

  void barrier() override { meet(); }

  std::unique_ptr<Transport> split(int color, int key) override {
    meeting_->colors[size_t(rank_)] = {color, key};
    meet();
    int group_size = 0, group_rank = 0;
    for (int r = 0; r < size(); ++r) {
      const auto [other_color, other_key] = meeting_->colors[size_t(r)];
      if (other_color != color) continue;
      ++group_size;
      if (std::pair(other_key, r) < std::pair(key, rank_)) ++group_rank;
    }
    std::shared_ptr<Meeting> child;
    {
      std::lock_guard lock(meeting_->mutex);
      auto& slot = meeting_->children[color];
      if (!slot) slot = std::make_shared<Meeting>(group_size);
      child = slot;
    }
    meet();
    if (rank_ == 0) meeting_->children.clear();
    meet();
    return std::make_unique<LocalTransport>(child, group_rank);
  }

 private:
  enum class Progress { waiting, posted, done };

  // Posts a send, sees that it was taken, or takes a waiting message; false when nothing is
  // possible yet. The mutex is held.
  bool advance(const PointToPoint& part, Progress& progress) {
    auto& mail = meeting_->mail;
    if (part.kind == PointToPoint::Kind::send) {
      const auto slot = mail.find({rank_, part.peer});
      if (progress == Progress::posted) {
        if (slot != mail.end() && slot->second == &part.data) return false;
        progress = Progress::done;
        return true;
      }
      if (slot != mail.end()) return false;  // an earlier send to the same rank is still there
      mail[{rank_, part.peer}] = &part.data;
      progress = Progress::posted;
      return true;
    }
    const auto slot = mail.find({part.peer, rank_});
    if (slot == mail.end()) return false;
    FORJA_CHECK(slot->second->num_bytes() == part.data.num_bytes(),
                "rank {} sends {}, rank {} expects {}", part.peer, slot->second->to_string(), rank_,
                part.data.to_string());
    std::memcpy(part.data.data, slot->second->data, size_t(part.data.num_bytes()));
    mail.erase(slot);
    progress = Progress::done;
    return true;
  }

  void meet() { meeting_->barrier.arrive_and_wait(); }
  void publish(const void* data) {
    meeting_->published[size_t(rank_)] = data;
    meet();
  }
  void reduce_range(const Tensor& like, ReduceOp op, void* into, int64_t begin, int64_t n) {
    const int64_t offset = begin * dtype_bytes(like.dtype);
    for (int r = 0; r < size(); ++r) {
      const uint8_t* from = static_cast<const uint8_t*>(meeting_->published[size_t(r)]) + offset;
      if (r == 0) {
        std::memcpy(into, from, size_t(n * dtype_bytes(like.dtype)));
      } else {
        reduce_into(like.dtype, op, into, from, n);
      }
    }
  }

  std::shared_ptr<Meeting> meeting_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_local_communicators(int size) {
  auto meeting = std::make_shared<Meeting>(size);
  std::vector<std::unique_ptr<Communicator>> out;
  for (int r = 0; r < size; ++r) {
    out.push_back(make_queued_communicator(std::make_unique<LocalTransport>(meeting, r),
                                           start_comm_thread()));
  }
  return out;
}

}  // namespace forja
