// SPDX-License-Identifier: Apache-2.0
#include "forja/comm/flight_record.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "csrc/comm/flight_layout.h"
#include "forja/base/error.h"

namespace forja {

using flight::Entry;
using flight::EntryType;
using flight::Layout;

struct FlightRecord::State {
  State(int rank, const std::string& host) {
    layout = static_cast<Layout*>(::mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    FORJA_CHECK(layout != MAP_FAILED, "no memory for a flight record");
    flight::Header& h = layout->header;
    std::memcpy(h.magic, flight::kMagic, sizeof h.magic);
    h.version = flight::kVersion;
    h.rank = rank;
    h.pid = int32_t(::getpid());
    h.step = -1;
    flight::set_text(h.host, host);
    flight::set_text(h.activity, "start");
    h.moved_us = now_us();
  }
  ~State() { ::munmap(layout, sizeof(Layout)); }

  // Of the day, but never going back.
  int64_t now_us() const {
    using std::chrono::duration_cast, std::chrono::microseconds;
    return duration_cast<microseconds>(begin_of_day.time_since_epoch() +
                                       (std::chrono::steady_clock::now() - begin))
        .count();
  }

  // An event is whole before it counts: the process may be killed anywhere.
  void add(Entry e) {
    flight::Header& h = layout->header;
    e.time_us = now_us();
    layout->entries[h.num_events % flight::kCapacity] = e;
    std::atomic_ref<uint64_t>(h.num_events).store(h.num_events + 1, std::memory_order_release);
    h.moved_us = e.time_us;
  }

  const std::chrono::system_clock::time_point begin_of_day = std::chrono::system_clock::now();
  const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  std::mutex mutex;
  Layout* layout;
};

// Of one group. Outlives the record where calls are still under way.
class FlightRecord::Journal : public CallJournal {
 public:
  Journal(std::shared_ptr<State> state, int group, std::vector<int32_t> ranks)
      : state_(std::move(state)), group_(uint8_t(group)), ranks_(std::move(ranks)) {}

  int64_t called(CommKind kind, const CommLabel& label, int64_t bytes,
                 const std::vector<PointToPoint>& parts) override {
    std::lock_guard lock(state_->mutex);
    flight::Header& h = state_->layout->header;
    const int64_t number = h.groups[group_].calls++;
    Entry e{0,      number,        label.step >= 0 ? label.step : h.step,
            bytes,  label.layer,   EntryType::call,
            group_, uint8_t(kind), 0,
            {}};
    flight::set_text(e.text, label.purpose);
    state_->add(e);
    for (const PointToPoint& p : parts) {
      const bool sends = p.kind == PointToPoint::Kind::send;
      Entry part{0,
                 num_transfers_[{p.peer, sends}]++,
                 e.step,
                 p.data.num_bytes(),
                 ranks_[size_t(p.peer)],
                 EntryType::transfer,
                 group_,
                 uint8_t(kind),
                 sends,
                 {}};
      state_->add(part);
    }
    return number;
  }
  void ended(int64_t number) override {
    std::lock_guard lock(state_->mutex);
    state_->add({0, number, -1, 0, -1, EntryType::end, group_, 0, 0, {}});
  }

 private:
  const std::shared_ptr<State> state_;
  const uint8_t group_;
  const std::vector<int32_t> ranks_;                       // in the world
  std::map<std::pair<int, bool>, int64_t> num_transfers_;  // by peer and direction
};

FlightRecord::FlightRecord(int rank, std::string host)
    : state_(std::make_shared<State>(rank, host)) {}
FlightRecord::~FlightRecord() = default;

void FlightRecord::keep_in(const std::string& path) {
  ::rename(path.c_str(), (path + ".previous").c_str());
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) fail("cannot write {}: {}", path, std::strerror(errno));
  // All of it is on the disk from the start: to write into a hole of a full disk is fatal.
  int error = ::posix_fallocate(fd, 0, sizeof(Layout));
  void* file = MAP_FAILED;
  if (error == 0) {
    file = ::mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED) error = errno;
  }
  ::close(fd);
  if (error != 0) {
    ::unlink(path.c_str());
    fail("cannot write {}: {}", path, std::strerror(error));
  }
  std::lock_guard lock(state_->mutex);
  Layout* const old = state_->layout;
  std::memcpy(file, old, sizeof(Layout));
  state_->layout = static_cast<Layout*>(file);
  ::munmap(old, sizeof(Layout));
}

void FlightRecord::watch(Communicator& group, const std::string& name) {
  if (group.size() == 1) return;
  std::vector<int32_t> ranks(size_t(group.size()));
  int32_t mine = 0;
  int index = 0;
  {
    std::lock_guard lock(state_->mutex);
    flight::Header& h = state_->layout->header;
    FORJA_CHECK(h.num_groups < flight::kMaxGroups, "more than {} groups", flight::kMaxGroups);
    mine = h.rank;
    index = int(h.num_groups);
  }
  group
      .all_gather(make_tensor(&mine, DType::i32, {1}),
                  make_tensor(ranks.data(), DType::i32, {group.size()}), {"ranks of a group"})
      .wait();
  {
    std::lock_guard lock(state_->mutex);
    flight::Header& h = state_->layout->header;
    flight::Group& g = h.groups[index];
    flight::set_text(g.name, name);
    g.first_rank = *std::min_element(ranks.begin(), ranks.end());
    g.size = group.size();
    g.calls = 0;
    h.num_groups = uint32_t(index) + 1;
  }
  group.set_journal(std::make_shared<Journal>(state_, index, std::move(ranks)));
}

void FlightRecord::set_activity(std::string_view text, int64_t step) {
  std::lock_guard lock(state_->mutex);
  flight::Header& h = state_->layout->header;
  if (step >= 0) h.step = step;
  flight::set_text(h.activity, text);
  Entry e{0, 0, h.step, 0, -1, EntryType::activity, 0, 0, 0, {}};
  flight::set_text(e.text, text);
  state_->add(e);
}

void FlightRecord::progressed() {
  std::lock_guard lock(state_->mutex);
  state_->layout->header.moved_us = state_->now_us();
}

RankStatus FlightRecord::status() const {
  std::lock_guard lock(state_->mutex);
  return flight::status_of(*state_->layout, state_->now_us());
}

}  // namespace forja
