// SPDX-License-Identifier: Apache-2.0
// A GPU whose memory is the host's. A stream is a thread that runs what it is given in order, and
// now and then late, as a GPU does: what the host reads or changes too early goes wrong here too.
// Without a stream everything happens at once.
#include "forja/device/gpu_runtime.h"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "forja/base/error.h"
#include "forja/device/cpu_topology.h"
#include "forja/device/gpu.h"
#include "kernels/common/launch.h"

using Work = std::function<void()>;

struct CUstream_st {
  CUstream_st() : thread([this] { run(); }) {}
  ~CUstream_st() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    thread.join();
  }

  void submit(Work work) {
    {
      const std::lock_guard lock(mutex);
      queue.push_back(std::move(work));
    }
    changed.notify_all();
  }
  void synchronize() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return queue.empty(); });
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
  }

 private:
  void run() {
    std::minstd_rand random;
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return stopping || !queue.empty(); });
      if (queue.empty()) return;
      const bool failed = error != nullptr;
      lock.unlock();
      if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
      std::exception_ptr thrown;
      try {
        if (!failed) queue.front()();  // only the back changes meanwhile
      } catch (...) {
        thrown = std::current_exception();
      }
      lock.lock();
      if (thrown) error = thrown;
      queue.pop_front();  // work under way counts as queued
      changed.notify_all();
    }
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Work> queue;
  std::exception_ptr error;  // of work that failed: none runs until synchronize() has told
  bool stopping = false;
  std::thread thread;
};

// A point that was reached, or will be.
struct Point {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false;
  std::chrono::steady_clock::time_point at;

  void reach() {
    {
      const std::lock_guard lock(mutex);
      reached = true;
      at = std::chrono::steady_clock::now();
    }
    changed.notify_all();
  }
  bool is_reached() {
    const std::lock_guard lock(mutex);
    return reached;
  }
  void wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return reached; });
  }
};

struct CUevent_st {
  std::shared_ptr<Point> point;  // of the last record
};

namespace forja {
namespace {

// Memory that a copy may use after the call that asked for it: the GPU's, and pinned host memory.
class Lasting {
 public:
  void add(const void* memory, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    blocks_[static_cast<const char*>(memory)] = bytes;
  }
  void remove(const void* memory) {
    const std::lock_guard lock(mutex_);
    blocks_.erase(static_cast<const char*>(memory));
  }
  bool has(const void* memory) {
    const std::lock_guard lock(mutex_);
    const char* p = static_cast<const char*>(memory);
    const auto after = blocks_.upper_bound(p);
    return after != blocks_.begin() && p - std::prev(after)->first < std::prev(after)->second;
  }

 private:
  std::mutex mutex_;
  std::map<const char*, int64_t> blocks_;
};

Lasting& lasting() {
  static Lasting blocks;
  return blocks;
}

}  // namespace

void emulator::submit(CUstream_st* stream, Work work) {
  stream ? stream->submit(std::move(work)) : work();
}

void use_gpu(Device) {}
int num_gpus() { return 1; }
std::string why_no_gpus() { return "the emulated GPU is always there"; }
GpuMemory gpu_memory(Device) { return {host_memory_bytes(), host_memory_bytes()}; }
std::string gpu_name(Device) { return "emulated GPU"; }
std::string gpu_uuid(Device) { return "emulated"; }
int gpu_compute_capability(Device) { return compute_capability(); }
GpuSurvey survey_gpus() { return {"1 emulated GPU", {"0: emulated"}}; }

void* gpu_allocate(Device, int64_t bytes, const std::string& what) {
  const size_t size = size_t(bytes + 255) / 256 * 256;
  void* memory = std::aligned_alloc(256, size);
  if (!memory) fail("not enough memory for {}", what);
  std::memset(memory, 0xff, size);
  lasting().add(memory, int64_t(size));
  return memory;
}
void gpu_free(void* memory) noexcept {
  lasting().remove(memory);
  std::free(memory);
}
void pin_host(void* memory, int64_t bytes) { lasting().add(memory, bytes); }
void unpin_host(void* memory) noexcept { lasting().remove(memory); }
void gpu_synchronize(CUstream_st* stream) {
  if (stream) stream->synchronize();
}

GpuStream::GpuStream(Device) : stream_(new CUstream_st) {}
GpuStream::~GpuStream() { delete stream_; }

GpuEvent::GpuEvent() : event_(new CUevent_st) {}
GpuEvent::~GpuEvent() { delete event_; }
void GpuEvent::record(CUstream_st* stream) {
  const auto point = event_->point = std::make_shared<Point>();
  emulator::submit(stream, [point] { point->reach(); });
}
void GpuEvent::make_wait(CUstream_st* stream) const {
  if (event_->point) emulator::submit(stream, [point = event_->point] { point->wait(); });
}
bool GpuEvent::done() const { return !event_->point || event_->point->is_reached(); }
void GpuEvent::synchronize() const {
  if (event_->point) event_->point->wait();
}
double GpuEvent::seconds_since(const GpuEvent& begin) const {
  return std::chrono::duration<double>(event_->point->at - begin.event_->point->at).count();
}

// As of CUDA: host memory that is not pinned is done with when the call returns.
void gpu_copy(void* to, const void* from, int64_t bytes, CUstream_st* stream) {
  emulator::submit(stream, [=] { std::memmove(to, from, size_t(bytes)); });
  if (!lasting().has(to) || !lasting().has(from)) gpu_synchronize(stream);
}
void gpu_fill_bytes(void* memory, uint8_t value, int64_t bytes, CUstream_st* stream) {
  emulator::submit(stream, [=] { std::memset(memory, value, size_t(bytes)); });
}

}  // namespace forja
