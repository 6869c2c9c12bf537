// The CPU's queue: one worker thread that runs operators in the order they were enqueued, each fanned out over the pool.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/backend.h"
#include "cpu/kernel.h"
#include "cpu/workspace.h"

namespace xlformers::cpu {

// An operator and its parameter block.
struct Call {
  Operator op;
  std::unique_ptr<char[]> params;
};
// Operators to be run again and again. Shared by who made it and the replays under way.
using Recording = std::shared_ptr<const std::vector<Call>>;

class CpuStream {
 public:
  explicit CpuStream(const KernelTable& table);
  // Discards what has not started, waits for the running operator, completes outstanding fences with StatusCode::cancelled.
  ~CpuStream();
  CpuStream(const CpuStream&) = delete;
  CpuStream& operator=(const CpuStream&) = delete;

  Status enqueue(Operator op, const void* params, size_t bytes);
  Status upload(void* destination, const void* source, size_t bytes);
  Status download(void* destination, const void* source, size_t bytes);
  Status fence(FenceCallback callback, void* user);

  // Until take_recording(), operators are noted instead of run.
  Status begin_recording();
  Status take_recording(Recording* recording);
  Status replay(const Recording& recording);

  const Workspace& workspace() const { return workspace_; }
  void reset_workspace_peak() { workspace_.reset_peak(); }

 private:
  struct Record;

  Status push(std::unique_ptr<Record> record);
  void drain();
  void run(const Record& record);
  void run_call(const Call& call);
  Status run_operator(const Call& call);

  const KernelTable& table_;
  Workspace workspace_;
  Status error_;  // the first since the last fence; touched by the worker only
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::unique_ptr<Record>> queue_;
  bool closing_ = false;
  std::unique_ptr<std::vector<Call>> noted_;  // touched by the enqueuing thread only; null: not recording
  std::thread worker_;
};

}  // namespace xlformers::cpu
