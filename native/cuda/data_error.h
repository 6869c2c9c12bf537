// An error that only the data show, found by a kernel: the first one is kept on the device until the next fence fetches it.
#pragma once

#include <cstdint>

#include "core/status.h"

namespace xlformers::cuda {

// How the four numbers read.
enum class DataErrorKind : int32_t {
  none = 0,
  id = 1,        // id `value` at position `index`, expected one of [low, high)
  label = 2,     // label `value` at row `index`, expected kIgnoredLabel or one of [low, high)
  position = 3,  // position `value` of row `index`, expected one of [low, high)
  memory_start = 4,  // of batch row `index`, expected one of [low, high)
  batch_position = 5,  // position `value` of row `index` % 2^32 of batch row `index` / 2^32, expected one of [low, high)
  ring_head = 6,       // `value`, expected one of [low, high)
};

struct DataError {
  unsigned int claimed;  // not 0: the rest is taken
  int32_t op;            // Operator
  DataErrorKind kind;
  int64_t index, value, low, high;
};

// As the CPU backend says it.
Status describe(const DataError& error);

}  // namespace xlformers::cuda
