// All kernels of one instruction set.
#pragma once

#include "core/operator_list.h"
#include "cpu/isa.h"
#include "cpu/kernel.h"

XL_KERNELS_BEGIN

#define XL_DECLARE_KERNEL(name) Status name(Context& context, const void* params);
XL_FOR_EACH_OPERATOR(XL_DECLARE_KERNEL)
#undef XL_DECLARE_KERNEL

int64_t packed_matrix_elements(DType dtype, int64_t columns, int64_t inner);

const KernelTable& kernel_table();

XL_KERNELS_END
