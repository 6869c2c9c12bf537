// The attention probabilities of both streams as matrices, for people who want to see them; from the log-sum-exp of the forward pass.
#include "cpu/attention_dropout.h"
#include "cpu/kernel.h"
#include "cpu/permutation_rows.h"

XL_KERNELS_BEGIN

namespace {

template <typename T>
void fill_row(const PermutationHead<T>& head, const AttentionStream& stream, const DropoutMask& mask, int64_t n, T* scratch, T* out) {
  const int64_t keys = head.tables.keys;
  const int64_t stands = stream.positions == nullptr ? n : stream.positions[head.rows.batch * stream.length + n];
  if (stands < 0 || stands >= head.params.current.length) {
    zero(keys, out);
    return;
  }
  head.score_directly(stream, head.make_query(stream, n, stands), scratch, scratch + head.params.head_dim, out);
  const T log_sum_exp = static_cast<const T*>(stream.log_sum_exp)[head.statistic_offset(stream, n)];
  const T factor = head.rows.scale_of_head();
  for (int64_t j = 0; j < keys; ++j) {
    const T p = log_sum_exp < kBlindLogSumExp<T> ? T{1} / static_cast<T>(keys) : std::exp(out[j] - log_sum_exp);
    out[j] = p * factor;
  }
  if (mask.threshold == 0) return;
  for (int64_t start = 0; start < keys; start += kKeyBlock) {
    drop(mask, head.rows.pair(), n, start, 0, smaller(keys - start, kKeyBlock), out + start, out + start);
  }
}

template <typename T>
Status fill_probabilities(Context& context, const PermutationAttentionProbabilitiesParams& params) {
  const PermutationAttentionParams& forward = params.forward;
  Status status = check_memory_starts(forward);
  if (status.ok()) status = check_ring(forward.memory);
  if (!status.ok()) return status;
  const RelativeAttentionParams view = relative_view(forward);
  KeyTables tables;
  tables.make(context.workspace, forward);
  T* const scratch = context.workspace.allocate<T>(2 * forward.head_dim * context.pool.threads());
  const auto fill_stream = [&](const AttentionStream& stream, void* probabilities) {
    if (probabilities == nullptr) return;
    const DropoutMask mask = dropout_mask(forward.dropout, forward.seed, stream.offset);
    context.pool.parallel_for(forward.batch * forward.heads * stream.length, [&](int64_t row, int worker) {
      const int64_t pair = row / stream.length;
      const PermutationHead<T> head{forward, tables, {view, pair / forward.heads, pair % forward.heads}};
      fill_row(head, stream, mask, row % stream.length, scratch + worker * 2 * forward.head_dim,
               static_cast<T*>(probabilities) + row * tables.keys);
    });
  };
  fill_stream(forward.content, params.content_probabilities);
  fill_stream(forward.query, params.query_probabilities);
  return ok_status();
}

}  // namespace

Status permutation_attention_probabilities(Context& context, const void* params) {
  const auto& p = *static_cast<const PermutationAttentionProbabilitiesParams*>(params);
  switch (p.forward.dtype) {
    case DType::f32: return fill_probabilities<float>(context, p);
    case DType::f64: return fill_probabilities<double>(context, p);
    default: return make_status(StatusCode::unsupported, "dtype %s, expected f32 or f64", dtype_name(p.forward.dtype));
  }
}

XL_KERNELS_END
