// SPDX-License-Identifier: Apache-2.0
// Who needs a part of a large tensor reads and checks that part.
#include "csrc/checkpoint/reader.h"

#include <algorithm>
#include <fstream>

#include "tests/checkpoint/small_checkpoint.h"
#include "tests/testing/local_world.h"

namespace forja {
namespace {

constexpr int64_t kColumns = 1 << 20, kRows = 3;  // 12 MiB: a piece and a half

TEST(CheckpointReader, ChecksThePiecesThatAreRead) {
  const testing::TemporaryDirectory folder;
  Arena weights("weights", {}, 64 << 20), gradients("gradients", {}, 64 << 20),
      optimizer("optimizer", {}, 64 << 20), workspace("workspace", {}, 1 << 20);
  const Context context{.device = {}, .workspace = &workspace};
  ParameterStore store({});
  store.declare({.name = "large", .shape = {kRows, kColumns}});
  store.allocate_all(weights, gradients, optimizer);
  store.initialize(context, 1);
  const auto self = make_self_communicator();
  CheckpointParts parts(store, {}, nullptr);
  CheckpointWriter writer(parts, {folder.path(), "name: large\n", 0, 0}, *self);
  writer.begin(context, {.step = 1});
  writer.wait();
  const std::string path = folder.file("step-00000001");

  {
    CheckpointReader reader(path, PageCache::bypass);
    const CheckpointReader::Stored stored = reader.tensors().at("model/large")[0];
    EXPECT_EQ(stored.tensor->checksums.size(), 2u);
    reader.expect_all(stored);
    int64_t elements = 0;
    reader.for_each_piece(stored, [&](const Tensor& piece, int64_t first) {
      EXPECT_EQ(first, elements);
      const float* const wanted = store.all()[0]->master.ptr<float>() + first;
      EXPECT_TRUE(std::equal(wanted, wanted + piece.num_elements(), piece.ptr<float>()));
      elements += piece.num_elements();
    });
    EXPECT_EQ(elements, kRows * kColumns);
    EXPECT_NE(testing::error_of([&] { reader.piece(stored, 0); }).find("is not expected"),
              std::string::npos);
  }
  // A byte of the second piece of the weights.
  const auto damaged =
      int64_t([&] {
        const std::string bytes = read_file(path + "/shard-00000.safetensors");
        const SafetensorsFile file(path + "/shard-00000.safetensors");
        return bytes.size() - file.entries().rbegin()->second.end + file.entry("model/large").begin;
      }()) +
      kPieceBytes + 5;
  {
    std::fstream file(path + "/shard-00000.safetensors",
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(damaged);
    const char byte = char(file.get() ^ 1);
    file.seekp(damaged);
    file.put(byte);
  }
  CheckpointReader reader(path, PageCache::use);
  const CheckpointReader::Stored stored = reader.tensors().at("model/large")[0],
                                 moment = reader.tensors().at("first_moment/large")[0];
  for (const int64_t piece : {0, 0, 1}) reader.expect(stored, piece);
  reader.expect(moment, 1);
  reader.expect(stored, 1);
  EXPECT_EQ(reader.piece(stored, 0).num_elements(), kPieceBytes / 4);
  EXPECT_EQ(reader.piece(stored, 0).num_elements(), kPieceBytes / 4) << "until the next one";
  const std::string message =
      testing::error_of([&] { reader.piece(stored, 1); }, ExitCode::bad_input);
  EXPECT_NE(message.find("shard-00000.safetensors: tensor model/large is damaged: checksum"),
            std::string::npos)
      << message;
  EXPECT_EQ(reader.piece(moment, 1).num_elements(), kRows * kColumns - kPieceBytes / 4);
  EXPECT_THROW(reader.piece(stored, 1), Error) << "again";
  EXPECT_THROW(describe_checkpoint(path, true), Error);
}

}  // namespace
}  // namespace forja
