#include "cuda/permutation_slots.h"

#include "cuda/data_error.cuh"
#include "cuda/radix_sort.cuh"

namespace xlformers::cuda {
namespace {

// Item i of [batch, length]: a key by which the rows of a stream sort by batch row and position, those that stand nowhere last.
struct SlotKeys {
  const int32_t* positions;
  int length, current;
  Operator op;
  uint32_t* keys;
  DataError* error;

  __device__ void operator()(int64_t i) const {
    const int64_t batch = i / length;
    const int given = positions[i];
    if (given < -1 || given >= current) report(error, op, DataErrorKind::batch_position, i % length + (batch << 32), given, -1, current);
    const int place = given >= 0 && given < current ? given : current;
    keys[i] = static_cast<uint32_t>(batch) * static_cast<uint32_t>(current + 1) + static_cast<uint32_t>(place);
  }
};

// Item i of [batch, length]: what stands there, from the sorted keys.
struct MakeSlots {
  SortedKeys sorted;
  int length, current;
  StreamSlot* slots;

  __device__ void operator()(int64_t i) const {
    const int place = static_cast<int>(sorted.keys[i] % static_cast<uint32_t>(current + 1));
    slots[i] = {static_cast<int32_t>(sorted.positions[i] % static_cast<uint32_t>(length)), place == current ? -1 : place};
  }
};

}  // namespace

Status sort_rows(const Context& context, Operator op, const int32_t* positions, int64_t batch, int length, int current,
                 const StreamSlot** slots) {
  const char* const name = kOperatorNames[static_cast<int>(op)];
  const int64_t rows = batch * length, largest = batch * (int64_t{current} + 1) - 1;
  if (rows > UINT32_MAX || largest > UINT32_MAX) {
    return make_status(StatusCode::unsupported, "%lld queries at %lld places: expected less than 2^32", static_cast<long long>(rows),
                       static_cast<long long>(largest));
  }
  uint32_t* const keys = context.workspace.allocate<uint32_t>(rows);
  StreamSlot* const made = context.workspace.allocate<StreamSlot>(rows);
  *slots = made;
  SortedKeys sorted;
  Status status = for_each(context, name, rows, SlotKeys{positions, length, current, op, keys, context.data_error});
  if (status.ok()) status = sort_keys(context, name, keys, static_cast<uint32_t>(rows), static_cast<uint32_t>(largest), &sorted);
  if (status.ok()) status = for_each(context, name, rows, MakeSlots{sorted, length, current, made});
  return status;
}

}  // namespace xlformers::cuda
