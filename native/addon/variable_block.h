// Parameter blocks that end in an array, allocated with as many entries as there are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace xlformers::addon {

// `array_offset`: offsetof(Params, the array), which has one entry in the declaration. All bytes are zero to begin with.
template <typename Params, typename Entry>
class VariableBlock {
  static_assert(std::is_trivial<Params>::value && alignof(Params) <= alignof(uint64_t), "parameter blocks are plain C layout");

 public:
  VariableBlock(size_t array_offset, int64_t count)
      : bytes_(array_offset + static_cast<size_t>(count) * sizeof(Entry)),
        words_(((bytes_ > sizeof(Params) ? bytes_ : sizeof(Params)) + sizeof(uint64_t) - 1) / sizeof(uint64_t)) {}

  Params& params() { return *reinterpret_cast<Params*>(words_.data()); }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_;
  std::vector<uint64_t> words_;
};

}  // namespace xlformers::addon
