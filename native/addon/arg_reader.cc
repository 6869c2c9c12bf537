#include "addon/arg_reader.h"

#include <cmath>
#include <cstdio>
#include <cstring>

#include "addon/handle.h"

namespace xlformers::addon {
namespace {

// An exception of JavaScript's own (a getter, a proxy) or of Node-API goes on as it is.
void require_napi(napi_env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

napi_valuetype type_of(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  require_napi(env, napi_typeof(env, value, &type));
  return type;
}

}  // namespace

ArgReader::ArgReader(OperatorCall& call, napi_value object, const ArgReader* parent, const char* field, int64_t index)
    : call_(call), object_(object), parent_(parent), field_(field), index_(index) {}

std::string ArgReader::path(const char* name) const {
  if (parent_ == nullptr) return name;
  std::string text = parent_->path(field_);
  if (index_ >= 0) text += "[" + std::to_string(index_) + "]";
  return *name == '\0' ? text : text + "." + name;
}

void ArgReader::refuse(ErrorCode code, const char* name, const std::string& given, const std::string& expected) const {
  fail(code, "%s: argument '%s': got %s, expected %s", call_.name(), path(name).c_str(), given.c_str(), expected.c_str());
}

void ArgReader::refuse_integer(ErrorCode code, const char* name, int64_t given, const std::string& expected) const {
  refuse(code, name, std::to_string(given), expected);
}

napi_value ArgReader::field(const char* name) const {
  const napi_env env = call_.environment().env();
  napi_value value = nullptr;
  require_napi(env, napi_get_named_property(env, object_, name, &value));
  return value;
}

bool ArgReader::present(const char* name) const {
  const napi_valuetype type = type_of(call_.environment().env(), field(name));
  return type != napi_undefined && type != napi_null;
}

double ArgReader::read_number(const char* name, napi_value value) const {
  const napi_env env = call_.environment().env();
  if (type_of(env, value) != napi_number) refuse(ErrorCode::arg_type, name, describe(env, value), "a number");
  double number = 0;
  require_napi(env, napi_get_value_double(env, value, &number));
  return number;
}

int64_t ArgReader::to_integer(const char* name, napi_value value, int64_t lowest, int64_t highest) const {
  const double number = read_number(name, value);
  // The comparisons are false for NaN; the bounds are exact as doubles.
  const bool fits = number >= static_cast<double>(lowest) && number <= static_cast<double>(highest) && number == std::floor(number);
  if (!fits) {
    refuse(ErrorCode::arg_range, name, describe(call_.environment().env(), value),
           "an integer in [" + std::to_string(lowest) + ", " + std::to_string(highest) + "]");
  }
  return static_cast<int64_t>(number);
}

int64_t ArgReader::integer(const char* name, int64_t lowest, int64_t highest) const {
  return to_integer(name, field(name), lowest, highest);
}

double ArgReader::any_number(const char* name) const { return read_number(name, field(name)); }

double ArgReader::number(const char* name, double lowest, double highest) const {
  const napi_value value = field(name);
  const double number = read_number(name, value);
  if (!(number >= lowest && number <= highest)) {
    char expected[80];
    std::snprintf(expected, sizeof expected, "a number in [%g, %g]", lowest, highest);
    refuse(ErrorCode::arg_range, name, describe(call_.environment().env(), value), expected);
  }
  return number;
}

double ArgReader::finite(const char* name) const {
  const napi_value value = field(name);
  const double number = read_number(name, value);
  if (!std::isfinite(number)) {
    refuse(ErrorCode::arg_range, name, describe(call_.environment().env(), value), "a finite number");
  }
  return number;
}

double ArgReader::probability(const char* name) const {
  const napi_value value = field(name);
  const double number = read_number(name, value);
  if (!(number >= 0 && number < 1)) {
    refuse(ErrorCode::arg_range, name, describe(call_.environment().env(), value), "a number in [0, 1)");
  }
  return number;
}

bool ArgReader::boolean(const char* name) const {
  const napi_env env = call_.environment().env();
  const napi_value value = field(name);
  if (type_of(env, value) != napi_boolean) refuse(ErrorCode::arg_type, name, describe(env, value), "true or false");
  bool flag = false;
  require_napi(env, napi_get_value_bool(env, value, &flag));
  return flag;
}

int ArgReader::enumeration(const char* name, std::initializer_list<const char*> names) const {
  const napi_env env = call_.environment().env();
  const napi_value value = field(name);
  const bool is_string = type_of(env, value) == napi_string;
  if (is_string) {
    char text[32];
    size_t length = 0;
    require_napi(env, napi_get_value_string_utf8(env, value, text, sizeof text, &length));
    int index = 0;
    for (const char* candidate : names) {
      if (length == std::strlen(candidate) && std::memcmp(text, candidate, length) == 0) return index;
      ++index;
    }
  }
  std::string expected;
  for (const char* candidate : names) expected += std::string(expected.empty() ? "one of '" : ", '") + candidate + "'";
  refuse(is_string ? ErrorCode::arg_range : ErrorCode::arg_type, name, describe(env, value), expected);
}

DType ArgReader::dtype(const char* name) const {
  return static_cast<DType>(enumeration(name, {"f32", "f64", "bf16", "f16", "i32", "u8"}));
}

DType ArgReader::float_dtype(const char* name) const {
  return static_cast<DType>(enumeration(name, {"f32", "f64", "bf16", "f16"}));
}

Activation ArgReader::activation(const char* name) const {
  return static_cast<Activation>(enumeration(name, {"none", "relu", "gelu", "geluTanh", "silu", "tanh"}));
}

void* ArgReader::memory(const char* name, DType dtype, int64_t elements, Presence presence, Access access) const {
  Environment& environment = call_.environment();
  const napi_env env = environment.env();
  const napi_value value = field(name);
  const napi_valuetype type = type_of(env, value);
  if (presence == Presence::optional && (type == napi_undefined || type == napi_null)) return nullptr;
  const BufferHandle* buffer = unwrap_handle<BufferHandle>(env, value);
  if (buffer == nullptr) refuse(ErrorCode::arg_handle, name, describe(env, value), "a buffer");
  if (buffer->block == nullptr) refuse(ErrorCode::disposed, name, "a buffer that was released", "one that is alive");
  const Device& device = *buffer->block->device();
  if (device.environment() != &environment) {
    refuse(ErrorCode::arg_handle, name, "a buffer of another copy of the addon", "one that this copy allocated");
  }
  if (call_.device() != nullptr && call_.device() != &device) {
    refuse(ErrorCode::arg_handle, name, "a buffer of another device (" + device.name() + ")",
           "one of the same device as the other operands (" + call_.device()->name() + ")");
  }
  int64_t bytes = 0;
  const int64_t element_bytes = static_cast<int64_t>(dtype_size(dtype));
  if (!checked_multiply(elements, element_bytes, &bytes) || static_cast<uint64_t>(bytes) > buffer->bytes) {
    refuse(ErrorCode::arg_shape, name, std::to_string(buffer->bytes) + " bytes",
           "at least " + std::to_string(elements) + " elements of " + dtype_name(dtype));
  }
  if (buffer->offset % static_cast<size_t>(element_bytes) != 0) {
    refuse(ErrorCode::arg_data, name, "a view that starts at byte " + std::to_string(buffer->offset),
           "one that starts at a multiple of " + std::to_string(element_bytes));
  }
  call_.touch(name, *buffer, static_cast<size_t>(bytes), access);
  return buffer->memory();
}

const void* ArgReader::input(const char* name, DType dtype, int64_t elements, Presence presence) const {
  return memory(name, dtype, elements, presence, Access::read);
}

void* ArgReader::output(const char* name, DType dtype, int64_t elements, Presence presence) const {
  return memory(name, dtype, elements, presence, Access::write);
}

const int32_t* ArgReader::ids(const char* name, int64_t elements, Presence presence) const {
  return static_cast<const int32_t*>(input(name, DType::i32, elements, presence));
}

ArgReader ArgReader::object(const char* name) const {
  const napi_env env = call_.environment().env();
  const napi_value value = field(name);
  if (type_of(env, value) != napi_object) refuse(ErrorCode::arg_type, name, describe(env, value), "an object");
  return ArgReader(call_, value, this, name);
}

napi_value ArgReader::array_field(const char* name, int64_t shortest, int64_t longest) const {
  const napi_env env = call_.environment().env();
  const napi_value value = field(name);
  bool is_array = false;
  require_napi(env, napi_is_array(env, value, &is_array));
  if (!is_array) refuse(ErrorCode::arg_type, name, describe(env, value), "an array");
  const int64_t length = array_length(value);
  if (length < shortest || length > longest) {
    refuse(ErrorCode::arg_shape, name, "an array of length " + std::to_string(length),
           "a length in [" + std::to_string(shortest) + ", " + std::to_string(longest) + "]");
  }
  return value;
}

int64_t ArgReader::array_length(napi_value array) const {
  const napi_env env = call_.environment().env();
  uint32_t length = 0;
  require_napi(env, napi_get_array_length(env, array, &length));
  return length;
}

ArgReader ArgReader::element(napi_value array, const char* name, int64_t index) const {
  const napi_env env = call_.environment().env();
  napi_value value = nullptr;
  require_napi(env, napi_get_element(env, array, static_cast<uint32_t>(index), &value));
  const ArgReader reader(call_, value, this, name, index);
  if (type_of(env, value) != napi_object) reader.refuse(ErrorCode::arg_type, "", describe(env, value), "an object");
  return reader;
}

void ArgReader::integers(const char* name, int64_t lowest, int64_t highest, int64_t* values, int64_t count) const {
  const napi_env env = call_.environment().env();
  const napi_value array = array_field(name, count, count);
  for (int64_t index = 0; index < count; ++index) {
    napi_value value = nullptr;
    require_napi(env, napi_get_element(env, array, static_cast<uint32_t>(index), &value));
    values[index] = ArgReader(call_, value, this, name, index).to_integer("", value, lowest, highest);
  }
}

int64_t ArgReader::product(std::initializer_list<int64_t> sizes) const {
  int64_t total = 0;
  if (!checked_product(sizes, &total)) fail(ErrorCode::arg_shape, "%s: sizes multiply to more than 2^53 elements", call_.name());
  return total;
}

int64_t ArgReader::matrix_extent(const char* stride_name, int64_t rows, int64_t columns, int64_t stride) const {
  int64_t extent = 0;
  if (stride < columns) {
    refuse_integer(ErrorCode::arg_shape, stride_name, stride, "at least the length of a row, " + std::to_string(columns));
  }
  if (!checked_extent(rows, columns, stride, &extent)) {
    fail(ErrorCode::arg_shape, "%s: %s: the matrix reaches over more than 2^53 elements", call_.name(), path(stride_name).c_str());
  }
  return extent;
}

int64_t ArgReader::strided_extent(int64_t outer, int64_t outer_stride, int64_t rows, int64_t row_stride, int64_t columns) const {
  if (outer == 0 || rows == 0 || columns == 0) return 0;
  int64_t outer_span = 0;
  int64_t row_span = 0;
  int64_t extent = 0;
  if (!checked_multiply(outer - 1, outer_stride, &outer_span) || !checked_multiply(rows - 1, row_stride, &row_span) ||
      !checked_add(outer_span, row_span, &extent) || !checked_add(extent, columns, &extent)) {
    fail(ErrorCode::arg_shape, "%s: strides reach over more than 2^53 elements", call_.name());
  }
  return extent;
}

void ArgReader::require_distinct(const char* name, int64_t outer, int64_t outer_stride, int64_t rows, int64_t row_stride,
                                 int64_t columns) const {
  if (outer == 0 || rows == 0 || columns == 0) return;
  // The rows of one outer index lie apart, and so do the outer indices: either whole blocks of rows, or rows between rows.
  const bool rows_apart = rows == 1 || row_stride >= columns;
  const bool blocks_apart = outer == 1 || outer_stride >= strided_extent(1, 0, rows, row_stride, columns);
  const bool rows_between = outer_stride >= columns && row_stride >= strided_extent(1, 0, outer, outer_stride, columns);
  if ((rows_apart && blocks_apart) || rows_between) return;
  refuse(ErrorCode::arg_shape, name, "strides " + std::to_string(outer_stride) + " and " + std::to_string(row_stride),
         "strides by which no two elements of the output coincide");
}

}  // namespace xlformers::addon
