#include "cpu/kernels.h"

XL_KERNELS_BEGIN

#define XL_STRING(text) #text
#define XL_NAME(text) XL_STRING(text)
#define XL_TABLE_ENTRY(name) name,

const KernelTable& kernel_table() {
  static const KernelTable table = {XL_NAME(XL_ISA), {XL_FOR_EACH_OPERATOR(XL_TABLE_ENTRY)}, packed_matrix_elements};
  return table;
}

XL_KERNELS_END
