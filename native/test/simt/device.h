// CUDA C++ for the host's compiler: what cuda/device.cuh includes where nvcc does not compile.
#pragma once

#include "simt/device_memory.h"
#include "simt/half.h"
#include "simt/instructions.h"
#include "simt/launch.h"
#include "simt/math.h"
#include "simt/types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)
