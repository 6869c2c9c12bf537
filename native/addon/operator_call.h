// One call of an operator on its way from JavaScript to a device's queue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "addon/buffer.h"
#include "addon/environment.h"
#include "core/operators.h"

namespace xlformers::addon {

enum class Access { read, write };

// Collects the memory that the call touches while its arguments are read, and checks what no single argument shows.
class OperatorCall {
 public:
  OperatorCall(Environment& environment, const char* name, Operator op);

  Environment& environment() const { return environment_; }
  const char* name() const { return name_; }
  // The device of the tensors read so far; null before the first.
  const Device* device() const { return device_.get(); }

  // Notes that the operator touches `bytes` bytes at the start of the buffer, which is on the device of the others. Until the call is
  // enqueued the memory stays alive, even if a getter among the arguments releases its handle.
  void touch(const char* argument, const BufferHandle& buffer, size_t bytes, Access access);

  // Allows this output to be the very memory of that input (both may be null).
  void may_alias(const void* output, const void* input);
  // Allows outputs whose elements interleave, as gradients of the columns of one packed matrix do.
  void allow_interleaved_outputs() { interleaved_outputs_ = true; }

  // Throws ERR_ARG_DATA when an output shares memory with another operand. An operator that writes nothing is not enqueued.
  template <typename Params>
  void enqueue(const Params& params) {
    enqueue_bytes(&params, sizeof params);
  }
  void enqueue_bytes(const void* params, size_t bytes);

 private:
  struct Range {
    const char* argument;
    const char* begin;
    const char* end;
    Access access;
  };

  void refuse_shared_memory();

  Environment& environment_;
  const char* name_;
  Operator op_;
  bool interleaved_outputs_ = false;
  std::shared_ptr<Device> device_;
  std::vector<std::shared_ptr<Block>> blocks_;
  std::vector<Range> ranges_;
};

// How a field of JavaScript's options becomes a parameter block.
class ArgReader;
using OperatorBinding = void (*)(OperatorCall& call, const ArgReader& args);

struct OperatorEntry {
  const char* name;  // in JavaScript
  Operator op;
  OperatorBinding bind;
};

struct OperatorFamily {
  const OperatorEntry* entries;
  size_t count;
};

OperatorFamily elementwise_operators();
OperatorFamily matrix_operators();
OperatorFamily normalization_operators();
OperatorFamily embedding_operators();
OperatorFamily attention_operators();
OperatorFamily permutation_attention_operators();
OperatorFamily adaptive_softmax_operators();
OperatorFamily loss_operators();
OperatorFamily optimizer_operators();

}  // namespace xlformers::addon
