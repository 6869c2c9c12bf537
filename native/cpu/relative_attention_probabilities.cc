// The attention probabilities as a matrix, for people who want to see them; from the log-sum-exp that the forward pass left.
#include "cpu/attention_dropout.h"
#include "cpu/kernel.h"

XL_KERNELS_BEGIN

namespace {

template <typename T>
void fill_row(const AttentionHead<T>& head, const DropoutMask& mask, int64_t query, T* out) {
  const RelativeAttentionParams& params = head.params;
  const T* q = head.query(query);
  const T* u = head.content_bias();
  const T* v = head.position_bias();
  const int64_t begin = head.first_key(query);
  const int64_t end = head.end_key(query);
  const T log_sum_exp = static_cast<const T*>(params.log_sum_exp)[head.statistic_offset(query)];
  for (int64_t j = 0; j < head.keys(); ++j) out[j] = 0;
  for (int64_t j = begin; j < end; ++j) {
    const T* key = head.key(j);
    const T* position = head.position(params.memory.length + query - j);
    T score = 0;
    for (int64_t k = 0; k < params.head_dim; ++k) {
      score += (q[k] + (u == nullptr ? T{0} : u[k])) * key[k] + (q[k] + (v == nullptr ? T{0} : v[k])) * position[k];
    }
    out[j] = std::exp(score * static_cast<T>(params.scale) - log_sum_exp) * head.scale_of_head();
  }
  if (mask.threshold == 0) return;
  for (int64_t block = 0; block < end; block += kKeyBlock) {
    drop(mask, head.pair(), query, block, larger(begin - block, 0), smaller(end - block, kKeyBlock), out + block, out + block);
  }
}

template <typename T>
Status fill_probabilities(Context& context, const RelativeAttentionProbabilitiesParams& params) {
  const RelativeAttentionParams& forward = params.forward;
  Status status = check_memory_starts(forward);
  if (status.ok()) status = check_ring(forward.memory);
  if (!status.ok()) return status;
  const DropoutMask mask = dropout_mask(forward.dropout, forward.seed, forward.offset);
  const int64_t keys = forward.memory.length + forward.current.length;
  context.pool.parallel_for(forward.batch * forward.heads * forward.query_length, [&](int64_t row, int) {
    const int64_t pair = row / forward.query_length;
    const AttentionHead<T> head{forward, pair / forward.heads, pair % forward.heads};
    fill_row(head, mask, row % forward.query_length, static_cast<T*>(params.probabilities) + row * keys);
  });
  return ok_status();
}

}  // namespace

Status relative_attention_probabilities(Context& context, const void* params) {
  const auto& p = *static_cast<const RelativeAttentionProbabilitiesParams*>(params);
  switch (p.forward.dtype) {
    case DType::f32: return fill_probabilities<float>(context, p);
    case DType::f64: return fill_probabilities<double>(context, p);
    default: return make_status(StatusCode::unsupported, "dtype %s, expected f32 or f64", dtype_name(p.forward.dtype));
  }
}

XL_KERNELS_END
