// cuBLASLt, opened at run time from wherever the user has it: it is half a gigabyte, so it is neither shipped nor
// linked. The part of its interface that we call, declared here; numbers as in cublasLt.h of CUDA 12 and 13.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"
#include "cuda/runtime.h"

namespace xlformers::cuda::cublaslt {

constexpr size_t kFirstVersion = 120000;
constexpr int kSuccess = 0;  // cublasStatus_t
constexpr int kNotSupported = 15;

using Handle = void*;  // cublasLtHandle_t, and so on
using Description = void*;
using Layout = void*;
using Preference = void*;

enum DataType : int32_t { kReal32 = 0, kReal16 = 2, kRealB16 = 14 };  // cudaDataType
constexpr int32_t kCompute32 = 68;                         // CUBLAS_COMPUTE_32F: neither tf32 nor sums in 16 bits
enum Operation : int32_t { kPlain = 0, kTransposed = 1 };  // cublasOperation_t

enum DescriptionAttribute : int32_t {
  kTransposeA = 3,
  kTransposeB = 4,
  kEpilogue = 7,
  kBiasPointer = 8,
  kAuxiliaryPointer = 11,
  kAuxiliaryStride = 12,
};

enum Epilogue : uint32_t {
  kNoEpilogue = 1,
  kRelu = 2,
  kBias = 4,
  kGelu = 32,        // the tanh form
  kAuxiliary = 128,  // gelu: what it is applied to is written too
};

enum PreferenceAttribute : int32_t {
  kMaxWorkspaceBytes = 1,
  kReductionSchemes = 3,
  kMinAlignmentA = 5,  // B, C and D follow
};
// Parts of the inner dimension are added up from scratch memory, in float: neither in the output's type nor in the
// order of arrival.
constexpr uint32_t kReduceComputeType = 2;

struct Algorithm {
  uint64_t data[8];
};

struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  int32_t state;
  float waves;
  int32_t reserved[4];
};

// The matrices are column-major: D [m, n] = epilogue(alpha op(A) op(B) + beta C).
struct Interface {
  size_t (*GetVersion)();
  int (*Create)(Handle*);
  int (*Destroy)(Handle);
  int (*MatmulDescCreate)(Description*, int32_t compute_type, int32_t scale_type);
  int (*MatmulDescDestroy)(Description);
  int (*MatmulDescSetAttribute)(Description, int32_t attribute, const void* value, size_t bytes);
  int (*MatrixLayoutCreate)(Layout*, int32_t type, uint64_t rows, uint64_t columns, int64_t stride);
  int (*MatrixLayoutDestroy)(Layout);
  int (*MatmulPreferenceCreate)(Preference*);
  int (*MatmulPreferenceDestroy)(Preference);
  int (*MatmulPreferenceSetAttribute)(Preference, int32_t attribute, const void* value, size_t bytes);
  int (*MatmulAlgoGetHeuristic)(Handle, Description, Layout a, Layout b, Layout c, Layout d, Preference, int requested,
                                HeuristicResult* results, int* found);
  int (*Matmul)(Handle, Description, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta,
                const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace, size_t workspace_bytes,
                void* stream);
};

// Where the library is looked for, in this order. `named`: $XLFORMERS_CUBLASLT or null; `cuda_home`: $CUDA_HOME or
// null; `toolkits`: folders of installed toolkits, the newest first.
struct SearchPath {
  bool loaded_first;  // what the process has loaded already, e.g. by another addon
  std::vector<std::string> files;
};
SearchPath search_path(const char* named, const char* cuda_home, const std::vector<std::string>& toolkits);

// Opens the first that serves: that has all functions, and is of version 12 or newer. Otherwise says what is wrong with
// the last.
Status open_first(const SearchPath& path, Interface* library);

// The library, or null: there is none, or this is the emulator, whose memory it does not know, and none was named. The
// first call opens it, for all threads and for good. An error: the one named by XLFORMERS_CUBLASLT does not serve.
Status open(const DeviceProperties& device, const Interface** library);

}  // namespace xlformers::cuda::cublaslt
