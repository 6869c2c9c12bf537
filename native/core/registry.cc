#include "core/registry.h"

#include <dlfcn.h>

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "core/environment_variables.h"

namespace xlformers {
namespace {

struct Plugin {
  const Backend* backend = nullptr;
  std::string reason;
};

struct Registry {
  std::mutex mutex;
  std::vector<const Backend*> linked;
  std::map<std::string, Plugin> plugins;
};

Registry& registry() {
  // Never destroyed: worker threads may look backends up while the process exits.
  static Registry* const instance = new Registry;
  return *instance;
}

// The folder of the library that holds this function.
std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&register_backend), &info) == 0 || info.dli_fname == nullptr) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string plugin_path(const std::string& name) {
  const char* const given = environment_variables::plugin_path(name);
  if (given != nullptr && *given != '\0') return given;
  return own_folder() + "/xlformers_" + name + ".so";
}

Plugin open_plugin(const std::string& name) {
  const std::string path = plugin_path(name);
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* error = dlerror();
    return {nullptr, "the " + name + " plugin cannot be opened: " + (error == nullptr ? path : error)};
  }
  const auto function = reinterpret_cast<BackendFunction>(dlsym(library, kBackendSymbol));
  if (function == nullptr) return {nullptr, path + ": no function " + kBackendSymbol};
  const Backend* const backend = function();
  if (backend == nullptr) return {nullptr, path + ": gave no backend"};
  if (backend->abi != kBackendAbi) {
    return {nullptr, path + ": built for backend interface " + std::to_string(backend->abi) + ", this build has " +
                         std::to_string(kBackendAbi) + "; install matching versions"};
  }
  if (backend->table_bytes != static_cast<int32_t>(sizeof(Backend))) {
    return {nullptr, path + ": its backend table has " + std::to_string(backend->table_bytes) + " bytes, this build's " +
                         std::to_string(sizeof(Backend)) + "; install matching versions"};
  }
  if (backend->name == nullptr || name != backend->name) {
    return {nullptr, path + ": a plugin for '" + (backend->name == nullptr ? "" : backend->name) + "', expected '" + name + "'"};
  }
  return {backend, ""};
}

}  // namespace

void stay_loaded() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&register_backend), &info) == 0 || info.dli_fname == nullptr) return;
  dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

void register_backend(const Backend* backend) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  for (const Backend* known : all.linked) {
    if (known == backend) return;
  }
  all.linked.push_back(backend);
}

const Backend* find_backend(const char* name, std::string* why_none) {
  Registry& all = registry();
  std::lock_guard<std::mutex> lock(all.mutex);
  for (const Backend* backend : all.linked) {
    if (std::strcmp(backend->name, name) == 0) return backend;
  }
  auto found = all.plugins.find(name);
  if (found == all.plugins.end()) found = all.plugins.emplace(name, open_plugin(name)).first;
  *why_none = found->second.reason;
  return found->second.backend;
}

}  // namespace xlformers
