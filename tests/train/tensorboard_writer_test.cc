// SPDX-License-Identifier: Apache-2.0
#include "forja/train/tensorboard_writer.h"

#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>

#include "forja/base/file.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::TemporaryDirectory;

// What the test reads back of one Event.
struct Event {
  double wall_time_s = 0;
  int64_t step = 0;
  std::string file_version, tag;
  std::optional<float> value;
  int session_status = 0;
};

template <class T>
T take(std::string_view& bytes) {
  T value{};
  if (bytes.size() < sizeof(T)) throw std::runtime_error("record too short");
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return value;
}

uint64_t take_varint(std::string_view& bytes) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = take<uint8_t>(bytes);
    value |= uint64_t(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
}

std::string_view take_bytes(std::string_view& bytes) {
  const uint64_t length = take_varint(bytes);
  if (bytes.size() < length) throw std::runtime_error("field too short");
  const std::string_view taken = bytes.substr(0, length);
  bytes.remove_prefix(length);
  return taken;
}

void parse_value(std::string_view bytes, Event& event) {
  while (!bytes.empty()) {
    const uint64_t key = take_varint(bytes);
    if (key == (1 << 3 | 2)) {
      event.tag = take_bytes(bytes);
    } else if (key == (2 << 3 | 5)) {
      event.value = take<float>(bytes);
    } else {
      ADD_FAILURE() << "unexpected key in Summary.Value: " << key;
      return;
    }
  }
}

Event parse_event(std::string_view bytes) {
  Event event;
  while (!bytes.empty()) {
    const uint64_t key = take_varint(bytes);
    if (key == (1 << 3 | 1)) {
      event.wall_time_s = take<double>(bytes);
    } else if (key == (2 << 3 | 0)) {
      event.step = int64_t(take_varint(bytes));
    } else if (key == (3 << 3 | 2)) {
      event.file_version = take_bytes(bytes);
    } else if (key == (5 << 3 | 2)) {
      std::string_view summary = take_bytes(bytes);
      EXPECT_EQ(take_varint(summary), uint64_t(1 << 3 | 2));
      parse_value(take_bytes(summary), event);
      EXPECT_TRUE(summary.empty());
    } else if (key == (7 << 3 | 2)) {
      std::string_view session = take_bytes(bytes);
      EXPECT_EQ(take_varint(session), uint64_t(1 << 3 | 0));
      event.session_status = int(take_varint(session));
    } else {
      ADD_FAILURE() << "unexpected key in Event: " << key;
      return event;
    }
  }
  return event;
}

std::vector<Event> read_events(const std::string& path) {
  const std::string file = read_file(path);
  std::string_view bytes = file;
  std::vector<Event> events;
  while (!bytes.empty()) {
    const std::string_view length_bytes = bytes.substr(0, 8);
    const auto length = take<uint64_t>(bytes);
    EXPECT_EQ(take<uint32_t>(bytes), masked_crc32c(length_bytes));
    if (length > bytes.size()) throw std::runtime_error("truncated record");
    const std::string_view data = bytes.substr(0, length);
    bytes.remove_prefix(length);
    EXPECT_EQ(take<uint32_t>(bytes), masked_crc32c(data));
    events.push_back(parse_event(data));
  }
  return events;
}

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
TEST(Crc32c, KnownVectors) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string up, down;
  for (int i = 0; i < 32; ++i) {
    up += char(i);
    down += char(31 - i);
  }
  EXPECT_EQ(crc32c(up), 0x46DD794Eu);
  EXPECT_EQ(crc32c(down), 0x113FDB5Cu);
}

TEST(Crc32c, Mask) {
  EXPECT_EQ(masked_crc32c(""), 0xA282EAD8u);
  // crc 0xE3069283 rotated right by 15: 0x2507C60D.
  EXPECT_EQ(masked_crc32c("123456789"), 0x2507C60Du + 0xA282EAD8u);
}

TEST(TensorboardWriter, RecordsReadBack) {
  TemporaryDirectory folder;
  const double before_s = double(std::time(nullptr));
  std::string path;
  {
    TensorboardWriter writer(folder.file("tensorboard"), 1);
    path = writer.path();
    EXPECT_EQ(read_events(path).size(), 2u);  // the header is there from the start
    writer.add_scalar("train/loss", 1, 10.5);
    writer.add_scalar("train/loss", 300, 3.25);
    writer.add_scalar("train/learning rate \xc2\xb5", int64_t(1) << 40, std::nan(""));
    EXPECT_EQ(read_events(path).size(), 2u);
    writer.flush();
    EXPECT_EQ(read_events(path).size(), 5u);
    writer.add_scalar("valid/loss", 300, -1e30);
  }
  const std::string name = std::filesystem::path(path).filename();
  EXPECT_TRUE(name.starts_with("events.out.tfevents.")) << name;
  EXPECT_TRUE(name.ends_with("." + std::to_string(::getpid()))) << name;

  const std::vector<Event> events = read_events(path);
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[1].session_status, 1);
  EXPECT_EQ(events[1].step, 1);
  EXPECT_EQ(events[2].tag, "train/loss");
  EXPECT_EQ(events[2].step, 1);
  EXPECT_EQ(events[2].value, 10.5f);
  EXPECT_EQ(events[3].step, 300);
  EXPECT_EQ(events[4].tag, "train/learning rate \xc2\xb5");
  EXPECT_EQ(events[4].step, int64_t(1) << 40);
  EXPECT_TRUE(std::isnan(events[4].value.value()));
  EXPECT_EQ(events[5].tag, "valid/loss");
  EXPECT_EQ(events[5].value, -1e30f);
  for (const Event& event : events) {
    EXPECT_GE(event.wall_time_s, before_s - 1);
    EXPECT_LE(event.wall_time_s, double(std::time(nullptr)) + 1);
  }
}

TEST(TensorboardWriter, FlushesByItselfWhenMuchHasGathered) {
  TemporaryDirectory folder;
  TensorboardWriter writer(folder.path(), 1);
  for (int step = 1; step <= 5000; ++step) writer.add_scalar("train/loss", step, 1.0 / step);
  EXPECT_GT(std::filesystem::file_size(writer.path()), 128u << 10);
}

TEST(TensorboardWriter, AResumedRunStartsANewFileThatSortsLast) {
  TemporaryDirectory folder;
  // A file from a machine whose clock is ahead.
  std::ofstream(folder.file("events.out.tfevents.4000000000.zebra.99")).put('x');
  std::string first, second;
  {
    TensorboardWriter writer(folder.path(), 1);
    first = writer.path();
  }
  {
    TensorboardWriter writer(folder.path(), 101);
    second = writer.path();
  }
  EXPECT_LT(folder.file("events.out.tfevents.4000000000.zebra.99"), first);
  EXPECT_LT(first, second);
  const std::vector<Event> events = read_events(second);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[0].step, 0);
  EXPECT_EQ(events[1].session_status, 1);
  EXPECT_EQ(events[1].step, 101);
}

TEST(TensorboardWriter, AnUnwritableFolderIsAnError) {
  TemporaryDirectory folder;
  std::ofstream(folder.file("file")).put('x');
  EXPECT_THROW(TensorboardWriter(folder.file("file"), 1), Error);
  EXPECT_THROW(TensorboardWriter(folder.file("file") + "/tensorboard", 1), Error);
}

}  // namespace
}  // namespace forja
