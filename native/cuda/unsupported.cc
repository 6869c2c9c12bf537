// Stands in for operators that have no kernels yet.
#include "cuda/kernel.h"

namespace xlformers::cuda {

#define XL_STAND_IN(name)                                                                   \
  __attribute__((weak)) Status name(const Context&, const void*) {                          \
    return make_status(StatusCode::unsupported, "the CUDA backend has no " #name " yet");   \
  }
XL_FOR_EACH_OPERATOR(XL_STAND_IN)
#undef XL_STAND_IN

}  // namespace xlformers::cuda
