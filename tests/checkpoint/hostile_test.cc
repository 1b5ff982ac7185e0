// SPDX-License-Identifier: Apache-2.0
// Checkpoints and model directories that are made to reach out of their folder: nothing that reads
// them opens what lies outside, and nothing is written anywhere.
#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/convert.h"
#include "forja/checkpoint/hf_model.h"
#include "tests/checkpoint/small_checkpoint.h"

namespace forja {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::json;

class HostileTest : public ::testing::Test {
 protected:
  HostileTest() {
    const auto self = make_self_communicator();
    SmallStore small;
    save_small(small, folder_.file("checkpoints"), 1, *self);
    fs::remove(folder_.file("checkpoints/latest"));
    // What would be read well, were it read.
    fs::copy(path_, folder_.file("outside"));
  }

  // Every file below the test's folder with its contents, or what it points to.
  std::map<std::string, std::string> everything() {
    std::map<std::string, std::string> out;
    for (const auto& item : fs::recursive_directory_iterator(folder_.path())) {
      const std::string name = item.path();
      out[name] = item.is_symlink()        ? fs::read_symlink(name).string()
                  : item.is_regular_file() ? read_file(name)
                                           : "";
    }
    return out;
  }

  // Everything that reads the checkpoint refuses it with these words, and changes nothing.
  void refuse(const std::string& words) {
    const auto before = everything();
    SmallStore small;
    for (const auto& read : std::vector<std::function<void()>>{
             [&] { describe_checkpoint(path_, false); }, [&] { describe_checkpoint(path_, true); },
             [&] {
               load_checkpoint(small.context(), path_, small.store(), CheckpointUse::training);
             },
             [&] {
               CheckpointWeights(path_).read("qkv", {16, 6});
             }}) {
      const std::string message = testing::error_of(read, ExitCode::bad_input);
      EXPECT_NE(message.find(words), std::string::npos) << message;
    }
    EXPECT_EQ(everything(), before);
  }

  void link(const std::string& name, const std::string& target) {
    fs::remove(path_ + "/" + name);
    fs::create_symlink(target, path_ + "/" + name);
  }

  testing::TemporaryDirectory folder_;
  const std::string path_ = folder_.file("checkpoints/step-00000001");
  const std::string shard_ = "shard-00000.safetensors";
};

TEST_F(HostileTest, ShardsOutside) {
  Json json = Json::parse(read_file(path_ + "/manifest.json"));
  for (const std::string& name :
       {"../../outside/" + shard_, folder_.file("outside/" + shard_), std::string("..")}) {
    json["shards"][0]["file"] = name;
    write_file(path_ + "/manifest.json", json.dump());
    refuse("names no file of this folder");
  }
}

TEST_F(HostileTest, LinksToTheOutside) {
  const std::string manifest = read_file(path_ + "/manifest.json");
  for (const std::string& to : {std::string("../../outside/"), folder_.file("outside/")}) {
    link(shard_, to + shard_);
    refuse("is a symbolic link");
    link("manifest.json", to + "manifest.json");
    refuse("manifest.json is a symbolic link");
    fs::remove(path_ + "/manifest.json");
    write_file(path_ + "/manifest.json", manifest);
    link("config.yaml", to + "config.yaml");
    EXPECT_NE(testing::error_of([&] { checkpoint_config(path_); }, ExitCode::bad_input)
                  .find("config.yaml is a symbolic link"),
              std::string::npos);
  }
  // The folder itself may be one: "latest" is.
  fs::remove(path_ + "/" + shard_);
  fs::copy(folder_.file("outside/" + shard_), path_ + "/" + shard_);
  fs::create_directory_symlink(path_, folder_.file("latest"));
  EXPECT_NE(describe_checkpoint(folder_.file("latest"), true).find("every checksum is right"),
            std::string::npos);
}

// A pipe would wait for ever.
TEST_F(HostileTest, PipesInsteadOfFiles) {
  fs::remove(path_ + "/manifest.json");
  ASSERT_EQ(::mkfifo((path_ + "/manifest.json").c_str(), 0600), 0);
  refuse("is not a regular file");
}

// Weights as large as a manifest says are not made before the files have been seen to be so.
TEST_F(HostileTest, SizesThatNoFileHas) {
  Json json = Json::parse(read_file(path_ + "/manifest.json"));
  constexpr int64_t kRows = int64_t(1) << 24;
  for (Json& t : json["shards"][0]["tensors"]) {
    t["shape"] = {kRows, kRows};
    t["xxh3"] = t["xxh3"][0];  // as before format 3: of all of it
  }
  write_file(path_ + "/manifest.json", json.dump());
  const auto read = [&] { CheckpointWeights(path_).read("qkv", {kRows, kRows}); };
  EXPECT_NE(testing::error_of(read, ExitCode::bad_input).find("its manifest says"),
            std::string::npos);
}

TEST_F(HostileTest, IndexesThatNameOtherFiles) {
  const std::string model = folder_.file("model");
  fs::create_directory(model);
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  for (const std::string& file :
       {"\"../outside/" + shard_ + "\"", "\"" + folder_.file("outside/" + shard_) + "\"",
        std::string("\"..\""), std::string("\".\""), std::string("\"\""), std::string("7"),
        std::string("null"), std::string(R"("model\u0000")"), "\"" + std::string(300, 'x') + "\"",
        deep}) {
    write_file(model + "/model.safetensors.index.json",
               "{\"weight_map\": {\"model/qkv\": " + file + "}}");
    const auto before = everything();
    const std::string message =
        testing::error_of([&] { HfTensors tensors(model); }, ExitCode::bad_input);
    EXPECT_NE(message.find("model.safetensors.index.json"), std::string::npos) << message;
    EXPECT_LT(message.size(), 1000u);
    EXPECT_EQ(everything(), before);
  }
}

}  // namespace
}  // namespace forja
