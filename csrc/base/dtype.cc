// SPDX-License-Identifier: Apache-2.0
#include "forja/base/dtype.h"

#include <cmath>

#include "forja/base/dispatch.h"
#include "forja/base/error.h"

namespace forja {

void fail_not_float(DType dtype) { fail("fp32 or bf16 wanted, found {}", dtype_name(dtype)); }

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "fp32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "fp16";
    case DType::f64:
      return "fp64";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
    case DType::u8:
      return "uint8";
    case DType::u16:
      return "uint16";
  }
  return "?";
}

float half_to_float(uint16_t bits) {
  const int sign = bits >> 15, exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  float value;
  if (exponent == 31) {
    value = mantissa ? NAN : INFINITY;
  } else if (exponent == 0) {
    value = std::ldexp(float(mantissa), -24);
  } else {
    value = std::ldexp(float(mantissa + 1024), exponent - 25);
  }
  return sign ? -value : value;
}

uint16_t float_to_half(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7e00;
  if (magnitude >= 65520.0f) return sign | 0x7c00;
  int exponent;
  std::frexp(magnitude, &exponent);  // magnitude = f x 2^exponent, f in [0.5, 1)
  if (magnitude == 0.0f || exponent < -24) return sign;  // below half of the smallest subnormal
  const int scale = exponent - 1 < -14 ? 24 : 11 - exponent;
  const long steps = std::lrint(std::ldexp(magnitude, scale));  // rounds to nearest even
  if (exponent - 1 < -14) return uint16_t(sign | steps);
  return uint16_t(sign | (((exponent + 14) << 10) + (steps - 1024)));
}

}  // namespace forja
