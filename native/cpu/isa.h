// The instruction set this translation unit is compiled for. The build compiles every kernel file once per set and defines XL_ISA
// as its name, which becomes a namespace: xlformers::cpu::avx2::layer_norm and so on. Kernel files keep standard-library use to what
// has no inline function bodies shared between sets (an inline function compiled for AVX-512 must never run on a lesser machine).
#pragma once

#ifndef XL_ISA
#error "kernel files are compiled with -DXL_ISA=baseline|avx2|avx512|neon"
#endif

#define XL_KERNELS_BEGIN \
  namespace xlformers::cpu::XL_ISA {
#define XL_KERNELS_END }
