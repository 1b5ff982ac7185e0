// SPDX-License-Identifier: Apache-2.0
// Training on samples: packed as unpacked, one layout as another, from a file that the run names.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "forja/base/philox.h"
#include "forja/data/dataset_writer.h"
#include "tests/testing/testing.h"
#include "tests/train/run_layout.h"
#include "tests/train/trainer_testing.h"

namespace forja {
namespace {

namespace fs = std::filesystem;
using testing::error_of;

constexpr int64_t kVocabulary = 97;

// ---- Packed as unpacked

class PackedTest : public ::testing::Test {
 protected:
  PackedTest() {
    const std::string path = testing::write_small_tokenizer(folder_.file("tokenizer.json"));
    const auto tokenizer = load_tokenizer(path);
    DatasetWriterOptions options;
    options.kind = DatasetKind::samples;
    DatasetWriter writer(folder_.file("data"), *tokenizer, path, 5, options);
    for (uint64_t sample = 0; sample < 24; ++sample) {
      const uint64_t length = 2 + mix_key(1, sample) % 20;
      std::vector<int32_t> ids;
      std::vector<uint8_t> learned;
      for (uint64_t i = 0; i < length; ++i) {
        ids.push_back(int32_t(mix_key(mix_key(2, sample), i) % kVocabulary));
        learned.push_back(i > 0 && (i + 1 == length || mix_key(mix_key(3, sample), i) % 2));
      }
      writer.add_sample(ids.data(), learned.data(), int64_t(length), 0);
    }
    writer.commit();
  }

  SampleStream stream(const std::string& packing) const {
    SamplesConfig samples;
    samples.packing = packing;
    return SampleStream({{folder_.file("data"), 1.0}}, kLength, 1, SampleOrder::sequential,
                        samples);
  }

  // Calls body with an engine of a row a micro-batch.
  void with_engine(int64_t rows, const std::function<void(TrainEngine&)>& body) const {
    Layout layout;
    layout.layers = 2;
    layout.batch = rows;
    layout.length = kLength;
    EngineConfig config = config_of(layout);
    config.document_mask = true;
    testing::run_world(1, [&](World& world) {
      omp_set_num_threads(1);
      const ParallelDims dims = ParallelDims::from(config.parallel, 1);
      Mesh mesh = make_mesh(world.communicator(), dims, mesh_options(config));
      const MemoryPlan plan = TrainEngine::plan(config, dims, 0);
      TrainEngine engine(config, mesh, &plan);
      engine.store().initialize(engine.context(), config.seed);
      engine.weights_changed();
      body(engine);
      // Planned is room for as many pieces as there are positions.
      EXPECT_LE(engine.memory_used().total(), plan.total());
    });
  }

  // The log-probability of each sample, by its index: one at a time is learned, beside the others
  // of its row.
  std::vector<double> losses_of_samples(const SampleStream& from) const {
    std::vector<double> out(size_t(from.dataset(0).num_documents()));
    with_engine(1, [&](TrainEngine& engine) {
      for (int64_t r = 0; r < from.rows(0)->num_rows(); ++r) {
        const std::vector<int64_t> samples = from.rows(0)->samples_of_row(r);
        for (size_t k = 0; k < samples.size(); ++k) {
          const auto sums = engine.evaluate(1, [&](int64_t, const MicroBatch& b) {
            const Tensor pieces = fill_micro_batch(from, r, 1, b);
            const int32_t* piece = pieces.ptr<int32_t>() + 4 * k;
            for (int32_t t = 0; t < kLength; ++t)
              if (t < piece[0] || t >= piece[0] + piece[1])
                b.targets.ptr<int32_t>()[t] = kNotLearned;
            return pieces;
          });
          EXPECT_GT(sums.num_targets, 0);
          out[size_t(samples[k])] = sums.sum_log_probability;
        }
      }
    });
    return out;
  }

  struct Outcome {
    StepResult step;
    std::map<std::string, std::vector<float>> weights;
  };
  Outcome step_over(const SampleStream& from) const {
    Outcome out;
    const int64_t rows = from.rows(0)->num_rows();
    with_engine(rows, [&](TrainEngine& engine) {
      out.step = engine.step(
          1, 1e-3, rows,
          [&](int64_t m, const MicroBatch& b) { return fill_micro_batch(from, m, 1, b); },
          [&](int64_t m) { return m * kLength; });
      std::mutex mutex;
      collect(engine, mutex, out.weights);
    });
    return out;
  }

  static constexpr int64_t kLength = 32;
  testing::TemporaryDirectory folder_;
};

TEST_F(PackedTest, SamplesHaveTheSameLosses) {
  const SampleStream packed = stream("best_fit"), unpacked = stream("none");
  ASSERT_LT(packed.rows(0)->num_rows(), unpacked.rows(0)->num_rows() / 2);
  const std::vector<double> a = losses_of_samples(packed), b = losses_of_samples(unpacked);
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_LT(a[i], 0.0);
    // Sums of up to 20 fp32 numbers, by kernels that block rows otherwise.
    EXPECT_NEAR(a[i], b[i], 1e-5 * std::fabs(b[i])) << "sample " << i;
  }
}

TEST_F(PackedTest, AStepIsTheSame) {
  const Outcome packed = step_over(stream("best_fit")), unpacked = step_over(stream("none"));
  EXPECT_EQ(packed.step.num_targets, unpacked.step.num_targets);
  EXPECT_EQ(packed.step.num_tokens, unpacked.step.num_tokens);
  EXPECT_EQ(packed.step.num_tokens, Dataset(folder_.file("data")).num_tokens() - 24);
  EXPECT_NEAR(packed.step.loss, unpacked.step.loss, 1e-6 * unpacked.step.loss);
  EXPECT_NEAR(packed.step.gradient_norm, unpacked.step.gradient_norm,
              1e-5 * unpacked.step.gradient_norm);
  // AdamW's first update is lr times the sign of a gradient, where that is not tiny.
  for (const auto& [name, weights] : packed.weights) {
    double difference = 0.0, size = 0.0;
    const std::vector<float>& other = unpacked.weights.at(name);
    for (size_t i = 0; i < weights.size(); ++i) {
      difference += std::pow(double(weights[i]) - double(other[i]), 2);
      size += std::pow(double(other[i]), 2);
    }
    EXPECT_LT(std::sqrt(difference), 1e-4 * std::sqrt(size)) << name;
  }
  // Model FLOPs are of tokens and the pairs that attend, whatever the padding.
  EXPECT_DOUBLE_EQ(packed.step.flops.attended, unpacked.step.flops.attended);
}

TEST_F(PackedTest, ABatchWithoutTargetsChangesNothingByItsGradient) {
  const SampleStream from = stream("best_fit");
  with_engine(1, [&](TrainEngine& engine) {
    const StepResult result = engine.step(
        1, 1e-3, 1,
        [&](int64_t, const MicroBatch& b) {
          // Past the last row there is padding only.
          return fill_micro_batch(from, from.rows(0)->num_rows(), 1, b);
        },
        [](int64_t) { return 0; });
    EXPECT_EQ(result.num_targets, 0);
    EXPECT_EQ(result.num_tokens, 0);
    EXPECT_EQ(result.loss, 0.0);
    EXPECT_EQ(result.gradient_norm, 0.0);
    EXPECT_EQ(result.flops.attended, 0.0);
  });
}

// ---- Runs

class SampleRunTest : public TrainerTest {
 protected:
  SampleRunTest() {
    std::string text;
    for (uint64_t i = 0; i < 120; ++i) {
      std::string answer;
      for (uint64_t k = 0; k <= mix_key(7, i) % 4; ++k) answer += " the quick fox";
      text += fmt::format("{{\"q\": \"kiwi {}\", \"a\": \"{}\"}}\n", i, answer);
    }
    write_file(folder_.file("samples.jsonl"), text);
    write_file(folder_.file("few.jsonl"), text.substr(0, text.find('\n') + 1));
  }

  RunConfig run_of(const std::string& name, std::vector<std::string> overrides = {}) {
    std::vector<std::string> all = {"data.train=" + folder_.file("samples.jsonl"),
                                    "data.valid=" + folder_.file("few.jsonl"),
                                    "data.samples.prompt_field=q",
                                    "data.samples.completion_field=a",
                                    "data.samples.prompt=plain",
                                    "data.sequence_length=64",
                                    "train.micro_batch_size=1",
                                    "train.steps=4"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return config(name, all);
  }
  std::string refusal(const RunConfig& config, int ranks = 2) {
    return error_of([&] { run(ranks, config); }, ExitCode::bad_input);
  }
  fs::path dataset_of(const std::string& name) {
    for (const auto& item : fs::directory_iterator(folder_.file(name) + "/data"))
      if (item.path().filename().string().rfind("samples-", 0) == 0) return item.path();
    return {};
  }
};

TEST_F(SampleRunTest, EveryLayoutHasTheSameLosses) {
  run(1, run_of("one"));
  const std::vector<double> expected = losses("one");
  ASSERT_EQ(expected.size(), 4u);
  EXPECT_LT(expected.back(), expected.front());
  const struct {
    const char* name;
    int ranks;
    std::vector<std::string> overrides;
  } layouts[] = {{"dp2", 2, {}},
                 {"dp4", 4, {"parallel.zero=3"}},
                 {"pp2", 2, {"parallel.pp=2"}},
                 {"tp2", 2, {"parallel.tp=2"}},
                 {"micro", 1, {"train.micro_batch_size=4"}}};
  for (const auto& layout : layouts) {
    run(layout.ranks, run_of(layout.name, layout.overrides));
    const std::vector<double> found = losses(layout.name);
    ASSERT_EQ(found.size(), expected.size()) << layout.name;
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i], expected[i], 1e-5 * expected[i]) << layout.name << ", step " << i + 1;
    // A validation set of one row: the others of a round are padding, and count nothing.
    EXPECT_NEAR(metrics(layout.name).back()["eval"]["valid"]["loss"],
                double(metrics("one").back()["eval"]["valid"]["loss"]), 1e-5);
    EXPECT_EQ(metrics(layout.name).back()["eval"]["valid"]["tokens"],
              metrics("one").back()["eval"]["valid"]["tokens"]);
  }
}

TEST_F(SampleRunTest, PaddingIsNoToken) {
  run(1, run_of("none", {"data.samples.packing=none", "train.steps=15"}));
  const Dataset dataset(dataset_of("none").string());
  // 15 steps of 8 rows are all samples once; the last token of each is a target only.
  EXPECT_EQ(metrics("none").back()["step"], 15);
  std::vector<nlohmann::json> lines = metrics("none");
  std::erase_if(lines, [](const auto& line) { return !line.contains("loss"); });
  EXPECT_EQ(lines.back()["tokens"], dataset.num_tokens() - dataset.num_documents());
}

TEST_F(SampleRunTest, TheDatasetIsMadeOnce) {
  run(2, run_of("twice"));
  const fs::path made = dataset_of("twice");
  ASSERT_FALSE(made.empty());
  const auto time = fs::last_write_time(made / "manifest.json");
  run(2, run_of("twice", {"train.steps=6"}));
  EXPECT_EQ(fs::last_write_time(made / "manifest.json"), time);
  EXPECT_EQ(losses("twice").size(), 6u);
  // One that is damaged is made again.
  fs::resize_file(made / "manifest.json", 10);
  run(1, run_of("twice", {"train.steps=7"}));
  EXPECT_EQ(dataset_of("twice"), made);
}

TEST_F(SampleRunTest, FaultyFilesEndTheRunOnEveryRank) {
  const std::string good = read_file(folder_.file("samples.jsonl"));
  write_file(folder_.file("samples.jsonl"), good + "{\"q\": \n" + good);
  const std::string message = refusal(run_of("bad"));
  EXPECT_NE(message.find("samples.jsonl:121: not JSON"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(folder_.file("bad") + "/data") && !dataset_of("bad").empty());
  run(2, run_of("skips", {"data.samples.skip_malformed=true"}));
  EXPECT_EQ(Dataset(dataset_of("skips").string()).num_documents(), 240);
  write_file(folder_.file("samples.jsonl"), good);
  const std::string none =
      refusal(run_of("short", {"data.sequence_length=4", "data.samples.too_long=drop"}));
  EXPECT_NE(none.find("no sample of"), std::string::npos) << none;
  fs::remove(folder_.file("samples.jsonl"));
  EXPECT_NE(refusal(run_of("gone")).find("there is no file"), std::string::npos);
}

TEST_F(SampleRunTest, ADirectoryThatIsNoRunIsLeftAlone) {
  EXPECT_NE(refusal(run_of("x", {"output=" + folder_.file("data")}), 1).find("manifest.json"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(folder_.file("data") + "/data"));
}

TEST_F(SampleRunTest, PreferencePairsAreNotTrainedOn) {
  write_file(folder_.file("samples.jsonl"),
             "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n");
  const RunConfig pairs =
      run_of("pairs", {"data.valid=[]", "data.samples.format=preference",
                       "data.samples.prompt_field=", "data.samples.completion_field="});
  const std::string message = refusal(pairs, 1);
  EXPECT_NE(message.find("holds preference pairs"), std::string::npos) << message;
}

}  // namespace
}  // namespace forja
