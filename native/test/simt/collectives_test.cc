#include "cuda/device.cuh"
#include "simt/testing.h"

using namespace simt::testing;
using simt::DeviceArray;
using simt::FaultKind;
using simt::Grid;

namespace {

struct Shuffles {
  int index, up, down, exclusive_or;
};

__global__ void shuffle_all(Shuffles* out, int operand, int width) {
  const int lane = static_cast<int>(threadIdx.x);
  const uint32_t all = 0xFFFFFFFFu;
  Shuffles mine;
  mine.index = __shfl_sync(all, lane, operand, width);
  mine.up = __shfl_up_sync(all, lane, static_cast<unsigned>(operand), width);
  mine.down = __shfl_down_sync(all, lane, static_cast<unsigned>(operand), width);
  mine.exclusive_or = __shfl_xor_sync(all, lane, operand, width);
  out[lane] = mine;
}

__global__ void shuffle_long(double* out) { out[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 0.1 * threadIdx.x, 1); }

struct Votes {
  uint32_t ballot;
  int any, all, sum;
  unsigned least, bits;
};

// Each half of a warp by itself.
__global__ void vote_by_halves(Votes* out) {
  const unsigned lane = threadIdx.x & 31u;
  const uint32_t half = lane < 16 ? 0x0000FFFFu : 0xFFFF0000u;
  Votes mine;
  mine.ballot = __ballot_sync(half, lane % 3 == 0);
  mine.any = __any_sync(half, lane == 20);
  mine.all = __all_sync(half, lane >= 16);
  mine.sum = __reduce_add_sync(half, static_cast<int>(lane) - 20);
  mine.least = __reduce_min_sync(half, lane);
  mine.bits = __reduce_xor_sync(half, 1u << lane);
  out[threadIdx.x] = mine;
}

__global__ void count_in_block(int* out) {
  const int thread = static_cast<int>(threadIdx.x);
  int result = __syncthreads_count(thread % 5 == 0);
  result += 1000 * __syncthreads_or(thread == 7);
  result += 10000 * __syncthreads_or(thread == 70);
  result += 100000 * __syncthreads_and(thread < 70);
  result += 1000000 * __syncthreads_and(thread < 69);
  out[thread] = result;
}

// Warps 0 and 1 fill a buffer and go on; warps 2 and 3 wait for it, and give it back.
__global__ void produce_and_consume(int* out, int rounds) {
  XL_SHARED(buffer, int[64]);
  const int thread = static_cast<int>(threadIdx.x);
  for (int round = 0; round < rounds; ++round) {
    if (thread < 64) {
      if (round > 0) xlformers::cuda::barrier_sync(2, 128);
      buffer[thread] = 100 * round + thread;
      xlformers::cuda::barrier_arrive(1, 128);
    } else {
      xlformers::cuda::barrier_sync(1, 128);
      out[64 * round + thread - 64] = buffer[127 - thread];
      if (round + 1 < rounds) xlformers::cuda::barrier_arrive(2, 128);
    }
  }
}

__global__ void read_sleeping_lane(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000FFFFu, 1, 20);
}

__global__ void two_masks(int* out) {
  const uint32_t mask = threadIdx.x < 16 ? 0xFFFFFFFFu : 0xFFFF0000u;
  out[threadIdx.x] = __any_sync(mask, 1);
}

__global__ void mask_without_self(int* out) {
  if (threadIdx.x == 5) out[0] = __any_sync(0xFu, 1);
}

__global__ void different_collectives() {
  if (threadIdx.x % 2 == 0) {
    __syncwarp();
  } else {
    __any_sync(0xFFFFFFFFu, 1);
  }
}

__global__ void product_without_a_lane() {
  if (threadIdx.x == 31) return;
  float accumulator[4] = {};
  const uint32_t a[4] = {};
  xlformers::cuda::mma_m16n8k16<__half>(accumulator, a, 0, 0);
}

__global__ void ends_early(int* out) {
  if (threadIdx.x % 4 == 3) return;
  __syncwarp();
  __syncthreads();
  out[threadIdx.x] = static_cast<int>(__ballot_sync(0xFFFFFFFFu, 1));
}

}  // namespace

TEST(shuffles_move_values_within_segments) {
  for (const int width : {8, 16, 32}) {
    for (int operand = 0; operand < width; operand += width == 32 ? 5 : 3) {
      DeviceArray<Shuffles> out(32);
      under_all_schedules([&] {
        expect_ok(simt::launch(Grid{"shuffle_all", 1, 32, 0}, shuffle_all, out.data(), operand, width));
        for (int lane = 0; lane < 32; ++lane) {
          const int first = lane / width * width, last = first + width - 1;
          EXPECT_EQUAL(out[lane].index, first + operand % width);
          EXPECT_EQUAL(out[lane].up, lane - operand >= first ? lane - operand : lane);
          EXPECT_EQUAL(out[lane].down, lane + operand <= last ? lane + operand : lane);
          EXPECT_EQUAL(out[lane].exclusive_or, lane ^ operand);
        }
      });
    }
  }
}

TEST(shuffles_move_eight_bytes) {
  DeviceArray<double> out(32);
  expect_ok(simt::launch(Grid{"shuffle_long", 1, 32, 0}, shuffle_long, out.data()));
  for (unsigned lane = 0; lane < 32; ++lane) EXPECT_EQUAL(out[lane], 0.1 * (lane ^ 1u));
}

TEST(votes_and_reductions_keep_to_their_mask) {
  DeviceArray<Votes> out(64);
  under_all_schedules([&] {
    expect_ok(simt::launch(Grid{"vote_by_halves", 1, 64, 0}, vote_by_halves, out.data()));
    for (int thread = 0; thread < 64; ++thread) {
      const bool upper = thread % 32 >= 16;
      EXPECT_EQUAL(out[thread].ballot, upper ? 0x49240000u : 0x00009249u);
      EXPECT_EQUAL(out[thread].any, upper);
      EXPECT_EQUAL(out[thread].all, upper);
      EXPECT_EQUAL(out[thread].sum, (upper ? 376 : 120) - 320);
      EXPECT_EQUAL(out[thread].least, upper ? 16u : 0u);
      EXPECT_EQUAL(out[thread].bits, upper ? 0xFFFF0000u : 0xFFFFu);
    }
  });
}

TEST(barriers_count_what_threads_say) {
  DeviceArray<int> out(70);
  under_all_schedules([&] {
    expect_ok(simt::launch(Grid{"count_in_block", 1, 70, 0}, count_in_block, out.data()));
    for (int thread = 0; thread < 70; ++thread) EXPECT_EQUAL(out[thread], 101014);
  });
}

TEST(named_barriers_hand_a_buffer_over_and_back) {
  DeviceArray<int> out(64 * 5);
  under_all_schedules([&] {
    expect_ok(simt::launch(Grid{"produce_and_consume", 1, 128, 0}, produce_and_consume, out.data(), 5));
    for (int i = 0; i < 64 * 5; ++i) EXPECT_EQUAL(out[i], 100 * (i / 64) + 63 - i % 64);
  });
}

TEST(threads_that_have_ended_are_not_waited_for) {
  DeviceArray<int> out(64);
  under_all_schedules([&] {
    expect_ok(simt::launch(Grid{"ends_early", 1, 64, 0}, ends_early, out.data()));
    for (int thread = 0; thread < 64; thread += 4) EXPECT_EQUAL(static_cast<uint32_t>(out[thread]), 0x77777777u);
  });
}

TEST(a_shuffle_from_a_lane_without_part_is_divergence) {
  DeviceArray<int> out(32);
  under_all_schedules([&] {
    expect_fault(simt::launch(Grid{"sleeping", 1, 32, 0}, read_sleeping_lane, out.data()), FaultKind::divergence,
                 {"sleeping", "block (0, 0, 0)", "__shfl_sync", "collectives_test.cc", "reads lane 20"});
  });
}

TEST(lanes_with_different_masks_are_divergence) {
  DeviceArray<int> out(32);
  under_all_schedules([&] {
    expect_fault(simt::launch(Grid{"two_masks", 1, 32, 0}, two_masks, out.data()), FaultKind::divergence,
                 {"__any_sync", "ffff0000", "ffffffff"});
  });
}

TEST(a_mask_without_its_own_lane_is_divergence) {
  DeviceArray<int> out(1);
  expect_fault(simt::launch(Grid{"mask", 1, 32, 0}, mask_without_self, out.data()), FaultKind::divergence,
               {"thread (5, 0, 0)", "lacks its own lane 5"});
}

TEST(lanes_at_different_collectives_are_divergence) {
  under_all_schedules([&] {
    expect_fault(simt::launch(Grid{"different", 1, 32, 0}, different_collectives), FaultKind::divergence,
                 {"__syncwarp", "__any_sync"});
  });
}

TEST(a_product_needs_all_lanes) {
  under_all_schedules([&] {
    expect_fault(simt::launch(Grid{"product", 1, 32, 0}, product_without_a_lane), FaultKind::divergence,
                 {"mma_m16n8k16", "needs all 32 lanes", "7fffffff"});
  });
}
