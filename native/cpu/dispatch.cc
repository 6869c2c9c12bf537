#include "cpu/dispatch.h"

#include <cstring>

#include "core/environment_variables.h"

namespace xlformers::cpu {

// The build defines XL_HAS_<set> for every set it compiled.
#if defined(XL_HAS_baseline)
namespace baseline { const KernelTable& kernel_table(); }
#endif
#if defined(XL_HAS_avx2)
namespace avx2 { const KernelTable& kernel_table(); }
#endif
#if defined(XL_HAS_avx512)
namespace avx512 { const KernelTable& kernel_table(); }
#endif
#if defined(XL_HAS_neon)
namespace neon { const KernelTable& kernel_table(); }
#endif

namespace {

struct Candidate {
  const char* name;
  bool present;  // in this CPU
  const KernelTable& (*table)();
};

#if defined(__x86_64__)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const KernelTable* choose(Status* why_none) {
  // Best first.
  const Candidate candidates[] = {
#if defined(XL_HAS_avx512)
      {"avx512", has_avx512(), avx512::kernel_table},
#endif
#if defined(XL_HAS_avx2)
      {"avx2", has_avx2(), avx2::kernel_table},
#endif
#if defined(XL_HAS_neon)
      {"neon", true, neon::kernel_table},
#endif
#if defined(XL_HAS_baseline)
      {"baseline", true, baseline::kernel_table},
#endif
  };
  const char* wanted = environment_variables::value(environment_variables::kCpuIsa);
  if (wanted != nullptr && *wanted == '\0') wanted = nullptr;
  for (const Candidate& candidate : candidates) {
    if (wanted != nullptr && std::strcmp(wanted, candidate.name) != 0) continue;
    if (candidate.present) return &candidate.table();
    if (wanted != nullptr) {
      *why_none = make_status(StatusCode::device, "XLFORMERS_CPU_ISA=%s: this CPU lacks it", wanted);
      return nullptr;
    }
  }
  *why_none = make_status(StatusCode::device, "XLFORMERS_CPU_ISA=%.40s: not built; baseline always is on x86-64",
                          wanted == nullptr ? "" : wanted);
  return nullptr;
}

}  // namespace

const KernelTable* kernels(Status* why_none) {
  static Status reason;
  static const KernelTable* const table = choose(&reason);
  if (table == nullptr) *why_none = reason;
  return table;
}

}  // namespace xlformers::cpu
