// Memory that is a ring: where its rows lie is on the device.
#pragma once

#include "core/operators.h"
#include "cuda/data_error.cuh"

namespace xlformers::cuda {

struct RingHead {
  const int32_t* head;  // null: rows lie in order
  int length;
  DataError* error;

  // Where row 0 lies; 0 when the head cannot be.
  __device__ int begin() const {
    const int place = head == nullptr ? 0 : *head;
    return place >= 0 && place < length ? place : 0;
  }
  __device__ int row(int begin, int j) const {
    const int place = begin + j;
    return place < length ? place : place - length;
  }
  // Reports a head that cannot be.
  __device__ bool check(Operator op) const {
    const int place = head == nullptr ? 0 : *head;
    if (length == 0 || (place >= 0 && place < length)) return true;
    report(error, op, DataErrorKind::ring_head, 0, place, 0, length);
    return false;
  }
};

}  // namespace xlformers::cuda
