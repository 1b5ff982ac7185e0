// SPDX-License-Identifier: Apache-2.0
// Files: memory-mapped reading, whole-file reading, and writing that never leaves a half-written
// file under its name. Every function throws Error; a missing or unreadable input is bad_input, a
// failed write is failed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace forja {

enum class Links {
  follow,
  refuse,  // one is bad_input: of a folder that may not lead out of itself
};

// A read-only memory mapping of a whole file. Move-only; the mapping ends with the object.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::string& path, Links links = Links::follow);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const uint8_t* data() const { return data_; }
  int64_t size() const { return size_; }
  // Starts reading bytes [begin, begin + bytes) from the disk, and returns at once.
  void prefetch(int64_t begin, int64_t bytes) const;
  // Takes the pages that lie wholly in [begin, begin + bytes) out of this process's memory; reading
  // them again brings them back.
  void release(int64_t begin, int64_t bytes) const;
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_t(size_)}; }

 private:
  const uint8_t* data_ = nullptr;
  int64_t size_ = 0;
};

std::string read_file(const std::string& path, Links links = Links::follow);

// A file being written beside its final name. commit() flushes, fsyncs and renames; without
// commit() the partial file is removed by the destructor.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(const void* data, int64_t bytes);
  void write(std::string_view text) { write(text.data(), int64_t(text.size())); }
  int64_t bytes_written() const { return bytes_; }
  void commit();
  const std::string& path() const { return path_; }
  // Of the partial file, for who writes in another way.
  int descriptor() const { return fd_; }

 private:
  std::string path_, temporary_;
  int fd_ = -1;
  int64_t bytes_ = 0;
};

// AtomicFile in one call.
void write_file(const std::string& path, std::string_view contents);

// Creates the directory and its parents; says why when it cannot.
void make_directories(const std::string& path);

// Throws bad_input, saying why, when nothing can be written in `path`, a directory that may not be
// there yet: makes a folder in its nearest parent that exists, and removes it. To be asked before
// the work, not after it.
void check_writable(const std::string& path);

// fsync: what has been written into the file survives a power loss.
void sync_file(const std::string& path);
// ... and a rename in the directory does.
void sync_directory(const std::string& path);

// True when there is something at `path`. Never throws: where nobody may look, or that is no name,
// there is nothing.
bool file_exists(const std::string& path);

// True for the name of a file directly in a folder: no path, and not hidden.
bool is_file_name(std::string_view name);

// `path` as seen from the folder of `base_file`: absolute paths stay, relative ones are joined.
std::string resolve_path(const std::string& path, const std::string& base_file);

}  // namespace forja
