// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>

#include "csrc/checkpoint/reader.h"
#include "csrc/checkpoint/state_names.h"
#include "forja/base/dispatch.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/text.h"
#include "forja/ops/elementwise.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// ---- Loading

// Elements that a stored part and a local one have in common.
struct CommonRun {
  int64_t stored, local, count;
};

// In the order of the full tensor: rows of a block never go back.
std::vector<ElementRun> runs_of(const LocalBlock& block, int64_t begin, int64_t end) {
  std::vector<ElementRun> out;
  for_each_run(block, begin, end, [&](const ElementRun& run) {
    out.push_back({run.local - begin, run.full, run.count});
  });
  return out;
}

std::vector<CommonRun> common_runs(const std::vector<ElementRun>& stored,
                                   const std::vector<ElementRun>& local) {
  std::vector<CommonRun> out;
  for (size_t i = 0, j = 0; i < stored.size() && j < local.size();) {
    const ElementRun &a = stored[i], &b = local[j];
    const int64_t begin = std::max(a.full, b.full), a_end = a.full + a.count,
                  b_end = b.full + b.count, end = std::min(a_end, b_end);
    if (begin < end)
      out.push_back({a.local + begin - a.full, b.local + begin - b.full, end - begin});
    ++(a_end < b_end ? i : j);
  }
  return out;
}

// May any of its elements be among them? Spares making a list of those of every other rank's part.
bool may_meet(const StoredTensor& stored, const std::vector<ElementRun>& local) {
  const auto& rows = stored.block.row_ranges;
  const auto full_row = [&](int64_t element) {
    const int64_t row = element / stored.block.columns;
    const auto after =
        std::upper_bound(rows.begin(), rows.end(), row,
                         [](int64_t r, const auto& range) { return r < range.local; });
    return std::prev(after)->full + row - std::prev(after)->local;
  };
  const int64_t columns = stored.block.full_columns;
  return !local.empty() &&
         full_row(stored.begin) * columns < local.back().full + local.back().count &&
         local.front().full < (full_row(stored.end - 1) + 1) * columns;
}

// The parts of a tensor, which has the shape that the model wants.
const std::vector<CheckpointReader::Stored>& parts_of(const CheckpointReader& reader,
                                                      const std::string& name,
                                                      const std::vector<int64_t>& shape) {
  const auto found = reader.tensors().find(name);
  if (found == reader.tensors().end()) fail_input("{}: no tensor {}", reader.path(), name);
  const std::vector<int64_t>& stored = found->second[0].tensor->shape;
  if (stored != shape) {
    fail_input("{}: {} is {}, the model wants {}", reader.path(), name, shape_text(stored),
               shape_text(shape));
  }
  return found->second;
}

// Calls body(piece, run) for what of each run lies in one piece.
template <class Body>
void for_each_piece_of(const StoredTensor& t, const std::vector<CommonRun>& runs,
                       const Body& body) {
  const int64_t elements = t.piece_elements();
  for (const CommonRun& run : runs) {
    for (int64_t done = 0; done < run.count;) {
      const int64_t at = run.stored + done, piece = at / elements,
                    here = std::min(run.count - done, (piece + 1) * elements - at);
      body(piece, CommonRun{at - piece * elements, run.local + done, here});
      done += here;
    }
  }
}

// A state of a parameter, and where its local elements are stored.
struct StateSource {
  Parameter* parameter;
  StateKind kind;
  std::vector<CheckpointReader::Stored> parts;
};

// Finds them, and has their pieces read ahead.
StateSource expect_state(CheckpointReader& reader, Parameter& p, StateKind kind,
                         const std::string& name) {
  StateSource out{&p, kind, {}};
  const auto [begin, end] = local_range(p);
  const std::vector<ElementRun> local = runs_of(p.block, begin, end);
  for (const CheckpointReader::Stored& stored : parts_of(reader, name, p.spec.shape)) {
    const StoredTensor& t = *stored.tensor;
    if (!may_meet(t, local)) continue;
    const auto common = common_runs(runs_of(t.block, t.begin, t.end), local);
    if (common.empty()) continue;
    for_each_piece_of(t, common,
                      [&](int64_t piece, const CommonRun&) { reader.expect(stored, piece); });
    out.parts.push_back(stored);
  }
  return out;
}

void load_state(const Context& ctx, CheckpointReader& reader, const StateSource& source) {
  Context host = ctx;  // which has the files
  host.device = {};
  Parameter& p = *source.parameter;
  set_local(ctx, p, source.kind, [&](const Tensor& out, int64_t begin, int64_t end) {
    const std::vector<ElementRun> local = runs_of(p.block, begin, end);
    for (const CheckpointReader::Stored& stored : source.parts) {
      const StoredTensor& t = *stored.tensor;
      const auto common = common_runs(runs_of(t.block, t.begin, t.end), local);
      for_each_piece_of(t, common, [&](int64_t piece, const CommonRun& run) {
        convert(host, reader.piece(stored, piece).slice(0, run.stored, run.stored + run.count),
                out.slice(0, run.local, run.local + run.count));
      });
    }
  });
}

}  // namespace

TrainState load_checkpoint(const Context& ctx, const std::string& path, ParameterStore& store,
                           CheckpointUse use, PageCache cache, const ParameterFilter& wanted) {
  CheckpointReader reader(path, cache);
  if (use == CheckpointUse::training && !reader.manifest().has_moments()) {
    fail_input(
        "{} holds weights without the optimizer's moments (forja convert made it): give it as "
        "init.from",
        path);
  }
  std::vector<StateSource> sources;
  for (const auto& p : store.all()) {
    if (wanted && !wanted(p->spec)) continue;
    for (const auto& [kind, prefix] : kStateNames) {
      if (use == CheckpointUse::weights && kind != StateKind::weight) continue;
      sources.push_back(expect_state(reader, *p, kind, prefix + p->spec.name));
    }
  }
  for (const StateSource& source : sources) load_state(ctx, reader, source);
  store.update_compute_weights(ctx);
  return reader.manifest().state;
}

// ---- Weights, one parameter at a time

struct CheckpointWeights::Files {
  explicit Files(const std::string& path) : reader(path, PageCache::use) {}
  CheckpointReader reader;
};

CheckpointWeights::CheckpointWeights(const std::string& path) : files_(new Files(path)) {}
CheckpointWeights::~CheckpointWeights() = default;

std::vector<float> CheckpointWeights::read(const std::string& parameter,
                                           const std::vector<int64_t>& shape) const {
  CheckpointReader& reader = files_->reader;
  const auto& parts = parts_of(reader, "model/" + parameter, shape);
  for (const CheckpointReader::Stored& stored : parts) reader.open(stored);
  // Only now: as large as the manifest says, which the files have been seen to be.
  std::vector<float> full(size_t(num_elements(shape)));
  for (const CheckpointReader::Stored& stored : parts) reader.expect_all(stored);
  for (const CheckpointReader::Stored& stored : parts) {
    const StoredTensor& t = *stored.tensor;
    reader.for_each_piece(stored, [&](const Tensor& from, int64_t first) {
      const int64_t at = t.begin + first;  // local element
      for_each_run(t.block, at, at + from.num_elements(), [&](const ElementRun& run) {
        dispatch_float(from.dtype, [&]<class T>() {
          const T* begin = from.ptr<T>() + run.local - at;
          std::transform(begin, begin + run.count, full.begin() + run.full,
                         [](T x) { return float(x); });
        });
      });
    });
  }
  return full;
}

DType CheckpointWeights::dtype(const std::string& parameter) const {
  const auto found = files_->reader.tensors().find("model/" + parameter);
  if (found == files_->reader.tensors().end()) return DType::f32;  // read() says that it is missing
  return found->second[0].tensor->dtype;
}

std::vector<std::string> CheckpointWeights::names() const {
  std::vector<std::string> out;
  for (const auto& [name, parts] : files_->reader.tensors())
    if (name.starts_with("model/")) out.push_back(name.substr(6));
  return out;
}

// ---- Names

std::string checkpoint_name(int64_t step) { return fmt::format("step-{:08}", step); }

int64_t step_of_checkpoint(const std::string& path) {
  const std::string name = fs::path(path).filename();
  constexpr std::string_view kPrefix = "step-";
  int64_t step = -1;
  if (name.rfind(kPrefix, 0) == 0)
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
  return step >= 0 && checkpoint_name(step) == name ? step : -1;
}

bool is_checkpoint(const std::string& path) {
  return file_exists(path + "/manifest.json") && file_exists(path + "/config.yaml");
}

std::string checkpoint_config(const std::string& path) {
  return read_file(path + "/config.yaml", Links::refuse);
}

std::vector<std::string> list_checkpoints(const std::string& directory) {
  std::vector<std::string> out;
  if (!fs::is_directory(directory)) return out;
  for (const auto& item : fs::directory_iterator(directory)) {
    if (step_of_checkpoint(item.path()) >= 0 && is_checkpoint(item.path()))
      out.push_back(item.path());
  }
  std::sort(out.begin(), out.end(), [](const std::string& a, const std::string& b) {
    return step_of_checkpoint(a) > step_of_checkpoint(b);
  });
  return out;
}

std::optional<std::string> latest_checkpoint(const std::string& directory) {
  const auto all = list_checkpoints(directory);
  if (all.empty()) return std::nullopt;
  return all.front();
}

// ---- In words

TrainState read_checkpoint_state(const std::string& path) { return read_manifest(path).state; }

DType checkpoint_moment_dtype(const std::string& path) {
  return read_manifest(path).moment_dtype();
}

namespace {

// In the order of the files.
void verify_pieces(CheckpointReader& reader) {
  const auto for_each_part = [&](const auto& body) {
    const std::vector<StoredShard>& shards = reader.manifest().shards;
    for (size_t i = 0; i < shards.size(); ++i)
      for (const StoredTensor& t : shards[i].tensors) body({i, &t});
  };
  using Stored = CheckpointReader::Stored;
  for_each_part([&](const Stored& stored) { reader.expect_all(stored); });
  for_each_part(
      [&](const Stored& stored) { reader.for_each_piece(stored, [](const Tensor&, int64_t) {}); });
}

}  // namespace

std::string describe_checkpoint(const std::string& path, bool verify) {
  CheckpointReader reader(path, PageCache::bypass);
  reader.open_all();
  if (verify) verify_pieces(reader);
  const TrainState& state = reader.manifest().state;
  std::string out =
      fmt::format("checkpoint of step {}: {} tokens, {} samples, {} updates, seed {}\n", state.step,
                  state.tokens, state.samples, state.num_updates, state.seed);
  int64_t bytes = 0, parameters = 0;
  std::string table;
  for (const auto& [name, parts] : reader.tensors()) {
    for (const auto& stored : parts) bytes += stored.tensor->num_bytes();
    if (name.rfind("model/", 0) != 0) continue;
    const StoredTensor& first = *parts[0].tensor;
    parameters += num_elements(first.shape);
    table += fmt::format("  {:<44} {} {}{}\n", name.substr(6), dtype_name(first.dtype),
                         shape_text(first.shape),
                         parts.size() > 1 ? fmt::format(" in {} parts", parts.size()) : "");
  }
  const Manifest& manifest = reader.manifest();
  out += fmt::format("{} shards, {}, {} moments, {} parameters{}\n", manifest.shards.size(),
                     format_bytes(double(bytes)),
                     manifest.has_moments() ? dtype_name(manifest.moment_dtype()) : "no",
                     parameters, verify ? "; every checksum is right" : "");
  return out + table;
}

}  // namespace forja
