// What every kernel file includes first: CUDA by nvcc, or the same kernels for the host's compiler by the emulator
// (native/test/simt). Beyond CUDA's own names, kernels use those declared here, and nothing else that differs between
// the two.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/status.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include <simt/device.h>
#endif

namespace xlformers::cuda {

#if defined(__CUDACC__)

// Shared memory: XL_DYNAMIC_SHARED(name) is the dynamic part as `unsigned char* name`, aligned to 128;
// XL_SHARED(name, float[32][33]) is a variable.
template <typename T>
struct SameType {
  using Type = T;
};
#define XL_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#define XL_SHARED(name, ...) __shared__ typename xlformers::cuda::SameType<__VA_ARGS__>::Type name

__device__ __forceinline__ uint32_t shared_address(const void* address) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(address));
}

// accumulator [16, 8] += A [16, 16] B [16, 8], T = __nv_bfloat16 or __half; fragments as in the PTX ISA.
template <typename T>
__device__ __forceinline__ void mma_m16n8k16(float (&accumulator)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
__device__ __forceinline__ void mma_m16n8k16<__nv_bfloat16>(float (&accumulator)[4], const uint32_t (&a)[4],
                                                            uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(accumulator[0]), "+f"(accumulator[1]), "+f"(accumulator[2]), "+f"(accumulator[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void mma_m16n8k16<__half>(float (&accumulator)[4], const uint32_t (&a)[4], uint32_t b0,
                                                     uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(accumulator[0]), "+f"(accumulator[1]), "+f"(accumulator[2]), "+f"(accumulator[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// accumulator [16, 8] += A [16, 8] B [8, 8], operands from to_tf32().
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&accumulator)[4], const uint32_t (&a)[4], uint32_t b0,
                                                 uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(accumulator[0]), "+f"(accumulator[1]), "+f"(accumulator[2]), "+f"(accumulator[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// `count` 8x8 matrices of 16-bit values; lanes 8i to 8i + 7 give the addresses of the rows of matrix i, aligned to 16
// bytes.
template <int count>
__device__ __forceinline__ void ldmatrix(uint32_t (&fragment)[count], const void* row) {
  static_assert(count == 1 || count == 2 || count == 4, "ldmatrix loads 1, 2 or 4 matrices");
  if constexpr (count == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(fragment[0])
                 : "r"(shared_address(row))
                 : "memory");
  } else if constexpr (count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(fragment[0]), "=r"(fragment[1])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
}

template <int count>
__device__ __forceinline__ void ldmatrix_transposed(uint32_t (&fragment)[count], const void* row) {
  static_assert(count == 1 || count == 2 || count == 4, "ldmatrix loads 1, 2 or 4 matrices");
  if constexpr (count == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(fragment[0])
                 : "r"(shared_address(row))
                 : "memory");
  } else if constexpr (count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(fragment[0]), "=r"(fragment[1])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
}

// Copies `bytes` (4, 8 or 16, both sides aligned to it) to shared memory in the background; those behind the first
// `source_bytes` become zero. The data is there for this thread after cp_async_wait, for others after a barrier behind
// it.
template <int bytes>
__device__ __forceinline__ void cp_async(void* shared, const void* global, int source_bytes = bytes) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                 "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global), "n"(bytes),
                 "r"(source_bytes)
                 : "memory");
  }
}

__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `groups_left` of this thread's committed groups are under way.
template <int groups_left>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups_left) : "memory");
}

// Barrier 1 to 15 of the block for `threads` of its threads, a multiple of 32; those that arrive do not wait.
__device__ __forceinline__ void barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Asks for a line of global memory, which is then in the L2 cache when it is read.
__device__ __forceinline__ void prefetch(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(address)));
}

// 2^x within 2 ulp, results below 2^-126 flushed to zero.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

#else

#define XL_DYNAMIC_SHARED(name) unsigned char* const name = ::simt::dynamic_shared()
#define XL_SHARED(name, ...) auto& name = ::simt::shared_variable<__VA_ARGS__>([] {})

using simt::barrier_arrive;
using simt::barrier_sync;
using simt::cp_async;
using simt::cp_async_commit;
using simt::cp_async_wait;
using simt::exp2_approx;
using simt::ldmatrix;
using simt::ldmatrix_transposed;
using simt::mma_m16n8k16;
using simt::mma_m16n8k8_tf32;
using simt::prefetch;
using simt::to_tf32;

#endif

// T = __nv_bfloat16 or __half.
template <typename T>
__host__ __device__ __forceinline__ T from_float(float value);
template <>
__host__ __device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__host__ __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}
template <>
__host__ __device__ __forceinline__ __half from_float<__half>(float value) {
  return __float2half_rn(value);
}
__host__ __device__ __forceinline__ float to_float(float value) { return value; }
__host__ __device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__host__ __device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

// Two values in a register, as fragments hold them: `low` has the lower column.
template <typename T>
__device__ __forceinline__ uint32_t pack(float low, float high);
template <>
__device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return __bfloat16_as_ushort(pair.x) | static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}
template <>
__device__ __forceinline__ uint32_t pack<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return __half_as_ushort(pair.x) | static_cast<uint32_t>(__half_as_ushort(pair.y)) << 16;
}

struct LaunchShape {
  const char* name;  // of the operator, for messages
  dim3 grid, block;
  size_t shared_bytes;  // dynamic
  void* stream;         // a cudaStream_t; the emulator's launches end before they return
};

// kernel<<<shape>>>(arguments...). The emulator's reports come back as an internal error.
template <typename... Parameters, typename... Arguments>
Status launch(const LaunchShape& shape, void (*kernel)(Parameters...), Arguments... arguments) {
#if defined(__CUDACC__)
  constexpr size_t kWithoutAsking = 40 * 1024;  // of 48 KB, which include a kernel's static variables
  cudaError_t error = cudaSuccess;
  if (shape.shared_bytes > kWithoutAsking) {
    error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes));
  }
  if (error == cudaSuccess) {
    kernel<<<shape.grid, shape.block, shape.shared_bytes, static_cast<cudaStream_t>(shape.stream)>>>(arguments...);
    error = cudaGetLastError();
  }
  if (error == cudaSuccess) return ok_status();
  return make_status(StatusCode::device, "%s: the kernel could not be launched: %s", shape.name,
                     cudaGetErrorString(error));
#else
  const ::simt::Grid grid = {shape.name, shape.grid, shape.block, shape.shared_bytes};
  const ::simt::Fault fault = ::simt::launch(grid, kernel, arguments...);
  return fault.ok() ? ok_status() : make_status(StatusCode::internal, "%s", fault.message.c_str());
#endif
}

}  // namespace xlformers::cuda
