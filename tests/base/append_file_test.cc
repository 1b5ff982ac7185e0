// SPDX-License-Identifier: Apache-2.0
#include "forja/base/append_file.h"

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

TEST(AppendFileTest, GoesOnWhereTheFileEnds) {
  testing::TemporaryDirectory folder;
  const std::string path = folder.file("log");
  {
    AppendFile file(path, AppendFile::Open::new_only);
    file.add("one ");
    EXPECT_EQ(read_file(path), "") << "in memory";
    EXPECT_TRUE(file.flush());
    EXPECT_EQ(read_file(path), "one ");
    file.add("two ");
  }
  AppendFile(path, AppendFile::Open::existing_or_new).add("three");
  EXPECT_EQ(read_file(path), "one two three");
  EXPECT_THROW(AppendFile(path, AppendFile::Open::new_only), Error);
  EXPECT_THROW(AppendFile(path + "/log", AppendFile::Open::existing_or_new), Error);
}

TEST(AppendFileTest, WhatCannotBeWrittenWaits) {
  AppendFile file("/dev/full", AppendFile::Open::existing_or_new);
  file.add("text");
  EXPECT_FALSE(file.flush());
  file.add("more");
  EXPECT_FALSE(file.flush());
  EXPECT_EQ(file.pending_bytes(), 8);
}

}  // namespace
}  // namespace forja
