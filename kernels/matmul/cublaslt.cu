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

// Of the address, as far as it matters.
uint32_t alignment_bytes(const void* p) {
  const int zeros = std::countr_zero(reinterpret_cast<uintptr_t>(p));
  return zeros > 8 ? 256u : 1u << zeros;
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

struct Choice {
  bool found = false;
  cublasLtMatmulAlgo_t algorithm;
};

Choice choose(cublasLtHandle_t handle, const MatmulProblem& p, const Description& d) {
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
  cublasLtMatmulHeuristicResult_t result;
  int count = 0;
  const cublasStatus_t status = lt.cublasLtMatmulAlgoGetHeuristic(
      handle, d.operation, d.first, d.second, d.product, d.product, preference, 1, &result, &count);
  lt.cublasLtMatmulPreferenceDestroy(preference);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
  check(status, "choice of an algorithm");
  return count > 0 && result.state == CUBLAS_STATUS_SUCCESS ? Choice{true, result.algo} : Choice{};
}

// Choices take the library long: they are kept, by everything they depend on.
class Choices {
 public:
  cublasLtHandle_t handle(int device) {
    const std::lock_guard lock(mutex_);
    cublasLtHandle_t& handle = handles_[device];
    if (handle == nullptr) check(library().cublasLtCreate(&handle), "start");
    return handle;
  }
  Choice find(int device, const MatmulProblem& p, const Description& d) {
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
    const auto there = choices_.find(key);
    if (there != choices_.end()) return there->second;
    return choices_[key] = choose(of_device, p, d);
  }

 private:
  using Key = std::tuple<int, int64_t, int64_t, int64_t, DType, DType, bool, int64_t, bool, int64_t,
                         int64_t, bool, MatmulEpilogue, int64_t, bool, DType, uint32_t, uint32_t,
                         uint32_t, uint32_t>;
  std::mutex mutex_;
  std::map<int, cublasLtHandle_t> handles_;
  std::map<Key, Choice> choices_;
};

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

// False where the library has no algorithm for the problem and all of its epilogue.
bool multiply(const MatmulProblem& p, void* scratch, KernelStream stream) {
  if (p.k == 0 || !rows_are_apart(p) || !takes_bias(p) || !has_epilogue(p)) return false;
  static Choices choices;
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) fail_launch("device", "cuBLASLt", "none is there");
  const Description d(p);
  const Choice choice = choices.find(device, p, d);
  if (!choice.found) return false;
  void* to = output_of(p).data;
  const float alpha = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
  check(library().cublasLtMatmul(choices.handle(device), d.operation, &alpha, p.b.data, d.first,
                                 p.a.data, d.second, &beta, to, d.product, to, d.product,
                                 &choice.algorithm, scratch, size_t(kCublasLtScratchBytes), stream),
        "product");
  return true;
}

}  // namespace

bool cublaslt_available() { return library().available; }

bool matmul_cublaslt(const MatmulProblem& p, void* scratch, KernelStream stream) {
  if (multiply(p, scratch, stream)) return true;
  if (p.epilogue == MatmulEpilogue::none || !multiply(without_epilogue(p), scratch, stream))
    return false;
  apply_epilogue(p, stream);
  return true;
}

}  // namespace forja::kernels

#else

namespace forja::kernels {

bool cublaslt_available() { return false; }
bool matmul_cublaslt(const MatmulProblem&, void*, KernelStream) { return false; }

}  // namespace forja::kernels

#endif
