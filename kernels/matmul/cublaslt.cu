// SPDX-License-Identifier: Apache-2.0
// cuBLASLt sees matrices column by column, so it is asked for c^T = b^T a^T: its first operand is
// b, its second is a, and none is copied.
#include "kernels/matmul/cublaslt.h"

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)

#include <cublasLt.h>
#include <dlfcn.h>

#include <bit>
#include <map>
#include <mutex>
#include <tuple>

#include "kernels/common/fail_launch.h"

namespace forja::kernels {
namespace {

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail_launch(what, "cuBLASLt", "the library returned an error");
}

#define FORJA_CUBLASLT_FUNCTIONS(X)       \
  X(cublasLtGetVersion)                   \
  X(cublasLtCreate)                       \
  X(cublasLtMatmul)                       \
  X(cublasLtMatmulAlgoGetHeuristic)       \
  X(cublasLtMatmulDescCreate)             \
  X(cublasLtMatmulDescDestroy)            \
  X(cublasLtMatmulDescSetAttribute)       \
  X(cublasLtMatmulPreferenceCreate)       \
  X(cublasLtMatmulPreferenceDestroy)      \
  X(cublasLtMatmulPreferenceSetAttribute) \
  X(cublasLtMatrixLayoutCreate)           \
  X(cublasLtMatrixLayoutDestroy)

// The library's functions under their own names. Loaded once, never unloaded: it has threads and
// device memory of its own.
struct Library {
  Library() {
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
      void* handle = dlopen(name, RTLD_NOW);
      if (handle == nullptr) continue;
      bool all = true;
#define FORJA_FIND(function)                                                    \
  function = reinterpret_cast<decltype(&::function)>(dlsym(handle, #function)); \
  all = all && function != nullptr;
      FORJA_CUBLASLT_FUNCTIONS(FORJA_FIND)
#undef FORJA_FIND
      available = all;
      if (all) return;
    }
  }

  bool available = false;
#define FORJA_DECLARE(function) decltype(&::function) function = nullptr;
  FORJA_CUBLASLT_FUNCTIONS(FORJA_DECLARE)
#undef FORJA_DECLARE
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

// Of the address, as far as it matters: no access has more bytes.
uint32_t alignment_bytes(const void* p) {
  const int zeros = std::countr_zero(reinterpret_cast<uintptr_t>(p));
  return zeros > 4 ? 16u : 1u << zeros;
}

// The library has the tanh form, and calls its argument, which it stores too, auxiliary. It takes
// that argument before rounding.
bool has_epilogue(const MatmulProblem& p) {
  return p.epilogue == MatmulEpilogue::none || (p.epilogue == MatmulEpilogue::gelu_tanh &&
                                                p.c_stride % 8 == 0 && alignment_bytes(p.c) >= 16);
}

struct Output {
  void* data;
  int64_t stride;
};

// What the library takes for the product.
Output output_of(const MatmulProblem& p) {
  return p.epilogue == MatmulEpilogue::none ? Output{p.c, p.c_stride} : Output{p.y, p.y_stride};
}

// What the library must know of a problem whose epilogue it has, as its own objects.
class Description {
 public:
  explicit Description(const MatmulProblem& p) {
    const Library& lt = library();
    check(lt.cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description");
    // Column by column, an operand with neighbours along K is [K, outer].
    set(CUBLASLT_MATMUL_DESC_TRANSA, p.b.k_contiguous ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, p.a.k_contiguous ? CUBLAS_OP_N : CUBLAS_OP_T);
    if (p.epilogue != MatmulEpilogue::none) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE,
          p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.c);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.c_stride);
    } else if (p.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    }
    if (p.bias != nullptr) {
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t(type_of(p.bias_dtype)));
    }
    first = make_layout(p.b, p.dtype, p.n, p.k);
    second = make_layout(p.a, p.dtype, p.m, p.k);
    check(lt.cublasLtMatrixLayoutCreate(&product, type_of(p.c_dtype), uint64_t(p.n), uint64_t(p.m),
                                        output_of(p).stride),
          "layout");
  }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  ~Description() {
    const Library& lt = library();
    for (const cublasLtMatrixLayout_t layout : {first, second, product})
      if (layout != nullptr) lt.cublasLtMatrixLayoutDestroy(layout);
    lt.cublasLtMatmulDescDestroy(operation);
  }

  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t first = nullptr, second = nullptr, product = nullptr;

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(library().cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)),
          "attribute");
  }
  static cublasLtMatrixLayout_t make_layout(const MatmulOperand& x, DType dtype, int64_t outer,
                                            int64_t k) {
    cublasLtMatrixLayout_t layout = nullptr;
    check(library().cublasLtMatrixLayoutCreate(&layout, type_of(dtype),
                                               uint64_t(x.k_contiguous ? k : outer),
                                               uint64_t(x.k_contiguous ? outer : k), x.stride),
          "layout");
    return layout;
  }
};

// The best guess first. (nvcc 13.0 does not compile a vector of them.)
struct Algorithms {
  int count = 0;
  cublasLtMatmulAlgo_t algorithm[kCublasLtAlgorithms];
};

Algorithms propose(cublasLtHandle_t handle, const MatmulProblem& p, const Description& d) {
  const Library& lt = library();
  cublasLtMatmulPreference_t preference;
  check(lt.cublasLtMatmulPreferenceCreate(&preference), "preference");
  const auto set = [&]<class T>(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check(lt.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
          "preference");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kCublasLtScratchBytes));
  // Partial sums of a split K stay in fp32.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_bytes(p.b.data));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_bytes(p.a.data));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_bytes(output_of(p).data));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_bytes(output_of(p).data));
  cublasLtMatmulHeuristicResult_t results[kCublasLtAlgorithms];
  int count = 0;
  const cublasStatus_t status = lt.cublasLtMatmulAlgoGetHeuristic(
      handle, d.operation, d.first, d.second, d.product, d.product, preference, kCublasLtAlgorithms,
      results, &count);
  lt.cublasLtMatmulPreferenceDestroy(preference);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
  check(status, "choice of an algorithm");
  Algorithms found;
  for (int i = 0; i < count; ++i)
    if (results[i].state == CUBLAS_STATUS_SUCCESS) found.algorithm[found.count++] = results[i].algo;
  return found;
}

// Proposals take the library long: they are kept, by everything they depend on.
class Proposals {
 public:
  cublasLtHandle_t handle(int device) {
    const std::lock_guard lock(mutex_);
    cublasLtHandle_t& handle = handles_[device];
    if (handle == nullptr) check(library().cublasLtCreate(&handle), "start");
    return handle;
  }
  const Algorithms& find(int device, const MatmulProblem& p, const Description& d) {
    const Key key = {device,
                     p.m,
                     p.n,
                     p.k,
                     p.dtype,
                     p.c_dtype,
                     p.a.k_contiguous,
                     p.a.stride,
                     p.b.k_contiguous,
                     p.b.stride,
                     p.c_stride,
                     p.accumulate,
                     p.epilogue,
                     p.y_stride,
                     p.bias != nullptr,
                     p.bias_dtype,
                     alignment_bytes(p.a.data),
                     alignment_bytes(p.b.data),
                     alignment_bytes(p.c),
                     alignment_bytes(output_of(p).data)};
    const cublasLtHandle_t of_device = handle(device);
    const std::lock_guard lock(mutex_);
    const auto there = proposals_.find(key);
    if (there != proposals_.end()) return there->second;
    return proposals_[key] = propose(of_device, p, d);
  }

 private:
  using Key = std::tuple<int, int64_t, int64_t, int64_t, DType, DType, bool, int64_t, bool, int64_t,
                         int64_t, bool, MatmulEpilogue, int64_t, bool, DType, uint32_t, uint32_t,
                         uint32_t, uint32_t>;
  std::mutex mutex_;
  std::map<int, cublasLtHandle_t> handles_;
  std::map<Key, Algorithms> proposals_;  // what is there stays where it is
};

Proposals& proposals() {
  static Proposals all;
  return all;
}

int current_device() {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) fail_launch("device", "cuBLASLt", "none is there");
  return device;
}

// The library takes no rows that overlap.
bool rows_are_apart(const MatmulProblem& p) {
  const auto apart = [&](const MatmulOperand& x, int64_t outer) {
    return x.stride >= (x.k_contiguous ? p.k : outer);
  };
  return apart(p.a, p.m) && apart(p.b, p.n) && p.c_stride >= p.n &&
         (p.epilogue == MatmulEpilogue::none || p.y_stride >= p.y_columns());
}

// A bias is of the dtype of c, and read by 16 bytes.
bool takes_bias(const MatmulProblem& p) {
  return p.bias == nullptr || (p.bias_dtype == p.c_dtype && alignment_bytes(p.bias) >= 16);
}

// Whether the library takes the problem and all of its epilogue, perhaps.
bool may_take(const MatmulProblem& p) {
  return p.k > 0 && rows_are_apart(p) && takes_bias(p) && has_epilogue(p);
}

int num_proposals(const MatmulProblem& p) {
  if (!may_take(p)) return 0;
  return proposals().find(current_device(), p, Description(p)).count;
}

// False where it does not.
bool multiply(const MatmulProblem& p, void* scratch, KernelStream stream, int algorithm) {
  if (!may_take(p)) return false;
  const int device = current_device();
  const Description d(p);
  const Algorithms& found = proposals().find(device, p, d);
  if (found.count == 0) return false;
  const int number = algorithm < found.count ? algorithm : 0;
  void* to = output_of(p).data;
  const float alpha = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
  check(library().cublasLtMatmul(proposals().handle(device), d.operation, &alpha, p.b.data, d.first,
                                 p.a.data, d.second, &beta, to, d.product, to, d.product,
                                 &found.algorithm[number], scratch, size_t(kCublasLtScratchBytes),
                                 stream),
        "product");
  return true;
}

}  // namespace

bool cublaslt_available() { return library().available; }

std::string cublaslt_version() {
  const size_t v = library().cublasLtGetVersion();  // 130002
  return "cuBLASLt " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
         std::to_string(v % 100);
}

int cublaslt_num_algorithms(const MatmulProblem& p) {
  if (p.epilogue != MatmulEpilogue::none && num_proposals(p) == 0)
    return num_proposals(without_epilogue(p));
  return num_proposals(p);
}

bool matmul_cublaslt(const MatmulProblem& p, void* scratch, KernelStream stream, int algorithm) {
  if (multiply(p, scratch, stream, algorithm)) return true;
  if (p.epilogue == MatmulEpilogue::none ||
      !multiply(without_epilogue(p), scratch, stream, algorithm))
    return false;
  apply_epilogue(p, stream);
  return true;
}

}  // namespace forja::kernels

#else

namespace forja::kernels {

bool cublaslt_available() { return false; }
std::string cublaslt_version() { return {}; }
int cublaslt_num_algorithms(const MatmulProblem&) { return 0; }
bool matmul_cublaslt(const MatmulProblem&, void*, KernelStream, int) { return false; }

}  // namespace forja::kernels

#endif
