#include "cuda/data_error.h"

#include "core/operator_list.h"

namespace xlformers::cuda {

Status describe(const DataError& error) {
  const char* const name = kOperatorNames[error.op];
  const auto index = static_cast<long long>(error.index), value = static_cast<long long>(error.value);
  const auto low = static_cast<long long>(error.low), high = static_cast<long long>(error.high);
  switch (error.kind) {
    case DataErrorKind::none: return ok_status();
    case DataErrorKind::id:
      return make_status(StatusCode::out_of_range, "%s: id %lld at position %lld is outside the table's ids [%lld, %lld)", name,
                         value, index, low, high);
    case DataErrorKind::label:
      return make_status(StatusCode::out_of_range, "%s: label %lld at row %lld is neither %d (ignored) nor in [%lld, %lld)", name,
                         value, index, kIgnoredLabel, low, high);
    case DataErrorKind::position:
      return make_status(StatusCode::out_of_range, "%s: position %lld of row %lld, expected %lld ... %lld", name, value, index, low,
                         high - 1);
    case DataErrorKind::memory_start:
      return make_status(StatusCode::out_of_range, "%s: memory start %lld of batch row %lld, expected %lld ... %lld", name, value, index,
                         low, high - 1);
    case DataErrorKind::batch_position:
      return make_status(StatusCode::out_of_range, "%s: position %lld of row %lld, batch row %lld, expected %lld ... %lld", name, value,
                         index & 0xFFFFFFFF, index >> 32, low, high - 1);
    case DataErrorKind::ring_head:
      return make_status(StatusCode::out_of_range, "%s: ring head %lld, expected %lld ... %lld", name, value, low, high - 1);
  }
  return make_status(StatusCode::internal, "%s: an unknown error of the data", name);
}

}  // namespace xlformers::cuda
