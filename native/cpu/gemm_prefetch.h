// What the micro-kernel prefetches: the operands that will be packed, or read, after the present ones.
#pragma once

#include "cpu/elementwise.h"
#include "cpu/gemm_micro_kernel.h"

XL_KERNELS_BEGIN

// `runs` runs of `lines` lines each: within a run the lines are `line_stride` bytes apart, the runs `run_stride`.
class PrefetchWalk {
 public:
  // A matrix in memory, `rows` rows of `count` elements, `stride` elements apart: down the rows, one line of each, then
  // the next lines.
  template <typename T>
  static PrefetchWalk matrix(const T* x, int64_t stride, int64_t rows, int64_t count) {
    return PrefetchWalk(x, stride * static_cast<int64_t>(sizeof(T)), rows, kLine,
                        divide_up(count * static_cast<int64_t>(sizeof(T)), kLine));
  }

  // `panels` packed panels of `count` elements, `stride` elements apart: front to back.
  template <typename T>
  static PrefetchWalk packed(const T* x, int64_t stride, int64_t panels, int64_t count) {
    return PrefetchWalk(x, kLine, divide_up(count * static_cast<int64_t>(sizeof(T)), kLine),
                        stride * static_cast<int64_t>(sizeof(T)), panels);
  }

  PrefetchWalk() = default;

  bool done() const { return runs_ <= 0; }

  // The next `count` lines; they leave a run by at most that many.
  PrefetchLines take(int64_t count) {
    const PrefetchLines lines = {run_ + at_ * line_stride_, line_stride_};
    at_ += count;
    if (at_ >= lines_) {
      at_ = 0;
      run_ += run_stride_;
      --runs_;
    }
    return lines;
  }

 private:
  PrefetchWalk(const void* first, int64_t line_stride, int64_t lines, int64_t run_stride, int64_t runs)
      : run_(static_cast<const char*>(first)),
        line_stride_(line_stride),
        lines_(lines),
        run_stride_(run_stride),
        runs_(lines > 0 ? runs : 0) {}

  static constexpr int64_t kLine = 64;
  const char* run_ = nullptr;
  int64_t line_stride_ = 0, lines_ = 0, run_stride_ = 0, runs_ = 0, at_ = 0;
};

XL_KERNELS_END
