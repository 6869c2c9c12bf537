// mma.sync and ldmatrix by the fragment layouts of the PTX ISA ("Matrix Fragments for mma.m16n8k16", "... m16n8k8",
// "ldmatrix"). With g = lane / 4 and t = lane % 4, a lane holds, two 16-bit values per register:
//   A [16, 16]: (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..)      B [16, 8]: (2t.., g), (2t + 8.., g)
//   C [16, 8]: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
// and for tf32, one value per register:
//   A [16, 8]: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)                    B [8, 8]: (t, g), (t + 4, g)
// Products are exact; sums are in fp32, k ascending (a device may round them in another order).
#include <cstring>

#include "simt/checks.h"

namespace simt {

namespace {

// Eight columns at once, in whatever registers the processor has.
typedef float Row __attribute__((vector_size(32)));

struct MultiplyOperand {
  float* accumulator;
  const uint32_t* a;
  const uint32_t* b;
};

struct LoadOperand {
  uint32_t* fragment;
  const unsigned char* row;
};

float low_bfloat16(uint32_t word) { return float_of(word << 16); }
float high_bfloat16(uint32_t word) { return float_of(word & 0xFFFF0000u); }
float low_half(uint32_t word) { return half_to_float(static_cast<uint16_t>(word)); }
float high_half(uint32_t word) { return half_to_float(static_cast<uint16_t>(word >> 16)); }
float tf32(uint32_t word) { return float_of(word & 0xFFFFE000u); }  // the low bits are ignored

template <int depth>
struct Tiles {
  alignas(32) float a[16][depth];
  alignas(32) float b[depth][8];
  alignas(32) float c[16][8];

  void load_accumulators(void* const* operands) {
    for (int lane = 0; lane < kWarp; ++lane) {
      const float* values = static_cast<const MultiplyOperand*>(operands[lane])->accumulator;
      const int g = lane >> 2, t = lane & 3;
      std::memcpy(&c[g][2 * t], values, 8);
      std::memcpy(&c[g + 8][2 * t], values + 2, 8);
    }
  }

  void multiply() {
    for (int row = 0; row < 16; ++row) {
      Row sum;
      std::memcpy(&sum, c[row], sizeof sum);
      for (int k = 0; k < depth; ++k) {
        Row columns;
        std::memcpy(&columns, b[k], sizeof columns);
        sum += a[row][k] * columns;
      }
      std::memcpy(c[row], &sum, sizeof sum);
    }
  }

  void store_accumulators(void* const* operands) const {
    for (int lane = 0; lane < kWarp; ++lane) {
      float* values = static_cast<const MultiplyOperand*>(operands[lane])->accumulator;
      const int g = lane >> 2, t = lane & 3;
      std::memcpy(values, &c[g][2 * t], 8);
      std::memcpy(values + 2, &c[g + 8][2 * t], 8);
    }
  }
};

template <float low(uint32_t), float high(uint32_t)>
void multiply_16816(Block&, int, uint32_t, void* const* operands) {
  Tiles<16> tiles;
  for (int lane = 0; lane < kWarp; ++lane) {
    const MultiplyOperand& mine = *static_cast<const MultiplyOperand*>(operands[lane]);
    const int g = lane >> 2, t = lane & 3;
    for (int part = 0; part < 4; ++part) {
      float* pair = &tiles.a[g + 8 * (part & 1)][2 * t + 8 * (part >> 1)];
      pair[0] = low(mine.a[part]);
      pair[1] = high(mine.a[part]);
    }
    for (int part = 0; part < 2; ++part) {
      tiles.b[2 * t + 8 * part][g] = low(mine.b[part]);
      tiles.b[2 * t + 1 + 8 * part][g] = high(mine.b[part]);
    }
  }
  tiles.load_accumulators(operands);
  tiles.multiply();
  tiles.store_accumulators(operands);
}

void multiply_1688(Block&, int, uint32_t, void* const* operands) {
  Tiles<8> tiles;
  for (int lane = 0; lane < kWarp; ++lane) {
    const MultiplyOperand& mine = *static_cast<const MultiplyOperand*>(operands[lane]);
    const int g = lane >> 2, t = lane & 3;
    for (int part = 0; part < 4; ++part) tiles.a[g + 8 * (part & 1)][t + 4 * (part >> 1)] = tf32(mine.a[part]);
    for (int part = 0; part < 2; ++part) tiles.b[t + 4 * part][g] = tf32(mine.b[part]);
  }
  tiles.load_accumulators(operands);
  tiles.multiply();
  tiles.store_accumulators(operands);
}

// Lanes 8i to 8i + 7 give the rows of matrix i. Lane (g, t) gets columns 2t and 2t + 1 of row g, or, transposed, rows
// 2t and 2t + 1 of column g.
template <int count, bool transposed>
void run_load(Block& block, int first, uint32_t, void* const* operands) {
  for (int lane = 0; lane < 8 * count; ++lane) {
    const Thread& thread = block.thread(first + lane);
    const unsigned char* row = static_cast<const LoadOperand*>(operands[lane])->row;
    if (!block.shared().contains(row, 16)) {
      block.fail(FaultKind::out_of_bounds, thread,
                 "ldmatrix (%s:%d) of a row at %p, which is not in the block's shared memory", thread.site.name(),
                 thread.site.line, static_cast<const void*>(row));
    }
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
      block.fail(FaultKind::misaligned, thread,
                 "ldmatrix (%s:%d) of a row at byte %zu of shared memory: rows are aligned to 16", thread.site.name(),
                 thread.site.line, block.shared().offset(row));
    }
    check_access(block, thread, row, 16, 16, Access::read, "ldmatrix", nullptr);
  }
  for (int matrix = 0; matrix < count; ++matrix) {
    const unsigned char* rows[8];
    for (int row = 0; row < 8; ++row) rows[row] = static_cast<const LoadOperand*>(operands[8 * matrix + row])->row;
    for (int lane = 0; lane < kWarp; ++lane) {
      const int g = lane >> 2, t = lane & 3;
      uint32_t word;
      if (transposed) {
        uint16_t low, high;
        std::memcpy(&low, rows[2 * t] + 2 * g, 2);
        std::memcpy(&high, rows[2 * t + 1] + 2 * g, 2);
        word = low | static_cast<uint32_t>(high) << 16;
      } else {
        std::memcpy(&word, rows[g] + 4 * t, 4);
      }
      static_cast<const LoadOperand*>(operands[lane])->fragment[matrix] = word;
    }
  }
}

}  // namespace

void multiply_accumulate_16816(char type, float* accumulator, const uint32_t* a, const uint32_t* b, Site site) {
  static const Collective bfloat16 = {"mma_m16n8k16 bf16", true, multiply_16816<low_bfloat16, high_bfloat16>};
  static const Collective half = {"mma_m16n8k16 fp16", true, multiply_16816<low_half, high_half>};
  MultiplyOperand mine = {accumulator, a, b};
  running_block("mma_m16n8k16").meet(kAllLanes, type == 'h' ? half : bfloat16, &mine, site);
}

void multiply_accumulate_1688(float* accumulator, const uint32_t* a, const uint32_t* b, Site site) {
  static const Collective collective = {"mma_m16n8k8_tf32", true, multiply_1688};
  MultiplyOperand mine = {accumulator, a, b};
  running_block("mma_m16n8k8_tf32").meet(kAllLanes, collective, &mine, site);
}

void load_matrices(int count, bool transposed, uint32_t* fragment, const void* row, Site site) {
  static const Collective plain[] = {{"ldmatrix<1>", true, run_load<1, false>},
                                     {"ldmatrix<2>", true, run_load<2, false>},
                                     {"ldmatrix<4>", true, run_load<4, false>}};
  static const Collective across[] = {{"ldmatrix_transposed<1>", true, run_load<1, true>},
                                      {"ldmatrix_transposed<2>", true, run_load<2, true>},
                                      {"ldmatrix_transposed<4>", true, run_load<4, true>}};
  LoadOperand mine = {fragment, static_cast<const unsigned char*>(row)};
  const Collective* collectives = transposed ? across : plain;
  running_block("ldmatrix").meet(kAllLanes, collectives[count / 2], &mine, site);
}

}  // namespace simt
