// Copies of rows, sums over rows.
#include <algorithm>
#include <cstddef>
#include <memory>

#include "cuda/testing.h"

using namespace xlformers;
using namespace xlformers::cuda::testing;
using cuda::widen;

namespace {

// Element i is i modulo 251.
template <typename T>
std::vector<T> counted(size_t count) {
  std::vector<T> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<T>(i % 251);
  return values;
}

// For operators that only move elements: the types by size.
template <typename T>
constexpr DType kMoved = sizeof(T) == 1   ? DType::u8
                         : sizeof(T) == 2 ? DType::bf16
                         : sizeof(T) == 4 ? DType::i32
                                          : DType::f64;

template <typename T>
void check_permute(const PermuteParams& shape) {
  const auto size = [&](int axis) { return static_cast<size_t>(shape.size[axis]); };
  const size_t count = size(0) * size(1) * size(2) * size(3);
  const std::vector<T> values = counted<T>(count);
  DeviceArray<T> in(values), out(count);
  in.read_only();
  PermuteParams params = shape;
  params.dtype = kMoved<T>;
  params.in = in.data();
  params.out = out.data();
  run(cuda::permute, params);
  size_t stride[4] = {size(1) * size(2) * size(3), size(2) * size(3), size(3), 1}, to = 0;
  const int32_t* const o = shape.order;
  for (size_t a = 0; a < size(o[0]); ++a)
    for (size_t b = 0; b < size(o[1]); ++b)
      for (size_t c = 0; c < size(o[2]); ++c)
        for (size_t d = 0; d < size(o[3]); ++d, ++to) {
          const size_t from = a * stride[o[0]] + b * stride[o[1]] + c * stride[o[2]] + d * stride[o[3]];
          expect_near("permuted", to, static_cast<double>(out[to]), static_cast<double>(values[from]), 0);
        }
}

}  // namespace

TEST(permute_moves_elements_of_every_size_in_every_order) {
  int32_t order[4] = {0, 1, 2, 3};
  do {
    const PermuteParams odd = {DType::u8, {2, 3, 5, 7}, {order[0], order[1], order[2], order[3]}, nullptr, nullptr};
    check_permute<uint8_t>(odd);
    check_permute<uint64_t>(odd);
    const PermuteParams even = {DType::u8, {3, 1, 4, 16}, {order[0], order[1], order[2], order[3]}, nullptr, nullptr};
    check_permute<uint16_t>(even);
  } while (std::next_permutation(order, order + 4));
  for (const PermuteParams& tiles : {PermuteParams{DType::u8, {1, 2, 65, 33}, {1, 0, 3, 2}, nullptr, nullptr},
                                     PermuteParams{DType::u8, {40, 2, 1, 70}, {3, 1, 2, 0}, nullptr, nullptr}}) {
    check_permute<uint16_t>(tiles);
    check_permute<uint32_t>(tiles);
  }
}

TEST(transposed_tiles_are_right_under_every_schedule) {
  under_all_schedules([] {
    check_permute<uint16_t>({DType::u8, {1, 5, 33, 40}, {0, 1, 3, 2}, nullptr, nullptr});
    check_permute<uint32_t>({DType::u8, {1, 300, 2, 3}, {0, 1, 3, 2}, nullptr, nullptr});  // several tiles per block
  });
}

TEST(copy_strided_takes_any_offset_and_stride) {
  for (const int64_t columns : {1, 6, 16}) {
    for (const int64_t shift : {0, 1, 2, 8}) {
      for (const int64_t gap : {0, 3, 16}) {
        const int64_t outer = 2, rows = 3, in_row = columns + gap, out_row = columns;
        const std::vector<uint16_t> values = counted<uint16_t>(static_cast<size_t>(shift + outer * rows * in_row));
        DeviceArray<uint16_t> in(values), out(static_cast<size_t>(outer * rows * out_row));
        run(cuda::copy_strided, CopyStridedParams{DType::f16, outer, rows, columns, in.data() + shift, rows * in_row,
                                                  in_row, out.data(), rows * out_row, out_row});
        for (int64_t i = 0; i < outer * rows * columns; ++i) {
          const auto from = static_cast<size_t>(shift + i / columns * in_row + i % columns);
          EXPECT_EQUAL(out[static_cast<size_t>(i)], values[from]);
        }
      }
    }
  }
}

TEST(memory_update_keeps_the_last_rows_of_half_types) {
  const int64_t batch = 2, old_length = 3, current_length = 4, columns = 24;
  const std::vector<uint16_t> old_values = counted<uint16_t>(static_cast<size_t>(batch * old_length * columns));
  const std::vector<uint16_t> current_values =
      counted<uint16_t>(static_cast<size_t>(batch * current_length * columns + 5));
  DeviceArray<uint16_t> old_rows(old_values), current(current_values);
  for (int64_t out_length = 0; out_length <= old_length + current_length; ++out_length) {
    for (const int64_t shift : {0, 5}) {
      DeviceArray<uint16_t> out(static_cast<size_t>(batch * out_length * columns));
      run(cuda::memory_update, MemoryUpdateParams{DType::bf16, batch, columns, old_rows.data(), old_length, columns,
                                                  old_length * columns, current.data() + shift, current_length, columns,
                                                  current_length * columns, out.data(), out_length});
      for (int64_t i = 0; i < batch * out_length * columns; ++i) {
        const int64_t b = i / columns / out_length,
                      row = i / columns % out_length + old_length + current_length - out_length;
        const int64_t c = i % columns;
        const uint16_t wanted =
            row < old_length
                ? old_values[static_cast<size_t>((b * old_length + row) * columns + c)]
                : current_values[static_cast<size_t>(shift + (b * current_length + row - old_length) * columns + c)];
        EXPECT_EQUAL(out[static_cast<size_t>(i)], wanted);
      }
    }
  }
  DeviceArray<uint16_t> out(1);
  Operators operators;
  const Status status = operators.run(cuda::memory_update, MemoryUpdateParams{DType::bf16, 1, 1, nullptr, 0, 0, 0,
                                                                              current.data(), 1, 1, 1, out.data(), 2});
  EXPECT(status.code == StatusCode::invalid_argument);
}

TEST(ring_append_writes_over_the_oldest_rows_of_half_types) {
  const int64_t batch = 2, length = 5, columns = 24;
  const std::vector<uint16_t> kept(static_cast<size_t>(batch * length * columns), 7);
  for (const int64_t count : {0, 1, 3, 5}) {
    for (const int64_t shift : {0, 5}) {
      const std::vector<uint16_t> values = counted<uint16_t>(static_cast<size_t>(batch * count * columns + 5));
      DeviceArray<uint16_t> rows(values), ring(kept);
      DeviceArray<int32_t> head(std::vector<int32_t>{3});
      run(cuda::ring_append, RingAppendParams{DType::bf16, batch, count, length, head.data(), 1, 1,
                                              {{rows.data() + shift, columns, count * columns, columns, ring.data()}}});
      EXPECT_EQUAL(head[0], static_cast<int32_t>((3 + count) % length));
      for (int64_t i = 0; i < batch * length * columns; ++i) {
        const int64_t b = i / columns / length, place = i / columns % length, row = (place - 3 + length) % length;
        const uint16_t wanted = row < count ? values[static_cast<size_t>(shift + (b * count + row) * columns + i % columns)] : 7;
        EXPECT_EQUAL(ring[static_cast<size_t>(i)], wanted);
      }
    }
  }
}

// More rings than one launch has room for, of widths that take accesses of 2 to 16 bytes; only the last launch moves the head.
TEST(rings_that_share_a_head_are_written_together) {
  const int64_t batch = 2, length = 4, rings = 100;
  for (const int32_t advance : {0, 1}) {
    for (const int64_t count : {0, 3}) {
      under_all_schedules([&] {
        std::vector<char> bytes(offsetof(RingAppendParams, rings) + rings * sizeof(RingRows));
        auto& params = *reinterpret_cast<RingAppendParams*>(bytes.data());
        auto* const entries = reinterpret_cast<RingRows*>(bytes.data() + offsetof(RingAppendParams, rings));
        std::vector<std::unique_ptr<DeviceArray<uint16_t>>> sources, targets;
        for (int64_t r = 0; r < rings; ++r) {
          const int64_t columns = r % 17;
          std::vector<uint16_t> values(static_cast<size_t>(batch * count * columns));
          for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(1000 * r + static_cast<int64_t>(i));
          sources.push_back(std::make_unique<DeviceArray<uint16_t>>(values));
          targets.push_back(std::make_unique<DeviceArray<uint16_t>>(std::vector<uint16_t>(static_cast<size_t>(batch * length * columns), 7)));
          entries[r] = {sources.back()->data(), columns, count * columns, columns, targets.back()->data()};
        }
        DeviceArray<int32_t> head(std::vector<int32_t>{2});
        params.dtype = DType::f16;
        params.batch = batch, params.count = count, params.length = length;
        params.head = head.data(), params.advance = advance, params.ring_count = rings;
        run(cuda::ring_append, params);
        EXPECT_EQUAL(head[0], advance != 0 ? static_cast<int32_t>((2 + count) % length) : 2);
        for (int64_t r = 0; r < rings; ++r) {
          const int64_t columns = r % 17;
          for (int64_t i = 0; i < batch * length * columns; ++i) {
            const int64_t b = i / columns / length, row = (i / columns % length - 2 + length) % length;
            const int64_t from = (b * count + row) * columns + i % columns;
            EXPECT_EQUAL((*targets[static_cast<size_t>(r)])[static_cast<size_t>(i)],
                         row < count ? static_cast<uint16_t>(1000 * r + from) : uint16_t{7});
          }
        }
      });
    }
  }
}

TEST(column_sums_of_many_and_few_rows) {
  struct Shape {
    int64_t rows, columns, stride;
  };
  for_all_types([](auto zero) {
    using T = decltype(zero);
    for (const Shape& shape : {Shape{0, 3, 3}, Shape{5, 33, 40}, Shape{300, 16, 24}, Shape{130, 7, 7}}) {
      Numbers<T> x(static_cast<size_t>(shape.rows * shape.stride), 3);
      for (const bool accumulate : {false, true}) {
        DeviceArray<T> out(converted<T>(short_numbers(static_cast<size_t>(shape.columns), 4)));
        const std::vector<float> before = short_numbers(static_cast<size_t>(shape.columns), 4);
        run(cuda::column_sum,
            ColumnSumParams{kDType<T>, shape.rows, shape.columns, accumulate, x.data(), shape.stride, out.data()});
        for (int64_t c = 0; c < shape.columns; ++c) {
          // Multiples of 2^-7 below 300: exact in fp32.
          double wanted = accumulate ? before[static_cast<size_t>(c)] : 0;
          for (int64_t r = 0; r < shape.rows; ++r) wanted += x[static_cast<size_t>(r * shape.stride + c)];
          expect_near("sum", static_cast<size_t>(c), widen(out[static_cast<size_t>(c)]), wanted,
                      rounding_of<T>(wanted));
        }
      }
    }
  });
}

TEST(column_sums_are_the_same_under_every_schedule) {
  Numbers<__nv_bfloat16> x(300 * 40, 5);
  std::vector<uint16_t> first;
  under_all_schedules([&] {
    DeviceArray<__nv_bfloat16> out(40);
    run(cuda::column_sum, ColumnSumParams{DType::bf16, 300, 40, 0, x.data(), 40, out.data()});
    std::vector<uint16_t> bits;
    for (size_t i = 0; i < 40; ++i) bits.push_back(__bfloat16_as_ushort(out[i]));
    if (first.empty()) first = bits;
    EXPECT(bits == first);
  });
}
