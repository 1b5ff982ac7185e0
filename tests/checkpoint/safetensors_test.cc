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
  EXPECT_NE(fault(good.substr(0, good.size() - 1)).find("tensor \"a\": expected 400 bytes"),
            std::string::npos);
  for (const char* shape : {"[-1, -100]", "[4294967296, 4294967296]"}) {
    const std::string header =
        fmt::format(R"({{"a":{{"dtype":"F32","shape":{},"data_offsets":[0,400]}}}})", shape);
    const std::string length = {char(header.size()), 0, 0, 0, 0, 0, 0, 0};
    EXPECT_NE(fault(length + header + std::string(400, 'x')).find("tensor \"a\": a size is"),
              std::string::npos);
  }
  std::string bad = good;
  bad[9] = '!';
  EXPECT_NE(fault(bad).find("damaged: not JSON"), std::string::npos);
  bad = good;
  bad.replace(bad.find("F32"), 3, "F99");
  EXPECT_NE(fault(bad).find("unknown dtype \"F99\""), std::string::npos);
}

// Headers that the parser takes, and that are of no file.
TEST(Safetensors, HostileHeaders) {
  testing::TemporaryDirectory folder;
  const auto fault = [&](const std::string& header) {
    const uint64_t bytes = header.size();
    write_file(folder.file("x"), std::string(reinterpret_cast<const char*>(&bytes), 8) + header +
                                     std::string(400, 'x'));
    return testing::error_of([&] { SafetensorsFile f(folder.file("x")); }, ExitCode::bad_input);
  };
  const auto tensor = [](const char* shape, const char* offsets) {
    return fmt::format(R"({{"dtype":"U8","shape":{},"data_offsets":{}}})", shape, offsets);
  };
  const auto expect = [&](const std::string& header, const std::string& words) {
    const std::string message = fault(header);
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  expect("[]", "expected an object of tensors");
  expect("null", "expected an object of tensors");
  expect(std::string(1000, '['), "nested deeper");
  expect("{\"a\":" + tensor("[1]", "[0,1]") + ",\"a\":" + tensor("[2]", "[1,3]") + "}",
         "the key \"a\" is there twice");
  expect("{\"a\":" + tensor("[9]", "[0,9]") + ",\"b\":" + tensor("[9]", "[8,17]") + "}",
         "tensors \"a\" and \"b\" have bytes in common");
  // Offsets whose difference overflows, numbers that are no integers, sizes that hide behind a 0.
  expect("{\"a\":" + tensor("[1]", "[9223372036854775807,-9223372036854775808]") + "}",
         "where it begins is");
  expect("{\"a\":" + tensor("[1]", "[1,-9223372036854775808]") + "}", "where it ends is");
  expect("{\"a\":" + tensor("[1e300]", "[0,1]") + "}", "a size is 1e+300");
  expect("{\"a\":" + tensor("[true]", "[0,1]") + "}", "a size is true");
  expect("{\"a\":" + tensor("[0,4611686018427387904,4]", "[0,0]") + "}", "a size is");
}

// A file may begin its data anywhere.
TEST(Safetensors, ElementsNeedNoAlignment) {
  testing::TemporaryDirectory folder;
  const std::string header = R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[1,5]}})";
  const uint64_t bytes = header.size();
  const uint16_t values[] = {0x3F80, 0xC000};  // 1, -2
  write_file(folder.file("x"), std::string(reinterpret_cast<const char*>(&bytes), 8) + header +
                                   "?" + std::string(reinterpret_cast<const char*>(values), 4));
  const SafetensorsFile file(folder.file("x"));
  float read[2];
  read_as_float(file.tensor("a"), read);
  EXPECT_EQ(read[0], 1.0f);
  EXPECT_EQ(read[1], -2.0f);
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
