// SPDX-License-Identifier: Apache-2.0
// Parameters describe themselves; initialisation, sharding, checkpoints, conversion and counting
// read the description and nothing repeats it. The store owns their memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "forja/device/arena.h"
#include "forja/device/context.h"
#include "forja/tensor/tensor.h"

namespace forja {

// Where a Hugging Face checkpoint keeps a part of a parameter: `rows` rows of dim 0, one after the
// other.
struct HfSegment {
  std::string name;
  int64_t rows = 0;
  bool transpose = false;  // stored there as [in, out]
};

enum class InitKind { normal, zeros, ones };

struct ParameterSpec {
  std::string name;            // "layers.0.attention.qkv.weight"
  std::vector<int64_t> shape;  // full, of every rank together
  InitKind init = InitKind::normal;
  float init_std = 0.02f;
  bool decay = true;  // weight decay applies
  bool trainable = true;
  int unit = 0;  // what becomes ready together in backward: 0 embedding, i+1 layer i, last the
                 // final norm and head
  std::vector<HfSegment> segments;

  int64_t num_elements() const;
};

// A parameter of this rank.
struct Parameter {
  ParameterSpec spec;
  Tensor weight;                       // what ops read: fp32 or bf16
  Tensor master;                       // fp32; the same memory as weight where computing is fp32
  Tensor gradient;                     // fp32; undefined when not training
  Tensor first_moment, second_moment;  // fp32
};

enum class StoreUse { inference, training };

// Gradients lie one after the other in the order in which backward finishes them (last unit first),
// so that a bucket of several parameters is one contiguous range.
class ParameterStore {
 public:
  ParameterStore(DType compute_dtype, StoreUse use) : compute_dtype_(compute_dtype), use_(use) {}

  // Declares a parameter; the pointer stays valid as long as the store. Names are unique.
  Parameter* declare(ParameterSpec spec);

  // Gives every declared parameter its memory, from three arenas (real or planning).
  void allocate_all(Arena& weights, Arena& gradients, Arena& optimizer);

  // Draws the initial weights: a pure function of (seed, name, element), the same in every layout.
  void initialize(const Context& ctx, uint64_t seed);
  // compute weights = masters, rounded.
  void update_compute_weights(const Context& ctx);

  const std::vector<std::unique_ptr<Parameter>>& all() const { return parameters_; }
  Parameter* find(const std::string& name) const;  // nullptr where there is none
  int64_t num_parameters() const;                  // elements
  DType compute_dtype() const { return compute_dtype_; }
  StoreUse use() const { return use_; }

  // The gradients of all units, in the order of memory, as one fp32 range; and the part of one
  // unit.
  Tensor all_gradients() const { return all_gradients_; }
  Tensor unit_gradients(int unit) const;
  int num_units() const;

 private:
  DType compute_dtype_;
  StoreUse use_;
  std::vector<std::unique_ptr<Parameter>> parameters_;
  Tensor all_gradients_;
  std::vector<std::pair<int64_t, int64_t>> unit_ranges_;  // of all_gradients_, by unit
};

}  // namespace forja
