// SPDX-License-Identifier: Apache-2.0
// Manifests and headers that are damaged, or made to do harm, are refused by name.
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "forja/checkpoint/safetensors.h"
#include "tests/checkpoint/small_checkpoint.h"
#include "tests/testing/local_world.h"

namespace forja {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kHuge = int64_t(1) << 62;

class ManifestTest : public ::testing::Test {
 protected:
  // Two ranks: each has a part of "qkv".
  ManifestTest() {
    testing::run_world(2, [&](World& world) {
      SmallStore small({.zero = 1, .shard_rank = world.rank(), .num_shards = 2});
      small.fill(0.0f);
      save_small(small, folder_.path(), 1, world.communicator());
    });
    good_ = read_file(path_ + "/manifest.json");
  }

  std::string load_error() {
    SmallStore small;
    return testing::error_of(
        [&] { load_checkpoint(small.context(), path_, small.store(), CheckpointUse::training); },
        ExitCode::bad_input);
  }

  // The manifest as it is after `change` is refused with these words and its name, by everything
  // that reads it.
  void refuse(const std::string& words, const std::function<void(Json&)>& change) {
    SCOPED_TRACE(words);
    Json json = Json::parse(good_);
    change(json);
    refuse_text(words, json.dump());
  }
  void refuse_text(const std::string& words, const std::string& text) {
    write_file(path_ + "/manifest.json", text);
    const std::string message = load_error();
    EXPECT_NE(message.find(words), std::string::npos) << message;
    EXPECT_NE(message.find("manifest.json"), std::string::npos) << message;
    EXPECT_LT(message.size(), 1000u);
    EXPECT_EQ(testing::error_of([&] { describe_checkpoint(path_, false); }, ExitCode::bad_input),
              message);
    EXPECT_EQ(testing::error_of([&] { read_checkpoint_state(path_); }, ExitCode::bad_input),
              message);
  }

  // A tensor of a shard that is a part of a parameter.
  static Json& part(Json& json, size_t shard = 0) {
    for (Json& t : json["shards"][shard]["tensors"])
      if (t.contains("part_of")) return t;
    throw std::logic_error("no part");
  }

  testing::TemporaryDirectory folder_;
  const std::string path_ = folder_.path() + "/step-00000001";
  std::string good_;
};

TEST_F(ManifestTest, IsNoManifest) {
  refuse_text("is damaged or not of a forja checkpoint", "");
  refuse_text("is damaged or not of a forja checkpoint", "[1, 2]");
  refuse_text("is damaged or not of a forja checkpoint", good_.substr(0, good_.size() / 2));
  refuse_text("is damaged or not of a forja checkpoint", std::string(1 << 20, '['));
  refuse("is damaged or not of a forja checkpoint", [](Json& j) { j["format"] = 3; });
  for (const char* key : {"format_version", "state", "shards"})
    refuse(fmt::format("key '{}' not found", key), [&](Json& j) { j.erase(key); });
  refuse("format_version is object", [](Json& j) { j["format_version"] = Json::object(); });
  refuse("format_version is 0", [](Json& j) { j["format_version"] = 0; });
}

TEST_F(ManifestTest, RepeatedKeys) {
  std::string twice = good_;
  twice.insert(twice.find("\"step\""), "\"step\": 7, ");
  refuse_text("the key \"step\" is there twice", twice);
}

TEST_F(ManifestTest, VersionsAreReadUpToTheOwn) {
  Json json = Json::parse(good_);
  EXPECT_EQ(json["format_version"], 3);
  write_file(path_ + "/manifest.json", json.dump());
  EXPECT_EQ(read_checkpoint_state(path_).step, 1);
  refuse("has checkpoint format 4, this binary reads up to 3: use a newer forja",
         [](Json& j) { j["format_version"] = 4; });
}

// Of version 1 each tensor is whole, and says nothing of parts. Before version 3 a checksum is of
// all of a tensor.
TEST_F(ManifestTest, VersionOneLoads) {
  SmallStore small;
  small.fill(3.0f);
  const auto self = make_self_communicator();
  save_small(small, folder_.path(), 1, *self);
  Json json = Json::parse(read_file(path_ + "/manifest.json"));
  EXPECT_EQ(json.dump().find("part_of"), std::string::npos);
  json["format_version"] = 1;
  for (Json& shard : json["shards"])
    for (Json& tensor : shard["tensors"]) tensor["xxh3"] = tensor["xxh3"].at(0);
  write_file(path_ + "/manifest.json", json.dump());
  small.fill(0.0f);
  load_checkpoint(small.context(), path_, small.store(), CheckpointUse::training);
  small.expect_filled(3.0f);
}

TEST_F(ManifestTest, WrongTypes) {
  refuse("step is -1", [](Json& j) { j["state"]["step"] = -1; });
  refuse("step is 1.5", [](Json& j) { j["state"]["step"] = 1.5; });
  refuse("samples is 18446744073709551615", [](Json& j) { j["state"]["samples"] = UINT64_MAX; });
  refuse("seed is -3", [](Json& j) { j["state"]["seed"] = -3; });
  refuse("seed is \"x\"", [](Json& j) { j["state"]["seed"] = "x"; });
  const auto spikes = [](const char* key, Json value) {
    return [=](Json& j) {
      j["state"]["spikes"] = {{"losses", {1.5}}, {"gradient_norms", {2}}, {"began", 0},
                              {"rollbacks", 0},  {"rolled_back_from", 0}, {"rolled_back_to", 0}};
      j["state"]["spikes"][key] = value;
    };
  };
  refuse("losses is 3", spikes("losses", 3));
  refuse("gradient_norms has null", spikes("gradient_norms", {1.0, nullptr}));
  refuse("began is -1", spikes("began", -1));
  refuse("rollbacks is 0.5", spikes("rollbacks", 0.5));
  refuse("shards is object", [](Json& j) { j["shards"] = Json::object(); });
  refuse("shards is array", [](Json& j) { j["shards"] = Json::array(); });
  refuse("is damaged", [](Json& j) { j["shards"][0] = 3; });
  refuse("is damaged", [](Json& j) { j["shards"][0]["tensors"][0] = "qkv"; });
  refuse("is damaged", [](Json& j) { part(j)["name"] = 1; });
  refuse("xxh3 is null", [](Json& j) { part(j)["xxh3"] = nullptr; });
  refuse("xxh3 is array, expected a list of 1..1", [](Json& j) { part(j)["xxh3"] = {"0", "1"}; });
  refuse("is damaged", [](Json& j) { part(j)["xxh3"] = {7}; });
  refuse("is damaged", [](Json& j) { part(j)["part_of"] = 7; });
  refuse("neither fp32 nor bf16", [](Json& j) { part(j)["dtype"] = "fp64"; });
  refuse("a shape is", [](Json& j) { part(j)["shape"] = "all"; });
  refuse("a shape is array", [](Json& j) { part(j)["shape"] = {2, 2, 2}; });
}

TEST_F(ManifestTest, WrongSizes) {
  refuse("a number of bytes is -5", [](Json& j) { j["shards"][0]["bytes"] = -5; });
  for (const int64_t size : {int64_t(-1), int64_t(0), kHuge}) {
    refuse(fmt::format("a size is {}", size), [&](Json& j) { part(j)["shape"] = {size}; });
    refuse(fmt::format("a size is {}", size), [&](Json& j) {
      part(j)["part_of"]["shape"] = {size, 6};
    });
  }
  const int64_t large = int64_t(1) << 30;
  refuse("elements are too many", [&](Json& j) { part(j)["part_of"]["shape"] = {large, large}; });
  refuse("elements are stored of a range", [&](Json& j) { part(j)["shape"] = {large}; });
}

TEST_F(ManifestTest, WrongRanges) {
  const auto change = [](const char* key, size_t i, int64_t value) {
    return [=](Json& j) { part(j)["part_of"][key][i] = value; };
  };
  refuse("where a range begins is -1", change("range", 0, -1));
  refuse("where a range ends is", change("range", 1, kHuge));
  refuse("where a range ends is 0", change("range", 1, 0));
  refuse("a first column is 6", change("columns", 0, 6));
  refuse("a number of columns is 7", change("columns", 1, 7));
  refuse("a number of columns is 0", change("columns", 1, 0));
  const auto rows = [](Json value) { return [=](Json& j) { part(j)["part_of"]["rows"] = value; }; };
  refuse("rows is array", rows(Json::array()));
  refuse("a range of rows is array", rows({{0, 0}}));
  refuse("a row is 16", rows({{0, 16, 1}}));
  refuse("row 16 of 16 is not there", rows({{0, 1, 16}}));
  refuse("a number of rows is", rows({{0, 0, kHuge}}));
  refuse("a row is 2", rows({{0, 0, 8}, {8, 2, 4}, {12, 12, 4}}));
  refuse("a row of the block is 7", rows({{0, 0, 8}, {7, 8, 8}}));
  refuse("elements lie in no row", rows({{1, 1, 15}}));
}

TEST_F(ManifestTest, FilesOutsideOfTheFolder) {
  for (const std::string name : {"../shard", "/etc/passwd", "a/b", "..", ".", "", "a\\b"}) {
    refuse("names no file of this folder", [&](Json& j) { j["shards"][0]["file"] = name; });
  }
  refuse("names no file of this folder",
         [&](Json& j) { j["shards"][0]["file"] = std::string("a\0b", 3); });
  refuse("is there twice", [](Json& j) { j["shards"][1] = j["shards"][0]; });
}

TEST_F(ManifestTest, PartsThatOverlapOrAreMissing) {
  refuse(" twice", [](Json& j) { j["shards"][0]["tensors"].push_back(part(j)); });
  refuse("overlap in row", [](Json& j) {
    Json& other = part(j, 1);
    const std::string name = other["name"];
    for (const Json& t : j["shards"][0]["tensors"])
      if (t["name"] == name) other = t;
  });
  refuse("overlap in row", [](Json& j) {
    Json whole = part(j);  // beside its parts
    whole["shape"] = whole["part_of"]["shape"];
    whole.erase("part_of");
    j["shards"].push_back({{"file", "more"}, {"bytes", 1}, {"tensors", {whole}}});
  });
  refuse("elements of", [](Json& j) { part(j, 1)["name"] = "model/other"; });
  refuse("of different shapes", [](Json& j) { part(j)["part_of"]["shape"][0] = 17; });
}

// The manifest is right, what it speaks of is not.
TEST_F(ManifestTest, ShardsThatAreNotWhatItSays) {
  const std::string shard = path_ + "/shard-00000.safetensors";
  const std::string bytes = read_file(shard);
  const auto replace = [&](const std::string& from, const std::string& to) {
    std::string changed = bytes;
    const size_t at = changed.find(from);
    ASSERT_NE(at, std::string::npos);
    changed.replace(at, from.size(), to);
    write_file(shard, changed);
  };
  replace("\"model/qkv\"", "\"model/qkw\"");
  EXPECT_NE(load_error().find("shard-00000.safetensors: no tensor named model/qkv"),
            std::string::npos);
  replace("\"dtype\":\"F32\"", "\"dtype\":\"I32\"");
  EXPECT_NE(load_error().find("elements of int32, its manifest says"), std::string::npos);
  fs::remove(shard);
  fs::create_directory(shard);
  EXPECT_NE(load_error().find("is missing or truncated"), std::string::npos);
}

TEST(SafetensorsHeader, SizesThatOverflow) {
  testing::TemporaryDirectory folder;
  const std::string path = folder.file("x.safetensors");
  for (const char* shape : {"[4611686018427387904, 4]", "[-1, -1]", "[2147483648, 8589934592]",
                            "[4294967296, 4294967296]"}) {
    std::string header =
        fmt::format(R"({{"x": {{"dtype": "F32", "shape": {}, "data_offsets": [0, 0]}}}})", shape);
    const uint64_t size = header.size();
    header.insert(0, reinterpret_cast<const char*>(&size), 8);
    write_file(path, header);
    EXPECT_NE(
        testing::error_of([&] { SafetensorsFile file(path); }, ExitCode::bad_input).find("damaged"),
        std::string::npos)
        << shape;
  }
}

}  // namespace
}  // namespace forja
