// How much CPU time the control groups of a process grant it.
#pragma once

#include <string>

namespace xlformers::cpu {

// CPUs' worth of time, rounded up, at least 1; 0 without a limit. The smallest quota counts of all groups from the process's own up to
// the root, in version 1 and 2 of the interface.
// `mount`: where the groups are, /sys/fs/cgroup; `membership`: the file that lists the process's groups, /proc/self/cgroup.
int granted_cpus(const std::string& mount, const std::string& membership);

}  // namespace xlformers::cpu
