// Accesses are in order only by barriers, whatever the schedule happens to do.
#include "cuda/device.cuh"
#include "simt/testing.h"

using namespace simt::testing;
using simt::DeviceArray;
using simt::FaultKind;
using simt::Grid;

namespace {

enum class Order { nothing, block, warp, shuffle, named };

template <Order order>
__device__ void put_in_order() {
  if constexpr (order == Order::block) __syncthreads();
  if constexpr (order == Order::warp) __syncwarp();
  if constexpr (order == Order::shuffle) __shfl_sync(0xFFFFFFFFu, 0, 0);
  if constexpr (order == Order::named) xlformers::cuda::barrier_sync(1, 64);
}

// Each thread writes its word and reads that of another, `distance` away; then writes again.
template <Order before_read, Order before_write>
__global__ void pass_on(int* out, int distance) {
  XL_SHARED(words, int[64]);
  const int thread = static_cast<int>(threadIdx.x);
  words[63 - thread] = -1;
  __syncthreads();
  words[thread] = thread;
  put_in_order<before_read>();
  const int other = words[thread ^ distance];
  put_in_order<before_write>();
  words[thread] = other;
  out[thread] = words[thread];
}

template <Order before_read, Order before_write>
void expect_race(int distance, bool race) {
  DeviceArray<int> out(64);
  under_all_schedules([&] {
    const auto fault =
        simt::launch(Grid{"pass_on", 1, 64, 0}, pass_on<before_read, before_write>, out.data(), distance);
    if (!race) {
      expect_ok(fault);
      for (int i = 0; i < 64; ++i) EXPECT_EQUAL(out[static_cast<size_t>(i)], i ^ distance);
    } else {
      expect_fault(fault, FaultKind::race,
                   {"pass_on: block (0, 0, 0)", "shared memory", "no barrier between", "race_test.cc:"});
    }
  });
}

template <typename T>
__global__ void neighbours(T* out) {
  XL_SHARED(values, T[64]);
  values[threadIdx.x] = static_cast<T>(threadIdx.x);
  out[blockIdx.x * 64 + threadIdx.x] = values[threadIdx.x];
}

__global__ void same_word(int* out, bool by_atomics) {
  if (by_atomics) {
    atomicAdd(out, 1);
  } else {
    *out = *out + 1;
  }
}

__global__ void atomic_then_plain(int* out) {
  XL_SHARED(word, int);
  if (threadIdx.x == 0) word = 0;
  __syncthreads();
  atomicAdd(&word, 1);
  if (threadIdx.x == 5) out[0] = word;
}

// The last block to come adds up what all have written.
__global__ void last_block_sums(int* partial, unsigned* arrived, int* total, bool fence) {
  partial[blockIdx.x] = static_cast<int>(blockIdx.x);
  if (fence) __threadfence();
  if (atomicAdd(arrived, 1u) + 1 < gridDim.x) return;
  int sum = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) sum += partial[block];
  *total = sum;
}

// Warps 0 and 1 meet, then 1 and 2: what 0 wrote is known to 2 by way of 1.
__global__ void by_way_of_another(int* out, bool second) {
  XL_SHARED(word, int);
  const unsigned warp = threadIdx.x / 32;
  if (threadIdx.x == 0) word = 7;
  if (warp <= 1) xlformers::cuda::barrier_sync(1, 64);
  if (warp >= 1 && second) xlformers::cuda::barrier_sync(2, 64);
  if (threadIdx.x == 64) out[0] = word;
}

// Thread 0 writes; the others have all read, in any order.
__global__ void many_readers(int* out) {
  XL_SHARED(word, int);
  if (threadIdx.x == 0) word = 1;
  __syncthreads();
  out[threadIdx.x] = word;
  if (threadIdx.x == 13) word = 2;
}

}  // namespace

TEST(block_barriers_order_accesses) {
  expect_race<Order::block, Order::block>(1, false);
  expect_race<Order::block, Order::block>(32, false);
}

TEST(a_missing_barrier_before_a_read_is_a_race) { expect_race<Order::nothing, Order::block>(32, true); }
TEST(a_missing_barrier_before_a_write_is_a_race) { expect_race<Order::block, Order::nothing>(32, true); }

TEST(warp_barriers_order_accesses_of_a_warp) {
  expect_race<Order::warp, Order::warp>(1, false);
  expect_race<Order::warp, Order::warp>(16, false);
  expect_race<Order::warp, Order::warp>(32, true);
}

TEST(shuffles_order_nothing) { expect_race<Order::shuffle, Order::warp>(1, true); }

TEST(named_barriers_order_accesses) {
  expect_race<Order::named, Order::named>(32, false);
  expect_race<Order::named, Order::block>(1, false);
}

TEST(order_is_passed_on_by_a_third_warp) {
  DeviceArray<int> out(1);
  under_all_schedules([&] {
    expect_ok(simt::launch(Grid{"way", 1, 96, 0}, by_way_of_another, out.data(), true));
    EXPECT_EQUAL(out[0], 7);
  });
  bool reported = false;
  under_all_schedules([&] {
    const auto fault = simt::launch(Grid{"way", 1, 96, 0}, by_way_of_another, out.data(), false);
    reported |= fault.kind == FaultKind::race;
    // When warp 2 comes first, the word is not even written.
    EXPECT(fault.kind == FaultKind::race || fault.kind == FaultKind::uninitialized);
  });
  EXPECT(reported);
}

TEST(a_write_after_many_reads_is_a_race) {
  DeviceArray<int> out(64);
  under_all_schedules([&] {
    expect_fault(simt::launch(Grid{"readers", 1, 64, 0}, many_readers, out.data()), FaultKind::race, {"shared memory"});
  });
}

TEST(neighbours_in_a_word_do_not_race) {
  under_all_schedules([] {
    DeviceArray<uint8_t> bytes(256);
    DeviceArray<__nv_bfloat16> halves(256);
    expect_ok(simt::launch(Grid{"neighbours", 4, 64, 0}, neighbours<uint8_t>, bytes.data()));
    expect_ok(simt::launch(Grid{"neighbours", 4, 64, 0}, neighbours<__nv_bfloat16>, halves.data()));
  });
}

TEST(blocks_race_for_device_memory) {
  under_all_schedules([] {
    DeviceArray<int> out(std::vector<int>{0});
    expect_fault(simt::launch(Grid{"same_word", 4, 1, 0}, same_word, out.data(), false), FaultKind::race,
                 {"device memory", "of block number", "in the same launch"});
    expect_fault(simt::launch(Grid{"same_word", 1, 4, 0}, same_word, out.data(), false), FaultKind::race,
                 {"device memory"});
    DeviceArray<int> sum(std::vector<int>{0});
    expect_ok(simt::launch(Grid{"same_word", 4, 64, 0}, same_word, sum.data(), true));
    EXPECT_EQUAL(sum[0], 256);
  });
}

TEST(launches_are_in_order) {
  under_all_schedules([] {
    DeviceArray<int> out(std::vector<int>{0});
    for (int i = 0; i < 5; ++i) expect_ok(simt::launch(Grid{"same_word", 1, 1, 0}, same_word, out.data(), false));
    EXPECT_EQUAL(out[0], 5);
  });
}

TEST(a_plain_access_races_with_an_atomic_one) {
  DeviceArray<int> out(1);
  under_all_schedules([&] {
    expect_fault(simt::launch(Grid{"mixed", 1, 32, 0}, atomic_then_plain, out.data()), FaultKind::race,
                 {"shared memory"});
  });
}

TEST(a_fence_lets_the_last_block_read_what_others_wrote) {
  under_all_schedules([] {
    DeviceArray<int> partial(10), total(1);
    DeviceArray<unsigned> arrived(std::vector<unsigned>{0});
    expect_ok(simt::launch(Grid{"last_block", 10, 1, 0}, last_block_sums, partial.data(), arrived.data(), total.data(),
                           true));
    EXPECT_EQUAL(total[0], 45);
    arrived[0] = 0;
    expect_fault(simt::launch(Grid{"last_block", 10, 1, 0}, last_block_sums, partial.data(), arrived.data(),
                              total.data(), false),
                 FaultKind::race, {"device memory"});
  });
}
