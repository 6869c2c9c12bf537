#include "cpu/cpu_quota.h"

#include <algorithm>
#include <fstream>

namespace xlformers::cpu {
namespace {

int rounded_up(long long quota, long long period) {
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<int>(std::min((quota - 1) / period + 1, 1LL << 20));
}

// "max 100000" (no limit) or "200000 100000".
int quota_v2(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  long long quota = 0;
  long long period = 0;
  return file >> quota >> period ? rounded_up(quota, period) : 0;
}

// A quota of -1 is no limit.
int quota_v1(const std::string& group) {
  std::ifstream quota_file(group + "/cpu.cfs_quota_us");
  std::ifstream period_file(group + "/cpu.cfs_period_us");
  long long quota = 0;
  long long period = 0;
  return quota_file >> quota && period_file >> period ? rounded_up(quota, period) : 0;
}

void keep_smallest(int quota, int* smallest) {
  if (quota > 0 && (*smallest == 0 || quota < *smallest)) *smallest = quota;
}

// `path` as the process sees it, "/a/b"; in a container it may be the host's, of which only the root is visible here.
template <typename Quota>
void walk_up(const std::string& mount, std::string path, Quota quota, int* smallest) {
  if (path.find("..") != std::string::npos) path.clear();
  for (;;) {
    while (!path.empty() && path.back() == '/') path.pop_back();
    keep_smallest(quota(mount + path), smallest);
    if (path.empty()) return;
    path.resize(path.rfind('/'));
  }
}

// Whether a comma-separated list of controllers has "cpu".
bool controls_cpu(const std::string& controllers) {
  return ("," + controllers + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

int granted_cpus(const std::string& mount, const std::string& membership) {
  int smallest = 0;
  std::ifstream file(membership);
  // "0::/path" is the group of version 2, "4:cpu,cpuacct:/path" one of version 1.
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') continue;
    if (controllers.empty()) walk_up(mount, path, quota_v2, &smallest);
    if (controls_cpu(controllers)) walk_up(mount + "/cpu", path, quota_v1, &smallest);
  }
  return smallest;
}

}  // namespace xlformers::cpu
