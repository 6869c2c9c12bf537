// The kernels of the best instruction set that this CPU has, or the one that XLFORMERS_CPU_ISA names.
#pragma once

#include "core/status.h"
#include "cpu/kernel.h"

namespace xlformers::cpu {

// Null with the reason when XLFORMERS_CPU_ISA names a set that is unknown, not built, or not in this CPU. Decided once.
const KernelTable* kernels(Status* why_none);

}  // namespace xlformers::cpu
