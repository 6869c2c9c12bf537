// Uniform and normal numbers from Philox, in double throughout, so that they are those of the CPU after rounding to the
// operand's type. Writes only. 65 M weights in fp32 (260 MB) take 87 us on an H100; normal ones cost some 150 fp64
// operations a pair, 0.2 ms.
#include "core/philox.h"
#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

// Counter word 2 of this operator's blocks; dropout has 0 and sample 2.
constexpr uint32_t kRandomFillLane = 1;

// Box-Muller: two independent normal numbers of two uniform words.
__device__ __forceinline__ void normal_pair(uint32_t word0, uint32_t word1, double* z) {
  const double u1 = (static_cast<double>(word0) + 1) * 0x1p-32;  // in (0, 1]: the logarithm is finite
  const double radius = sqrt(-2 * log(u1));
  double sine, cosine;
  sincospi(static_cast<double>(word1) * 0x1p-31, &sine, &cosine);
  z[0] = radius * cosine;
  z[1] = radius * sine;
}

// A Philox block per thread makes four elements.
template <typename T, RandomKind kind>
struct RandomFill {
  PhiloxStream stream;
  double a, b;
  int64_t count;
  bool aligned;
  T* out;

  __device__ void operator()(int64_t n) const {
    const PhiloxBlock words = stream.block(static_cast<uint32_t>(n), static_cast<uint32_t>(n >> 32), kRandomFillLane);
    double values[4];
    if constexpr (kind == RandomKind::normal) {
      normal_pair(words.word[0], words.word[1], values);
      normal_pair(words.word[2], words.word[3], values + 2);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) values[k] = static_cast<double>(words.word[k] >> 8) * 0x1p-24;
    }
    Pack<T, 4> pack;
    const double factor = kind == RandomKind::normal ? b : b - a;
#pragma unroll
    for (int k = 0; k < 4; ++k) pack.value[k] = narrow_double<T>(a + factor * values[k]);
    if (aligned && n * 4 + 4 <= count) {
      store_pack<4>(out + n * 4, pack);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (n * 4 + k < count) out[n * 4 + k] = pack.value[k];
      }
    }
  }
};

template <typename T, RandomKind kind>
Status draw(const Context& context, const RandomFillParams& params) {
  T* const out = static_cast<T*>(params.out);
  const RandomFill<T, kind> body = {{params.seed, params.offset}, params.a, params.b, params.count,
                                    aligned_for_packs<4>(out),    out};
  return for_each(context, "random_fill", divide_up(params.count, 4), body);
}

}  // namespace

Status random_fill(const Context& context, const void* block) {
  const auto& params = *static_cast<const RandomFillParams*>(block);
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    return params.kind == RandomKind::normal ? draw<T, RandomKind::normal>(context, params)
                                             : draw<T, RandomKind::uniform>(context, params);
  });
}

}  // namespace xlformers::cuda
