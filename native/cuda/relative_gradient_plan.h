// Where dR is made on the tensor cores: beside dQ, or by a kernel of its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/kernel.h"

namespace xlformers::cuda {

// Larger heads have no registers left beside dQ.
constexpr int kMostJoinedHeadDim = 64;

struct GradientShape {
  int64_t batch, heads, head_dim, queries, keys, positions;
};

// The parts of a batch row's queries that have partial sums of dR of their own where it is made beside dQ, and the time that the kernel then
// takes, in operations over the head size. Beside dQ it takes 2 * head_dim operations a score, and a partial sum for each block, which is
// written twice: its memory is that of the gradients of keys and values with one part, and bounded with more. More parts fill the device when
// there are few batch rows and heads.
struct JoinedPlan {
  int chunks;
  double time;
};

inline JoinedPlan joined_plan(const GradientShape& shape, int64_t multiprocessors) {
  constexpr int64_t kQueries = 64, kMostChunks = 8, kMostBytes = int64_t{64} << 20;
  constexpr double kOperationsPerByte = 80;  // 250 TFLOP/s over 3 TB/s
  const int64_t pairs = shape.batch * shape.heads, slots = 2 * multiprocessors;  // blocks that run at a time
  const auto scores = static_cast<double>(shape.queries) * static_cast<double>(shape.keys);
  const double bytes = 4.0 * static_cast<double>(pairs * shape.positions);  // of a part, over the head size
  const int64_t tiles = std::max<int64_t>(1, (shape.queries + kQueries - 1) / kQueries);
  JoinedPlan best = {};
  for (int64_t chunks = 1; chunks <= std::min(tiles, kMostChunks); ++chunks) {
    const double all_bytes = bytes * static_cast<double>(chunks);
    if (chunks > 1 && all_bytes * static_cast<double>(shape.head_dim) > kMostBytes) break;
    const int64_t waves = (pairs * chunks + slots - 1) / slots;
    const double time = 12 * scores * static_cast<double>(waves * slots) / static_cast<double>(chunks) + kOperationsPerByte * 2 * all_bytes;
    if (chunks == 1 || time < best.time) best = {static_cast<int>(chunks), time};
  }
  return best;
}

// Chunks of relative attention's gradient, or 0: a kernel of its own, of 9 * head_dim operations a score, makes dR.
inline int gradient_chunks(const GradientShape& shape, int64_t multiprocessors) {
  if (shape.head_dim > kMostJoinedHeadDim) return 0;
  const double scores = static_cast<double>(shape.batch * shape.heads) * static_cast<double>(shape.queries) * static_cast<double>(shape.keys);
  const JoinedPlan joined = joined_plan(shape, multiprocessors);
  return joined.time < 19 * scores ? joined.chunks : 0;
}

}  // namespace xlformers::cuda
