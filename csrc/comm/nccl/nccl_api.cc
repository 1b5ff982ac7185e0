// SPDX-License-Identifier: Apache-2.0
#include "csrc/comm/nccl/nccl_api.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <cstdlib>

namespace forja::nccl {
namespace {

template <class Function>
void find(void* handle, const char* name, Function& function, std::string& missing) {
  function = reinterpret_cast<Function>(::dlsym(handle, name));
  if (!function && missing.empty()) missing = name;
}

// The name of the first function that is not there; "" where all are.
std::string find_all(void* handle, Api& api) {
  std::string missing;
  find(handle, "ncclGetVersion", api.get_version, missing);
  find(handle, "ncclGetUniqueId", api.get_unique_id, missing);
  find(handle, "ncclCommInitRankConfig", api.comm_init_rank_config, missing);
  find(handle, "ncclCommSplit", api.comm_split, missing);
  find(handle, "ncclCommFinalize", api.comm_finalize, missing);
  find(handle, "ncclCommDestroy", api.comm_destroy, missing);
  find(handle, "ncclCommAbort", api.comm_abort, missing);
  find(handle, "ncclCommGetAsyncError", api.comm_get_async_error, missing);
  find(handle, "ncclGetErrorString", api.get_error_string, missing);
  find(handle, "ncclGetLastError", api.get_last_error, missing);
  find(handle, "ncclAllReduce", api.all_reduce, missing);
  find(handle, "ncclReduceScatter", api.reduce_scatter, missing);
  find(handle, "ncclAllGather", api.all_gather, missing);
  find(handle, "ncclBroadcast", api.broadcast, missing);
  find(handle, "ncclSend", api.send, missing);
  find(handle, "ncclRecv", api.recv, missing);
  find(handle, "ncclGroupStart", api.group_start, missing);
  find(handle, "ncclGroupEnd", api.group_end, missing);
  return missing;
}

Library load() {
  static Api api;
  const char* named = std::getenv("FORJA_NCCL");
  const char* name = named ? named : "libnccl.so.2";
  void* handle = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!handle) return {nullptr, ::dlerror()};
  const std::string missing = find_all(handle, api);
  int version = 0;
  if (api.get_version) api.get_version(&version);
  if (version < kOldestVersion || !missing.empty())
    return {nullptr, fmt::format("{} is NCCL {}, {} or newer is needed", name,
                                 version_text(version), version_text(kOldestVersion))};
  return {&api, ""};
}

}  // namespace

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

std::string version_text(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace forja::nccl
