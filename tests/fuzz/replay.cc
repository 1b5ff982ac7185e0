// SPDX-License-Identifier: Apache-2.0
// A fuzz target without libFuzzer: runs every file of a corpus through it once.
//   <reader>_fuzz CORPUS_FOLDER
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "forja/base/file.h"
#include "tests/fuzz/fuzzing.h"

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  std::vector<std::string> inputs;
  std::error_code missing;
  for (const auto& item : fs::directory_iterator(argc == 2 ? argv[1] : "", missing))
    inputs.push_back(item.path());
  if (missing || inputs.empty()) {
    std::fprintf(stderr, "expected a folder with inputs, found %s\n",
                 argc == 2 ? argv[1] : "no argument");
    return 1;
  }
  std::sort(inputs.begin(), inputs.end());
  for (const std::string& path : inputs) {
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);  // the last name is that of the input that fails
    const std::string bytes = forja::read_file(path);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  return 0;
}
