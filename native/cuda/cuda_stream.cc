#include "cuda/cuda_stream.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>

#include "cuda/gemm.h"

namespace xlformers::cuda {
namespace {

// Beyond so many pieces under way, transfers wait for the bus: a checkpoint is larger than what may be pinned.
constexpr int kMaxPieces = 32;

#define XL_TABLE_ENTRY(name) name,
constexpr Kernel kKernels[] = {XL_FOR_EACH_OPERATOR(XL_TABLE_ENTRY)};
#undef XL_TABLE_ENTRY

}  // namespace

// A piece on its way.
struct CudaStream::Transfer {
  PinnedPool* pool;
  void* pinned;
  void* destination;  // on the host; null: it went to the device
  size_t bytes;

  static void finish(void* user, const Status& status) {
    std::unique_ptr<Transfer> transfer(static_cast<Transfer*>(user));
    if (status.ok() && transfer->destination != nullptr) std::memcpy(transfer->destination, transfer->pinned, transfer->bytes);
    transfer->pool->give(transfer->pinned, transfer->bytes);
  }
};

struct CudaStream::Fence {
  PinnedPool* pool;
  FenceCallback callback;
  void* user;
  Status status;
  DataError* found;  // pinned: what kernels found until here

  static void finish(void* user, const Status& status) {
    std::unique_ptr<Fence> fence(static_cast<Fence*>(user));
    if (fence->status.ok()) fence->status = status;
    if (fence->status.ok() && fence->found->claimed != 0) fence->status = describe(*fence->found);
    fence->pool->give(fence->found, sizeof(DataError));
    fence->callback(fence->user, &fence->status);
  }
};

Status CudaStream::open(int32_t device, std::unique_ptr<CudaStream>* stream) {
  std::unique_ptr<CudaStream> opened(new CudaStream(device));
  const Status status = opened->prepare();
  if (status.ok()) *stream = std::move(opened);
  return status;
}

Status CudaStream::prepare() {
  Status status = runtime::make_current(device_);
  if (status.ok()) status = runtime::device_properties(device_, &properties_);
  if (status.ok()) status = runtime::create_stream(&stream_);
  if (!status.ok()) return status;
  workspace_ = std::make_unique<Workspace>();
  try {
    completions_ = std::make_unique<StreamCompletions>(device_, stream_);
  } catch (const std::exception& error) {
    return make_status(StatusCode::device, "cuda:%d: no thread for the queue: %.180s", device_, error.what());
  }
  data_error_ = static_cast<DataError*>(runtime::allocate(sizeof(DataError)));
  if (data_error_ == nullptr) return make_status(StatusCode::out_of_memory, "cuda:%d: no memory for the queue", device_);
  arrivals_ = static_cast<uint32_t*>(runtime::allocate(kArrivals * sizeof(uint32_t)));
  if (arrivals_ == nullptr) return make_status(StatusCode::out_of_memory, "cuda:%d: no memory for the queue", device_);
  status = runtime::clear(stream_, arrivals_, kArrivals * sizeof(uint32_t));
  return status.ok() ? runtime::clear(stream_, data_error_, sizeof(DataError)) : status;
}

CudaStream::~CudaStream() {
  runtime::make_current(device_);
  completions_.reset();
  if (stream_ != nullptr) runtime::destroy_stream(stream_);
  if (data_error_ != nullptr) runtime::deallocate(data_error_);
  if (arrivals_ != nullptr) runtime::deallocate(arrivals_);
  workspace_.reset();
}

Status CudaStream::enqueue(Operator op, const void* params) {
  const auto index = static_cast<int32_t>(op);
  if (index < 0 || index >= kOperatorCount) {
    return make_status(StatusCode::unsupported, "operator %d is unknown to the CUDA backend", index);
  }
  const Status status = runtime::make_current(device_);
  if (!status.ok()) return status;
  const auto* const product = op == Operator::matrix_product ? static_cast<const MatrixProductParams*>(params) : nullptr;
  if (product != nullptr && held_norm_ && takes_norm(*product, *held_norm_)) {
    launch(op, [&](const Context& context) { return multiply_normed(context, *held_norm_, *product); });
    held_norm_.reset();
    return ok_status();
  }
  launch_held_norm();
  if (op == Operator::layer_norm && recording_) {
    held_norm_ = *static_cast<const LayerNormParams*>(params);
  } else {
    launch(op, [&](const Context& context) { return kKernels[index](context, params); });
  }
  return ok_status();
}

template <typename Kernels>
void CudaStream::launch(Operator op, const Kernels& kernels) {
  Status status;
  try {
    status = kernels(Context{stream_, *workspace_, properties_, data_error_, {arrivals_, kArrivals}});
  } catch (const std::bad_alloc&) {
    status = make_status(StatusCode::out_of_memory, "no memory for scratch space beyond the %lld bytes held",
                         static_cast<long long>(workspace_->bytes()));
  } catch (const std::exception& error) {
    status = make_status(StatusCode::internal, "%.200s", error.what());
  }
  workspace_->reset();
  Status& first_error = recording_ ? recording_error_ : error_;
  if (!status.ok() && first_error.ok()) {
    first_error = make_status(status.code, "%s: %.200s", kOperatorNames[static_cast<int32_t>(op)], status.message);
  }
}

void CudaStream::launch_held_norm() {
  if (!held_norm_) return;
  launch(Operator::layer_norm, [&](const Context& context) { return layer_norm(context, &*held_norm_); });
  held_norm_.reset();
}

Status CudaStream::begin_recording() {
  if (recording_) return make_status(StatusCode::invalid_argument, "a recording is being made already");
  Status status = runtime::make_current(device_);
  if (status.ok()) status = runtime::begin_capture(stream_);
  recording_ = status.ok();
  recording_error_ = ok_status();
  return status;
}

Status CudaStream::end_recording(void** graph) {
  if (!recording_) return make_status(StatusCode::invalid_argument, "no recording is being made");
  void* captured = nullptr;
  Status status = runtime::make_current(device_);
  launch_held_norm();
  recording_ = false;
  if (status.ok()) status = runtime::end_capture(stream_, &captured);
  if (status.ok() && recording_error_.ok()) {
    *graph = captured;
    return status;
  }
  if (captured != nullptr) runtime::destroy_graph(captured);
  return recording_error_.ok() ? status : recording_error_;
}

Status CudaStream::replay(void* graph) {
  Status status = runtime::make_current(device_);
  if (status.ok()) status = runtime::launch_graph(graph, stream_);
  return status;
}

void CudaStream::drop(void* graph) {
  runtime::make_current(device_);
  const auto destroy = [](void* user, const Status&) { runtime::destroy_graph(user); };
  if (completions_->push(destroy, graph).ok()) return;
  runtime::synchronize(stream_);
  runtime::destroy_graph(graph);
}

Status CudaStream::upload(void* destination, const void* source, size_t bytes) { return copy(destination, source, bytes, true); }

Status CudaStream::download(void* destination, const void* source, size_t bytes) { return copy(destination, source, bytes, false); }

Status CudaStream::copy(void* destination, const void* source, size_t bytes, bool to_device) {
  Status status = runtime::make_current(device_);
  for (size_t offset = 0; status.ok() && offset < bytes; offset += PinnedPool::kPieceBytes) {
    const size_t piece = std::min(PinnedPool::kPieceBytes, bytes - offset);
    if (pinned_.large_in_use() >= kMaxPieces) status = runtime::synchronize(stream_);
    if (!status.ok()) break;
    void* const pinned = pinned_.take(piece);
    if (pinned == nullptr) return make_status(StatusCode::out_of_memory, "no pinned memory for a transfer of %zu bytes", piece);
    const char* const from = static_cast<const char*>(source) + offset;
    char* const to = static_cast<char*>(destination) + offset;
    auto transfer = std::make_unique<Transfer>(Transfer{&pinned_, pinned, to_device ? nullptr : to, piece});
    if (to_device) {
      std::memcpy(pinned, from, piece);
      status = runtime::copy_to_device(stream_, to, pinned, piece);
    } else {
      status = runtime::copy_to_host(stream_, pinned, from, piece);
    }
    if (status.ok()) status = completions_->push(Transfer::finish, transfer.get());
    if (status.ok()) transfer.release();
  }
  return status;
}

Status CudaStream::fence(FenceCallback callback, void* user) {
  Status status = runtime::make_current(device_);
  if (!status.ok()) return status;
  auto* const found = static_cast<DataError*>(pinned_.take(sizeof(DataError)));
  if (found == nullptr) return make_status(StatusCode::out_of_memory, "fence: no pinned memory");
  auto fence = std::make_unique<Fence>(Fence{&pinned_, callback, user, error_, found});
  status = runtime::copy_to_host(stream_, found, data_error_, sizeof(DataError));
  if (status.ok()) status = runtime::clear(stream_, data_error_, sizeof(DataError));
  if (status.ok()) status = completions_->push(Fence::finish, fence.get());
  if (!status.ok()) return status;
  fence.release();
  error_ = ok_status();
  return status;
}

}  // namespace xlformers::cuda
