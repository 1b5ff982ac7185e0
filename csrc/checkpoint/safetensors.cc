// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/safetensors.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "forja/base/error.h"

namespace forja {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostBytes = int64_t(1) << 60;  // of a tensor: no product overflows

const std::pair<const char*, DType> kNames[] = {
    {"F32", DType::f32}, {"BF16", DType::bf16}, {"F16", DType::f16}, {"F64", DType::f64},
    {"I32", DType::i32}, {"I64", DType::i64},   {"U8", DType::u8},   {"U16", DType::u16}};

const char* name_of(DType dtype) {
  for (const auto& [name, value] : kNames)
    if (value == dtype) return name;
  fail("safetensors has no {}", dtype_name(dtype));
}

SafetensorsEntry parse_entry(const std::string& path, const std::string& name, const Json& json,
                             int64_t data_bytes) {
  SafetensorsEntry entry;
  const std::string dtype = json.at("dtype");
  bool known = false;
  for (const auto& [text, value] : kNames) {
    if (dtype == text) entry.dtype = value, known = true;
  }
  if (!known) fail_input("{}: tensor {} has the unknown dtype {}", path, name, dtype);
  entry.shape = json.at("shape").get<std::vector<int64_t>>();
  entry.begin = json.at("data_offsets").at(0);
  entry.end = json.at("data_offsets").at(1);
  int64_t wanted = dtype_bytes(entry.dtype);
  for (int64_t size : entry.shape) {
    if (size < 0 || (size > 0 && wanted > kMostBytes / size))
      fail_input("{}: damaged: tensor {} is of the shape {}, which no file has", path, name,
                 json.at("shape").dump().substr(0, 80));
    wanted *= size;
  }
  if (entry.begin < 0 || entry.end > data_bytes || entry.end - entry.begin != wanted) {
    fail_input(
        "{}: truncated or damaged: tensor {} needs {} bytes at {}..{}, the file has {} bytes of "
        "data",
        path, name, wanted, entry.begin, entry.end, data_bytes);
  }
  return entry;
}

}  // namespace

int64_t SafetensorsEntry::num_elements() const {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), file_(path) {
  uint64_t header_bytes = 0;
  if (file_.size() >= 8) std::memcpy(&header_bytes, file_.data(), 8);
  if (file_.size() < 8 || header_bytes > uint64_t(file_.size() - 8)) {
    fail_input("{}: not a safetensors file, or a truncated one ({} bytes)", path, file_.size());
  }
  data_begin_ = int64_t(8 + header_bytes);
  try {
    const Json header = Json::parse(file_.text().substr(8, header_bytes));
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        metadata_ = value.get<std::map<std::string, std::string>>();
      } else {
        entries_[name] = parse_entry(path, name, value, file_.size() - data_begin_);
      }
    }
  } catch (const Json::exception& e) {
    fail_input("{}: the header of this safetensors file is damaged: {}", path, e.what());
  }
}

const SafetensorsEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail_input("{}: no tensor named {}", path_, name);
  return found->second;
}

void SafetensorsFile::prefetch(const std::string& name) const {
  const SafetensorsEntry& e = entry(name);
  file_.prefetch(data_begin_ + e.begin, e.end - e.begin);
}

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const SafetensorsEntry& e = entry(name);
  void* data = const_cast<uint8_t*>(file_.data()) + data_begin_ + e.begin;
  const auto& s = e.shape;
  switch (s.size()) {
    case 0:
      return make_tensor(data, e.dtype, {1});
    case 1:
      return make_tensor(data, e.dtype, {s[0]});
    case 2:
      return make_tensor(data, e.dtype, {s[0], s[1]});
    case 3:
      return make_tensor(data, e.dtype, {s[0], s[1], s[2]});
    case 4:
      return make_tensor(data, e.dtype, {s[0], s[1], s[2], s[3]});
    case 5:
      return make_tensor(data, e.dtype, {s[0], s[1], s[2], s[3], s[4]});
  }
  fail_input("{}: tensor {} has {} dims, at most 5 can be read", path_, name, s.size());
}

void SafetensorsFile::release(const std::string& name) const {
  const SafetensorsEntry& e = entry(name);
  file_.release(data_begin_ + e.begin, e.end - e.begin);
}

int64_t SafetensorsInfo::num_bytes() const {
  int64_t n = dtype_bytes(dtype);
  for (int64_t size : shape) n *= size;
  return n;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path,
                                     const std::vector<SafetensorsInfo>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t at = 0;
  for (const SafetensorsInfo& t : tensors) {
    header[t.name] = {{"dtype", name_of(t.dtype)},
                      {"shape", t.shape},
                      {"data_offsets", {at, at + t.num_bytes()}}};
    at += t.num_bytes();
  }
  std::string text = header.dump();
  while (text.size() % 8 != 0) text += ' ';  // data stays aligned
  const uint64_t header_bytes = text.size();
  file_.write(&header_bytes, 8);
  file_.write(text);
  total_bytes_ = file_.bytes_written() + at;
}

void SafetensorsWriter::commit() {
  FORJA_CHECK(file_.bytes_written() == total_bytes_, "{} of {} bytes written",
              file_.bytes_written(), total_bytes_);
  file_.commit();
}

void write_safetensors(const std::string& path,
                       const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<SafetensorsInfo> infos;
  for (const auto& [name, t] : tensors) {
    FORJA_CHECK(t.is_contiguous(), "tensor {} to be written is {}", name, t.to_string());
    infos.push_back({name, t.dtype, {t.sizes.begin(), t.sizes.begin() + t.rank}});
  }
  SafetensorsWriter file(path, infos, metadata);
  for (const auto& [name, t] : tensors) file.write(t.data, t.num_bytes());
  file.commit();
}

void read_as_float(const Tensor& in, float* out) {
  FORJA_CHECK(in.is_contiguous(), "read_as_float of {}", in.to_string());
  const int64_t n = in.num_elements();
  switch (in.dtype) {
    case DType::f32:
      std::memcpy(out, in.data, size_t(n) * 4);
      return;
    case DType::bf16:
      for (int64_t i = 0; i < n; ++i) out[i] = float(in.ptr<BFloat16>()[i]);
      return;
    case DType::f16:
      for (int64_t i = 0; i < n; ++i)
        out[i] = half_to_float(static_cast<const uint16_t*>(in.data)[i]);
      return;
    case DType::f64:
      for (int64_t i = 0; i < n; ++i) out[i] = float(in.ptr<double>()[i]);
      return;
    default:
      fail_input("expected a tensor of numbers with a fraction, found {}", in.to_string());
  }
}

}  // namespace forja
