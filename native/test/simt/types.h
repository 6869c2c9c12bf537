// CUDA's built-in types, with CUDA's sizes and alignments.
#pragma once

#include <cstdint>

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

#define SIMT_VECTOR_TYPES(type, base, align2, align4)                                        \
  struct alignas(align2) type##2 {                                                           \
    base x, y;                                                                               \
  };                                                                                         \
  struct alignas(align4) type##4 {                                                           \
    base x, y, z, w;                                                                         \
  };                                                                                         \
  static inline type##2 make_##type##2(base x, base y) { return {x, y}; }                    \
  static inline type##4 make_##type##4(base x, base y, base z, base w) { return {x, y, z, w}; }

SIMT_VECTOR_TYPES(char, signed char, 2, 4)
SIMT_VECTOR_TYPES(uchar, unsigned char, 2, 4)
SIMT_VECTOR_TYPES(short, short, 4, 8)
SIMT_VECTOR_TYPES(ushort, unsigned short, 4, 8)
SIMT_VECTOR_TYPES(int, int, 8, 16)
SIMT_VECTOR_TYPES(uint, unsigned, 8, 16)
SIMT_VECTOR_TYPES(float, float, 8, 16)
#undef SIMT_VECTOR_TYPES

struct alignas(16) double2 {
  double x, y;
};
static inline double2 make_double2(double x, double y) { return {x, y}; }
