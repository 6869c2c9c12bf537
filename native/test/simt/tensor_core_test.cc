// The layouts are written out here once more, element by element as the PTX ISA states them, not shared with the
// emulator.
#include "cuda/device.cuh"
#include "simt/testing.h"

using namespace simt::testing;
using simt::DeviceArray;
using simt::FaultKind;
using simt::Grid;
using namespace xlformers::cuda;

namespace {

// C [16, 8] = A [16, 16] B [16, 8] + C, element i of a fragment by the formulas of "Matrix Fragments for mma.m16n8k16".
template <typename T>
__global__ void product_16816(const float* a, const float* b, float* c) {
  const int group = static_cast<int>(threadIdx.x) >> 2, in_group = static_cast<int>(threadIdx.x) % 4;
  float a_values[8], b_values[4], accumulator[4];
  for (int i = 0; i < 8; ++i) {
    const int row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
    const int column = in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0);
    a_values[i] = a[row * 16 + column];
  }
  for (int i = 0; i < 4; ++i) b_values[i] = b[(in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0)) * 8 + group];
  for (int i = 0; i < 4; ++i) accumulator[i] = c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
  uint32_t fragment[4];
  for (int i = 0; i < 4; ++i) fragment[i] = pack<T>(a_values[2 * i], a_values[2 * i + 1]);
  mma_m16n8k16<T>(accumulator, fragment, pack<T>(b_values[0], b_values[1]), pack<T>(b_values[2], b_values[3]));
  for (int i = 0; i < 4; ++i) c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = accumulator[i];
}

__global__ void product_1688(const float* a, const float* b, float* c) {
  const int group = static_cast<int>(threadIdx.x) >> 2, in_group = static_cast<int>(threadIdx.x) % 4;
  uint32_t fragment[4];
  for (int i = 0; i < 4; ++i) {
    const int row = i == 0 || i == 2 ? group : group + 8;
    fragment[i] = to_tf32(a[row * 8 + in_group + (i >= 2 ? 4 : 0)]);
  }
  float accumulator[4];
  for (int i = 0; i < 4; ++i) accumulator[i] = c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)];
  mma_m16n8k8_tf32(accumulator, fragment, to_tf32(b[in_group * 8 + group]), to_tf32(b[(in_group + 4) * 8 + group]));
  for (int i = 0; i < 4; ++i) c[(i < 2 ? group : group + 8) * 8 + in_group * 2 + (i & 1)] = accumulator[i];
}

// Four matrices in shared memory; element (row, column) of matrix m is 64 m + 8 row + column.
template <int count, bool transposed>
__global__ void load(uint32_t* out) {
  XL_DYNAMIC_SHARED(memory);
  uint16_t* values = reinterpret_cast<uint16_t*>(memory);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) values[i] = static_cast<uint16_t>(i);
  __syncthreads();
  uint32_t fragment[count];
  // Addresses of lanes beyond 8 * count are not used, whatever they are.
  const uint16_t* row = lane < 8 * count ? values + 8 * lane : nullptr;
  if constexpr (transposed) {
    ldmatrix_transposed(fragment, row);
  } else {
    ldmatrix(fragment, row);
  }
  for (int i = 0; i < count; ++i) out[count * lane + i] = fragment[i];
}

template <int count, bool transposed>
void check_load() {
  DeviceArray<uint32_t> out(32 * count);
  under_all_schedules([&] {
    const Grid grid = {"load", 1, 32, 512};
    expect_ok(simt::launch(grid, load<count, transposed>, out.data()));
    for (int lane = 0; lane < 32; ++lane) {
      for (int matrix = 0; matrix < count; ++matrix) {
        const int row = lane / 4, column = lane % 4 * 2;
        const int low = transposed ? 8 * column + row : 8 * row + column;
        const int high = transposed ? 8 * (column + 1) + row : 8 * row + column + 1;
        EXPECT_EQUAL(out[static_cast<size_t>(count * lane + matrix)],
                     static_cast<uint32_t>(64 * matrix + low) | static_cast<uint32_t>(64 * matrix + high) << 16);
      }
    }
  });
}

__global__ void load_at(int offset) {
  XL_DYNAMIC_SHARED(memory);
  for (unsigned i = threadIdx.x; i < 512; i += 32) memory[i] = 0;
  __syncthreads();
  uint32_t fragment[4];
  ldmatrix(fragment, memory + 16 * threadIdx.x + (threadIdx.x == 9 ? offset : 0));
}

template <typename Kernel>
void check_product(Kernel kernel, int depth, uint32_t seed) {
  const std::vector<float> a = short_numbers(static_cast<size_t>(16 * depth), seed);
  const std::vector<float> b = short_numbers(static_cast<size_t>(depth * 8), seed + 1);
  const std::vector<float> c = short_numbers(128, seed + 2);
  DeviceArray<float> device_a(a), device_b(b);
  device_a.read_only();
  device_b.read_only();
  under_all_schedules([&] {
    DeviceArray<float> out(c);
    expect_ok(simt::launch(Grid{"product", 1, 32, 0}, kernel, device_a.data(), device_b.data(), out.data()));
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 8; ++column) {
        // Multiples of 2^-14 below 32: exact in fp32 in any order.
        double sum = c[static_cast<size_t>(row * 8 + column)];
        for (int k = 0; k < depth; ++k) {
          sum += double{a[static_cast<size_t>(row * depth + k)]} * b[static_cast<size_t>(k * 8 + column)];
        }
        EXPECT_EQUAL(static_cast<double>(out[static_cast<size_t>(row * 8 + column)]), sum);
      }
    }
  });
}

__global__ void low_bits(float* out) {
  float accumulator[4] = {};
  const uint32_t ones = __float_as_uint(1.0f) | 0x1FFFu;
  const uint32_t a[4] = {ones, ones, ones, ones};
  mma_m16n8k8_tf32(accumulator, a, ones, ones);
  if (threadIdx.x == 0) *out = accumulator[0];
}

}  // namespace

TEST(bf16_products_have_the_layout_of_the_isa) { check_product(product_16816<__nv_bfloat16>, 16, 1); }
TEST(fp16_products_have_the_layout_of_the_isa) { check_product(product_16816<__half>, 16, 2); }
TEST(tf32_products_have_the_layout_of_the_isa) { check_product(product_1688, 8, 3); }

TEST(tf32_products_ignore_the_low_bits) {
  DeviceArray<float> out(1);
  expect_ok(simt::launch(Grid{"low_bits", 1, 32, 0}, low_bits, out.data()));
  EXPECT_EQUAL(out[0], 8.0f);
}

TEST(ldmatrix_spreads_rows_over_lanes) {
  check_load<1, false>();
  check_load<2, false>();
  check_load<4, false>();
}

TEST(ldmatrix_transposed_spreads_columns_over_lanes) {
  check_load<1, true>();
  check_load<2, true>();
  check_load<4, true>();
}

TEST(ldmatrix_reports_rows_off_16_bytes) {
  expect_fault(simt::launch(Grid{"load_at", 1, 32, 512}, load_at, 8), FaultKind::misaligned,
               {"load_at", "thread (9, 0, 0)", "ldmatrix", "tensor_core_test.cc", "byte 152"});
}

TEST(ldmatrix_reports_rows_outside_of_shared_memory) {
  expect_fault(simt::launch(Grid{"load_at", 1, 32, 512}, load_at, 512), FaultKind::out_of_bounds,
               {"thread (9, 0, 0)", "ldmatrix"});
}
