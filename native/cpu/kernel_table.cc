#include "cpu/kernels.h"

XL_KERNELS_BEGIN

#define XL_STRING(text) #text
#define XL_NAME(text) XL_STRING(text)
#define XL_TABLE_ENTRY(name) name,

const KernelTable& kernel_table() {
  static const KernelTable table = {XL_NAME(XL_ISA), {XL_FOR_EACH_OPERATOR(XL_TABLE_ENTRY)}, packed_matrix_elements};
  return table;
}

// The list above follows the enumeration: every operator once, in its order.
#define XL_COUNT_ENTRY(name) +1
static_assert(0 XL_FOR_EACH_OPERATOR(XL_COUNT_ENTRY) == kOperatorCount, "an operator has no kernel");
#define XL_CHECK_ORDER(name) static_cast<int>(Operator::name),
constexpr int kOrder[] = {XL_FOR_EACH_OPERATOR(XL_CHECK_ORDER)};
constexpr bool in_order() {
  for (int i = 0; i < kOperatorCount; ++i) {
    if (kOrder[i] != i) return false;
  }
  return true;
}
static_assert(in_order(), "kernels.h lists the operators in another order than core/operators.h");

XL_KERNELS_END
