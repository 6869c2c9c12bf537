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

// Clang copies structures by memcpy, which its checks do not see (compiler_hooks.cc): there, vectors are copied by
// members.
#if defined(__clang__)
#define SIMT_COPY2(type)                                 \
  type() = default;                                      \
  type(decltype(x) x_, decltype(x) y_) : x(x_), y(y_) {} \
  type(const type& other) : x(other.x), y(other.y) {}    \
  type& operator=(const type& other) {                   \
    x = other.x, y = other.y;                            \
    return *this;                                        \
  }
#define SIMT_COPY4(type)                                                                               \
  type() = default;                                                                                    \
  type(decltype(x) x_, decltype(x) y_, decltype(x) z_, decltype(x) w_) : x(x_), y(y_), z(z_), w(w_) {} \
  type(const type& other) : x(other.x), y(other.y), z(other.z), w(other.w) {}                          \
  type& operator=(const type& other) {                                                                 \
    x = other.x, y = other.y, z = other.z, w = other.w;                                                \
    return *this;                                                                                      \
  }
#else
#define SIMT_COPY2(type)
#define SIMT_COPY4(type)
#endif

#define SIMT_VECTOR_TYPES(type, base, align2, align4)                     \
  struct alignas(align2) type##2 {                                        \
    base x, y;                                                            \
    SIMT_COPY2(type##2)                                                   \
  };                                                                      \
  struct alignas(align4) type##4 {                                        \
    base x, y, z, w;                                                      \
    SIMT_COPY4(type##4)                                                   \
  };                                                                      \
  static inline type##2 make_##type##2(base x, base y) { return {x, y}; } \
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
  SIMT_COPY2(double2)
};
static inline double2 make_double2(double x, double y) { return {x, y}; }
#undef SIMT_COPY2
#undef SIMT_COPY4
