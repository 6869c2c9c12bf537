// Sinusoid encoding of distances, sines before cosines (Dai et al. 2019; Vaswani et al. 2017 interleave them).
#include "cpu/elementwise.h"

XL_KERNELS_BEGIN

template <typename T>
static Status run_sinusoid_positions(Context& context, const SinusoidPositionsParams& params) {
  const int64_t half = params.columns / 2;
  const int64_t clamp = params.clamp;
  double* frequency = context.workspace.allocate<double>(half);
  for (int64_t k = 0; k < half; ++k) {
    frequency[k] = std::pow(10000.0, -2.0 * static_cast<double>(k) / static_cast<double>(params.columns));
  }
  T* out = static_cast<T*>(params.out);
  // A sine and a cosine cost some fifty times what copying an element does: tasks are smaller.
  parallel_blocks(context, params.count, divide_up(rows_per_task(params.columns), 8),
                  [=](int64_t begin, int64_t end, int) {
                    for (int64_t p = begin; p < end; ++p) {
                      int64_t distance = params.first_distance + p;
                      if (clamp > 0) distance = distance > clamp ? clamp : (distance < -clamp ? -clamp : distance);
                      T* row = out + p * params.columns;
                      for (int64_t k = 0; k < half; ++k) {
                        const double angle = static_cast<double>(distance) * frequency[k];
                        row[k] = static_cast<T>(std::sin(angle));
                        row[half + k] = static_cast<T>(std::cos(angle));
                      }
                    }
                  });
  return ok_status();
}

XL_FLOATING_KERNEL(sinusoid_positions, SinusoidPositionsParams, run_sinusoid_positions)

XL_KERNELS_END
