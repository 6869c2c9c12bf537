// Dropout over arrays, and what else happens to an element while it is in a register. Reads x and the other operands,
// writes out, about 100 integer operations per eight elements: of 16384 x 1024 in bf16 they take 10 us on an H100,
// beside the 22 us that reading and writing 67 MB takes.
#pragma once

#include "cuda/dropout.cuh"
#include "cuda/elementwise.cuh"

namespace xlformers::cuda {

template <typename T>
struct DropoutArgs {
  DropoutMask mask;
  Compute<T> scale;
  int64_t count, period;  // period 0: the mask does not repeat
  const T* x;
  T* out;

  __device__ Compute<T> dropped(bool kept, T value) const { return kept ? widen(value) * scale : Compute<T>{0}; }
};

template <typename T>
DropoutArgs<T> dropout_args(const DropoutMask& mask, int64_t count, int64_t period, const T* x, T* out) {
  return {mask, static_cast<Compute<T>>(mask.scale), count, period > 0 && period < count ? period : 0, x, out};
}

// Eight elements per thread, a group of the mask. period: 0 or a multiple of 8.
template <typename T, typename Body, typename... In>
__global__ void __launch_bounds__(kElementThreads, kElementBlocks)
    drop_groups(DropoutArgs<T> args, Body body, const In*... in) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kElementThreads, groups = args.count / 8;
  const int64_t period = args.period / 8;
  for (int64_t group = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x; group <= groups;
       group += step) {
    const int64_t first = group * 8;
    if (first >= args.count) break;
    const uint32_t kept = kept_of_group(args.mask, period > 0 ? group % period : group);
    if (group < groups) {
      const auto each = [&](Pack<T, 8> pack, const Pack<In, 8>&... packs) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          pack.value[k] = narrow<T>(body(args.dropped(kept >> k & 1u, pack.value[k]), widen(packs.value[k])...));
        }
        store_pack<8>(args.out + first, pack);
      };
      each(load_pack<8>(args.x + first), load_pack<8>(in + first)...);
    } else {
      for (int64_t i = first; i < args.count; ++i) {
        args.out[i] = narrow<T>(body(args.dropped(kept >> (i - first) & 1u, args.x[i]), widen(in[i])...));
      }
    }
  }
}

// Any period and alignment: a Philox block per element.
template <typename T, typename Body, typename... In>
__global__ void __launch_bounds__(kElementThreads, kElementBlocks)
    drop_single_elements(DropoutArgs<T> args, Body body, const In*... in) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kElementThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kElementThreads + threadIdx.x; i < args.count; i += step) {
    const int64_t index = args.period > 0 ? i % args.period : i;
    const bool kept = kept_of_group(args.mask, index >> 3) >> (index & 7) & 1u;
    args.out[i] = narrow<T>(body(args.dropped(kept, args.x[i]), widen(in[i])...));
  }
}

// out[i] = body(dropped x[i], in[i]...), all in what T is computed with. out may alias x and the others.
template <typename T, typename Body, typename... In>
Status drop_elements(const Context& context, const char* name, const DropoutArgs<T>& args, const Body& body,
                     const In*... in) {
  if (args.count <= 0) return ok_status();
  void (*kernel)(DropoutArgs<T>, Body, const In*...) = drop_single_elements<T, Body, In...>;
  bool groups = false;
  if constexpr (sizeof(T) < 8) {  // eight slopes of double, for tests, do not fit into registers
    groups = args.period % 8 == 0 && aligned_for_packs<8>(args.x, args.out, in...);
    if (groups) kernel = drop_groups<T, Body, In...>;
  }
  const dim3 blocks = element_blocks(context, groups ? divide_up(args.count, 8) : args.count);
  return launch({name, blocks, dim3(kElementThreads), 0, context.stream}, kernel, args, body, in...);
}

}  // namespace xlformers::cuda
