// One pool for the process, shared by all streams. The calling thread takes part in its own parallel loops.
#pragma once

#include <cstdint>
#include <memory>

namespace xlformers::cpu {

class ThreadPool {
 public:
  // Threads that a loop may use, the caller included: min(affinity, cgroup CPU quota rounded up), or XLFORMERS_NUM_THREADS.
  static ThreadPool& instance();

  int threads() const;

  // Calls body(task, worker) for every task in [0, tasks), each once, in any order and on any thread; worker is in [0, threads())
  // and no two calls with the same worker overlap, so it may index scratch memory. Returns when all are done. When another stream
  // holds the pool the caller runs all the tasks itself. Bodies must not throw and must not nest parallel loops.
  template <typename Body>
  void parallel_for(int64_t tasks, const Body& body) {
    run(tasks, [](const void* context, int64_t task, int worker) { (*static_cast<const Body*>(context))(task, worker); }, &body);
  }

  ~ThreadPool();

 private:
  using TaskFunction = void (*)(const void* context, int64_t task, int worker);

  ThreadPool();
  void run(int64_t tasks, TaskFunction function, const void* context);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace xlformers::cpu
