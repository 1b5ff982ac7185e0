// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "forja/base/error.h"
#include "forja/base/json.h"

namespace forja {
namespace {

using Json = nlohmann::json;

const std::pair<const char*, DType> kNames[] = {
    {"F32", DType::f32}, {"BF16", DType::bf16}, {"F16", DType::f16}, {"F64", DType::f64},
    {"I32", DType::i32}, {"I64", DType::i64},   {"U8", DType::u8},   {"U16", DType::u16}};

const char* name_of(DType dtype) {
  for (const auto& [name, value] : kNames)
    if (value == dtype) return name;
  fail("safetensors has no {}", dtype_name(dtype));
}

std::vector<int64_t> parse_shape(const Json& json) {
  std::vector<int64_t> shape;
  int64_t most = kMostInFile;  // elements: no product overflows, whatever the order, nor beside a 0
  for (const Json& size : json) {
    shape.push_back(json_integer(size, "a size", 0, most));
    most /= std::max<int64_t>(shape.back(), 1);
  }
  return shape;
}

SafetensorsEntry parse_entry(const Json& json, int64_t data_bytes) {
  SafetensorsEntry entry;
  const auto& dtype = json.at("dtype").get_ref<const std::string&>();
  const auto found = std::find_if(std::begin(kNames), std::end(kNames),
                                  [&](const auto& name) { return dtype == name.first; });
  if (found == std::end(kNames)) fail_input("the unknown dtype {}", shown(json.at("dtype")));
  entry.dtype = found->second;
  entry.shape = parse_shape(json.at("shape"));
  const Json& offsets = json.at("data_offsets");
  entry.begin = json_integer(offsets.at(0), "where it begins");
  entry.end = json_integer(offsets.at(1), "where it ends");
  const int64_t wanted = entry.num_elements() * dtype_bytes(entry.dtype);
  if (entry.end > data_bytes || entry.end - entry.begin != wanted) {
    fail_input("expected {} bytes, found {}..{} of {} bytes of data", wanted, entry.begin,
               entry.end, data_bytes);
  }
  return entry;
}

}  // namespace

int64_t SafetensorsEntry::num_elements() const {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

SafetensorsFile::SafetensorsFile(const std::string& path, Links links)
    : path_(path), file_(path, links) {
  uint64_t header_bytes = 0;
  if (file_.size() >= 8) std::memcpy(&header_bytes, file_.data(), 8);
  if (file_.size() < 8 || header_bytes > uint64_t(file_.size() - 8)) {
    fail_input("{}: not a safetensors file, or a truncated one ({} bytes)", path, file_.size());
  }
  data_begin_ = int64_t(8 + header_bytes);
  try {
    read_header(file_.text().substr(8, header_bytes));
  } catch (const Json::exception& e) {
    fail_input("{}: the header of this safetensors file is damaged: {}", path, e.what());
  } catch (const Error& e) {
    fail_input("{}: truncated or damaged: {}", path, e.what());
  }
  check_overlaps();
}

void SafetensorsFile::read_header(std::string_view text) {
  const Json header = parse_json(text, JsonKeys::once);
  if (!header.is_object()) fail_input("expected an object of tensors, found {}", shown(header));
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      metadata_ = value.get<std::map<std::string, std::string>>();
      continue;
    }
    try {
      entries_[name] = parse_entry(value, file_.size() - data_begin_);
    } catch (const Error& e) {
      fail_input("tensor {}: {}", shown(name), e.what());
    }
  }
}

// Many tensors of the same bytes would make a small file a large model.
void SafetensorsFile::check_overlaps() const {
  std::vector<std::pair<const SafetensorsEntry*, const std::string*>> order;
  for (const auto& [name, entry] : entries_)
    if (entry.begin < entry.end) order.emplace_back(&entry, &name);
  std::sort(order.begin(), order.end(),
            [](const auto& a, const auto& b) { return a.first->begin < b.first->begin; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i].first->begin >= order[i - 1].first->end) continue;
    fail_input("{}: damaged: tensors {} and {} have bytes in common", path_,
               shown(*order[i - 1].second), shown(*order[i].second));
  }
}

const SafetensorsEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) fail_input("{}: no tensor named {}", path_, name);
  return found->second;
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

SafetensorsInfo safetensors_info(const std::string& name, const Tensor& tensor) {
  return {name, tensor.dtype, {tensor.sizes.begin(), tensor.sizes.begin() + tensor.rank}};
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
    infos.push_back(safetensors_info(name, t));
  }
  SafetensorsWriter file(path, infos, metadata);
  for (const auto& [name, t] : tensors) file.write(t.data, t.num_bytes());
  file.commit();
}

namespace {

// The elements of a file need not be aligned.
template <class T, class Widen>
void widen(const Tensor& in, float* out, const Widen& to_float) {
  const char* bytes = static_cast<const char*>(in.data);
  const int64_t n = in.num_elements();
  for (int64_t i = 0; i < n; ++i) {
    T value;
    std::memcpy(&value, bytes + i * int64_t(sizeof(T)), sizeof(T));
    out[i] = to_float(value);
  }
}

}  // namespace

void read_as_float(const Tensor& in, float* out) {
  FORJA_CHECK(in.is_contiguous(), "read_as_float of {}", in.to_string());
  switch (in.dtype) {
    case DType::f32:
      return widen<float>(in, out, [](float x) { return x; });
    case DType::bf16:
      return widen<BFloat16>(in, out, [](BFloat16 x) { return float(x); });
    case DType::f16:
      return widen<uint16_t>(in, out, half_to_float);
    case DType::f64:
      return widen<double>(in, out, [](double x) { return float(x); });
    default:
      fail_input("expected a tensor of numbers with a fraction, found {}", in.to_string());
  }
}

}  // namespace forja
