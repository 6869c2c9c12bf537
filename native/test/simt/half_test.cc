#include <cmath>

#include "cuda/device.cuh"
#include "simt/testing.h"

namespace {

// By the definition of the format: `digits` bits after the leading one, exponents from `smallest`, infinity from
// `overflow`.
double rounded(double value, int digits, int smallest, double overflow) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int exponent = std::max(std::ilogb(value), smallest);
  const double quantum = std::ldexp(1.0, exponent - digits);
  const double result = std::nearbyint(value / quantum) * quantum;
  return std::fabs(result) >= overflow ? std::copysign(HUGE_VAL, value) : result;
}

double as_half(double value) { return rounded(value, 10, -14, 65536); }
double as_bfloat16(double value) { return rounded(value, 7, -126, std::ldexp(1.0, 128)); }

template <typename Check>
void for_many_floats(Check check) {
  uint32_t bits = 1;
  for (int i = 0; i < 400000; ++i) {
    bits = bits * 1664525u + 1013904223u;
    check(simt::float_of(bits));
    // Near the numbers of fp16, and half-way between them.
    const uint32_t near_half = (112u << 23) + (bits >> 16) * 0x1000u;
    for (const int off : {-1, 0, 1}) check(simt::float_of(near_half + static_cast<uint32_t>(off)));
  }
}

}  // namespace

TEST(every_half_survives_the_way_to_float_and_back) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const __half half = __ushort_as_half(static_cast<uint16_t>(bits));
    if (std::isnan(float(half))) continue;
    EXPECT_EQUAL(__float2half(half).bits, half.bits);
    const __nv_bfloat16 bfloat16 = __ushort_as_bfloat16(static_cast<uint16_t>(bits));
    if (!std::isnan(float(bfloat16))) EXPECT_EQUAL(__float2bfloat16(bfloat16).bits, bfloat16.bits);
  }
}

TEST(floats_round_to_the_nearest_half_ties_to_even) {
  for_many_floats([](float value) {
    const float got = __half2float(__float2half_rn(value));
    if (std::isnan(value)) {
      EXPECT(std::isnan(got));
    } else {
      EXPECT_EQUAL(static_cast<double>(got), as_half(value));
    }
  });
  EXPECT_EQUAL(__half_as_ushort(__float2half(65519.996f)), 0x7BFFu);
  EXPECT_EQUAL(__half_as_ushort(__float2half(65520.0f)), 0x7C00u);
  EXPECT_EQUAL(__half_as_ushort(__float2half(-0x1p-24f)), 0x8001u);
  EXPECT_EQUAL(__half_as_ushort(__float2half(0x1p-25f)), 0u);
}

TEST(floats_round_to_the_nearest_bfloat16_ties_to_even) {
  for_many_floats([](float value) {
    const float got = __bfloat162float(__float2bfloat16_rn(value));
    if (std::isnan(value)) {
      EXPECT(std::isnan(got));
    } else {
      EXPECT_EQUAL(static_cast<double>(got), as_bfloat16(value));
    }
  });
}

TEST(sums_products_and_quotients_of_halves_round_once) {
  uint32_t state = 7;
  const auto draw = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<uint16_t>(state >> 16);
  };
  for (int i = 0; i < 200000; ++i) {
    const __half a = __ushort_as_half(draw()), b = __ushort_as_half(draw());
    const double x = float(a), y = float(b);
    if (std::isnan(x) || std::isnan(y)) continue;
    if (std::isfinite(x + y)) EXPECT_EQUAL(double(float(a + b)), as_half(x + y));
    if (std::isfinite(x * y)) EXPECT_EQUAL(double(float(a * b)), as_half(x * y));
    // 53 bits are more than 2 * 11 + 2: the quotient in double rounds correctly.
    if (std::isfinite(x / y)) EXPECT_EQUAL(double(float(a / b)), as_half(x / y));
  }
}

TEST(fused_multiply_add_rounds_once) {
  // 1025.5 - 2^-21: rounded to fp32 first, it would be a tie, which goes up to 1026.
  EXPECT_EQUAL(float(__hfma(__half(0.5f + 0x1p-11f), __half(1 - 0x1p-10f), __half(1025))), 1025.0f);
  EXPECT_EQUAL(float(__hfma(__half(0.5f + 0x1p-11f), __half(1 + 0x1p-10f), __half(1024))), 1025.0f);
  // The product is 2^-40, far below what a sum in double could hold: a tie but for it.
  const __nv_bfloat16 tiny(0x1p-60f);
  EXPECT_EQUAL(float(__hfma(tiny, tiny, __nv_bfloat16(1))), 1.0f);
  EXPECT_EQUAL(float(__hfma(__nv_bfloat16(1.0078125f), __nv_bfloat16(0.99609375f), __nv_bfloat16(0x1p-100f))),
               float(__nv_bfloat16(1.0078125f * 0.99609375f)));
}

TEST(pairs_are_packed_low_first) {
  EXPECT_EQUAL(xlformers::cuda::pack<__nv_bfloat16>(1.0f, -2.0f), 0xC0003F80u);
  EXPECT_EQUAL(xlformers::cuda::pack<__half>(1.0f, -2.0f), 0xC0003C00u);
  EXPECT_EQUAL(__half22float2(__floats2half2_rn(3.0f, 4.0f)).y, 4.0f);
  EXPECT_EQUAL(__bfloat1622float2(__floats2bfloat162_rn(3.0f, 4.0f)).x, 3.0f);
}

TEST(tf32_rounds_to_nearest_ties_away) {
  EXPECT_EQUAL(simt::float_of(simt::to_tf32(1 + 0x1p-11f)), 1 + 0x1p-10f);
  EXPECT_EQUAL(simt::float_of(simt::to_tf32(-(1 + 0x1p-11f))), -(1 + 0x1p-10f));
  EXPECT_EQUAL(simt::float_of(simt::to_tf32(1 + 0x1p-12f)), 1.0f);
  EXPECT_EQUAL(simt::to_tf32(INFINITY), simt::bits_of(INFINITY));
}

TEST(bits_are_counted_and_moved_as_on_a_device) {
  EXPECT_EQUAL(__brev(1u), 0x80000000u);
  EXPECT_EQUAL(__byte_perm(0x33221100u, 0x77665544u, 0x7531u), 0x77553311u);
  EXPECT_EQUAL(__byte_perm(0x00008000u, 0u, 0x9999u), 0xFFFFFFFFu);
  EXPECT_EQUAL(__clz(1), 31);
  EXPECT_EQUAL(__ffs(8), 4);
  EXPECT_EQUAL(__umulhi(0x80000000u, 6u), 3u);
}
TEST(sines_of_multiples_of_pi_lose_nothing_to_whole_turns) {
  for (const double turns : {0.0, 2.0, -4.0, 0x1p52}) {
    double sine = 0, cosine = 0;
    sincospi(turns, &sine, &cosine);
    EXPECT_EQUAL(sine, 0.0);
    EXPECT_EQUAL(cosine, 1.0);
  }
  double sine = 0, cosine = 0;
  sincospi(0x1p40 + 0.5, &sine, &cosine);
  EXPECT_EQUAL(sine, 1.0);
  EXPECT(std::fabs(cosine) < 1e-16);
}
