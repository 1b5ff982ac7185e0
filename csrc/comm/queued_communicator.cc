// SPDX-License-Identifier: Apache-2.0
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "csrc/comm/transport.h"

namespace forja {

class CommThread {
 public:
  CommThread() : thread_([this] { run(); }) {}
  ~CommThread() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }

  Event enqueue(std::function<void()> call) {
    Event event = Event::pending();
    {
      std::lock_guard lock(mutex_);
      queue_.emplace_back(std::move(call), event);
    }
    changed_.notify_one();
    return event;
  }

 private:
  void run() {
    while (true) {
      std::pair<std::function<void()>, Event> item;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        item = std::move(queue_.front());
        queue_.pop_front();
      }
      std::exception_ptr error;
      try {
        item.first();
      } catch (...) {
        error = std::current_exception();
      }
      item.second.complete(error);
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::function<void()>, Event>> queue_;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when the rest exists
};

std::shared_ptr<CommThread> start_comm_thread() { return std::make_shared<CommThread>(); }

namespace {

void check_parts(const Tensor& small, const Tensor& large, int size, const char* call) {
  FORJA_CHECK(small.is_contiguous() && large.is_contiguous() && small.dtype == large.dtype &&
                  large.num_elements() == small.num_elements() * size,
              "{}: {} and {} among {} ranks", call, small.to_string(), large.to_string(), size);
}

void check_reducible(const Tensor& data, const char* call) {
  FORJA_CHECK(data.is_contiguous() && (data.dtype == DType::f32 || data.dtype == DType::f64 ||
                                       data.dtype == DType::i32 || data.dtype == DType::i64),
              "{} of {}", call, data.to_string());
}

class QueuedCommunicator : public Communicator {
 public:
  QueuedCommunicator(std::unique_ptr<Transport> transport, std::shared_ptr<CommThread> thread)
      : transport_(std::move(transport)), thread_(std::move(thread)) {}
  ~QueuedCommunicator() override {
    try {
      thread_->enqueue([this] { transport_.reset(); }).wait();
    } catch (...) {
    }
  }

  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  std::string backend() const override { return transport_->backend(); }

  Event all_reduce(const Tensor& data, ReduceOp op, CommLabel) override {
    check_reducible(data, "all_reduce");
    return thread_->enqueue([this, data, op] { transport_->all_reduce(data, op); });
  }
  Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp op, CommLabel) override {
    check_reducible(in, "reduce_scatter");
    check_parts(out, in, size(), "reduce_scatter");
    return thread_->enqueue([this, in, out, op] { transport_->reduce_scatter(in, out, op); });
  }
  Event all_gather(const Tensor& in, const Tensor& out, CommLabel) override {
    check_parts(in, out, size(), "all_gather");
    return thread_->enqueue([this, in, out] { transport_->all_gather(in, out); });
  }
  Event broadcast(const Tensor& data, int root, CommLabel) override {
    FORJA_CHECK(data.is_contiguous() && root >= 0 && root < size(),
                "broadcast of {} from rank {} of {}", data.to_string(), root, size());
    return thread_->enqueue([this, data, root] { transport_->broadcast(data, root); });
  }
  Event all_to_all(const Tensor& in, const Tensor& out, CommLabel) override {
    check_parts(in, out, 1, "all_to_all");
    FORJA_CHECK(in.num_elements() % size() == 0, "all_to_all of {} among {} ranks", in.to_string(),
                size());
    return thread_->enqueue([this, in, out] { transport_->all_to_all(in, out); });
  }
  Event exchange(const std::vector<PointToPoint>& parts, CommLabel) override {
    for (const PointToPoint& p : parts) {
      FORJA_CHECK(p.data.is_contiguous() && p.peer >= 0 && p.peer < size() && p.peer != rank(),
                  "exchange of {} with rank {} of {}", p.data.to_string(), p.peer, size());
    }
    return thread_->enqueue([this, parts] { transport_->exchange(parts); });
  }
  Event barrier(CommLabel) override {
    return thread_->enqueue([this] { transport_->barrier(); });
  }
  std::unique_ptr<Communicator> split(int color, int key) override {
    std::unique_ptr<Transport> part;
    thread_->enqueue([&] { part = transport_->split(color, key); }).wait();
    if (part->size() == 1) return make_self_communicator();
    return make_queued_communicator(std::move(part), thread_);
  }

 private:
  std::unique_ptr<Transport> transport_;
  std::shared_ptr<CommThread> thread_;
};

class SelfCommunicator : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string backend() const override { return "self"; }
  Event all_reduce(const Tensor& data, ReduceOp, CommLabel) override {
    check_reducible(data, "all_reduce");
    return {};
  }
  Event reduce_scatter(const Tensor& in, const Tensor& out, ReduceOp, CommLabel) override {
    return copy(in, out);
  }
  Event all_gather(const Tensor& in, const Tensor& out, CommLabel) override {
    return copy(in, out);
  }
  Event broadcast(const Tensor&, int root, CommLabel) override {
    FORJA_CHECK(root == 0, "broadcast from rank {} of 1", root);
    return {};
  }
  Event all_to_all(const Tensor& in, const Tensor& out, CommLabel) override {
    return copy(in, out);
  }
  Event exchange(const std::vector<PointToPoint>& parts, CommLabel) override {
    FORJA_CHECK(parts.empty(), "exchange with rank {} of 1", parts[0].peer);
    return {};
  }
  Event barrier(CommLabel) override { return {}; }
  std::unique_ptr<Communicator> split(int, int) override { return make_self_communicator(); }

 private:
  static Event copy(const Tensor& in, const Tensor& out) {
    check_parts(in, out, 1, "copy");
    if (in.data != out.data) std::memcpy(out.data, in.data, size_t(in.num_bytes()));
    return {};
  }
};

template <class T>
void reduce_typed(ReduceOp op, T* into, const T* from, int64_t n) {
  if (op == ReduceOp::sum) {
    for (int64_t i = 0; i < n; ++i) into[i] += from[i];
  } else if (op == ReduceOp::max) {
    for (int64_t i = 0; i < n; ++i) into[i] = from[i] > into[i] ? from[i] : into[i];
  } else {
    for (int64_t i = 0; i < n; ++i) into[i] = from[i] < into[i] ? from[i] : into[i];
  }
}

}  // namespace

void reduce_into(DType dtype, ReduceOp op, void* into, const void* from, int64_t n) {
  switch (dtype) {
    case DType::f32:
      return reduce_typed(op, static_cast<float*>(into), static_cast<const float*>(from), n);
    case DType::f64:
      return reduce_typed(op, static_cast<double*>(into), static_cast<const double*>(from), n);
    case DType::i32:
      return reduce_typed(op, static_cast<int32_t*>(into), static_cast<const int32_t*>(from), n);
    case DType::i64:
      return reduce_typed(op, static_cast<int64_t*>(into), static_cast<const int64_t*>(from), n);
    default:
      fail("no reduction of {}", dtype_name(dtype));
  }
}

std::unique_ptr<Communicator> make_queued_communicator(std::unique_ptr<Transport> transport,
                                                       std::shared_ptr<CommThread> thread) {
  return std::make_unique<QueuedCommunicator>(std::move(transport), std::move(thread));
}

std::unique_ptr<Communicator> make_self_communicator() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace forja
