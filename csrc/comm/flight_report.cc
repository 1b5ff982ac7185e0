// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "csrc/comm/flight_layout.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/text.h"
#include "forja/comm/hang.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

using flight::Entry;
using flight::EntryType;
using flight::Layout;

// A rank that was ended with the others has moved until then: it is no more than this behind.
constexpr double kStuck_s = 5.0;

struct Record {
  std::unique_ptr<Layout> layout;
  RankStatus status;
};

// What a rank writes: the rest of the reader trusts it.
bool is_sound(const Layout& layout) {
  constexpr int64_t kMostTime_us = int64_t(1) << 53;
  const auto is_time = [](int64_t time_us) { return time_us >= 0 && time_us <= kMostTime_us; };
  const flight::Header& h = layout.header;
  bool sound = h.num_groups <= flight::kMaxGroups && is_time(h.moved_us) && h.rank >= 0;
  flight::for_each_entry(layout, [&](const Entry& e) {
    sound = sound && is_time(e.time_us) && e.type <= EntryType::activity &&
            e.kind <= uint8_t(CommKind::split) && e.group < flight::kMaxGroups && e.number >= 0 &&
            e.number < INT64_MAX;
  });
  return sound;
}

std::unique_ptr<Layout> read_layout(const std::string& path) {
  const MappedFile file(path);
  auto layout = std::make_unique<Layout>();
  if (file.size() != int64_t(sizeof(Layout)))
    fail_input("{} is no flight record: {} bytes instead of {}", path, file.size(), sizeof(Layout));
  std::memcpy(layout.get(), file.data(), sizeof(Layout));
  const flight::Header& h = layout->header;
  if (std::memcmp(h.magic, flight::kMagic, sizeof h.magic) != 0)
    fail_input("{} is no flight record", path);
  if (h.version != flight::kVersion) {
    fail_input("{} is a flight record of version {}; this binary reads version {}", path, h.version,
               flight::kVersion);
  }
  if (!is_sound(*layout)) fail_input("{} is a damaged flight record", path);
  return layout;
}

std::vector<Record> read_records(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error))
    if (entry.path().filename().string().rfind("rank-", 0) == 0 && entry.path().extension().empty())
      paths.push_back(entry.path().string());
  if (error) fail_input("cannot read {}: {}", directory, error.message());
  std::sort(paths.begin(), paths.end());
  std::vector<Record> records;
  for (const std::string& path : paths) records.push_back({read_layout(path), {}});
  int64_t end_us = 0;
  for (const Record& r : records) end_us = std::max(end_us, r.layout->header.moved_us);
  for (Record& r : records) r.status = flight::status_of(*r.layout, end_us);
  return records;
}

std::string time_text(int64_t time_us) {
  const std::time_t seconds = time_us / 1'000'000;
  char text[32];
  std::tm utc{};
  std::strftime(text, sizeof text, "%H:%M:%S", ::gmtime_r(&seconds, &utc));
  return fmt::format("{}.{:03}", text, time_us / 1000 % 1000);
}

std::string describe(const Entry& e, const std::vector<GroupStatus>& groups) {
  const std::string group = e.group < groups.size() ? groups[e.group].name : "?";
  const std::string_view kind = comm_kind_name(CommKind(e.kind));
  std::string out = "  " + time_text(e.time_us) + "  ";
  switch (e.type) {
    case EntryType::activity:
      return out + fmt::format("step {}: {}\n", e.step, flight::text_of(e.text));
    case EntryType::call:
      return out + fmt::format("call {} of group {}: {} \"{}\", step {}{}, {}\n", e.number, group,
                               kind, flight::text_of(e.text), e.step,
                               e.layer >= 0 ? fmt::format(", layer {}", e.layer) : "",
                               format_bytes(double(e.bytes)));
    case EntryType::transfer:
      return out + fmt::format("    {} rank {}, number {}, {}\n",
                               e.sends ? "send to" : "receive from", e.layer, e.number,
                               format_bytes(double(e.bytes)));
    case EntryType::end:
      return out + fmt::format("call {} of group {} has ended\n", e.number, group);
  }
  return out + "?\n";
}

std::string describe(const RankStatus& s) {
  std::string out = fmt::format("rank {} on host {} (process {}): ", s.rank, s.host, s.pid);
  if (s.step >= 0) out += fmt::format("step {}, ", s.step);
  out += fmt::format("{}; nothing moved in the last {:.1f} s\n", s.activity, s.idle_s);
  for (const GroupStatus& g : s.groups) {
    if (!g.pending) continue;
    out += fmt::format("  under way for {:.1f} s: {} \"{}\", call {} of group {}\n",
                       g.pending->waiting_s, comm_kind_name(g.pending->kind), g.pending->purpose,
                       g.pending->number, g.name);
  }
  return out;
}

std::string last_events(const Record& record, int num_events) {
  std::vector<const Entry*> events;
  flight::for_each_entry(*record.layout, [&](const Entry& e) { events.push_back(&e); });
  std::string out = fmt::format("rank {}:\n", record.status.rank);
  const size_t n = std::min(events.size(), size_t(num_events));
  for (size_t i = events.size() - n; i < events.size(); ++i)
    out += describe(*events[i], record.status.groups);
  return out;
}

// As if all of them were there still.
std::string explain(const std::vector<Record>& records) {
  std::vector<RankStatus> statuses;
  for (const Record& r : records) {
    if (r.status.rank != int(statuses.size())) return "";  // a part of the ranks says little
    statuses.push_back(r.status);
  }
  const std::string why = explain_hang(statuses, kStuck_s);
  return why.empty() ? "" : "who held up the others at the end:\n" + why + "\n\n";
}

}  // namespace

std::string describe_flight_records(const std::string& directory, int num_events) {
  const std::vector<Record> records = read_records(directory);
  if (records.empty()) fail_input("{} holds no flight records (rank-00000, ...)", directory);
  std::string out;
  for (const Record& r : records) out += describe(r.status);
  out +=
      "\n" + explain(records) + fmt::format("the last {} events of each rank (UTC):\n", num_events);
  for (const Record& r : records) out += last_events(r, num_events);
  return out;
}

}  // namespace forja
