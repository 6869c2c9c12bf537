// Every plain load and store of a kernel is checked (compiler_hooks.cc).
#include "cuda/device.cuh"
#include "simt/testing.h"

using namespace simt::testing;
using simt::DeviceArray;
using simt::Fault;
using simt::FaultKind;
using simt::Grid;

namespace {

template <typename T>
__global__ void copy(const T* in, T* out, int count, int first) {
  const int i = first + static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = in[i];
}

__global__ void copy_vectors(const float* in, float* out, int offset) {
  *reinterpret_cast<float4*>(out + 4 * threadIdx.x) = *reinterpret_cast<const float4*>(in + 4 * threadIdx.x + offset);
}

__global__ void store_pair(__half* out, int offset) {
  *reinterpret_cast<uint32_t*>(out + 2 * threadIdx.x + offset) = 0;
}

__global__ void read_shared(float* out, int index) {
  XL_SHARED(values, float[32]);
  XL_DYNAMIC_SHARED(memory);
  float* more = reinterpret_cast<float*>(memory);
  if (threadIdx.x < 31) values[threadIdx.x] = 1;
  if (threadIdx.x < 31) more[threadIdx.x] = 2;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = index < 100 ? values[index] : more[index - 100];
}

__global__ void local_array(float* out, int index) {
  float values[4] = {1, 2, 3, 4};
  values[index & 7] += 1;
  out[threadIdx.x] = values[0] + values[3];
}

__global__ void anothers_local_memory(float* out) {
  XL_SHARED(address, float*);
  float mine = 1;
  if (threadIdx.x == 1) address = &mine;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = *address;
  __syncthreads();
}

struct Parameters {
  const float* in;
  float* out;
  float weights[8];
};

__device__ const float kTable[4] = {10, 20, 30, 40};

__global__ void parameters_by_value(Parameters parameters) {
  const unsigned i = threadIdx.x;
  parameters.out[i] = parameters.in[i] + parameters.weights[i % 8] + kTable[i % 4];
}

Fault run_copy(const float* in, float* out, int count, int first = 0) {
  return simt::launch(Grid{"copy", 1, 32, 0}, copy<float>, in, out, count, first);
}

}  // namespace

TEST(reads_and_writes_beyond_an_allocation_are_reported) {
  DeviceArray<float> in(std::vector<float>(20)), out(20);
  expect_ok(run_copy(in.data(), out.data(), 20));
  DeviceArray<float> longer(std::vector<float>(21));
  expect_fault(run_copy(in.data(), longer.data(), 21), FaultKind::out_of_bounds,
               {"copy: block (0, 0, 0), thread (20, 0, 0)", "reads 4 bytes at byte 80 of an allocation of 80 bytes",
                "memory_test.cc:"});
  expect_fault(run_copy(longer.data(), out.data(), 21), FaultKind::out_of_bounds,
               {"thread (20, 0, 0)", "writes 4 bytes"});
  expect_fault(run_copy(in.data(), out.data(), 20, -1), FaultKind::out_of_bounds,
               {"thread (0, 0, 0)", "reads 4 bytes"});
}

TEST(inputs_are_not_written) {
  DeviceArray<float> in(std::vector<float>(32)), out(std::vector<float>(32));
  out.read_only();
  expect_fault(run_copy(in.data(), out.data(), 32), FaultKind::read_only, {"writes 4 bytes at byte 0", "an input"});
}

TEST(memory_that_nobody_wrote_is_not_read) {
  DeviceArray<float> in(32), out(32);
  expect_fault(run_copy(in.data(), out.data(), 32), FaultKind::uninitialized,
               {"reads 4 bytes at byte 0 of device memory"});
  in.read_only();
  expect_fault(run_copy(in.data(), out.data(), 32), FaultKind::uninitialized, {"which nobody has written"});
  // What a kernel wrote is there for the next.
  DeviceArray<float> values(std::vector<float>(32));
  expect_ok(run_copy(values.data(), out.data(), 31));
  expect_ok(run_copy(out.data(), values.data(), 31));
  expect_fault(run_copy(out.data(), values.data(), 32), FaultKind::uninitialized, {"thread (31, 0, 0)", "byte 124"});
}

TEST(what_the_host_wrote_is_known_byte_by_byte) {
  for (const bool read_only : {false, true}) {
    DeviceArray<float> in(32), out(32);
    DeviceArray<uint8_t> bytes(128), bytes_out(128);
    simt::mark_initialized(in.data() + 4, 5 * sizeof(float));
    simt::mark_initialized(bytes.data() + 3, 6);  // parts of words
    simt::set_read_only(in.data(), read_only);
    simt::set_read_only(bytes.data() + 3, read_only);
    const auto run_bytes = [&](int count, int first) {
      return simt::launch(Grid{"copy", 1, 32, 0}, copy<uint8_t>, bytes.data(), bytes_out.data(), count, first);
    };
    expect_ok(run_copy(in.data(), out.data(), 9, 4));
    expect_fault(run_copy(in.data(), out.data(), 10, 4), FaultKind::uninitialized, {"thread (5, 0, 0)", "byte 36"});
    expect_fault(run_copy(in.data(), out.data(), 9, 3), FaultKind::uninitialized, {"thread (0, 0, 0)", "byte 12"});
    expect_ok(run_bytes(9, 3));
    expect_fault(run_bytes(10, 3), FaultKind::uninitialized, {"thread (6, 0, 0)", "byte 9"});
    expect_fault(run_bytes(9, 2), FaultKind::uninitialized, {"thread (0, 0, 0)", "byte 2"});
  }
}

TEST(host_memory_is_not_the_devices) {
  std::vector<float> host(32);
  DeviceArray<float> in(std::vector<float>(32)), out(32);
  expect_fault(run_copy(host.data(), out.data(), 32), FaultKind::out_of_bounds, {"reads 4 bytes"});
  expect_fault(run_copy(in.data(), host.data(), 32), FaultKind::out_of_bounds, {"writes 4 bytes"});
}

TEST(memory_of_another_device_is_not_this_ones) {
  DeviceArray<float> here(std::vector<float>(32));
  simt::set_device(1);
  {
    DeviceArray<float> there(std::vector<float>(32));
    expect_ok(run_copy(there.data(), there.data(), 32));
    expect_fault(run_copy(here.data(), there.data(), 32), FaultKind::out_of_bounds, {"reads 4 bytes"});
    simt::set_device(0);
    expect_fault(run_copy(here.data(), there.data(), 32), FaultKind::out_of_bounds, {"writes 4 bytes"});
  }
  expect_ok(run_copy(here.data(), here.data(), 32));
}

TEST(released_memory_is_not_the_devices) {
  DeviceArray<float> in(std::vector<float>(32));
  float* released;
  {
    DeviceArray<float> out(32);
    released = out.data();
  }
  expect_fault(run_copy(in.data(), released, 32), FaultKind::out_of_bounds, {"writes 4 bytes"});
}

TEST(vectors_off_their_alignment_are_reported) {
  DeviceArray<float> in(std::vector<float>(132)), out(128);
  expect_ok(simt::launch(Grid{"vectors", 1, 32, 0}, copy_vectors, in.data(), out.data(), 4));
  expect_fault(simt::launch(Grid{"vectors", 1, 32, 0}, copy_vectors, in.data(), out.data(), 2), FaultKind::misaligned,
               {"vectors: block (0, 0, 0), thread (0, 0, 0)", "memory_test.cc"});
  DeviceArray<__half> halves(66);
  expect_ok(simt::launch(Grid{"pairs", 1, 32, 0}, store_pair, halves.data(), 2));
  expect_fault(simt::launch(Grid{"pairs", 1, 32, 0}, store_pair, halves.data(), 1), FaultKind::misaligned,
               {"memory_test.cc"});
}

TEST(shared_memory_ends_where_its_variables_end) {
  DeviceArray<float> out(1);
  const auto run = [&](int index) {
    return simt::launch(Grid{"read_shared", 1, 32, 128}, read_shared, out.data(), index);
  };
  expect_ok(run(30));
  expect_ok(run(130));
  expect_fault(run(31), FaultKind::uninitialized, {"reads 4 bytes at byte 124 of shared memory", "nobody has written"});
  expect_fault(run(131), FaultKind::uninitialized, {"byte 124 of shared memory"});
  expect_fault(run(132), FaultKind::out_of_bounds, {"byte 128 of shared memory"});
  expect_fault(run(32), FaultKind::out_of_bounds, {"memory_test.cc"});
}

TEST(local_arrays_end_where_they_end) {
  DeviceArray<float> out(32);
  expect_ok(simt::launch(Grid{"local", 1, 32, 0}, local_array, out.data(), 3));
  expect_fault(simt::launch(Grid{"local", 1, 32, 0}, local_array, out.data(), 4), FaultKind::out_of_bounds,
               {"an index beyond its array", "memory_test.cc"});
}

TEST(local_memory_belongs_to_one_thread) {
  DeviceArray<float> out(1);
  expect_fault(simt::launch(Grid{"local", 1, 32, 0}, anothers_local_memory, out.data()), FaultKind::out_of_bounds,
               {"thread (0, 0, 0)", "reads 4 bytes"});
}

TEST(parameters_and_constants_may_be_read) {
  DeviceArray<float> in(std::vector<float>(32, 1)), out(32);
  Parameters parameters = {in.data(), out.data(), {1, 2, 3, 4, 5, 6, 7, 8}};
  expect_ok(simt::launch(Grid{"parameters", 1, 32, 0}, parameters_by_value, parameters));
  EXPECT_EQUAL(out[13], 1.0f + 6 + 20);
}

TEST(every_size_of_access_is_seen) {
  const auto check = [](auto value) {
    using T = decltype(value);
    DeviceArray<T> in(std::vector<T>(20)), out(19);
    expect_fault(simt::launch(Grid{"copy", 1, 32, 0}, copy<T>, in.data(), out.data(), 20, 0), FaultKind::out_of_bounds,
                 {"thread (19, 0, 0)"});
  };
  check(uint8_t{});
  check(__half{});
  check(float{});
  check(double{});
  check(float2{});
  check(int4{});
}
