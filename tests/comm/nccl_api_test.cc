// SPDX-License-Identifier: Apache-2.0
// Our declarations of NCCL beside its own header and library, where they are installed.
#include "csrc/comm/nccl/nccl_api.h"

#include <gtest/gtest.h>

#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

namespace forja::nccl {
namespace {

TEST(NcclApi, VersionsAsText) { EXPECT_EQ(version_text(21803), "2.18.3"); }

TEST(NcclApi, TheLibraryLoadsOrSaysWhyNot) {
  const Library& found = library();
  if (!found.api) {
    EXPECT_FALSE(found.problem.empty());
    GTEST_SKIP() << found.problem;
  }
  int version = 0;
  EXPECT_EQ(found.api->get_version(&version), Result::success);
  EXPECT_GE(version, kOldestVersion);
  EXPECT_STREQ(found.api->get_error_string(Result::success), "no error");
}

#ifdef NCCL_MAJOR
template <class Ours, class Theirs>
constexpr bool same(Ours ours, Theirs theirs) {
  return int(ours) == int(theirs);
}
static_assert(same(Result::success, ncclSuccess) &&
              same(Result::unhandled_cuda_error, ncclUnhandledCudaError) &&
              same(Result::system_error, ncclSystemError) &&
              same(Result::internal_error, ncclInternalError) &&
              same(Result::invalid_argument, ncclInvalidArgument) &&
              same(Result::invalid_usage, ncclInvalidUsage) &&
              same(Result::remote_error, ncclRemoteError) &&
              same(Result::in_progress, ncclInProgress));
static_assert(same(Reduction::sum, ncclSum) && same(Reduction::max, ncclMax) &&
              same(Reduction::min, ncclMin));
static_assert(same(Type::u8, ncclUint8) && same(Type::i32, ncclInt32) &&
              same(Type::i64, ncclInt64) && same(Type::f32, ncclFloat32) &&
              same(Type::f64, ncclFloat64) && same(Type::bf16, ncclBfloat16));
static_assert(sizeof(UniqueId) == sizeof(ncclUniqueId) && kNoColor == NCCL_SPLIT_NOCOLOR);
static_assert(offsetof(Config, magic) == offsetof(ncclConfig_t, magic) &&
              offsetof(Config, version) == offsetof(ncclConfig_t, version) &&
              offsetof(Config, blocking) == offsetof(ncclConfig_t, blocking));

TEST(NcclApi, TheConfigurationIsTheHeaders) {
  const ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
  EXPECT_EQ(Config().magic, theirs.magic);
  EXPECT_LE(Config().size, theirs.size);
}
#endif

}  // namespace
}  // namespace forja::nccl
