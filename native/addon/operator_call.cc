#include "addon/operator_call.h"

#include <algorithm>

#include "addon/errors.h"
#include "addon/recording.h"

namespace xlformers::addon {

OperatorCall::OperatorCall(Environment& environment, const char* name, Operator op)
    : environment_(environment), name_(name), op_(op) {
  blocks_.reserve(16);
  ranges_.reserve(16);
}

void OperatorCall::touch(const char* argument, const BufferHandle& buffer, size_t bytes, Access access) {
  if (device_ == nullptr) device_ = buffer.block->device();
  blocks_.push_back(buffer.block);
  ranges_.push_back({argument, buffer.memory(), buffer.memory() + bytes, access});
}

void OperatorCall::may_alias(const void* output, const void* input) {
  if (output == nullptr || output != input) return;
  const auto is_input = [&](const Range& range) { return range.begin == input && range.access == Access::read; };
  ranges_.erase(std::remove_if(ranges_.begin(), ranges_.end(), is_input), ranges_.end());
}

// Kernels read ids and labels twice, to check and to use them: an output that overwrote them in between would lead them astray.
void OperatorCall::refuse_shared_memory() {
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
  const Range* farthest_read = nullptr;
  const Range* farthest_write = nullptr;
  for (const Range& range : ranges_) {
    if (range.begin == range.end) continue;
    const bool writes = range.access == Access::write;
    const Range* other = nullptr;
    if (farthest_write != nullptr && farthest_write->end > range.begin && !(writes && interleaved_outputs_)) {
      other = farthest_write;
    } else if (writes && farthest_read != nullptr && farthest_read->end > range.begin) {
      other = farthest_read;
    }
    if (other != nullptr) {
      fail(ErrorCode::arg_data, "%s: argument '%s' shares memory with '%s', expected outputs to have their own", name_,
           writes ? range.argument : other->argument, writes ? other->argument : range.argument);
    }
    const Range*& farthest = writes ? farthest_write : farthest_read;
    if (farthest == nullptr || range.end > farthest->end) farthest = &range;
  }
}

void OperatorCall::enqueue_bytes(const void* params, size_t bytes) {
  const auto writes = [](const Range& range) { return range.access == Access::write && range.begin != range.end; };
  if (std::none_of(ranges_.begin(), ranges_.end(), writes)) return;
  refuse_shared_memory();
  Recording* const recording = environment_.recording();
  if (recording != nullptr && recording->device() != device_) {
    fail(ErrorCode::recording, "%s: its operands are on %s, and a recording of %s is being made: name the device that is to be recorded",
         name_, device_->name().c_str(), recording->device()->name().c_str());
  }
  require_ok(device_->backend().enqueue(device_->stream(), op_, params, bytes), name_);
  if (recording == nullptr) return;
  for (const std::shared_ptr<Block>& block : blocks_) recording->hold(block);
}

}  // namespace xlformers::addon
