#include "cuda/cublaslt.h"

#include <dlfcn.h>
#include <glob.h>

#include <algorithm>
#include <iterator>

#include "core/environment_variables.h"

namespace xlformers::cuda::cublaslt {
namespace {

constexpr const char* kVariable = environment_variables::kCublasLt;
constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

template <typename Function>
bool resolve(void* library, const char* name, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(library, name));
  return *function != nullptr;
}

// The name of what is missing, or null.
const char* resolve_all(void* library, Interface* into) {
#define XL_RESOLVE(name) \
  if (!resolve(library, "cublasLt" #name, &into->name)) return "cublasLt" #name
  XL_RESOLVE(GetVersion);
  XL_RESOLVE(Create);
  XL_RESOLVE(Destroy);
  XL_RESOLVE(MatmulDescCreate);
  XL_RESOLVE(MatmulDescDestroy);
  XL_RESOLVE(MatmulDescSetAttribute);
  XL_RESOLVE(MatrixLayoutCreate);
  XL_RESOLVE(MatrixLayoutDestroy);
  XL_RESOLVE(MatmulPreferenceCreate);
  XL_RESOLVE(MatmulPreferenceDestroy);
  XL_RESOLVE(MatmulPreferenceSetAttribute);
  XL_RESOLVE(MatmulAlgoGetHeuristic);
  XL_RESOLVE(Matmul);
#undef XL_RESOLVE
  return nullptr;
}

// Takes over the library when it serves, and says why not otherwise.
Status try_library(const char* file, void* library, Interface* into) {
  const char* const missing = resolve_all(library, into);
  if (missing != nullptr) return make_status(StatusCode::unsupported, "%.150s: it has no %s", file, missing);
  const size_t version = into->GetVersion();
  if (version < kFirstVersion) {
    return make_status(StatusCode::unsupported, "%.150s: its version is %zu, expected %zu or newer", file, version,
                       kFirstVersion);
  }
  return ok_status();
}

std::vector<std::string> installed_toolkits() {
  std::vector<std::string> folders;
  glob_t found{};
  if (glob("/usr/local/cuda*", 0, nullptr, &found) == 0)
    folders.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  std::sort(folders.rbegin(), folders.rend());
  return folders;
}

Status try_file(const char* file, int more_flags, Interface* into) {
  void* const handle = dlopen(file, RTLD_NOW | RTLD_LOCAL | more_flags);
  if (handle == nullptr) return make_status(StatusCode::unsupported, "%.200s", dlerror());
  const Status tried = try_library(file, handle, into);
  if (!tried.ok()) dlclose(handle);
  return tried;
}

struct Opened {
  Interface library{};
  bool found = false;
  Status status;

  explicit Opened(bool emulated) {
    const char* const named = environment_variables::value(kVariable);
    if (named == nullptr && emulated) return;
    const Status tried = open_first(search_path(named, environment_variables::value(environment_variables::kCudaHome), installed_toolkits()), &library);
    found = tried.ok();
    if (found || named == nullptr || named[0] == '\0') return;
    status =
        make_status(StatusCode::unsupported, "no cuBLASLt (%.130s): name another by %s, or nothing for the own kernels",
                    tried.message, kVariable);
  }
};

}  // namespace

SearchPath search_path(const char* named, const char* cuda_home, const std::vector<std::string>& toolkits) {
  if (named != nullptr) return {false, named[0] == '\0' ? std::vector<std::string>{} : std::vector<std::string>{named}};
  SearchPath path = {true, {std::begin(kNames), std::end(kNames)}};
  const auto add_folder = [&](const std::string& toolkit) {
    for (const char* name : kNames) path.files.push_back(toolkit + "/lib64/" + name);
  };
  if (cuda_home != nullptr && cuda_home[0] != '\0') add_folder(cuda_home);
  for (const std::string& toolkit : toolkits) add_folder(toolkit);
  return path;
}

Status open_first(const SearchPath& path, Interface* library) {
  Status tried = make_status(StatusCode::unsupported, "no file to look for");
  if (path.loaded_first) {
    for (const char* name : kNames) {
      tried = try_file(name, RTLD_NOLOAD, library);
      if (tried.ok()) return tried;
    }
  }
  for (const std::string& file : path.files) {
    tried = try_file(file.c_str(), 0, library);
    if (tried.ok()) return tried;
  }
  return tried;
}

Status open(const DeviceProperties& device, const Interface** library) {
  static const Opened opened(device.emulated);
  *library = opened.found ? &opened.library : nullptr;
  return opened.status;
}

}  // namespace xlformers::cuda::cublaslt
