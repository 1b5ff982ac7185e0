// SPDX-License-Identifier: Apache-2.0
// The bytes of a flight record, in memory and in its file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "forja/comm/flight_record.h"

namespace forja::flight {

constexpr char kMagic[8] = {'f', 'o', 'r', 'j', 'a', 'f', 'l', 't'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMaxGroups = 16;
constexpr uint64_t kCapacity = 4096;  // entries: 416 KiB a rank

enum class EntryType : uint8_t {
  call,      // was made
  transfer,  // one half of the exchange that the event before was
  end,       // of a call
  activity,
};

// Texts end with a zero, or fill their field.
struct Entry {
  int64_t time_us;  // since 1970
  int64_t number;   // of the call in its group; of the transfer among those of its peer
  int64_t step;
  int64_t bytes;
  int32_t layer;  // of a transfer: the peer's rank in the world
  EntryType type;
  uint8_t group;
  uint8_t kind;  // CommKind
  uint8_t sends;
  char text[64];  // purpose or activity
};

struct Group {
  char name[20];
  int32_t first_rank;
  int32_t size;
  int32_t unused;
  int64_t calls;
};

struct Header {
  char magic[8];
  uint32_t version;
  int32_t rank;
  int32_t pid;
  uint32_t num_groups;
  uint64_t num_events;  // ever; the last kCapacity are kept
  int64_t step;
  int64_t moved_us;  // when something moved last
  char host[64];
  char activity[64];
  Group groups[kMaxGroups];
};

struct Layout {
  Header header;
  Entry entries[kCapacity];
};

template <size_t N>
void set_text(char (&field)[N], std::string_view text) {
  const size_t n = std::min(N, text.size());
  text.copy(field, n);
  if (n < N) field[n] = '\0';
}
template <size_t N>
std::string text_of(const char (&field)[N]) {
  return std::string(field, ::strnlen(field, N));
}

// Calls visit(event) from the oldest event that is kept to the newest.
template <class Visit>
void for_each_entry(const Layout& layout, const Visit& visit) {
  const uint64_t end = layout.header.num_events;
  for (uint64_t i = end > kCapacity ? end - kCapacity : 0; i < end; ++i)
    visit(layout.entries[i % kCapacity]);
}

// Where the rank stood at `now_us`.
RankStatus status_of(const Layout& layout, int64_t now_us);

}  // namespace forja::flight
