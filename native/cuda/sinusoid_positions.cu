// Sinusoid encoding of distances, sines before cosines (Dai et al. 2019; Vaswani et al. 2017 interleave them), in
// double. Writes only; some 100 fp64 operations a pair: 2048 x 1024 in bf16 take 4 us on an H100.
#include "cuda/elementwise.cuh"

namespace xlformers::cuda {
namespace {

constexpr int kSinusoidThreads = 128;

// Grid: x over frequencies, y over positions.
template <typename T>
__global__ void __launch_bounds__(kSinusoidThreads)
    sinusoids(int64_t count, int64_t half, int64_t first_distance, int64_t clamp, T* out) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * kSinusoidThreads + threadIdx.x;
  if (k >= half) return;
  const double frequency = pow(10000.0, -static_cast<double>(k) / static_cast<double>(half));
  for (int64_t p = blockIdx.y; p < count; p += gridDim.y) {
    int64_t distance = first_distance + p;
    if (clamp > 0) distance = distance > clamp ? clamp : (distance < -clamp ? -clamp : distance);
    // The angle less its whole turns, 2 pi in two parts: sin itself would keep a path for huge angles in local memory.
    const double angle = static_cast<double>(distance) * frequency;
    const double turns = rint(angle * 0.15915494309189533577);
    const double rest = fma(-turns, 2.4492935982947064e-16, fma(-turns, 6.283185307179586232, angle));
    double sine, cosine;
    sincospi(rest * 0.31830988618379067154, &sine, &cosine);
    out[p * half * 2 + k] = narrow_double<T>(sine);
    out[p * half * 2 + half + k] = narrow_double<T>(cosine);
  }
}

}  // namespace

Status sinusoid_positions(const Context& context, const void* block) {
  const auto& params = *static_cast<const SinusoidPositionsParams*>(block);
  const int64_t half = params.columns / 2;
  if (params.count <= 0 || half <= 0) return ok_status();
  return with_float_type(params.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const int64_t columns = divide_up(half, kSinusoidThreads);
    const int64_t rows = std::clamp(divide_up(int64_t{16} * context.device.multiprocessors, columns), int64_t{1},
                                    std::min(params.count, int64_t{65535}));
    return launch({"sinusoid_positions", dim3(static_cast<unsigned>(columns), static_cast<unsigned>(rows)),
                   dim3(kSinusoidThreads), 0, context.stream},
                  sinusoids<T>, params.count, half, params.first_distance, params.clamp, static_cast<T*>(params.out));
  });
}

}  // namespace xlformers::cuda
