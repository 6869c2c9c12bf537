#include "cpu/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/environment_variables.h"
#include "cpu/cpu_quota.h"

namespace xlformers::cpu {
namespace {

// How long an idle worker polls before it sleeps: operators follow each other within microseconds.
constexpr int kSpinRounds = 1000;
constexpr int kMaxThreads = 256;

void pause_thread() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int usable_cpus() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<int>(std::thread::hardware_concurrency());
}

int choose_threads() {
  if (const char* wanted = environment_variables::value(environment_variables::kNumThreads)) {
    const int threads = std::atoi(wanted);
    if (threads >= 1) return threads < kMaxThreads ? threads : kMaxThreads;
  }
  int threads = usable_cpus();
  const int granted = granted_cpus("/sys/fs/cgroup", "/proc/self/cgroup");
  if (granted > 0 && granted < threads) threads = granted;
  if (threads < 1) threads = 1;
  return threads < kMaxThreads ? threads : kMaxThreads;
}

}  // namespace

struct ThreadPool::State {
  // One loop at a time. `generation` announces it; a worker joins by counting itself in `inside` while `open`.
  struct Loop {
    TaskFunction function = nullptr;
    const void* context = nullptr;
    int64_t tasks = 0;
  };

  int threads = 1;
  pid_t owner = 0;  // a forked child has no workers
  std::mutex busy;  // held by the stream whose loop runs
  Loop loop;
  std::atomic<int64_t> next{0};
  std::atomic<uint64_t> generation{0};
  std::atomic<int> inside{0};
  std::atomic<bool> open{false};
  std::mutex sleep_mutex;
  std::condition_variable wake;
  std::atomic<int> sleepers{0};

  void work(int worker) {
    for (int64_t task = next.fetch_add(1, std::memory_order_relaxed); task < loop.tasks;
         task = next.fetch_add(1, std::memory_order_relaxed)) {
      loop.function(loop.context, task, worker);
    }
  }

  void serve(int worker) {
    uint64_t seen = 0;
    for (;;) {
      for (int round = 0; generation.load(std::memory_order_acquire) == seen && round < kSpinRounds; ++round) {
        pause_thread();
      }
      if (generation.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(sleep_mutex);
        sleepers.fetch_add(1);
        wake.wait(lock, [&] { return generation.load() != seen; });
        sleepers.fetch_sub(1);
      }
      seen = generation.load();
      // The caller closes the loop and then waits for `inside` to reach 0: count first, look second.
      inside.fetch_add(1);
      if (open.load()) work(worker);
      inside.fetch_sub(1);
    }
  }
};

ThreadPool& ThreadPool::instance() {
  // Never destroyed: workers and streams of other threads may still run while the process exits.
  static ThreadPool* const pool = new ThreadPool;
  return *pool;
}

ThreadPool::ThreadPool() : state_(new State) {
  state_->threads = choose_threads();
  state_->owner = getpid();
  for (int worker = 1; worker < state_->threads; ++worker) {
    std::thread([state = state_.get(), worker] { state->serve(worker); }).detach();
  }
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::run(int64_t tasks, TaskFunction function, const void* context) {
  if (tasks <= 0) return;
  State& state = *state_;
  std::unique_lock<std::mutex> lock(state.busy, std::defer_lock);
  if (tasks == 1 || state.threads == 1 || state.owner != getpid() || !lock.try_lock()) {
    for (int64_t task = 0; task < tasks; ++task) function(context, task, 0);
    return;
  }
  state.loop = {function, context, tasks};
  state.next.store(0);
  state.open.store(true);
  state.generation.fetch_add(1);
  if (state.sleepers.load() > 0) {
    // The lock orders this with a worker that has checked the generation but does not sleep yet.
    std::lock_guard<std::mutex> sleeping(state.sleep_mutex);
    state.wake.notify_all();
  }
  state.work(0);
  state.open.store(false);
  while (state.inside.load() != 0) pause_thread();
}

}  // namespace xlformers::cpu
