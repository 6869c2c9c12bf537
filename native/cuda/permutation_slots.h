// Rows of a stream that says where they stand, in the order of their positions.
#pragma once

#include "core/operators.h"
#include "cuda/kernel.h"

namespace xlformers::cuda {

// A row of a stream and the current row at which it stands, -1: nowhere.
struct StreamSlot {
  int32_t row, position;
};

// slots: [batch, length] in the workspace, of each batch row by position, equal ones by row; rows that stand nowhere come last.
// `current`: rows at which one may stand.
Status sort_rows(const Context& context, Operator op, const int32_t* positions, int64_t batch, int length, int current,
                 const StreamSlot** slots);

}  // namespace xlformers::cuda
