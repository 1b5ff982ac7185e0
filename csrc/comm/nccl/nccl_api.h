// SPDX-License-Identifier: Apache-2.0
// The functions of NCCL that Forja calls, as a table: the library is loaded when first needed, so
// that one binary starts everywhere, and tests put their own functions in its place. The types are
// those of nccl.h, which has kept them since 2.18 (2023); tests/comm/nccl_api_test.cc compares them
// with the header where it is installed.
#pragma once

#include <cstddef>
#include <string>

struct CUstream_st;

namespace forja::nccl {

struct Communicator;  // opaque: ncclComm

enum class Result : int {
  success = 0,
  unhandled_cuda_error = 1,
  system_error = 2,
  internal_error = 3,
  invalid_argument = 4,
  invalid_usage = 5,
  remote_error = 6,
  in_progress = 7,
};
enum class Reduction : int { sum = 0, max = 2, min = 3 };
enum class Type : int { u8 = 1, i32 = 2, i64 = 4, f32 = 7, f64 = 8, bf16 = 9 };

struct UniqueId {
  char bytes[128];
};

// As far as version 2.14 had it, which newer libraries take.
struct Config {
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 0;  // calls return in_progress, so that none can hang
};

constexpr int kNoColor = -1;
constexpr int kOldestVersion = 21800;  // the first with comm_split

// Null where the library lacks it.
struct Api {
  Result (*get_version)(int* version);
  Result (*get_unique_id)(UniqueId* id);
  Result (*comm_init_rank_config)(Communicator** comm, int size, UniqueId id, int rank, Config*);
  Result (*comm_split)(Communicator* comm, int color, int key, Communicator** part, Config*);
  Result (*comm_finalize)(Communicator* comm);
  Result (*comm_destroy)(Communicator* comm);
  Result (*comm_abort)(Communicator* comm);
  Result (*comm_get_async_error)(Communicator* comm, Result* error);
  const char* (*get_error_string)(Result result);
  const char* (*get_last_error)(Communicator* comm);  // of the process; comm may be null
  Result (*all_reduce)(const void* from, void* to, size_t count, Type, Reduction, Communicator*,
                       CUstream_st*);
  Result (*reduce_scatter)(const void* from, void* to, size_t count_to, Type, Reduction,
                           Communicator*, CUstream_st*);
  Result (*all_gather)(const void* from, void* to, size_t count_from, Type, Communicator*,
                       CUstream_st*);
  Result (*broadcast)(const void* from, void* to, size_t count, Type, int root, Communicator*,
                      CUstream_st*);
  Result (*send)(const void* from, size_t count, Type, int peer, Communicator*, CUstream_st*);
  Result (*recv)(void* to, size_t count, Type, int peer, Communicator*, CUstream_st*);
  Result (*group_start)();
  Result (*group_end)();
};

// The library, or why it cannot be used.
struct Library {
  const Api* api = nullptr;
  std::string problem;  // "libnccl.so.2: cannot open shared object file"
};

// libnccl.so.2, or the file that FORJA_NCCL names. Loaded once, never unloaded.
const Library& library();

// "2.28.3".
std::string version_text(int version);

}  // namespace forja::nccl
