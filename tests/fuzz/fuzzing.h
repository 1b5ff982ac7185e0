// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share. A target is a file <reader>_fuzz.cc with an LLVMFuzzerTestOneInput:
// Clang's libFuzzer calls it with inputs of its own (preset fuzz), replay.cc with those of the
// corpus (every other preset). Only Error may come out of a reader: any other exception ends the
// process, as does a property that does not hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "forja/base/error.h"

namespace forja::fuzzing {

// False where `body` throws an Error.
template <class Body>
bool accepts(const Body& body) {
  try {
    body();
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Ends the process, saying what should have been, where it is not.
void require(bool holds, const char* what);

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// A folder in $TMPDIR, which should be in memory, beside which nothing may appear: removed at exit.
class Sandbox {
 public:
  Sandbox();
  ~Sandbox();
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, std::string_view bytes) const;
  // The parts of an input, divided by lines of "@@", become the files `names`, as far as there are
  // parts; the other ones are removed.
  void write_parts(std::string_view input, const std::vector<std::string>& names) const;
  // Nothing is beside the folder, and in it nothing but `names`.
  void require_untouched(const std::vector<std::string>& names) const;

 private:
  std::string root_, path_;
};

}  // namespace forja::fuzzing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
