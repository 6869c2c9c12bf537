#include <cmath>

#include "cuda/device.cuh"
#include "simt/testing.h"

using namespace simt::testing;
using simt::DeviceArray;
using simt::FaultKind;
using simt::Grid;
using namespace xlformers::cuda;

namespace {

template <int bytes>
__global__ void copy(const float* in, float* out, int source_bytes) {
  XL_DYNAMIC_SHARED(memory);
  constexpr int kFloats = bytes / 4;
  float* mine = reinterpret_cast<float*>(memory) + kFloats * threadIdx.x;
  cp_async<bytes>(mine, in + kFloats * threadIdx.x, source_bytes);
  cp_async_commit();
  cp_async_wait<0>();
  for (int i = 0; i < kFloats; ++i) out[kFloats * threadIdx.x + i] = mine[i];
}

// What each of three groups holds after waits for all but two, all but one, and all.
__global__ void three_groups(const float* in, float* out) {
  XL_DYNAMIC_SHARED(memory);
  float* values = reinterpret_cast<float*>(memory);
  for (int group = 0; group < 3; ++group) {
    cp_async<4>(values + group, in + group);
    cp_async_commit();
  }
  const auto look = [&](int row) {
    for (int group = 0; group < 3; ++group) out[3 * row + group] = values[group];
  };
  look(0);
  cp_async_wait<2>();
  look(1);
  cp_async_wait<1>();
  look(2);
  cp_async_wait<0>();
  look(3);
}

__global__ void source_changes(float* in, float* out) {
  XL_DYNAMIC_SHARED(memory);
  float* value = reinterpret_cast<float*>(memory);
  cp_async<4>(value, in);
  cp_async_commit();
  *in = 2;
  cp_async_wait<0>();
  *out = *value;
}

__global__ void copy_from(const float* in, int offset) {
  XL_DYNAMIC_SHARED(memory);
  cp_async<16>(memory, in + offset);
}

__global__ void copy_to(const float* in, int offset) {
  XL_DYNAMIC_SHARED(memory);
  cp_async<16>(memory + offset, in);
}

}  // namespace

TEST(copies_of_4_8_and_16_bytes_arrive) {
  const std::vector<float> values = short_numbers(128, 1);
  DeviceArray<float> in(values);
  in.read_only();
  under_all_schedules([&] {
    DeviceArray<float> out(128);
    expect_ok(simt::launch(Grid{"copy", 1, 32, 128}, copy<4>, in.data(), out.data(), 4));
    for (size_t i = 0; i < 32; ++i) EXPECT_EQUAL(out[i], values[i]);
    expect_ok(simt::launch(Grid{"copy", 1, 32, 256}, copy<8>, in.data(), out.data(), 8));
    for (size_t i = 0; i < 64; ++i) EXPECT_EQUAL(out[i], values[i]);
    expect_ok(simt::launch(Grid{"copy", 1, 32, 512}, copy<16>, in.data(), out.data(), 16));
    for (size_t i = 0; i < 128; ++i) EXPECT_EQUAL(out[i], values[i]);
  });
}

TEST(bytes_behind_the_source_become_zero) {
  const std::vector<float> values = short_numbers(128, 2);
  DeviceArray<float> in(values);
  under_all_schedules([&] {
    for (const int source_bytes : {0, 4, 12}) {
      DeviceArray<float> out(128);
      expect_ok(simt::launch(Grid{"copy", 1, 32, 512}, copy<16>, in.data(), out.data(), source_bytes));
      for (size_t i = 0; i < 128; ++i) {
        EXPECT_EQUAL(out[i], static_cast<int>(i % 4 * 4) < source_bytes ? values[i] : 0.0f);
      }
    }
  });
}

TEST(copies_land_at_their_wait_and_no_sooner_unless_at_random) {
  const WithOptions unchecked([](simt::Options& options) { options.check_memory = false; });
  int early = 0;
  under_all_schedules([&] {
    const bool random = simt::options().schedule == simt::Schedule::random;
    DeviceArray<float> in(std::vector<float>{1, 2, 3}), out(12);
    expect_ok(simt::launch(Grid{"three_groups", 1, 1, 16}, three_groups, in.data(), out.data()));
    for (int row = 0; row < 4; ++row) {
      for (int group = 0; group < 3; ++group) {
        const float value = out[static_cast<size_t>(3 * row + group)];
        if (group < row) {
          EXPECT_EQUAL(value, static_cast<float>(group + 1));
        } else if (random && !std::isnan(value)) {
          EXPECT_EQUAL(value, static_cast<float>(group + 1));
          ++early;
        } else {
          EXPECT(std::isnan(value));
        }
      }
    }
  });
  EXPECT(early > 0);
}

TEST(schedules_differ_in_when_the_source_is_read) {
  const WithOptions unchecked([](simt::Options& options) { options.check_memory = false; });
  bool seen[3] = {};
  under_all_schedules([&] {
    DeviceArray<float> in(std::vector<float>{1}), out(1);
    expect_ok(simt::launch(Grid{"source_changes", 1, 1, 16}, source_changes, in.data(), out.data()));
    seen[static_cast<int>(out[0])] = true;
  });
  EXPECT(seen[1] && seen[2]);
}

TEST(copies_off_their_alignment_are_reported) {
  DeviceArray<float> in(std::vector<float>(32));
  expect_fault(simt::launch(Grid{"copy_from", 1, 1, 64}, copy_from, in.data(), 1), FaultKind::misaligned, {"cp.async"});
  expect_fault(simt::launch(Grid{"copy_to", 1, 1, 64}, copy_to, in.data(), 8), FaultKind::misaligned,
               {"cp.async", "byte 8"});
}

TEST(copies_beyond_shared_memory_are_reported) {
  DeviceArray<float> in(std::vector<float>(32));
  expect_fault(simt::launch(Grid{"copy_to", 1, 1, 64}, copy_to, in.data(), 64), FaultKind::out_of_bounds, {"cp.async"});
}
