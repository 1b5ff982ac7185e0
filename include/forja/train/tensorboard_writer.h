// SPDX-License-Identifier: Apache-2.0
// Scalars for TensorBoard: event files that TensorBoard opens while the run goes on, without
// TensorFlow.
//
// A file is a sequence of TFRecords, each {uint64 length, uint32 masked crc32c of length, data,
// uint32 masked crc32c of data}, little-endian; the data is an `Event` protocol buffer, encoded by
// hand. The first record of a file says "brain.Event:2"; the second is a SessionLog START that
// carries the first step the file will hold. TensorBoard takes every START but the first of a
// directory for a restart and forgets what older files say about that step and later ones, so a
// resumed run shows no step twice. Sources: TensorFlow's core/lib/io/record_writer.h and
// core/util/event.proto; TensorBoard's plugin_event_accumulator.py (_CheckForRestartAndMaybePurge).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "forja/base/append_file.h"

namespace forja {

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of the bytes.
uint32_t crc32c(std::string_view bytes);
// The CRC as TFRecords store it: rotated right by 15 bits plus a constant.
uint32_t masked_crc32c(std::string_view bytes);

// Appends scalar events to one new file, `<directory>/events.out.tfevents.<unix
// time>.<host>.<pid>`. Not thread-safe; one rank of a run holds it.
class TensorboardWriter {
 public:
  // Makes the directory where needed, and a new file in it that sorts after those it already holds
  // (TensorBoard reads them in the order of their names; the time in the name moves on where a
  // clock is behind or two runs share a second). `first_step` is the first step that will be added:
  // 1 in a new run, k + 1 in one that resumes from the checkpoint of step k; values of that step
  // and later ones in older files no longer show. The file is on disk, with its header, when the
  // constructor returns, which throws Error(failed) where it cannot be written.
  TensorboardWriter(const std::string& directory, int64_t first_step);

  // One value of the curve `tag`, e.g. "train/loss", stamped with the present time and kept in
  // single precision. Stays in memory until flush(), or until 64 KiB have gathered. NaN and
  // infinities are kept; TensorBoard marks them.
  void add_scalar(std::string_view tag, int64_t step, double value);

  // Hands what has gathered to the operating system: it survives a crash of the process, not of the
  // machine. What cannot be written waits for the next flush; false then.
  bool flush() { return file_->flush(); }

  const std::string& path() const { return file_->path(); }

 private:
  void append_record(std::string_view data);

  std::unique_ptr<AppendFile> file_;
};

}  // namespace forja
