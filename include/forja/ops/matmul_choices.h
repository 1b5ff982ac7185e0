// SPDX-License-Identifier: Apache-2.0
// Which way each matrix product of a run takes on a GPU, by measurement before its first step.
//
// A planning run notes every product (want), settle() measures those that nobody has measured yet,
// and the run looks them up (find). Every rank of a run ends with the same choices: they start from
// the first rank's file, a product is measured by the lowest rank that has it, and all results go
// to all ranks. No step ever measures. docs/decisions/0009 says why.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "forja/device/device.h"

namespace forja {

// "cublaslt 2": the algorithm that the library proposes third. "custom": kernels/matmul.
struct MatmulWay {
  bool custom = false;
  int algorithm = 0;
  bool operator==(const MatmulWay&) const = default;
};

// The ways of one product, and what they take.
class MatmulTrial {
 public:
  virtual ~MatmulTrial() = default;
  // Those that may be chosen, the default first; none or one where there is nothing to choose.
  virtual std::vector<MatmulWay> ways() = 0;
  // Of one call, on operands of its own.
  virtual double seconds(const MatmulWay& way) = 0;
};

// The fastest way: each is timed a few times, by turns, and has its shortest time. The first way
// stays where no other is faster by more than 2 %: it is to be the same in the next run.
MatmulWay fastest_way(MatmulTrial& trial);

// How the ranks of a run exchange text.
struct TextExchange {
  int rank = 0;
  // The texts of all ranks, in rank order. Collective.
  std::function<std::vector<std::string>(const std::string& mine)> all_gather =
      [](const std::string& mine) { return std::vector{mine}; };
};

class MatmulChoices {
 public:
  using MakeTrial = std::function<std::unique_ptr<MatmulTrial>()>;

  // `machine`: all that times depend on but the product, in a line: GPU and library.
  explicit MatmulChoices(std::string machine) : machine_(std::move(machine)) {}

  // A product of the run that is planned, as a line of text that says all that its time depends on.
  void want(const std::string& product, MakeTrial trial);
  // The way of a product; the default of one that was not wanted, which is counted.
  MatmulWay find(const std::string& product);
  int64_t num_wanted() const { return int64_t(wanted_.size()); }
  int64_t num_unknown() const { return num_unknown_; }

  // Collective, after the last want() and before the first find(): a way for every product that is
  // wanted. `file` keeps choices between runs: it is read, and written by the first rank where it
  // lacked something; what cannot be read or written, or is of another format, is said and left
  // alone. Entries of ways that may no longer be chosen are measured again. A product whose trial
  // fails keeps the default. Returns how many products this rank measured.
  int64_t settle(const std::string& file, const TextExchange& exchange = {});

 private:
  using Table = std::map<std::string, MatmulWay>;  // by product
  using Tables = std::map<std::string, Table>;     // by machine
  static Tables parse(std::string_view json);      // throws Error
  static std::string to_json(const Tables& tables);

  std::vector<std::string> missing(const Table& known);

  std::string machine_;
  std::map<std::string, MakeTrial> wanted_;
  Table chosen_;
  int64_t num_unknown_ = 0;
};

// The machine of a GPU's choices: "NVIDIA H200, cuBLASLt 13.1.0".
std::string matmul_machine(Device device);

// Where choices are kept: matmul.json in $FORJA_CACHE, $XDG_CACHE_HOME/forja or ~/.cache/forja; ""
// where none of these variables nor HOME is set.
std::string matmul_choices_file();

}  // namespace forja
