// Times the fused attention operators on a GPU: one JSON object per line for each case, number type and pass. The program calls the backend's
// own operators on a stream, as the addon does. scripts/gpu/bench puts the figures beside those of PyTorch.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cuda/kernel.h"

namespace {

using namespace xlformers;
using namespace xlformers::cuda;

// Of the table in docs/benchmarks.md; gpu_worker.py has the same list.
struct Case {
  const char* name;
  bool xlnet;
  int streams;  // 2: content and query, as in pretraining
  int64_t batch, queries, memory, heads, head_dim;
};

const Case kCases[] = {
    {"txl-base-train", false, 1, 60, 150, 150, 10, 41},     {"txl-large-train", false, 1, 32, 384, 384, 16, 64},
    {"txl-large-eval", false, 1, 8, 128, 1600, 16, 64},     {"txl-large-decode-1", false, 1, 1, 1, 1600, 16, 64},
    {"txl-large-decode-32", false, 1, 32, 1, 1600, 16, 64}, {"xlnet-large-pretrain", true, 2, 16, 512, 384, 16, 64},
    {"xlnet-large-finetune", true, 1, 32, 512, 0, 16, 64}};

void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "attention_benchmark: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

class Memory {
 public:
  explicit Memory(size_t bytes) { require(cudaMalloc(&memory_, bytes == 0 ? 1 : bytes)); }
  ~Memory() { cudaFree(memory_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* get(int64_t byte = 0) const { return static_cast<char*>(memory_) + byte; }

 private:
  void* memory_ = nullptr;
};

struct Device {
  // Before anything is allocated.
  bool prepare() {
    Status why = ok_status();
    if (runtime::device_count(&why) == 0 || !(why = runtime::make_current(0)).ok() || !(why = runtime::create_stream(&stream)).ok() ||
        !(why = runtime::device_properties(0, &properties)).ok()) {
      std::fprintf(stderr, "attention_benchmark: %s\n", why.message);
      std::exit(1);
    }
    return true;
  }
  Device() {
    require(cudaMemset(error.get(), 0, sizeof(DataError)));
    require(cudaMemset(arrivals.get(), 0, kArrivals * sizeof(uint32_t)));
  }
  Status run(Kernel kernel, const void* params) {
    const Status status = kernel(Context{stream, workspace, properties, static_cast<DataError*>(error.get()),
                                         {static_cast<uint32_t*>(arrivals.get()), kArrivals}},
                                 params);
    workspace.reset();
    return status;
  }

  void* stream = nullptr;
  DeviceProperties properties = {};
  Workspace workspace;
  const bool prepared = prepare();
  Memory error{sizeof(DataError)};
  Memory arrivals{kArrivals * sizeof(uint32_t)};
};

// Operands [rows, heads, head_dim] of normal numbers.
class Operand {
 public:
  Operand(Device& device, DType dtype, int64_t count) : memory_(static_cast<size_t>(count) * dtype_size(dtype)) {
    const RandomFillParams params = {dtype, RandomKind::normal, count, 0, 1, 7, static_cast<uint64_t>(count), memory_.get()};
    const Status status = device.run(random_fill, &params);
    if (!status.ok()) std::fprintf(stderr, "attention_benchmark: %s\n", status.message), std::exit(1);
  }
  void* get() const { return memory_.get(); }

 private:
  Memory memory_;
};

// Median over ten groups of the mean time of a run, in microseconds; negative when the operator refuses.
double microseconds(Device& device, Kernel kernel, const void* params, Status* status) {
  cudaEvent_t begin, end;
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  const auto stream = static_cast<cudaStream_t>(device.stream);
  const auto group = [&](int runs) {
    require(cudaEventRecord(begin, stream));
    for (int run = 0; run < runs && status->ok(); ++run) *status = device.run(kernel, params);
    require(cudaEventRecord(end, stream));
    require(cudaEventSynchronize(end));
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin, end));
    return 1e3 * milliseconds / runs;
  };
  group(3);
  const int runs = status->ok() ? std::clamp(static_cast<int>(30e3 / std::max(group(3), 1.0)), 3, 1000) : 1;
  std::vector<double> times;
  for (int i = 0; i < 10 && status->ok(); ++i) times.push_back(group(runs));
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return times.empty() ? -1 : (times[4] + times[5]) / 2;
}

void report(const Case& c, DType dtype, const char* pass, Device& device, Kernel kernel, const void* params) {
  Status status = ok_status();
  device.workspace.reset_peak();
  const double time = microseconds(device, kernel, params, &status);
  std::printf("{\"case\": \"%s\", \"dtype\": \"%s\", \"pass\": \"%s\", ", c.name, dtype_name(dtype), pass);
  if (status.ok()) {
    std::printf("\"microseconds\": %.2f, \"workspaceBytes\": %lld}\n", time, static_cast<long long>(device.workspace.peak_bytes()));
  } else {
    std::printf("\"error\": \"%s\"}\n", status.message);
  }
  std::fflush(stdout);
}

void run_relative(Device& device, const Case& c, DType dtype) {
  const int64_t width = c.heads * c.head_dim, keys = c.memory + c.queries, rows = c.batch * c.queries;
  const auto make = [&](int64_t count) { return Operand(device, dtype, count); };
  const Operand query = make(rows * width), current = make(rows * 2 * width), memory = make(c.batch * c.memory * 2 * width);
  const Operand position = make(keys * width), u = make(width), v = make(width), out = make(rows * width), gradient = make(rows * width);
  const Operand query_gradient = make(rows * width), current_gradient = make(rows * 2 * width);
  const Operand memory_gradient = make(c.batch * c.memory * 2 * width), position_gradient = make(keys * width);
  const Operand u_gradient = make(width), v_gradient = make(width);
  const Operand statistics(device, DType::f32, c.batch * c.heads * c.queries);
  const auto value_of = [&](const Operand& pair) { return static_cast<char*>(pair.get()) + width * static_cast<int64_t>(dtype_size(dtype)); };
  RelativeAttentionGradientParams g = {};
  RelativeAttentionParams& p = g.forward;
  p.dtype = dtype;
  p.batch = c.batch, p.heads = c.heads, p.head_dim = c.head_dim, p.query_length = c.queries;
  p.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  p.query = query.get(), p.query_row_stride = width, p.query_batch_stride = c.queries * width;
  p.current = {current.get(), value_of(current), c.queries, 2 * width, c.queries * 2 * width, nullptr};
  p.memory = {memory.get(), value_of(memory), c.memory, 2 * width, c.memory * 2 * width, nullptr};
  p.position = position.get(), p.position_rows = keys, p.position_row_stride = width;
  p.content_bias = u.get(), p.position_bias = v.get();
  p.band_lower = -keys, p.band_segment = 1;
  p.out = out.get(), p.log_sum_exp = statistics.get();
  report(c, dtype, "forward", device, relative_attention, &p);
  if (c.queries == 1) return;
  g.out_gradient = gradient.get(), g.query_gradient = query_gradient.get();
  g.current_key_gradient = current_gradient.get(), g.current_value_gradient = value_of(current_gradient);
  g.memory_key_gradient = memory_gradient.get(), g.memory_value_gradient = value_of(memory_gradient);
  g.position_gradient = position_gradient.get();
  g.content_bias_gradient = u_gradient.get(), g.position_bias_gradient = v_gradient.get();
  report(c, dtype, "backward", device, relative_attention_gradient, &g);
}

void run_permutation(Device& device, const Case& c, DType dtype) {
  const int64_t width = c.heads * c.head_dim, rows = c.batch * c.queries, positions = c.memory + 2 * c.queries;
  const auto make = [&](int64_t count) { return Operand(device, dtype, count); };
  const Operand content = make(rows * width), query = make(rows * width), current = make(rows * 2 * width);
  const Operand memory = make(c.batch * c.memory * 2 * width), position = make(positions * width), biases = make(3 * width);
  const Operand embedding = make(2 * width), content_out = make(rows * width), query_out = make(rows * width), gradient = make(rows * width);
  const Operand statistics(device, DType::f32, c.batch * c.heads * c.queries), query_statistics(device, DType::f32, c.batch * c.heads * c.queries);
  const Operand content_gradient = make(rows * width), query_gradient = make(rows * width), current_gradient = make(rows * 2 * width);
  const Operand memory_gradient = make(c.batch * c.memory * 2 * width), position_gradient = make(positions * width);
  const Operand bias_gradients = make(3 * width), embedding_gradient = make(2 * width);
  const int64_t step = width * static_cast<int64_t>(dtype_size(dtype));
  const auto part = [&](const Operand& operand, int n) { return static_cast<char*>(operand.get()) + n * step; };
  const Memory segments(static_cast<size_t>(rows) * sizeof(int32_t)), ranks(static_cast<size_t>(rows) * sizeof(int32_t));
  require(cudaMemset(segments.get(), 0, static_cast<size_t>(rows) * sizeof(int32_t)));
  std::vector<int32_t> order(static_cast<size_t>(rows));
  // A permutation of each row's positions: odd numbers are units modulo the length, which is a power of two.
  for (int64_t i = 0; i < rows; ++i) order[i] = static_cast<int32_t>(i % c.queries * 77 % c.queries);
  require(cudaMemcpy(ranks.get(), order.data(), order.size() * sizeof(int32_t), cudaMemcpyHostToDevice));

  PermutationAttentionGradientParams g = {};
  PermutationAttentionParams& p = g.forward;
  p.dtype = dtype;
  p.batch = c.batch, p.heads = c.heads, p.head_dim = c.head_dim;
  p.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  p.content = {content.get(), c.queries, width, c.queries * width, nullptr, 1, 0, content_out.get(), statistics.get()};
  if (c.streams == 2) {
    p.query = {query.get(), c.queries, width, c.queries * width, nullptr, 0, 0, query_out.get(), query_statistics.get()};
    p.query_ranks = p.key_ranks = static_cast<const int32_t*>(ranks.get());
  }
  p.current = {current.get(), part(current, 1), c.queries, 2 * width, c.queries * 2 * width, nullptr};
  if (c.memory > 0) p.memory = {memory.get(), part(memory, 1), c.memory, 2 * width, c.memory * 2 * width, nullptr};
  p.position = position.get(), p.position_rows = positions, p.position_row_stride = width, p.first_distance = -c.queries;
  p.reversed_from = c.batch;
  p.content_bias = part(biases, 0), p.position_bias = part(biases, 1), p.segment_bias = part(biases, 2);
  p.segment_embedding = embedding.get(), p.segments = static_cast<const int32_t*>(segments.get());
  p.band_upper = c.queries, p.band_lower = -(c.memory + c.queries), p.band_segment = 1;
  report(c, dtype, "forward", device, permutation_attention, &p);
  g.content_out_gradient = gradient.get(), g.content_gradient = content_gradient.get();
  if (c.streams == 2) g.query_out_gradient = gradient.get(), g.query_gradient = query_gradient.get();
  g.current_key_gradient = current_gradient.get(), g.current_value_gradient = part(current_gradient, 1);
  if (c.memory > 0) g.memory_key_gradient = memory_gradient.get(), g.memory_value_gradient = part(memory_gradient, 1);
  g.position_gradient = position_gradient.get();
  g.content_bias_gradient = part(bias_gradients, 0), g.position_bias_gradient = part(bias_gradients, 1);
  g.segment_bias_gradient = part(bias_gradients, 2), g.segment_embedding_gradient = embedding_gradient.get();
  report(c, dtype, "backward", device, permutation_attention_gradient, &g);
}

}  // namespace

int main() {
  Device device;
  for (const Case& c : kCases) {
    for (const DType dtype : {DType::bf16, DType::f32}) (c.xlnet ? run_permutation : run_relative)(device, c, dtype);
  }
  require(cudaDeviceSynchronize());
  return 0;
}
