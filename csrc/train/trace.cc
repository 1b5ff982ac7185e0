// SPDX-License-Identifier: Apache-2.0
#include "forja/train/trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "forja/base/text.h"
#include "forja/train/engine.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;
using TimePoint = RankTrace::TimePoint;

// The tracks that every rank has; those of its groups follow.
enum Track { kSteps = 1, kSchedule, kTime, kFirstGroup };

std::string action_name(const Action& action) {
  const auto name = [&]() -> const char* {
    switch (action.kind) {
      case ActionKind::forward:
        return "forward";
      case ActionKind::backward:
        return "backward";
      case ActionKind::backward_input:
        return "backward input";
      case ActionKind::backward_weight:
        return "backward weight";
      case ActionKind::send_activation:
        return "send activation";
      case ActionKind::recv_activation:
        return "receive activation";
      case ActionKind::send_gradient:
        return "send gradient";
      case ActionKind::recv_gradient:
        return "receive gradient";
      case ActionKind::unshard:
        return "unshard";
      case ActionKind::reshard:
        return "reshard";
      case ActionKind::reduce_gradients:
        return "reduce gradients";
    }
    return "";
  }();
  if (action.microbatch < 0) return fmt::format("{} {}", name, action.stage);
  return fmt::format("{} {}.{}", name, action.stage, action.microbatch);
}

class EventWriter {
 public:
  EventWriter(int rank, TimePoint zero) : rank_(rank), zero_(zero) {}

  void name_process(const std::string& name) {
    add({{"name", "process_name"}, {"ph", "M"}, {"pid", rank_}, {"args", {{"name", name}}}});
    add({{"name", "process_sort_index"},
         {"ph", "M"},
         {"pid", rank_},
         {"args", {{"sort_index", rank_}}}});
  }
  void name_track(int track, const std::string& name) {
    const auto metadata = [&](const char* kind, Json args) {
      add({{"name", kind}, {"ph", "M"}, {"pid", rank_}, {"tid", track}, {"args", args}});
    };
    metadata("thread_name", {{"name", name}});
    metadata("thread_sort_index", {{"sort_index", track}});
  }
  void add_span(int track, const std::string& name, const char* category, TimePoint begin,
                TimePoint end, Json args) {
    Json event = {{"name", name},
                  {"cat", category},
                  {"ph", "X"},
                  {"ts", microseconds(begin - zero_)},
                  {"dur", microseconds(end - begin)},
                  {"pid", rank_},
                  {"tid", track}};
    if (!args.empty()) event["args"] = std::move(args);
    add(event);
  }
  std::string take() { return std::move(text_); }

 private:
  static double microseconds(std::chrono::nanoseconds time) { return double(time.count()) / 1e3; }
  void add(const Json& event) {
    if (!text_.empty()) text_ += ",\n";
    text_ += event.dump();
  }

  int rank_;
  TimePoint zero_;
  std::string text_;
};

void add_transfer(EventWriter& out, int track, const std::string& group, const CommSpan& span) {
  Json args = {{"axis", group}, {"kind", comm_kind_name(span.kind)}, {"bytes", span.bytes}};
  if (span.label.step >= 0) args["step"] = span.label.step;
  if (span.label.layer >= 0) args["layer"] = span.label.layer;
  const bool receives = span.kind == CommKind::exchange && span.bytes == 0;
  const std::string purpose =
      *span.label.purpose ? span.label.purpose : std::string(comm_kind_name(span.kind));
  out.add_span(track, (receives ? "receive " : "") + purpose, "transfer", span.begin, span.end,
               std::move(args));
}

}  // namespace

std::string RankTrace::events(int rank, const ParallelDims::Coordinates& at) const {
  EventWriter out(rank, zero);
  out.name_process(fmt::format("rank {} (pp {} dp {} tp {})", rank, at.pp, at.dp, at.tp));
  out.name_track(kSteps, "steps");
  for (const StepSpan& s : steps)
    out.add_span(kSteps, fmt::format("step {}", s.step), "step", s.begin, s.end, {});
  out.name_track(kSchedule, "schedule");
  for (const ActionSpan& a : actions) {
    Json args = {{"step", a.step}, {"stage", a.action.stage}};
    if (a.action.microbatch >= 0) args["microbatch"] = a.action.microbatch;
    out.add_span(kSchedule, action_name(a.action), "action", a.begin, a.end, std::move(args));
  }
  out.name_track(kTime, "time");
  for (const TimeSpan& t : times)
    out.add_span(kTime, time_kind_name(t.kind), "time", t.begin, t.end, {});
  for (size_t i = 0; i < groups.size(); ++i) {
    const int track = kFirstGroup + int(i);
    out.name_track(track, groups[i].name);
    for (const CommSpan& span : groups[i].spans) add_transfer(out, track, groups[i].name, span);
  }
  return out.take();
}

std::string trace_file(const std::vector<std::string>& events_of_ranks) {
  return "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"format_version\":1},\"traceEvents\":[\n" +
         join(events_of_ranks, ",\n") + "\n]}\n";
}

std::vector<std::string> gather_texts(Communicator& world, const std::string& text) {
  const CommLabel label{"trace"};
  int64_t size = int64_t(text.size());
  std::vector<int64_t> sizes(size_t(world.size()));
  world
      .all_gather(make_tensor(&size, DType::i64, {1}),
                  make_tensor(sizes.data(), DType::i64, {world.size()}), label)
      .wait();
  const auto bytes = [](std::string& s) {
    return make_tensor(s.data(), DType::u8, {int64_t(s.size())});
  };
  using Kind = PointToPoint::Kind;
  std::string mine = text;
  if (world.rank() != 0) {
    world.exchange({{Kind::send, bytes(mine), 0}}, label).wait();
    return {};
  }
  std::vector<std::string> texts{std::move(mine)};
  for (int rank = 1; rank < world.size(); ++rank) {
    texts.emplace_back(size_t(sizes[size_t(rank)]), '\0');
    world.exchange({{Kind::recv, bytes(texts.back()), rank}}, label).wait();
  }
  return texts;
}

StepTrace::StepTrace(TrainEngine& engine, Mesh& mesh) : engine_(engine), mesh_(mesh) {
  for (const auto& [name, communicator] : mesh.groups())
    if (communicator->size() > 1)
      groups_.push_back({name, communicator, std::make_shared<CommTrace>()});
  mesh.world->barrier({"trace"}).wait();
  trace_.zero = std::chrono::steady_clock::now();
  for (const GroupTrace& group : groups_) group.communicator->set_trace(group.trace);
  engine_.set_listeners(
      [this](const Action& action, int64_t step, TimePoint begin, TimePoint end) {
        trace_.actions.push_back({action, step, begin, end});
      },
      [this](TimeKind kind, TimePoint begin, TimePoint end) {
        // The first stretch may have begun before.
        begin = std::max(begin, trace_.zero);
        if (begin < end) trace_.times.push_back({kind, begin, end});
      });
}

StepTrace::~StepTrace() { detach(); }

void StepTrace::add_step(int64_t step, TimePoint begin, TimePoint end) {
  trace_.steps.push_back({step, begin, end});
}

void StepTrace::detach() {
  engine_.set_listeners(nullptr, nullptr);
  for (const GroupTrace& group : groups_) group.communicator->set_trace(nullptr);
}

std::string StepTrace::finish() {
  detach();
  for (const GroupTrace& group : groups_) {
    // Calls that nobody has waited for yet, such as the gathering of new weights, end before it.
    group.communicator->barrier({"trace"}).wait();
    trace_.groups.push_back({group.name, group.trace->take()});
  }
  const auto texts =
      gather_texts(*mesh_.world, trace_.events(mesh_.world->rank(), mesh_.coordinates));
  return texts.empty() ? "" : trace_file(texts);
}

}  // namespace forja
