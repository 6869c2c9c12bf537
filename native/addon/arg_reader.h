// Reads the fields of an options object and refuses what an operator cannot work with. Numbers are read as doubles and must be in range:
// Node-API's conversions to integers truncate in silence (2^32 + 1 becomes 1, NaN becomes 0).
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "addon/errors.h"
#include "addon/operator_call.h"
#include "core/dtype.h"
#include "core/operators.h"
#include "core/shape.h"

namespace xlformers::addon {

// The largest integer that a JavaScript number holds without doubt.
constexpr int64_t kMaxInteger = (int64_t{1} << 53) - 1;

// Optional operands may be absent (undefined or null); the parameter block then holds a null pointer.
enum class Presence { required, optional };

class ArgReader {
 public:
  // `object` must be an object. Nested readers know the field they came from, for messages; the parent outlives them.
  ArgReader(OperatorCall& call, napi_value object, const ArgReader* parent = nullptr, const char* field = nullptr, int64_t index = -1);

  OperatorCall& call() const { return call_; }

  int64_t integer(const char* name, int64_t lowest, int64_t highest) const;
  // A size or a stride: an integer >= lowest.
  int64_t size(const char* name, int64_t lowest = 0) const { return integer(name, lowest, kMaxInteger); }
  // A seed or an offset of the random numbers.
  uint64_t counter(const char* name) const { return static_cast<uint64_t>(size(name)); }
  // A finite number in [lowest, highest].
  double number(const char* name, double lowest, double highest) const;
  double finite(const char* name) const;
  // Any number, NaN and infinities too.
  double any_number(const char* name) const;
  // A dropout probability, [0, 1).
  double probability(const char* name) const;
  bool boolean(const char* name) const;
  DType dtype(const char* name = "dtype") const;
  DType float_dtype(const char* name = "dtype") const;
  Activation activation(const char* name = "activation") const;
  // Fails with the list of names unless the field is one of them.
  int enumeration(const char* name, std::initializer_list<const char*> names) const;

  // Device memory of `elements` elements.
  const void* input(const char* name, DType dtype, int64_t elements, Presence presence = Presence::required) const;
  void* output(const char* name, DType dtype, int64_t elements, Presence presence = Presence::required) const;
  const int32_t* ids(const char* name, int64_t elements, Presence presence = Presence::required) const;
  bool present(const char* name) const;

  ArgReader object(const char* name) const;
  // An array of exactly `count` integers.
  void integers(const char* name, int64_t lowest, int64_t highest, int64_t* values, int64_t count) const;
  // Calls body(element reader, index) for the elements of an array of objects after start(length).
  template <typename Start, typename Body>
  void each(const char* name, int64_t shortest, int64_t longest, const Start& start, const Body& body) const {
    const napi_value array = array_field(name, shortest, longest);
    const int64_t length = array_length(array);
    start(length);
    for (int64_t index = 0; index < length; ++index) {
      Napi::HandleScope scope(call_.environment().env());
      body(element(array, name, index), index);
    }
  }

  // Sizes that cannot overflow; fail with ERR_ARG_SHAPE.
  int64_t product(std::initializer_list<int64_t> sizes) const;
  // Elements that `rows` rows of `columns` reach; `stride_name` is blamed when rows would overlap.
  int64_t matrix_extent(const char* stride_name, int64_t rows, int64_t columns, int64_t stride) const;
  // Elements that [outer, rows, columns] reaches by strides >= 0.
  int64_t strided_extent(int64_t outer, int64_t outer_stride, int64_t rows, int64_t row_stride, int64_t columns) const;

  // Refuses strides of an output by which two of its elements would be the same: kernels' threads would race for them.
  void require_distinct(const char* name, int64_t outer, int64_t outer_stride, int64_t rows, int64_t row_stride,
                        int64_t columns) const;

  // "<operator>: argument '<path>': got <given>, expected <expected>"
  [[noreturn]] void refuse(ErrorCode code, const char* name, const std::string& given, const std::string& expected) const;
  [[noreturn]] void refuse_integer(ErrorCode code, const char* name, int64_t given, const std::string& expected) const;

 private:
  napi_value field(const char* name) const;
  double read_number(const char* name, napi_value value) const;
  int64_t to_integer(const char* name, napi_value value, int64_t lowest, int64_t highest) const;
  void* memory(const char* name, DType dtype, int64_t elements, Presence presence, Access access) const;
  napi_value array_field(const char* name, int64_t shortest, int64_t longest) const;
  int64_t array_length(napi_value array) const;
  ArgReader element(napi_value array, const char* name, int64_t index) const;
  std::string path(const char* name) const;

  OperatorCall& call_;
  napi_value object_;
  const ArgReader* parent_;
  const char* field_;
  int64_t index_;
};

}  // namespace xlformers::addon
