// A device as one JavaScript thread sees it: operators are launched on a stream of its own by the thread that calls, which never
// waits for them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "core/backend.h"
#include "cuda/completions.h"
#include "cuda/kernel.h"
#include "cuda/pinned_pool.h"

namespace xlformers::cuda {

class CudaStream {
 public:
  static Status open(int32_t device, std::unique_ptr<CudaStream>* stream);
  // Waits for everything enqueued; outstanding fences complete.
  ~CudaStream();
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  Status enqueue(Operator op, const void* params);
  Status upload(void* destination, const void* source, size_t bytes);
  Status download(void* destination, const void* source, size_t bytes);
  Status fence(FenceCallback callback, void* user);

  // Until end_recording(), operators become a graph instead of running; a layer norm is made by the product that follows, where it can
  // be (multiply_normed). Their scratch memory is the stream's, which keeps it to its end.
  Status begin_recording();
  Status end_recording(void** graph);
  Status replay(void* graph);
  // When what was enqueued has run.
  void drop(void* graph);

  const Workspace& workspace() const { return *workspace_; }
  void reset_workspace_peak() { workspace_->reset_peak(); }

 private:
  struct Transfer;
  struct Fence;

  explicit CudaStream(int32_t device) : device_(device) {}

  Status prepare();
  // Launches of an operator by `kernels`(context).
  template <typename Kernels>
  void launch(Operator op, const Kernels& kernels);
  void launch_held_norm();
  Status copy(void* destination, const void* source, size_t bytes, bool to_device);

  int32_t device_;
  void* stream_ = nullptr;
  DeviceProperties properties_{};
  std::unique_ptr<Workspace> workspace_;
  DataError* data_error_ = nullptr;
  uint32_t* arrivals_ = nullptr;
  Status error_;  // the first of launching since the last fence
  bool recording_ = false;
  Status recording_error_;
  std::optional<LayerNormParams> held_norm_;  // of a recording: not launched before the next operator is known
  PinnedPool pinned_;
  std::unique_ptr<StreamCompletions> completions_;
};

}  // namespace xlformers::cuda
