// SPDX-License-Identifier: Apache-2.0
// Element types of tensors and files. Usable from host and device code.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#ifdef __CUDACC__
#define FORJA_HD __host__ __device__
#else
#define FORJA_HD
#endif

namespace forja {

enum class DType : uint8_t { f32, bf16, f16, f64, i32, i64, u8, u16 };

// Bytes of one element.
constexpr int64_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
    case DType::u16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

// "fp32", "bf16", "fp16", "fp64", "int32", "int64", "uint8", "uint16".
std::string_view dtype_name(DType dtype);

// bfloat16: the upper half of an IEEE float. Conversion rounds to nearest even; NaN stays NaN.
struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  FORJA_HD explicit BFloat16(float value) {
    uint32_t u;
    memcpy(&u, &value, 4);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? uint16_t((u >> 16) | 0x40) : uint16_t((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
  }
  FORJA_HD explicit operator float() const {
    const uint32_t u = uint32_t(bits) << 16;
    float value;
    memcpy(&value, &u, 4);
    return value;
  }
};

// How a number becomes a bf16 one.
enum class Rounding : uint8_t {
  nearest,     // even
  stochastic,  // up or down at random, so that the mean is the number itself
};

// One of the two bf16 numbers around x: the one away from zero with the probability of how far x is
// on the way to it, in steps of 2^-16 (exact). `random` is uniform in [0, 2^16). Infinities and NaN
// stay.
FORJA_HD inline float round_stochastically(float x, uint32_t random) {
  uint32_t u;
  memcpy(&u, &x, 4);
  if ((u & 0x7f800000u) == 0x7f800000u) return x;
  u = (u + random) & 0xffff0000u;
  memcpy(&x, &u, 4);
  return x;
}

// IEEE half precision, for reading files only.
float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);

// DType of a C++ type.
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::u16;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace forja
