// What the emulated runtime writes for the host counts as written, and nothing beside it.
#include "cuda/runtime.h"

#include "cuda/device.cuh"
#include "simt/testing.h"

using namespace simt::testing;
using namespace xlformers;
using cuda::runtime::clear;
using cuda::runtime::copy_to_device;
using simt::DeviceArray;
using simt::FaultKind;
using simt::Grid;

namespace {

__global__ void copy_words(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x]; }

}  // namespace

TEST(uploads_and_clears_make_known_what_they_write) {
  const std::vector<float> values(32, 2.0f);
  DeviceArray<float> memory(96), out(32);
  const auto read = [&](size_t first) {
    return simt::launch(Grid{"copy_words", 1, 32, 0}, copy_words, memory.data() + first, out.data());
  };
  expect_ok(copy_to_device(nullptr, memory.data(), values.data(), 32 * sizeof(float)));
  expect_ok(clear(nullptr, memory.data() + 64, 32 * sizeof(float)));
  expect_ok(read(0));
  EXPECT_EQUAL(out[31], 2.0f);
  expect_ok(read(64));
  EXPECT_EQUAL(out[31], 0.0f);
  expect_fault(read(32), FaultKind::uninitialized, {"thread (0, 0, 0)", "byte 128"});
}
