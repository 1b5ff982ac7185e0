// SPDX-License-Identifier: Apache-2.0
#include "forja/train/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "forja/base/philox.h"

namespace forja {

int32_t sample_token(const Tensor& logits, const SamplingOptions& options, uint64_t stream,
                     int64_t position) {
  const float* z = logits.ptr<float>();
  const int64_t v = logits.num_elements();
  if (options.temperature <= 0.0) return int32_t(std::max_element(z, z + v) - z);

  std::vector<int32_t> order(static_cast<size_t>(v));
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [z](int32_t a, int32_t b) { return z[a] != z[b] ? z[a] > z[b] : a < b; };
  size_t kept = options.top_k > 0 ? std::min(size_t(options.top_k), order.size()) : order.size();
  std::partial_sort(order.begin(), order.begin() + int64_t(kept), order.end(), likelier);

  std::vector<double> weight(kept);
  double total = 0.0;
  for (size_t i = 0; i < kept; ++i) {
    weight[i] = std::exp((double(z[order[i]]) - double(z[order[0]])) / options.temperature);
    total += weight[i];
  }
  // The smallest set of likeliest tokens whose probability reaches top_p.
  double sum = 0.0;
  for (size_t i = 0; i < kept; ++i) {
    sum += weight[i];
    if (sum >= options.top_p * total) kept = i + 1;
  }
  const Philox4 random = philox(mix_key(options.seed, stream), uint64_t(position), 0);
  double target = (double(random.v[0]) + 0.5) / 4294967296.0 * sum;
  for (size_t i = 0; i + 1 < kept; ++i) {
    target -= weight[i];
    if (target < 0.0) return order[i];
  }
  return order[kept - 1];
}

Generator::Generator(const ModelConfig& model, DType dtype, int64_t num_sequences,
                     int64_t max_tokens,
                     const std::function<void(const Context&, ParameterStore&)>& load)
    : max_tokens_(max_tokens),
      store_(dtype, StoreUse::inference),
      decoder_(store_, model, max_tokens) {
  Arena plan("plan"), unused("unused");
  store_.allocate_all(plan, unused, unused);
  decoder_.allocate_constants(Context{{}, &plan}, plan);
  weights_ = std::make_unique<Arena>("weights", Device{}, plan.peak_bytes());
  store_.allocate_all(*weights_, unused, unused);
  Arena scratch("loading", {}, int64_t(64) << 20);
  const Context loading{{}, &scratch};
  decoder_.allocate_constants(loading, *weights_);

  const int64_t rows = num_sequences * max_tokens, layers = decoder_.num_layers();
  const int64_t bytes = rows * model.key_value_size() * dtype_bytes(dtype) + Arena::kAlignment;
  cache_ = std::make_unique<Arena>("key-value cache", Device{}, 2 * layers * bytes);
  for (int64_t i = 0; i < layers; ++i) {
    keys_.push_back(allocate(*cache_, dtype, {rows, model.num_key_value_heads, model.head_dim}));
    values_.push_back(allocate(*cache_, dtype, {rows, model.num_key_value_heads, model.head_dim}));
  }
  lengths_.assign(size_t(num_sequences), 0);
  load(loading, store_);
}

template <class Body>
auto Generator::with_workspace(const Body& body) {
  Arena plan("plan");
  body(Context{{}, &plan});
  if (!workspace_ || workspace_->capacity_bytes() < plan.peak_bytes()) {
    workspace_.reset();  // its memory may be needed
    workspace_ = std::make_unique<Arena>("generation workspace", Device{}, plan.peak_bytes());
  }
  workspace_->release(0);
  return body(Context{{}, workspace_.get()});
}

void Generator::reset() { std::fill(lengths_.begin(), lengths_.end(), 0); }

Tensor Generator::append(const std::vector<Append>& entries) {
  int64_t num_rows = 0;
  for (const Append& entry : entries) {
    FORJA_CHECK(!entry.tokens.empty(), "nothing to append to sequence {}", entry.sequence);
    const int64_t grown = lengths_[size_t(entry.sequence)] + int64_t(entry.tokens.size());
    if (grown > max_tokens_) fail_input("a sequence of {} tokens, room for {}", grown, max_tokens_);
    num_rows += int64_t(entry.tokens.size());
  }
  const Tensor logits =
      with_workspace([&](const Context& ctx) { return run(ctx, entries, num_rows); });
  for (const Append& entry : entries)
    lengths_[size_t(entry.sequence)] += int64_t(entry.tokens.size());
  return logits;
}

Tensor Generator::run(const Context& ctx, const std::vector<Append>& entries, int64_t num_rows) {
  const int64_t n = int64_t(entries.size());
  Arena& arena = *ctx.workspace;
  const Tensor logits = allocate(arena, DType::f32, {n, model().vocab_size});
  DecoderInput input;
  input.tokens = allocate(arena, DType::i32, {num_rows});
  input.rows.positions = allocate(arena, DType::i32, {num_rows});
  input.rows.sequences = allocate(arena, DType::i32, {n, 4});
  std::vector<int64_t> cache_rows(static_cast<size_t>(num_rows)), last_rows;
  int64_t row = 0;
  for (int64_t e = 0; e < n; ++e) {
    const Append& entry = entries[size_t(e)];
    const int64_t begin = lengths_[size_t(entry.sequence)], count = int64_t(entry.tokens.size());
    if (!ctx.planning()) {
      const int32_t bounds[] = {int32_t(row), int32_t(count), int32_t(entry.sequence * max_tokens_),
                                int32_t(begin + count)};
      std::copy(bounds, bounds + 4, input.rows.sequences.ptr<int32_t>() + 4 * e);
      for (int64_t i = 0; i < count; ++i) {
        input.tokens.ptr<int32_t>()[row + i] = entry.tokens[size_t(i)];
        input.rows.positions.ptr<int32_t>()[row + i] = int32_t(begin + i);
        cache_rows[size_t(row + i)] = entry.sequence * max_tokens_ + begin + i;
      }
    }
    row += count;
    last_rows.push_back(row - 1);
  }
  std::vector<KeyValueCache> caches;
  for (size_t i = 0; i < keys_.size(); ++i)
    caches.push_back({keys_[i], values_[i], cache_rows.data()});
  decoder_.generate(ctx, input, caches, last_rows, logits);
  return logits;
}

namespace {

// The inputs of requests packed into rows, and which rows are scored.
struct PackedRequests {
  std::vector<int32_t> tokens, positions;  // of each row
  std::vector<int32_t> sequences;          // q_begin, q_length, k_begin, k_length of each input
  std::vector<int64_t> rows;               // scored, of one request after the other
  std::vector<int32_t> targets;            // of these

  explicit PackedRequests(const std::vector<Generator::ScoreRequest>& requests) {
    const std::vector<int32_t>* last = nullptr;
    int64_t begin = 0;
    for (const Generator::ScoreRequest& request : requests) {
      const std::vector<int32_t>& all = request.tokens;
      const int64_t length = int64_t(all.size()) - 1;
      FORJA_CHECK(request.num_targets >= 1 && request.num_targets <= length,
                  "{} targets in a text of {} tokens", request.num_targets, all.size());
      const bool shared = last && last->size() == all.size() &&
                          std::equal(all.begin(), all.end() - 1, last->begin());
      if (!shared) {
        begin = int64_t(tokens.size());
        tokens.insert(tokens.end(), all.begin(), all.end() - 1);
        for (int64_t i = 0; i < length; ++i) positions.push_back(int32_t(i));
        for (const int64_t bound : {begin, length, begin, length})
          sequences.push_back(int32_t(bound));
      }
      for (int64_t i = length - request.num_targets; i < length; ++i) {
        rows.push_back(begin + i);
        targets.push_back(all[size_t(i) + 1]);
      }
      last = &all;
    }
  }
};

Tensor in_workspace(const Context& ctx, const std::vector<int32_t>& values,
                    std::initializer_list<int64_t> shape) {
  const Tensor out = allocate(*ctx.workspace, DType::i32, shape);
  if (!ctx.planning()) std::copy(values.begin(), values.end(), out.ptr<int32_t>());
  return out;
}

}  // namespace

std::vector<Generator::Score> Generator::score(const std::vector<ScoreRequest>& requests) {
  for (const ScoreRequest& request : requests) {
    if (int64_t(request.tokens.size()) > max_tokens_ + 1)
      fail_input("a text of {} tokens, room for {}", request.tokens.size(), max_tokens_ + 1);
  }
  const PackedRequests packed(requests);
  const int64_t num_rows = int64_t(packed.tokens.size()), num_scored = int64_t(packed.rows.size());
  const Tensor results = with_workspace([&](const Context& ctx) {
    const Tensor out = allocate(*ctx.workspace, DType::f32, {2, num_scored});
    DecoderInput input;
    input.tokens = in_workspace(ctx, packed.tokens, {num_rows});
    input.rows.positions = in_workspace(ctx, packed.positions, {num_rows});
    input.rows.sequences =
        in_workspace(ctx, packed.sequences, {int64_t(packed.sequences.size()) / 4, 4});
    decoder_.score(ctx, input, packed.rows, in_workspace(ctx, packed.targets, {num_scored}),
                   out.select(0, 0), out.select(0, 1));
    return out;
  });
  const float* log_probability = results.ptr<float>();
  const float* margin = log_probability + num_scored;
  std::vector<Score> scores;
  int64_t at = 0;
  for (const ScoreRequest& request : requests) {
    Score& score = scores.emplace_back();
    for (const int64_t end = at + request.num_targets; at < end; ++at) {
      score.log_probability += double(log_probability[at]);
      score.greedy = score.greedy && margin[at] >= 0.0f;
    }
  }
  return scores;
}

void generate(Generator& generator, const std::vector<std::vector<int32_t>>& prompts,
              const GenerateOptions& options,
              const std::function<bool(int64_t, int32_t)>& on_token) {
  std::vector<Generator::Append> next;
  for (size_t i = 0; i < prompts.size(); ++i) next.push_back({int64_t(i), prompts[i]});
  for (int64_t made = 0; made < options.max_new_tokens && !next.empty(); ++made) {
    const Tensor logits = generator.append(next);
    std::vector<Generator::Append> alive;
    for (size_t e = 0; e < next.size(); ++e) {
      const int64_t sequence = next[e].sequence;
      const int32_t token = sample_token(logits.select(0, int64_t(e)), options.sampling,
                                         uint64_t(sequence), generator.length(sequence));
      if (std::find(options.stop.begin(), options.stop.end(), token) != options.stop.end())
        continue;
      const bool goes_on = on_token(sequence, token);
      if (goes_on && generator.length(sequence) < generator.max_tokens())
        alive.push_back({sequence, {token}});
    }
    next = std::move(alive);
  }
}

}  // namespace forja
