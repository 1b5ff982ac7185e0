// SPDX-License-Identifier: Apache-2.0
#include "forja/ops/matmul_choices.h"

#include <barrier>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>
#include <thread>

#include "forja/base/file.h"
#include "kernels/matmul/evidence.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::TemporaryDirectory;

constexpr MatmulWay kFirst{}, kSecond{.algorithm = 1}, kThird{.algorithm = 2},
    kOurs{.custom = true};

// Ways with the times that they are told to take.
struct Fake {
  std::vector<std::pair<MatmulWay, double>> seconds;
  int calls = 0;
  bool fails = false;
};

class FakeTrial : public MatmulTrial {
 public:
  explicit FakeTrial(Fake* fake) : fake_(fake) {}
  std::vector<MatmulWay> ways() override {
    std::vector<MatmulWay> out;
    for (const auto& [way, seconds] : fake_->seconds) out.push_back(way);
    return out;
  }
  double seconds(const MatmulWay& way) override {
    if (fake_->fails) fail("out of memory");
    // The first call is slow, every other has some noise: only the least counts.
    const double noise = fake_->calls == 0 ? 100.0 : fake_->calls % 3 == 0 ? 1.5 : 1.0;
    ++fake_->calls;
    for (const auto& [known, seconds] : fake_->seconds)
      if (known == way) return seconds * noise;
    ADD_FAILURE() << "a way that is not there was timed";
    return 0.0;
  }

 private:
  Fake* fake_;
};

MatmulChoices::MakeTrial trial_of(Fake& fake) {
  return [&fake] { return std::make_unique<FakeTrial>(&fake); };
}

TEST(MatmulChoices, TheFastestWayWinsByAMargin) {
  Fake clear{{{kFirst, 1.0}, {kSecond, 0.8}, {kOurs, 0.7}}};
  FakeTrial a(&clear);
  EXPECT_EQ(fastest_way(a), kOurs);
  Fake close{{{kFirst, 1.0}, {kSecond, 0.99}}};
  FakeTrial b(&close);
  EXPECT_EQ(fastest_way(b), kFirst);
  Fake none;
  FakeTrial c(&none);
  EXPECT_EQ(fastest_way(c), kFirst);
}

TEST(MatmulChoices, AreMeasuredOnceAndKept) {
  TemporaryDirectory folder;
  const std::string file = folder.file("deep/er/matmul.json");
  Fake fake{{{kFirst, 1.0}, {kThird, 0.5}}}, alone{{{kFirst, 1.0}}};
  MatmulChoices first("machine");
  EXPECT_EQ(first.find("a product"), kFirst);
  first.want("a product", trial_of(fake));
  first.want("a product", trial_of(fake));
  first.want("another", trial_of(alone));
  EXPECT_EQ(first.num_wanted(), 2);
  EXPECT_EQ(first.settle(file), 1);
  EXPECT_EQ(first.find("a product"), kThird);
  EXPECT_EQ(first.find("another"), kFirst);
  EXPECT_EQ(alone.calls, 0);
  const int calls = fake.calls;
  MatmulChoices second("machine");
  second.want("a product", trial_of(fake));
  EXPECT_EQ(second.settle(file), 0);
  EXPECT_EQ(second.find("a product"), kThird);
  EXPECT_EQ(fake.calls, calls);
  // Another machine measures for itself, and leaves the first one's choices where they are.
  fake.seconds[0].second = 0.1;
  MatmulChoices other("another machine");
  other.want("a product", trial_of(fake));
  EXPECT_EQ(other.settle(file), 1);
  EXPECT_EQ(other.find("a product"), kFirst);
  MatmulChoices third("machine");
  third.want("a product", trial_of(fake));
  EXPECT_EQ(third.settle(file), 0);
  EXPECT_EQ(third.find("a product"), kThird);
}

// A file may come from a build in which our kernel was allowed, or from a library that proposed
// more algorithms.
TEST(MatmulChoices, WaysThatAreNotAllowedAreMeasuredAgain) {
  TemporaryDirectory folder;
  const std::string file = folder.file("matmul.json");
  Fake before{{{kFirst, 1.0}, {kOurs, 0.1}}}, now{{{kFirst, 1.0}, {kSecond, 0.5}}};
  MatmulChoices old("machine");
  old.want("a product", trial_of(before));
  old.settle(file);
  EXPECT_EQ(old.find("a product"), kOurs);
  MatmulChoices choices("machine");
  choices.want("a product", trial_of(now));
  EXPECT_EQ(choices.settle(file), 1);
  EXPECT_EQ(choices.find("a product"), kSecond);
  // Nor is it used where there is nothing left to measure.
  Fake single{{{kFirst, 1.0}}};
  MatmulChoices one("machine");
  old.settle(file);
  one.want("a product", trial_of(single));
  EXPECT_EQ(one.settle(file), 0);
  EXPECT_EQ(one.find("a product"), kFirst);
}

TEST(MatmulChoices, FilesOfAnotherKindAreLeftOut) {
  TemporaryDirectory folder;
  const std::string file = folder.file("matmul.json");
  for (const char* text :
       {"", "not json", "{}", R"({"format_version": 2, "machines": {}})",
        R"({"format_version": 1, "machines": {"machine": {"a product": "by hand"}}})",
        R"({"format_version": 1, "machines": {"machine": {"a product": "cublaslt 1x"}}})",
        R"({"format_version": 1, "machines": {"machine": {"a product": "cublaslt -1"}}})",
        R"({"format_version": 1, "machines": {"machine": 7}})"}) {
    write_file(file, text);
    Fake fake{{{kFirst, 1.0}, {kSecond, 0.5}}};
    MatmulChoices choices("machine");
    choices.want("a product", trial_of(fake));
    EXPECT_EQ(choices.settle(file), 1) << text;
    EXPECT_EQ(choices.find("a product"), kSecond);
    EXPECT_NE(read_file(file).find("\"format_version\": 1"), std::string::npos);
  }
  // A place where nothing can be read or written, and none.
  for (const std::string& nowhere : {folder.path(), file + "/below", std::string()}) {
    Fake fake{{{kFirst, 1.0}, {kSecond, 0.5}}};
    MatmulChoices choices("machine");
    choices.want("a product", trial_of(fake));
    EXPECT_EQ(choices.settle(nowhere), 1) << nowhere;
    EXPECT_EQ(choices.find("a product"), kSecond);
  }
}

TEST(MatmulChoices, ATrialThatFailsLeavesTheDefault) {
  TemporaryDirectory folder;
  const std::string file = folder.file("matmul.json");
  Fake fake{{{kFirst, 1.0}, {kSecond, 0.5}}, 0, true};
  MatmulChoices choices("machine");
  choices.want("a product", trial_of(fake));
  EXPECT_EQ(choices.settle(file), 0);
  EXPECT_EQ(choices.find("a product"), kFirst);
  EXPECT_FALSE(std::filesystem::exists(file));
}

// Ranks as threads, each with a machine, products and clocks of its own.
class Ranks {
 public:
  explicit Ranks(int size) : size_(size), texts_(size_t(size)), barrier_(size) {}

  void run(const std::function<void(int rank, const TextExchange& exchange)>& body) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size_; ++rank) {
      threads.emplace_back([&, rank] {
        body(rank, {rank, [&, rank](const std::string& mine) {
                      texts_[size_t(rank)] = mine;
                      barrier_.arrive_and_wait();
                      const std::vector<std::string> all = texts_;
                      barrier_.arrive_and_wait();
                      return all;
                    }});
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  int size_;
  std::vector<std::string> texts_;
  std::barrier<> barrier_;
};

TEST(MatmulChoices, RanksChooseAlike) {
  TemporaryDirectory folder;
  std::vector<MatmulWay> shared(4), own(4);
  std::vector<int64_t> measured(4);
  Ranks(4).run([&](int rank, const TextExchange& exchange) {
    // Every rank would choose another way for the shared product.
    Fake fake{{{kFirst, 1.0}, {kSecond, rank == 1 ? 0.5 : 2.0}, {kThird, rank == 0 ? 0.5 : 2.0}}};
    Fake of_two{{{kFirst, 1.0}, {kSecond, rank == 2 ? 0.5 : 2.0}}};
    MatmulChoices choices(rank == 3 ? "another machine" : "machine");
    choices.want("shared", trial_of(fake));
    if (rank >= 1) choices.want("of the others", trial_of(of_two));
    measured[size_t(rank)] = choices.settle(folder.file(fmt::format("{}.json", rank)), exchange);
    shared[size_t(rank)] = choices.find("shared");
    own[size_t(rank)] = choices.find("of the others");
  });
  EXPECT_EQ(shared, (std::vector<MatmulWay>{kThird, kThird, kThird, kFirst}));
  EXPECT_EQ(own, (std::vector<MatmulWay>{kFirst, kFirst, kFirst, kFirst}));
  EXPECT_EQ(measured, (std::vector<int64_t>{1, 1, 0, 2}));
  EXPECT_TRUE(std::filesystem::exists(folder.file("0.json")));
  EXPECT_FALSE(std::filesystem::exists(folder.file("1.json")));
  // Only the first rank's file counts, on hosts that do not share it.
  Ranks(2).run([&](int rank, const TextExchange& exchange) {
    Fake fake{{{kFirst, 1.0}, {kSecond, 0.5}, {kThird, 0.9}}};
    MatmulChoices choices("machine");
    choices.want("shared", trial_of(fake));
    EXPECT_EQ(choices.settle(folder.file(rank == 0 ? "0.json" : "none.json"), exchange), 0);
    EXPECT_EQ(choices.find("shared"), kThird);
    EXPECT_EQ(fake.calls, 0);
  });
}

TEST(MatmulChoices, FileIsInTheCacheFolder) {
  const auto set = [](const char* name, const char* value) {
    value ? setenv(name, value, 1) : unsetenv(name);
  };
  const char* names[] = {"FORJA_CACHE", "XDG_CACHE_HOME", "HOME"};
  std::vector<std::pair<bool, std::string>> before;
  for (const char* name : names) {
    const char* value = std::getenv(name);
    before.emplace_back(value != nullptr, value ? value : "");
  }
  set("HOME", "/home/a");
  set("XDG_CACHE_HOME", nullptr);
  set("FORJA_CACHE", nullptr);
  EXPECT_EQ(matmul_choices_file(), "/home/a/.cache/forja/matmul.json");
  set("XDG_CACHE_HOME", "/cache");
  EXPECT_EQ(matmul_choices_file(), "/cache/forja/matmul.json");
  set("FORJA_CACHE", "/mine");
  EXPECT_EQ(matmul_choices_file(), "/mine/matmul.json");
  for (const char* name : names) set(name, nullptr);
  EXPECT_EQ(matmul_choices_file(), "");
  for (size_t i = 0; i < before.size(); ++i)
    set(names[i], before[i].first ? before[i].second.c_str() : nullptr);
}

// Code and page say the same of every kernel.
TEST(MatmulEvidence, IsThatOfThePage) {
  const std::string page = read_file(testing::source_dir() + "/docs/gpu-evidence.md");
  std::vector<kernels::MatmulEvidence> rows(std::begin(kernels::kMatmulEvidence),
                                            std::end(kernels::kMatmulEvidence));
  rows.push_back(kernels::kEpilogueEvidence);
  for (const auto& row : rows) {
    const std::string begin = fmt::format("| {} | {} | ", row.kernel, row.path);
    const size_t at = page.find("\n" + begin);
    ASSERT_NE(at, std::string::npos) << "docs/gpu-evidence.md has no row " << begin;
    const std::string_view cell = std::string_view(page).substr(at + 1 + begin.size());
    const bool shown = cell.substr(0, kernels::kShownFaster.size()) == kernels::kShownFaster;
    EXPECT_EQ(row.shown_faster, shown) << begin;
  }
}

}  // namespace
}  // namespace forja
