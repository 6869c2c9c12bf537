// Each way to break the kernel of mutants.cuh is reported as what it is, or, where it breaks no rule of CUDA, makes the
// result wrong; the kernel itself is right under every schedule.
#include <algorithm>
#include <cmath>
#include <string>

#include "simt/mutants.cuh"
#include "simt/testing.h"

using namespace simt::testing;
using namespace xlformers::cuda;
using simt::DeviceArray;
using simt::Fault;
using simt::FaultKind;
using simt::Grid;

namespace {

constexpr int kRows = 150, kDepth = 88;  // neither a multiple of its tile

struct Expected {
  std::vector<float> a, b;
  std::vector<double> c, row_max, column_sum;
};

const Expected& expected() {
  static const Expected all = [] {
    Expected made;
    made.a = short_numbers(kRows * kDepth, 11);
    made.b = short_numbers(kDepth * 32, 12);
    made.c.assign(kRows * 32, 0);
    made.row_max.assign(kRows, -HUGE_VAL);
    made.column_sum.assign(32, 0);
    for (int row = 0; row < kRows; ++row) {
      for (int column = 0; column < 32; ++column) {
        double sum = 0;
        for (int k = 0; k < kDepth; ++k) {
          sum += double{made.a[static_cast<size_t>(row * kDepth + k)]} * made.b[static_cast<size_t>(k * 32 + column)];
        }
        made.c[static_cast<size_t>(row * 32 + column)] = sum;
        made.row_max[static_cast<size_t>(row)] = std::max(made.row_max[static_cast<size_t>(row)], sum);
        made.column_sum[static_cast<size_t>(column)] += sum;
      }
    }
    return made;
  }();
  return all;
}

std::vector<__nv_bfloat16> short_floats(const std::vector<float>& values) {
  return std::vector<__nv_bfloat16>(values.begin(), values.end());
}

struct Outcome {
  Fault fault;
  bool right;
};

// All values are multiples of 2^-14, and sums stay below 2^10: every result is exact in fp32, whatever the order.
template <Mutation mutation>
Outcome run() {
  DeviceArray<__nv_bfloat16> a(short_floats(expected().a)), b(short_floats(expected().b));
  a.read_only();
  b.read_only();
  DeviceArray<float> c(kRows * 32), row_max(kRows), column_sum(std::vector<float>(32, 0.0f));
  const MutantArgs args = {a.data(), b.data(), c.data(), row_max.data(), column_sum.data(), kRows, kDepth};
  Outcome outcome;
  outcome.fault =
      simt::launch(Grid{"mutant", (kRows + kMutantRows - 1) / kMutantRows, 128, kMutantShared}, mutant<mutation>, args);
  const auto same = [](const DeviceArray<float>& got, const std::vector<double>& wanted) {
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (!(static_cast<double>(got[i]) == wanted[i])) return false;
    }
    return true;
  };
  outcome.right = same(c, expected().c) && same(row_max, expected().row_max) && same(column_sum, expected().column_sum);
  return outcome;
}

// Runs the mutant under all schedules, with or without the checks of loads and stores, and prints what each finds. With
// them, every schedule must report it, at least one as `kind` (where a barrier is missing, a reader that comes first
// reads what nobody has written); none: the mutant breaks no rule, and every schedule's result must be wrong.
template <Mutation mutation>
void expect_found(const char* name, FaultKind kind, bool checks) {
  std::string found;
  bool right_kind = false, missed = false, caught = false;
  under_all_schedules([&] {
    const WithOptions with([&](simt::Options& options) { options.check_memory = checks; });
    const Outcome outcome = run<mutation>();
    const char* how = !outcome.fault.ok() ? simt::fault_name(outcome.fault.kind)
                      : !outcome.right    ? "wrong result"
                                          : "missed";
    found += (found.empty() ? "" : ", ") + std::string(how);
    right_kind |= outcome.fault.kind == kind;
    missed |= kind == FaultKind::none ? outcome.right : outcome.fault.ok();
    caught |= !outcome.fault.ok() || !outcome.right;
  });
  std::printf("# %-25s %-9s %s\n", name, checks ? "checked" : "unchecked", found.c_str());
  if (checks ? missed || !right_kind : !caught) fail(simt::Site::here(), found);
}

}  // namespace

TEST(the_kernel_itself_is_right_under_every_schedule) {
  for (const bool checks : {true, false}) {
    under_all_schedules([&] {
      const WithOptions with([&](simt::Options& options) { options.check_memory = checks; });
      const Outcome outcome = run<Mutation::none>();
      expect_ok(outcome.fault);
      EXPECT(outcome.right);
    });
  }
}

// Found by schedules, poison and wrong results alone, whatever compiled the kernel.
#define UNCHECKED(mutation) \
  TEST(unchecked_##mutation) { expect_found<Mutation::mutation>(#mutation, FaultKind::none, false); }
UNCHECKED(no_barrier_after_load)
UNCHECKED(no_barrier_before_load)
UNCHECKED(no_barrier_before_sum)
UNCHECKED(barrier_for_some)
UNCHECKED(no_warp_barrier)
UNCHECKED(warp_barrier_for_some)
UNCHECKED(no_wait)
UNCHECKED(waits_too_little)
UNCHECKED(no_commit)
UNCHECKED(a_registers_swapped)
UNCHECKED(b_registers_swapped)
UNCHECKED(b_not_transposed)
UNCHECKED(rows_of_another_matrix)
UNCHECKED(accumulator_rows_swapped)
UNCHECKED(row_stride_off_16)
UNCHECKED(wrong_quad_lane)
UNCHECKED(mask_too_narrow)

#if defined(SIMT_CHECKED)
#define CHECKED(mutation, kind) \
  TEST(checked_##mutation) { expect_found<Mutation::mutation>(#mutation, FaultKind::kind, true); }
CHECKED(no_barrier_after_load, race)
CHECKED(no_barrier_before_load, race)
CHECKED(no_barrier_before_sum, uninitialized)
CHECKED(barrier_for_some, race)
CHECKED(no_warp_barrier, race)
CHECKED(warp_barrier_for_some, race)
CHECKED(no_wait, async_copy)
CHECKED(waits_too_little, async_copy)
CHECKED(no_commit, async_copy)
CHECKED(a_registers_swapped, none)
CHECKED(b_registers_swapped, none)
CHECKED(b_not_transposed, none)
CHECKED(rows_of_another_matrix, none)
CHECKED(accumulator_rows_swapped, none)
CHECKED(row_stride_off_16, misaligned)
CHECKED(wrong_quad_lane, none)
CHECKED(mask_too_narrow, divergence)
CHECKED(no_zero_fill, out_of_bounds)
CHECKED(one_row_too_many, out_of_bounds)
CHECKED(sum_without_atomics, race)
CHECKED(writes_input, read_only)
CHECKED(misaligned_vector, misaligned)
#endif
