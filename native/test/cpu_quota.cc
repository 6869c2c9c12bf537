// Prints the CPUs that the groups under argv[1] grant a process that argv[2] lists: test/native/threads.test.ts.
#include "cpu/cpu_quota.h"

#include <cstdio>

int main(int count, char** arguments) {
  if (count != 3) return 2;
  std::printf("%d\n", xlformers::cpu::granted_cpus(arguments[1], arguments[2]));
}
