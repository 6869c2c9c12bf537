// What permutation_attention has in common with relative_attention. Functions are static for the reason given in status.h.
#pragma once

#include "core/operators.h"

namespace xlformers {

// What relative_attention's accessors need of this problem: keys, values, positions, biases and the band.
static inline RelativeAttentionParams relative_view(const PermutationAttentionParams& params) {
  RelativeAttentionParams view{};
  view.dtype = params.dtype;
  view.batch = params.batch;
  view.heads = params.heads;
  view.head_dim = params.head_dim;
  view.query_length = params.current.length;
  view.scale = params.scale;
  view.memory = params.memory;
  view.current = params.current;
  view.position = params.position;
  view.position_rows = params.position_rows;
  view.position_row_stride = params.position_row_stride;
  view.first_distance = params.first_distance;
  view.content_bias = params.content_bias;
  view.position_bias = params.position_bias;
  view.head_scale = params.head_scale;
  view.band_upper = params.band_upper;
  view.band_lower = params.band_lower;
  view.band_segment = params.band_segment;
  return view;
}

}  // namespace xlformers
