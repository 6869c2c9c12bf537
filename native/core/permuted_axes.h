// The axes of a permutation as backends walk them. Functions are static for the reason given in status.h.
#pragma once

#include <cstdint>

#include "core/operators.h"

namespace xlformers {

// The output's axes, outermost first, with the input's stride along each. Axes of size 1 are gone, axes that stay
// together are one.
struct PermutedAxes {
  int count = 0;
  int64_t size[4];
  int64_t stride[4];
};

static inline PermutedAxes permuted_axes(const PermuteParams& p) {
  int64_t in_stride[4];
  int64_t stride = 1;
  for (int axis = 3; axis >= 0; --axis) {
    in_stride[axis] = stride;
    stride *= p.size[axis];
  }
  PermutedAxes axes;
  for (const int32_t axis : p.order) {
    const int64_t size = p.size[axis];
    if (size == 1) continue;
    if (axes.count > 0 && axes.stride[axes.count - 1] == in_stride[axis] * size) {
      axes.size[axes.count - 1] *= size;
      axes.stride[axes.count - 1] = in_stride[axis];
      continue;
    }
    axes.size[axes.count] = size;
    axes.stride[axes.count] = in_stride[axis];
    ++axes.count;
  }
  return axes;
}

}  // namespace xlformers
