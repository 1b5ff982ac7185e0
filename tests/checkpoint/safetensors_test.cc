// SPDX-License-Identifier: Apache-2.0
#include "forja/checkpoint/safetensors.h"

#include "forja/checkpoint/hf_model.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

TEST(Safetensors, RoundTrip) {
  testing::TemporaryDirectory folder;
  testing::TensorBox box(1 << 20);
  const Tensor a = box.normal(DType::f32, {3, 5}, 1), b = box.normal(DType::bf16, {7}, 2);
  write_safetensors(folder.file("x"), {{"a", a}, {"b.weight", b}}, {{"format", "pt"}});
  const SafetensorsFile file(folder.file("x"));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(testing::to_doubles(file.tensor("a")), testing::to_doubles(a));
  EXPECT_EQ(testing::to_doubles(file.tensor("b.weight")), testing::to_doubles(b));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensor("a").data) % 8, 0u);
  EXPECT_EQ(testing::error_of([&] { file.tensor("c"); }, ExitCode::bad_input),
            folder.file("x") + ": no tensor named c");
}

TEST(Safetensors, DamagedFilesAreNamed) {
  testing::TemporaryDirectory folder;
  testing::TensorBox box(1 << 20);
  write_safetensors(folder.file("x"), {{"a", box.zeros(DType::f32, {100})}});
  const std::string good = read_file(folder.file("x"));
  const auto fault = [&](const std::string& bytes) {
    write_file(folder.file("y"), bytes);
    return testing::error_of([&] { SafetensorsFile f(folder.file("y")); }, ExitCode::bad_input);
  };
  EXPECT_NE(fault("").find("not a safetensors file"), std::string::npos);
  EXPECT_NE(fault(good.substr(0, 20)).find("not a safetensors file, or a truncated one"),
            std::string::npos);
  EXPECT_NE(fault(good.substr(0, good.size() - 1)).find("tensor a needs 400 bytes"),
            std::string::npos);
  for (const char* shape : {"[-1, -100]", "[4294967296, 4294967296]"}) {
    const std::string header =
        fmt::format(R"({{"a":{{"dtype":"F32","shape":{},"data_offsets":[0,400]}}}})", shape);
    const std::string length = {char(header.size()), 0, 0, 0, 0, 0, 0, 0};
    EXPECT_NE(fault(length + header + std::string(400, 'x')).find("tensor a is of the shape"),
              std::string::npos);
  }
  std::string bad = good;
  bad[9] = '!';
  EXPECT_NE(fault(bad).find("the header of this safetensors file is damaged"), std::string::npos);
  bad = good;
  bad.replace(bad.find("F32"), 3, "F99");
  EXPECT_NE(fault(bad).find("unknown dtype F99"), std::string::npos);
}

TEST(HfModel, MissingAndMisshapenTensors) {
  testing::TemporaryDirectory folder;
  testing::TensorBox box(1 << 20);
  ParameterStore store(DType::f32, StoreUse::inference);
  ParameterSpec spec;
  spec.name = "w";
  spec.shape = {4, 3};
  spec.segments = {{"theirs.a", 2, false}, {"theirs.b", 2, true}};
  store.declare(spec);
  Arena weights("weights", {}, 4096), unused("unused");
  store.allocate_all(weights, unused, unused);
  const auto load = [&] { load_hf_weights(box.context(), folder.path(), store); };
  EXPECT_NE(testing::error_of(load, ExitCode::bad_input).find("neither model.safetensors nor"),
            std::string::npos);
  const Tensor a = box.normal(DType::bf16, {2, 3}, 1), b = box.normal(DType::f32, {3, 2}, 2);
  write_safetensors(folder.file("model.safetensors"), {{"theirs.a", a}});
  EXPECT_NE(
      testing::error_of(load, ExitCode::bad_input).find("the tensor theirs.b (for w) is missing"),
      std::string::npos);
  write_safetensors(folder.file("model.safetensors"), {{"theirs.a", a}, {"theirs.b", a}});
  EXPECT_NE(
      testing::error_of(load, ExitCode::bad_input).find("has shape [2, 3], the model wants [3, 2]"),
      std::string::npos);
  write_safetensors(folder.file("model.safetensors"), {{"theirs.a", a}, {"theirs.b", b}});
  load();
  const Tensor w = store.find("w")->weight;
  EXPECT_EQ(testing::to_doubles(w.slice(0, 0, 2)), testing::to_doubles(a));
  EXPECT_EQ(testing::to_doubles(w.slice(0, 2, 4)), testing::to_doubles(b.transposed()));
}

// Several files behind an index.
TEST(HfModel, ShardedDirectory) {
  testing::TemporaryDirectory folder;
  testing::TensorBox box(1 << 20);
  const Tensor a = box.normal(DType::f32, {2}, 1), b = box.normal(DType::f32, {2}, 2);
  write_safetensors(folder.file("model-00001-of-00002.safetensors"), {{"a", a}});
  write_safetensors(folder.file("model-00002-of-00002.safetensors"), {{"b", b}});
  write_file(
      folder.file("model.safetensors.index.json"),
      R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  const HfTensors tensors(folder.path());
  EXPECT_EQ(tensors.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(testing::to_doubles(tensors.tensor("b")), testing::to_doubles(b));
}

}  // namespace
}  // namespace forja
