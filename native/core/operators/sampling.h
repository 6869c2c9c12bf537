// Draws and rankings of scores. The conventions: core/operators.h.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace xlformers {

// probabilities = softmax of each row; top and indices: its k largest, descending, of equals the lower column first. 1 <= k <= columns.
struct TopProbabilitiesParams {
  DType dtype;
  int64_t rows, columns, k;
  const void* scores;    // [rows, columns]
  void* probabilities;   // [rows, columns]
  void* top;             // [rows, k]
  int32_t* indices;      // [rows, k]
};

// ids[row] drawn from scores[row] (logits or log-probabilities). temperature 0: argmax (lowest id of equals). Else scores / temperature,
// then top_k (0: off), then top_p (1: off; the smallest set whose probability reaches top_p, at least one), then inverse transform with
// u = block(row, 0, 2).word[0] * 2^-32: the first kept id, ascending, whose cumulative probability exceeds u. Scores rank by value, of
// equals the lower id first. log_probability (optional): of the drawn id under the untruncated distribution at temperature 1.
//
// With `streams` the random numbers come from the device, so that a recording draws others each time: row r draws as a call of its own
// would, u = block(0, 0, 2).word[0] of the stream {seed, offset} = streams[r], whose offset then counts on by one. At temperature 0 they stay.
struct SampleParams {
  DType dtype;
  int64_t rows, columns;
  double temperature;
  int64_t top_k;
  double top_p;
  uint64_t seed, offset;
  uint32_t* streams;  // [rows, 4] or null, input and output: seed and offset, the lower word of each first
  const void* scores;
  int32_t* ids;
  void* log_probability;
};

}  // namespace xlformers
