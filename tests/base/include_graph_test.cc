// SPDX-License-Identifier: Apache-2.0
// A directory may include only what stands to its left in the list of layers.
#include <filesystem>
#include <map>
#include <regex>
#include <set>

#include "forja/base/file.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

// Lower layers first; layers of one row do not see each other.
const std::vector<std::vector<std::string>> kRows = {{"base"},        {"kernels"},
                                                     {"device"},      {"tensor"},
                                                     {"ops", "comm"}, {"parallel"},
                                                     {"nn"},          {"data", "checkpoint"},
                                                     {"train"},       {"plan", "bench", "report"},
                                                     {"cli"}};

std::map<std::string, size_t> row_of_layer() {
  std::map<std::string, size_t> rows;
  for (size_t r = 0; r < kRows.size(); ++r)
    for (const std::string& layer : kRows[r]) rows[layer] = r;
  return rows;
}

bool may_include(const std::string& from, const std::string& to) {
  const auto rows = row_of_layer();
  return from == to || rows.at(to) < rows.at(from);
}

std::vector<fs::path> sources() {
  std::vector<fs::path> out;
  for (const char* root : {"include/forja", "csrc", "kernels"}) {
    for (const auto& item : fs::recursive_directory_iterator(testing::source_dir() + "/" + root)) {
      const std::string extension = item.path().extension();
      for (const char* wanted : {".h", ".cc", ".cu", ".cuh"})
        if (extension == wanted) out.push_back(item.path());
    }
  }
  return out;
}

// "train" of <root>/csrc/train/x.cc and <root>/include/forja/train/x.h, "kernels" of all of it.
std::string layer_of(const fs::path& file) {
  const fs::path relative = fs::relative(file, testing::source_dir());
  auto part = relative.begin();
  if (*part == "kernels") return "kernels";
  std::advance(part, *part == "include" ? 2 : 1);
  return *part;
}

TEST(IncludeGraph, PointsDownward) {
  const auto rows = row_of_layer();
  const std::regex include(R"re(#include "(forja/|csrc/|)([a-z_]+)/)re");
  int checked = 0;
  for (const fs::path& file : sources()) {
    const std::string layer = layer_of(file), text = read_file(file);
    ASSERT_TRUE(rows.count(layer)) << file << " is in no layer";
    for (std::sregex_iterator it(text.begin(), text.end(), include), end; it != end; ++it) {
      const std::string target = (*it)[2];
      ASSERT_TRUE(rows.count(target)) << file << " includes " << target;
      EXPECT_TRUE(may_include(layer, target))
          << file << " (" << layer << ") includes a header of " << target;
      // Another layer's internals are not a contract.
      EXPECT_TRUE((*it)[1] != "csrc/" || layer == target)
          << file << " includes internals of " << target;
      ++checked;
    }
  }
  EXPECT_GT(checked, 100);
}

TEST(IncludeGraph, TheRuleRefusesUpwardAndSideways) {
  EXPECT_TRUE(may_include("train", "nn"));
  EXPECT_FALSE(may_include("nn", "train"));
  EXPECT_FALSE(may_include("ops", "comm"));
  EXPECT_FALSE(may_include("checkpoint", "data"));
}

TEST(Sources, EveryFileBeginsWithItsLicence) {
  for (const fs::path& file : sources()) {
    EXPECT_EQ(read_file(file).rfind("// SPDX-License-Identifier: Apache-2.0\n", 0), 0u) << file;
  }
}

}  // namespace
}  // namespace forja
