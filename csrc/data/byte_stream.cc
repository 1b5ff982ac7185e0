// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/byte_stream.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "forja/base/error.h"

namespace forja {
namespace {

class PlainStream : public ByteStream {
 public:
  explicit PlainStream(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail_input("cannot open {}: {}", path, std::strerror(errno));
  }
  ~PlainStream() override { ::close(fd_); }

  int64_t read(char* buffer, int64_t capacity) override {
    while (true) {
      const ssize_t got = ::read(fd_, buffer, size_t(capacity));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_input("cannot read {}: {}", path_, std::strerror(errno));
      done_ += got;
      return got;
    }
  }
  int64_t stored_bytes_done() const override { return done_; }

 private:
  std::string path_;
  int fd_;
  int64_t done_ = 0;
};

// What both decompressors share: a buffer of stored bytes.
class CompressedStream : public ByteStream {
 public:
  explicit CompressedStream(const std::string& path)
      : path_(path), file_(path), input_(256 << 10) {}
  int64_t stored_bytes_done() const override { return file_.stored_bytes_done(); }

 protected:
  // More stored bytes into input_; their number, 0 at the end of the file.
  int64_t refill() { return file_.read(input_.data(), int64_t(input_.size())); }
  [[noreturn]] void truncated(const char* kind) const {
    fail_input(
        "{}: the {} data is truncated: the file ends after {} bytes, inside the compressed stream",
        path_, kind, file_.stored_bytes_done());
  }
  [[noreturn]] void damaged(const char* kind, const char* why) const {
    fail_input("{}: damaged {} data before byte {}: {}", path_, kind, file_.stored_bytes_done(),
               why);
  }

  std::string path_;
  PlainStream file_;
  std::vector<char> input_;
};

class GzipStream : public CompressedStream {
 public:
  explicit GzipStream(const std::string& path) : CompressedStream(path) {
    FORJA_CHECK(inflateInit2(&z_, 15 + 16) == Z_OK,
                "zlib has no memory left");  // 16: gzip headers only
  }
  ~GzipStream() override { inflateEnd(&z_); }

  int64_t read(char* buffer, int64_t capacity) override {
    z_.next_out = reinterpret_cast<Bytef*>(buffer);
    z_.avail_out = uInt(capacity);
    while (z_.avail_out == uInt(capacity)) {
      if (z_.avail_in == 0) {
        z_.avail_in = uInt(refill());
        z_.next_in = reinterpret_cast<Bytef*>(input_.data());
        if (z_.avail_in == 0) {
          if (!between_members_) truncated("gzip");
          return 0;
        }
      }
      if (between_members_) inflateReset(&z_);
      between_members_ = false;
      const int result = inflate(&z_, Z_NO_FLUSH);
      if (result == Z_STREAM_END) {
        between_members_ =
            true;  // another member may follow: files are often made by concatenation
      } else if (result != Z_OK) {
        damaged("gzip", z_.msg ? z_.msg : "unexpected end");
      }
    }
    return capacity - int64_t(z_.avail_out);
  }

 private:
  z_stream z_{};
  bool between_members_ = false;  // false at the start: an empty file is truncated
};

class ZstdStream : public CompressedStream {
 public:
  explicit ZstdStream(const std::string& path) : CompressedStream(path), z_(ZSTD_createDStream()) {
    FORJA_CHECK(z_ != nullptr, "zstd has no memory left");
  }
  ~ZstdStream() override { ZSTD_freeDStream(z_); }

  int64_t read(char* buffer, int64_t capacity) override {
    ZSTD_outBuffer out{buffer, size_t(capacity), 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size && !more_output_) {
        in_ = {input_.data(), size_t(refill()), 0};
        if (in_.size == 0) {
          if (expected_ != 0) truncated("zstd");
          return 0;
        }
      }
      expected_ = ZSTD_decompressStream(z_, &out, &in_);
      if (ZSTD_isError(expected_)) damaged("zstd", ZSTD_getErrorName(expected_));
      more_output_ = out.pos == out.size;  // the decoder may hold more
    }
    return int64_t(out.pos);
  }

 private:
  ZSTD_DStream* z_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  size_t expected_ = 1;  // 0: a frame is complete
  bool more_output_ = false;
};

}  // namespace

std::unique_ptr<ByteStream> open_byte_stream(const std::string& path) {
  if (path.ends_with(".gz")) return std::make_unique<GzipStream>(path);
  if (path.ends_with(".zst")) return std::make_unique<ZstdStream>(path);
  return std::make_unique<PlainStream>(path);
}

}  // namespace forja
