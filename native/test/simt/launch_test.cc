#include <numeric>

#include "cuda/device.cuh"
#include "simt/testing.h"

using namespace simt::testing;
using simt::DeviceArray;
using simt::FaultKind;
using simt::Grid;

namespace {

__global__ void where_am_i(int* out) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * threads + thread] += static_cast<int>(block * threads + thread);
}

__global__ void block_sum(const int* in, int* out) {
  XL_SHARED(partial, int[256]);
  const unsigned thread = threadIdx.x;
  partial[thread] = in[blockIdx.x * 256 + thread];
  for (unsigned half = 128; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) partial[thread] += partial[thread + half];
  }
  if (thread == 0) {
    atomicAdd(out, partial[0]);
    atomicMax(out + 1, partial[0]);
    atomicMin(out + 2, partial[0]);
  }
}

__global__ void atomics_of_floats(float* sum, unsigned* lock, unsigned long long* count) {
  atomicAdd(sum, 0.5f);
  atomicAdd(count, 1ull);
  // A maximum by compare and swap.
  unsigned seen = atomicOr(lock, 0u);
  while (seen < threadIdx.x) {
    const unsigned before = atomicCAS(lock, seen, threadIdx.x);
    if (before == seen) break;
    seen = before;
  }
}

template <typename T>
__global__ void two_variables(T* out) {
  XL_SHARED(first, T[32]);
  XL_SHARED(second, T[32][2]);
  first[threadIdx.x] = static_cast<T>(threadIdx.x);
  second[threadIdx.x][1] = static_cast<T>(100 + threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = first[31 - threadIdx.x] + second[31 - threadIdx.x][1];
}

__global__ void poisoned(float* out) {
  XL_SHARED(variable, float[4]);
  XL_DYNAMIC_SHARED(memory);
  out[0] = variable[2];
  out[1] = reinterpret_cast<float*>(memory)[5];
  out[2] = float(reinterpret_cast<__nv_bfloat16*>(memory)[3]);
  out[3] = float(reinterpret_cast<__half*>(memory)[3]);
}

__global__ void last_warp_missing() {
  if (threadIdx.x < 64) __syncthreads();
  if (threadIdx.x == 64) xlformers::cuda::barrier_sync(3, 64);
}

__global__ void either_barrier() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void lane_missing() {
  if (threadIdx.x != 3) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

__global__ void large_variable() {
  XL_SHARED(variable, char[100 * 1024]);
  if (threadIdx.x == 0) variable[0] = 1;
}

__global__ void nothing() {}

}  // namespace

TEST(every_thread_of_a_grid_runs_once) {
  const dim3 grid(3, 2, 2), block(5, 3, 2);
  under_all_schedules([&] {
    DeviceArray<int> out(std::vector<int>(360));
    expect_ok(simt::launch(Grid{"where_am_i", grid, block, 0}, where_am_i, out.data()));
    for (int i = 0; i < 360; ++i) EXPECT_EQUAL(out[static_cast<size_t>(i)], i);
  });
}

TEST(recorded_launches_run_when_they_are_replayed_in_their_order) {
  DeviceArray<int> out(std::vector<int>(360)), sums(std::vector<int>{0, 0, 0});
  simt::Recording recording;
  simt::record_launches(&recording);
  expect_ok(simt::launch(Grid{"where_am_i", dim3(3, 2, 2), dim3(5, 3, 2), 0}, where_am_i, out.data()));
  expect_ok(simt::launch(Grid{"block_sum", 1, 256, 0}, block_sum, out.data(), sums.data()));
  // What cannot be launched is told at once.
  expect_fault(simt::launch(Grid{"nothing", 0, 1, 0}, nothing), FaultKind::launch, {"the grid is empty"});
  simt::record_launches(nullptr);
  EXPECT_EQUAL(out[359], 0);
  expect_ok(recording.replay());
  EXPECT_EQUAL(out[359], 359);
  EXPECT_EQUAL(sums[0], 256 / 2 * 255);
  expect_ok(recording.replay());
  EXPECT_EQUAL(out[359], 2 * 359);
  EXPECT_EQUAL(sums[0], 3 * 256 / 2 * 255);
}

TEST(blocks_on_two_host_threads_share_atomics) {
  std::vector<int> values(256 * 100);
  std::iota(values.begin(), values.end(), 0);
  DeviceArray<int> in(values);
  in.read_only();
  under_all_schedules([&] {
    DeviceArray<int> out(std::vector<int>{0, 0, 1 << 30});
    expect_ok(simt::launch(Grid{"block_sum", 100, 256, 0}, block_sum, in.data(), out.data()));
    EXPECT_EQUAL(out[0], 25600 / 2 * 25599);
    EXPECT_EQUAL(out[1], 256 * 25344 + 256 * 255 / 2);
    EXPECT_EQUAL(out[2], 256 * 255 / 2);
  });
}

TEST(atomics_of_floats_and_long_words) {
  under_all_schedules([] {
    DeviceArray<float> sum(std::vector<float>{0});
    DeviceArray<unsigned> lock(std::vector<unsigned>{0});
    DeviceArray<unsigned long long> count(std::vector<unsigned long long>{1ull << 40});
    expect_ok(simt::launch(Grid{"atomics", 10, 96, 0}, atomics_of_floats, sum.data(), lock.data(), count.data()));
    EXPECT_EQUAL(sum[0], 480.0f);
    EXPECT_EQUAL(lock[0], 95u);
    EXPECT_EQUAL(count[0], (1ull << 40) + 960);
  });
}

TEST(shared_variables_are_one_per_place_and_instance) {
  under_all_schedules([] {
    DeviceArray<int> ints(32);
    DeviceArray<double> doubles(32);
    expect_ok(simt::launch(Grid{"two_variables", 1, 32, 0}, two_variables<int>, ints.data()));
    expect_ok(simt::launch(Grid{"two_variables", 1, 32, 0}, two_variables<double>, doubles.data()));
    for (size_t i = 0; i < 32; ++i) {
      EXPECT_EQUAL(ints[i], static_cast<int>(162 - 2 * i));
      EXPECT_EQUAL(doubles[i], static_cast<double>(162 - 2 * i));
    }
  });
}

TEST(shared_memory_begins_as_nan) {
  const WithOptions unchecked([](simt::Options& options) { options.check_memory = false; });
  DeviceArray<float> out(std::vector<float>(4));
  expect_ok(simt::launch(Grid{"poisoned", 1, 1, 64}, poisoned, out.data()));
  for (size_t i = 0; i < 4; ++i) EXPECT(out[i] != out[i]);
}

TEST(a_deadlock_says_who_waits_where) {
  under_all_schedules([] {
    const auto fault = simt::launch(Grid{"last_warp", dim3(2), 96, 0}, last_warp_missing);
    expect_fault(fault, FaultKind::deadlock,
                 {"last_warp: block (", "1 wait at barrier_sync (launch_test.cc:", "the first is (64, 0, 0)",
                  "31 of 96 threads have ended", "64 wait at __syncthreads (launch_test.cc:"});
  });
}

TEST(warp_and_block_barriers_that_wait_for_each_other_are_a_deadlock) {
  under_all_schedules([] {
    expect_fault(simt::launch(Grid{"lane_missing", 1, 32, 0}, lane_missing), FaultKind::deadlock,
                 {"31 wait at __syncwarp", "lacks lanes 00000008", "1 wait at __syncthreads"});
  });
}

TEST(threads_at_different_barriers_are_divergence) {
  under_all_schedules([] {
    expect_fault(simt::launch(Grid{"either", 1, 64, 0}, either_barrier), FaultKind::divergence,
                 {"either: block (0, 0, 0), thread (", "__syncthreads (", "launch_test.cc"});
  });
}

TEST(launches_beyond_a_device_are_refused) {
  expect_fault(simt::launch(Grid{"nothing", 1, 1025, 0}, nothing), FaultKind::launch, {"nothing", "1025", "1024"});
  expect_fault(simt::launch(Grid{"nothing", 1, 0, 0}, nothing), FaultKind::launch, {"0 threads"});
  expect_fault(simt::launch(Grid{"nothing", 0, 32, 0}, nothing), FaultKind::launch, {"empty"});
  expect_fault(simt::launch(Grid{"nothing", dim3(1, 65536), 32, 0}, nothing), FaultKind::launch, {"65536"});
  expect_fault(simt::launch(Grid{"nothing", 1, 32, 100 * 1024}, nothing), FaultKind::launch, {"102400", "101376"});
  expect_fault(simt::launch(Grid{"large", 1, 32, 0}, large_variable), FaultKind::launch, {"102400"});
  const WithOptions larger([](simt::Options& options) { options.shared_limit = 227 * 1024; });
  expect_ok(simt::launch(Grid{"nothing", 1, 1024, 100 * 1024}, nothing));
  expect_ok(simt::launch(Grid{"large", 1, 32, 0}, large_variable));
}

TEST(reports_come_through_the_portable_launch) {
  const xlformers::Status status = xlformers::cuda::launch({"lane_missing", 1, 32, 0, nullptr}, lane_missing);
  EXPECT(status.code == xlformers::StatusCode::internal);
  EXPECT(std::string(status.message).find("lane_missing: block (0, 0, 0)") == 0);
  EXPECT(xlformers::cuda::launch({"nothing", 1, 32, 0, nullptr}, nothing).ok());
}
