// New rows in the place of the oldest ones of rings, of all that share a head in one launch: the layers of a model.
// Reads and writes each byte once. Transformer-XL large, one text: 18 layers of 2 KB and 4 KB, 216 KB both ways: the
// launch, 2 us.
#include <algorithm>
#include <vector>

#include "cuda/arrivals.cuh"
#include "cuda/attention_ring.cuh"
#include "cuda/row_copy.cuh"
#include "cuda/tensor_table.cuh"

namespace xlformers::cuda {
namespace {

// Of one ring. Strides in bytes.
struct RingCopy {
  const char* rows;
  char* ring;
  int64_t row_stride, batch_stride, row_bytes;
  int64_t count;  // accesses that copy all rows
  int32_t access_bytes;
};

struct RingWrite {
  RingHead head;
  int count;            // rows of a batch row
  int32_t* moved_head;  // null: it stays, or a later launch moves it
  uint32_t* arrived;
};

template <int bytes>
__device__ __forceinline__ void copy_part(const RingCopy& copy, const RingWrite& write, int64_t begin, int64_t end) {
  using Unit = typename AccessOf<bytes>::Type;
  const int64_t units = copy.row_bytes / bytes;
  const int head = write.head.begin();
  for (int64_t i = begin + threadIdx.x; i < end; i += kElementThreads) {
    const int64_t row = i / units, batch = row / write.count;
    const int j = static_cast<int>(row - batch * write.count);
    const char* const from = copy.rows + batch * copy.batch_stride + j * copy.row_stride;
    char* const to = copy.ring + (batch * write.head.length + write.head.row(head, j)) * copy.row_bytes;
    reinterpret_cast<Unit*>(to)[i - row * units] = reinterpret_cast<const Unit*>(from)[i - row * units];
  }
}

// The block that comes last moves the head, when all have read it.
__global__ void __launch_bounds__(kElementThreads)
    write_rows(const __grid_constant__ TensorTable<RingCopy> table, const RingWrite write) {
  const int index = table.find(blockIdx.x);
  const RingCopy& copy = table.entries[index];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.first_block[index]) * kTableBlock;
  const int64_t end = begin + kTableBlock < copy.count ? begin + kTableBlock : copy.count;
  switch (copy.access_bytes) {
    case 16: copy_part<16>(copy, write, begin, end); break;
    case 8: copy_part<8>(copy, write, begin, end); break;
    case 4: copy_part<4>(copy, write, begin, end); break;
    case 2: copy_part<2>(copy, write, begin, end); break;
    default: copy_part<1>(copy, write, begin, end);
  }
  if (write.moved_head == nullptr) {
    if (blockIdx.x == 0 && threadIdx.x == 0) write.head.check(Operator::ring_append);
    return;
  }
  if (!arrives_last(write.arrived, gridDim.x) || threadIdx.x != 0) return;
  if (write.head.check(Operator::ring_append)) *write.moved_head = write.head.row(write.head.begin(), write.count);
}

RingCopy copy_of(const RingAppendParams& params, const RingRows& ring, int64_t element_bytes) {
  RingCopy copy = {static_cast<const char*>(ring.rows),
                   static_cast<char*>(ring.ring),
                   ring.row_stride * element_bytes,
                   ring.batch_stride * element_bytes,
                   ring.columns * element_bytes,
                   0,
                   16};
  const uint64_t common = address_bits(copy.rows) | address_bits(copy.ring) |
                          static_cast<uint64_t>(copy.row_stride | copy.batch_stride | copy.row_bytes);
  while (common % static_cast<uint64_t>(copy.access_bytes) != 0) copy.access_bytes /= 2;
  copy.count = params.batch * params.count * (copy.row_bytes / copy.access_bytes);
  return copy;
}

}  // namespace

Status ring_append(const Context& context, const void* block) {
  const auto& p = *static_cast<const RingAppendParams*>(block);
  const auto size = static_cast<int64_t>(dtype_size(p.dtype));
  if (size == 0) return make_status(StatusCode::unsupported, "dtype %d is unknown", static_cast<int>(p.dtype));
  if (p.length == 0) return ok_status();
  if (p.length > int64_t{1} << 30)
    return make_status(StatusCode::unsupported, "a ring of %lld rows", static_cast<long long>(p.length));
  std::vector<RingCopy> copies;
  int64_t all_blocks = 0;
  for (int32_t i = 0; i < p.ring_count; ++i) {
    copies.push_back(copy_of(p, p.rings[i], size));
    all_blocks += divide_up(copies.back().count, kTableBlock);
  }
  const RingHead head = {p.head, static_cast<int>(p.length), context.data_error};
  const auto write = [&](const TensorTable<RingCopy>& table, unsigned blocks, int64_t before) {
    const bool moves = p.advance != 0 && before + blocks >= all_blocks;
    const RingWrite rows = {head, static_cast<int>(p.count), moves ? p.head : nullptr, context.arrivals.counters};
    return launch({"ring_append", dim3(blocks), dim3(kElementThreads), 0, context.stream}, write_rows, table, rows);
  };
  if (all_blocks == 0) return write({}, 1, 0);  // no rows; the head is to be checked, and may move
  return for_each_table<RingCopy>(
      copies.data(), p.ring_count, [](const RingCopy& copy) { return copy; }, write);
}

}  // namespace xlformers::cuda
