// Uniform and normal numbers from Philox, in double throughout: every backend then rounds the same numbers to the
// operand's type.
#include "core/philox.h"
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

// Counter word 2 of this operator's blocks; dropout has 0 and sample 2.
constexpr uint32_t kRandomFillLane = 1;

// Box-Muller: two independent normal numbers of two uniform words.
static void normal_pair(uint32_t word0, uint32_t word1, double* z) {
  const double u1 = (static_cast<double>(word0) + 1) * 0x1p-32;  // in (0, 1]: the logarithm is finite
  const double u2 = static_cast<double>(word1) * 0x1p-32;
  const double radius = std::sqrt(-2 * std::log(u1));
  const double angle = 6.283185307179586476925 * u2;
  z[0] = radius * std::cos(angle);
  z[1] = radius * std::sin(angle);
}

template <typename T>
static Status run_random_fill(Context& context, const RandomFillParams& params) {
  const PhiloxStream stream{params.seed, params.offset};
  const double a = params.a, b = params.b;
  const bool normal = params.kind == RandomKind::normal;
  T* out = static_cast<T*>(params.out);
  parallel_blocks(context, divide_up(params.count, 4), kBlockElements / 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      const PhiloxBlock words = stream.block(static_cast<uint32_t>(n), static_cast<uint32_t>(n >> 32), kRandomFillLane);
      double values[4];
      if (normal) {
        normal_pair(words.word[0], words.word[1], values);
        normal_pair(words.word[2], words.word[3], values + 2);
        for (double& value : values) value = a + b * value;
      } else {
        for (int k = 0; k < 4; ++k) values[k] = a + (b - a) * (static_cast<double>(words.word[k] >> 8) * 0x1p-24);
      }
      const int64_t count = at_most(params.count - n * 4, 4);
      for (int64_t k = 0; k < count; ++k) out[n * 4 + k] = static_cast<T>(values[k]);
    }
  });
  return ok_status();
}

XL_FLOATING_KERNEL(random_fill, RandomFillParams, run_random_fill)

XL_KERNELS_END
