// SPDX-License-Identifier: Apache-2.0
#include "forja/train/tensorboard_writer.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "forja/base/error.h"
#include "forja/base/file.h"

namespace forja {
namespace {

constexpr int64_t kBufferBytes = 64 << 10;
constexpr std::string_view kFilePrefix = "events.out.tfevents.";

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}

// Little-endian on any host.
template <class T>
void append_fixed(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out += char(uint8_t(value >> (8 * i)));
}

// Protocol buffers: a field is a varint key (number * 8 + wire type) and its value. Wire types: 0
// varint, 1 eight bytes, 2 length and bytes, 5 four bytes. Field numbers are those of event.proto
// and summary.proto.
enum class Wire : uint32_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += char(uint8_t(value | 0x80));
  out += char(uint8_t(value));
}

void append_key(std::string& out, uint32_t number, Wire wire) {
  append_varint(out, (number << 3) | uint32_t(wire));
}

void append_bytes(std::string& out, uint32_t number, std::string_view bytes) {
  append_key(out, number, Wire::bytes);
  append_varint(out, bytes.size());
  out += bytes;
}

double unix_time_s() {
  using namespace std::chrono;
  return duration<double>(system_clock::now().time_since_epoch()).count();
}

// Event {double wall_time = 1; int64 step = 2; oneof what {string file_version = 3; Summary summary
// = 5; SessionLog session_log = 7}}.
std::string encode_event(double wall_time_s, int64_t step, uint32_t what,
                         std::string_view payload) {
  std::string event;
  append_key(event, 1, Wire::fixed64);
  append_fixed(event, std::bit_cast<uint64_t>(wall_time_s));
  if (step != 0) {
    append_key(event, 2, Wire::varint);
    append_varint(event, uint64_t(step));
  }
  append_bytes(event, what, payload);
  return event;
}

// Summary {repeated Value value = 1}, Value {string tag = 1; float simple_value = 2}.
std::string encode_summary(std::string_view tag, float value) {
  std::string entry;
  append_bytes(entry, 1, tag);
  append_key(entry, 2, Wire::fixed32);
  append_fixed(entry, std::bit_cast<uint32_t>(value));
  std::string summary;
  append_bytes(summary, 1, entry);
  return summary;
}

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == 0) return "localhost";
  for (char* c = name; *c; ++c) {
    if (*c == '/') *c = '-';
  }
  return name;
}

// The newest time in the names of the event files of a folder, or 0.
int64_t newest_file_time(const std::string& directory) {
  int64_t newest = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kFilePrefix)) continue;
    const int64_t time = std::strtoll(name.c_str() + kFilePrefix.size(), nullptr, 10);
    if (time < 9'999'999'999) newest = std::max(newest, time);
  }
  return newest;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> table = make_crc_table();
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) crc = table[(crc ^ uint8_t(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u;
}

TensorboardWriter::TensorboardWriter(const std::string& directory, int64_t first_step) {
  make_directories(directory);
  std::string path;
  try {
    const int64_t time = std::max(int64_t(unix_time_s()), newest_file_time(directory) + 1);
    path = fmt::format("{}/{}{:010d}.{}.{}", directory, kFilePrefix, time, host_name(), ::getpid());
  } catch (const std::filesystem::filesystem_error& error) {
    fail("cannot list the TensorBoard folder {}: {}", directory, error.code().message());
  }
  file_ = std::make_unique<AppendFile>(path, AppendFile::Open::new_only);
  append_record(encode_event(unix_time_s(), 0, 3, "brain.Event:2"));
  std::string session;
  append_key(session, 1, Wire::varint);
  append_varint(session, 1);  // SessionLog {SessionStatus status = 1}, START = 1
  append_record(encode_event(unix_time_s(), first_step, 7, session));
  if (!flush()) fail("cannot write {}", path);
}

void TensorboardWriter::add_scalar(std::string_view tag, int64_t step, double value) {
  append_record(encode_event(unix_time_s(), step, 5, encode_summary(tag, float(value))));
  if (file_->pending_bytes() >= kBufferBytes) flush();
}

void TensorboardWriter::append_record(std::string_view data) {
  std::string record;
  append_fixed(record, uint64_t(data.size()));
  append_fixed(record, masked_crc32c(record));
  record += data;
  append_fixed(record, masked_crc32c(data));
  file_->add(record);
}

}  // namespace forja
