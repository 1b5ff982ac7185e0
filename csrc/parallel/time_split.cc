// SPDX-License-Identifier: Apache-2.0
#include "forja/parallel/time_split.h"

namespace forja {

void TimeSplit::reset() {
  seconds_.fill(0.0);
  num_events_ = 0;
  stretches_.clear();
  reports_.clear();
  counting_ = true;
  since_ = now();
  first_ = Clock::now();  // the stream is idle: the GPU is there by now
}

TimeSplit::Moment TimeSplit::now() {
  if (!stream_) return {Clock::now()};
  if (num_events_ == events_.size()) events_.push_back(std::make_unique<GpuEvent>());
  events_[num_events_]->record(stream_);
  return {{}, num_events_++};
}

TimeSplit::Clock::time_point TimeSplit::time_of(const Moment& moment) const {
  if (!stream_) return moment.at;
  const std::chrono::duration<double> passed(events_[moment.event]->seconds_since(*events_[0]));
  return first_ + std::chrono::duration_cast<Clock::duration>(passed);
}

void TimeSplit::count(TimeKind kind, Clock::time_point begin, Clock::time_point end) {
  seconds_[size_t(kind)] += std::chrono::duration<double>(end - begin).count();
  if (listener_) listener_(kind, begin, end);
}

TimeKind TimeSplit::switch_to(TimeKind kind) {
  const TimeKind before = now_;
  now_ = kind;
  if (!counting_) return before;
  const Moment moment = now();
  if (stream_) {
    stretches_.push_back({before, since_, moment});
  } else {
    count(before, since_.at, moment.at);
  }
  since_ = moment;
  return before;
}

void TimeSplit::when_known(const Moment& begin, const Moment& end,
                           std::function<void(Clock::time_point, Clock::time_point)> report) {
  if (!stream_) return report(begin.at, end.at);
  reports_.push_back({begin, end, std::move(report)});
}

void TimeSplit::finish() {
  switch_to(now_);
  if (!stream_) return;
  counting_ = false;  // until the next reset: events are not for ever
  events_[since_.event]->synchronize();
  for (const Stretch& s : stretches_) count(s.kind, time_of(s.begin), time_of(s.end));
  for (const Report& r : reports_) r.report(time_of(r.begin), time_of(r.end));
  stretches_.clear();
  reports_.clear();
}

}  // namespace forja
