// What a CPU kernel is: a function of a parameter block (core/operators.h) and this context, run on the stream's worker.
//
// Every file that defines kernels is compiled once per instruction set, inside namespace XL_ISA (isa.h); dispatch.cc picks a table.
// Determinism: work is split by fixed block sizes, never by the number of threads, and partial results are combined in a fixed
// order, so that the result does not depend on the number of threads.
#pragma once

#include "core/operator_list.h"
#include "core/status.h"
#include "cpu/thread_pool.h"
#include "cpu/workspace.h"

namespace xlformers::cpu {

struct Context {
  ThreadPool& pool;
  Workspace& workspace;  // emptied after every operator
};

// `params` points at the operator's block. May throw std::bad_alloc (from Workspace); the stream turns it into out_of_memory.
using Kernel = Status (*)(Context& context, const void* params);

struct KernelTable {
  const char* isa;  // "baseline", "avx2", "avx512", "neon"
  Kernel kernels[kOperatorCount];
  int64_t (*packed_matrix_elements)(DType dtype, int64_t columns, int64_t inner);
};

}  // namespace xlformers::cpu
