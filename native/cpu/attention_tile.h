// The pieces that the attention kernels are made of: a register-blocked product of small tiles, packing of rows into column panels,
// and which keys a query sees.
#pragma once

#include "core/operators.h"
#include "core/status.h"
#include "cpu/gemm_pack.h"
#include "cpu/vec.h"

XL_KERNELS_BEGIN

// Tile sizes. kTileRows x kPanel accumulators fill the register file: 24 of 32 vectors, or 12 of 16.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif
template <typename T>
constexpr int kPanel = 2 * kLanes<T>;  // columns of a panel

// Queries and keys handled at a time: multiples of kTileRows and of every kPanel; tiles of both stay in the first two cache levels.
constexpr int kQueryBlock = 96;
constexpr int kKeyBlock = 192;

static inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// c[kTileRows, kVectors lanes] (+)= a b. a[row, k] = a[row * a_row + k * a_inner]; b[k] = kVectors vectors at b + k * b_stride.
template <typename T, int kVectors, bool kAccumulate>
static inline void tile_product(int64_t inner, const T* a, int64_t a_row, int64_t a_inner, const T* b, int64_t b_stride, T* c,
                                int64_t c_stride) {
  Vec<T> sums[kTileRows][kVectors];
#pragma GCC unroll 12
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sums[row][v] = kAccumulate ? load(c + row * c_stride + v * kLanes<T>) : Vec<T>{};
    }
  }
  for (int64_t k = 0; k < inner; ++k, a += a_inner, b += b_stride) {
    Vec<T> right[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kLanes<T>);
#pragma GCC unroll 12
    for (int row = 0; row < kTileRows; ++row) {
      const Vec<T> left = broadcast(a[row * a_row]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[row][v] += left * right[v];
    }
  }
#pragma GCC unroll 12
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) store(c + row * c_stride + v * kLanes<T>, sums[row][v]);
  }
}

// c[kTileRows, columns] += a b with b stored by rows: columns is a multiple of the vector's lanes.
template <typename T>
static inline void add_product(int64_t columns, int64_t inner, const T* a, int64_t a_row, int64_t a_inner, const T* b, int64_t b_stride,
                               T* c, int64_t c_stride) {
  int64_t column = 0;
  for (; column + kPanel<T> <= columns; column += kPanel<T>) {
    tile_product<T, 2, true>(inner, a, a_row, a_inner, b + column, b_stride, c + column, c_stride);
  }
  if (column < columns) tile_product<T, 1, true>(inner, a, a_row, a_inner, b + column, b_stride, c + column, c_stride);
}

// c[kTileRows, panels [first, last)] = a b with b in panels of [inner][kPanel]; column 0 of c is that of panel `first`.
template <typename T>
static inline void panel_product(int64_t first, int64_t last, int64_t inner, const T* a, int64_t a_row, int64_t a_inner, const T* b,
                                 T* c, int64_t c_stride) {
  for (int64_t panel = first; panel < last; ++panel) {
    tile_product<T, 2, false>(inner, a, a_row, a_inner, b + panel * inner * kPanel<T>, kPanel<T>, c + (panel - first) * kPanel<T>,
                              c_stride);
  }
}

// out[k * out_stride + i] = rows[i][k] for i < count, a multiple of the vector's lanes.
template <typename T>
static inline void transpose_rows(const T* const* rows, int count, int64_t inner, T* out, int64_t out_stride) {
  const int64_t whole = inner - inner % kPieceLanes<T>;
  for (int first = 0; first < count; first += kLanes<T>) {
    int64_t k = 0;
#if defined(__AVX512F__)
    for (; k + kLanes<T> <= inner; k += kLanes<T>) transpose_square<T>(rows + first, k, out + k * out_stride + first, out_stride);
#endif
    for (; k < whole; k += kPieceLanes<T>) transpose_narrow<T>(rows + first, k, out + k * out_stride + first, out_stride);
    for (; k < inner; ++k) {
      for (int i = first; i < first + kLanes<T>; ++i) out[k * out_stride + i] = rows[i][k];
    }
  }
}

// Rows into the columns of panels. row(i) is null where there is none: nothing that counts reads such a column, so it may hold what
// another row has; a panel without any row is zeroed.
template <typename T, typename Row>
static inline void pack_panels(int64_t count, int64_t inner, const Row& row, T* panels) {
  for (int64_t first = 0; first < count; first += kPanel<T>, panels += inner * kPanel<T>) {
    const T* rows[kPanel<T>];
    const T* present = nullptr;
    for (int i = 0; i < kPanel<T>; ++i) {
      rows[i] = row(first + i);
      if (rows[i] != nullptr) present = rows[i];
    }
    if (present == nullptr) {
      __builtin_memset(panels, 0, static_cast<size_t>(inner * kPanel<T>) * sizeof(T));
      continue;
    }
    for (const T*& each : rows) {
      if (each == nullptr) each = present;
    }
    transpose_rows(rows, kPanel<T>, inner, panels, kPanel<T>);
  }
}

// `count` elements and zeros up to `padded`.
template <typename T>
static inline void copy_padded(const T* from, int64_t count, int64_t padded, T* to) {
  __builtin_memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
  for (int64_t i = count; i < padded; ++i) to[i] = 0;
}

template <typename T>
static inline void zero(int64_t count, T* to) {
  __builtin_memset(to, 0, static_cast<size_t>(count) * sizeof(T));
}

// y[i] += factor * x[i]; count is a multiple of the lanes.
template <typename T>
static inline void add_scaled(int64_t count, T factor, const T* x, T* y) {
  for (int64_t i = 0; i < count; i += kLanes<T>) store(y + i, load(y + i) + load(x + i) * factor);
}

// Whether the first visible memory row of every batch row lies in [0, highest].
static inline Status check_memory_starts(const int32_t* starts, int64_t batch, int64_t highest) {
  for (int64_t b = 0; starts != nullptr && b < batch; ++b) {
    if (starts[b] < 0 || starts[b] > highest) {
      return make_status(StatusCode::out_of_range, "memory start %d of batch row %lld, expected 0 ... %lld", static_cast<int>(starts[b]),
                         static_cast<long long>(b), static_cast<long long>(highest));
    }
  }
  return ok_status();
}

static inline Status check_memory_starts(const RelativeAttentionParams& params) {
  return check_memory_starts(params.memory_starts, params.batch, params.memory.length + smaller(0, params.band_upper));
}

static inline Status check_memory_starts(const PermutationAttentionParams& params) {
  return check_memory_starts(params.memory_starts, params.batch, params.memory.length);
}

// Whether the memory's ring, if it is one, has a head that it can have.
static inline Status check_ring(const AttentionRows& memory) {
  if (memory.ring_head == nullptr || memory.length == 0) return ok_status();
  const int32_t head = *memory.ring_head;
  if (head >= 0 && head < memory.length) return ok_status();
  return make_status(StatusCode::out_of_range, "ring head %d, expected 0 ... %lld", static_cast<int>(head),
                     static_cast<long long>(memory.length - 1));
}

static inline Status refuse_ring(const AttentionRows& memory) {
  if (memory.ring_head == nullptr) return ok_status();
  return make_status(StatusCode::unsupported, "memory that is a ring has no gradient");
}

// One (batch, head) of an attention problem: where its rows lie and what a query sees.
template <typename T>
struct AttentionHead {
  const RelativeAttentionParams& params;
  int64_t batch, head;

  int64_t keys() const { return params.memory.length + params.current.length; }
  int64_t pair() const { return batch * params.heads + head; }

  const T* query(int64_t i) const {
    return static_cast<const T*>(params.query) + batch * params.query_batch_stride + i * params.query_row_stride + head * params.head_dim;
  }
  const T* key(int64_t j) const { return row(j, params.memory.key, params.current.key); }
  const T* value(int64_t j) const { return row(j, params.memory.value, params.current.value); }

  // r of a distance, or null where there is no such row (no visible pair has such a distance).
  const T* position(int64_t distance) const {
    const int64_t index = distance - params.first_distance;
    if (index < 0 || index >= params.position_rows) return nullptr;
    return static_cast<const T*>(params.position) + index * params.position_row_stride + head * params.head_dim;
  }
  const T* content_bias() const { return bias(params.content_bias); }
  const T* position_bias() const { return bias(params.position_bias); }

  // Element offset of row i in arrays laid out as `out`: [batch, query, heads, head_dim].
  int64_t out_offset(int64_t i) const {
    return ((batch * params.query_length + i) * params.heads + head) * params.head_dim;
  }
  int64_t statistic_offset(int64_t i) const { return (batch * params.heads + head) * params.query_length + i; }

  T scale_of_head() const {
    return params.head_scale == nullptr ? T{1} : static_cast<const T*>(params.head_scale)[head];
  }

  // Query i sees keys [first_key(i), end_key(i)), both non-decreasing in i.
  int64_t first_key(int64_t i) const {
    const int64_t start = params.memory_starts == nullptr ? 0 : params.memory_starts[batch];
    return larger(start, i / params.band_segment * params.band_segment + params.band_lower);
  }
  int64_t end_key(int64_t i) const { return smaller(keys(), params.memory.length + i + params.band_upper + 1); }

 private:
  const T* row(int64_t j, const void* memory, const void* current) const {
    const AttentionRows& rows = j < params.memory.length ? params.memory : params.current;
    const int64_t index = j < params.memory.length ? memory_row(j) : j - params.memory.length;
    const T* base = static_cast<const T*>(j < params.memory.length ? memory : current);
    return base + batch * rows.batch_stride + index * rows.row_stride + head * params.head_dim;
  }
  int64_t memory_row(int64_t j) const {
    if (params.memory.ring_head == nullptr) return j;
    const int64_t row = *params.memory.ring_head + j;
    return row < params.memory.length ? row : row - params.memory.length;
  }
  const T* bias(const void* biases) const {
    return biases == nullptr ? nullptr : static_cast<const T*>(biases) + head * params.head_dim;
  }
};

XL_KERNELS_END
