// The CPU's queue: one worker thread that runs operators in the order they were enqueued, each fanned out over the pool.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "core/backend.h"
#include "cpu/kernel.h"
#include "cpu/workspace.h"

namespace xlformers::cpu {

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

  const Workspace& workspace() const { return workspace_; }
  void reset_workspace_peak() { workspace_.reset_peak(); }

 private:
  struct Record;

  Status push(std::unique_ptr<Record> record);
  void drain();
  void run(const Record& record);
  Status run_operator(const Record& record);

  const KernelTable& table_;
  Workspace workspace_;
  Status error_;  // the first since the last fence; touched by the worker only
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::unique_ptr<Record>> queue_;
  bool closing_ = false;
  std::thread worker_;
};

}  // namespace xlformers::cpu
