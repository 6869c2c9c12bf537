// Fused relative attention, forward: online softmax over blocks of keys (Milakov & Gimelshein 2018; Dao et al. 2022), the relative term
// computed inside the tile. Memory beyond the operands is a copy of keys, values and positions per thread: linear in the lengths.
#include "cpu/attention_dropout.h"
#include "cpu/attention_scores.h"
#include "cpu/attention_softmax.h"
#include "cpu/kernel.h"

XL_KERNELS_BEGIN

namespace {

// Queries of one task; each packs the keys that they see once.
constexpr int64_t kQueriesPerTask = 5 * kQueryBlock;
// Up to so many queries, packing keys costs more than it saves.
constexpr int64_t kFewQueries = 4;

template <typename T>
struct Scratch {
  T* key_panels;
  T* position_panels;
  T* values;  // [padded keys][padded head_dim]
  T* content_rows;  // see QueryBlock
  T* position_rows;
  T* content;
  T* position;
  T* scores;
  T* shifted;
  T* out;  // [kQueryBlock][padded head_dim]
};

template <typename T>
void attend_block(const AttentionHead<T>& head, const AttentionRegion<T>& region, const Scratch<T>& scratch, const DropoutMask& mask,
                  int64_t query_offset, int64_t count) {
  const int64_t head_dim = region.head_dim;
  const int64_t padded = round_up(head_dim, kLanes<T>);
  const int64_t first = region.query_start + query_offset;
  QueryBlock<T> queries{scratch.content_rows, scratch.position_rows, scratch.content, scratch.position};
  queries.pack(head, first, count);
  zero(kQueryBlock * padded, scratch.out);
  RowState<T> states[kQueryBlock];
  for (RowState<T>& state : states) state = {static_cast<T>(-1e30), 0};

  for (int64_t key_offset = 0; key_offset < region.padded_keys; key_offset += kKeyBlock) {
    const int64_t block_start = region.key_start + key_offset;
    if (block_start >= head.end_key(first + count - 1)) break;
    for (int64_t row = 0; row < count; row += kTileRows) {
      const int64_t rows = smaller(kTileRows, count - row);
      const GroupRange range = visible_range(head, first + row, first + row + rows - 1, block_start);
      if (range.empty()) continue;
      score_group(region, queries, query_offset, row, key_offset, range, scratch.scores, scratch.shifted);
      for (int64_t r = 0; r < kTileRows; ++r) {
        T* s = scratch.scores + r * kKeyBlock;
        const int64_t query = first + row + r;
        const int64_t begin = r < rows ? larger(range.begin, head.first_key(query) - block_start) : range.end;
        const int64_t end = r < rows ? smaller(range.end, head.end_key(query) - block_start) : range.end;
        if (begin >= end) {
          for (int64_t j = range.begin; j < range.end; ++j) s[j] = 0;
          continue;
        }
        const T correction = exponentiate(s, begin, end, &states[row + r]);
        if (mask.threshold > 0) drop(mask, head.pair(), query, block_start, begin, end, s, s);
        for (int64_t j = range.begin; j < begin; ++j) s[j] = 0;
        for (int64_t j = end; j < range.end; ++j) s[j] = 0;
        if (correction != 1) {
          T* out = scratch.out + (row + r) * padded;
          for (int64_t k = 0; k < padded; k += kLanes<T>) store(out + k, load(out + k) * correction);
        }
      }
      add_product(padded, range.end - range.begin, scratch.scores + range.begin, kKeyBlock, 1,
                  scratch.values + (key_offset + range.begin) * padded, padded, scratch.out + row * padded, padded);
    }
  }
  T* out = static_cast<T*>(head.params.out);
  T* log_sum_exp = static_cast<T*>(head.params.log_sum_exp);
  for (int64_t r = 0; r < count; ++r) {
    const T factor = head.scale_of_head() / states[r].sum;
    T* to = out + head.out_offset(first + r);
    for (int64_t k = 0; k < head_dim; ++k) to[k] = scratch.out[r * padded + k] * factor;
    log_sum_exp[head.statistic_offset(first + r)] = states[r].maximum + std::log(states[r].sum);
  }
}

template <typename T>
void attend_many(Context& context, const RelativeAttentionParams& params, const DropoutMask& mask) {
  const int64_t head_dim = params.head_dim;
  const int64_t padded = round_up(head_dim, kLanes<T>);
  const int64_t queries = smaller(kQueriesPerTask, round_up(params.query_length, kQueryBlock));
  const int64_t keys = round_up(params.memory.length + params.current.length, kKeyBlock);
  const int64_t chunks = (params.query_length + kQueriesPerTask - 1) / kQueriesPerTask;
  // The largest region that a task can have.
  const AttentionRegion<T> largest{head_dim, 0, queries, 0, keys, keys, nullptr, nullptr};
  const int64_t sizes[] = {keys * head_dim, largest.diagonals() * head_dim, keys * padded,
                           kQueryBlock * padded, kQueryBlock * padded, QueryBlock<T>::elements(head_dim), QueryBlock<T>::elements(head_dim),
                           kTileRows * kKeyBlock, kTileRows * kShiftedColumns<T>, kQueryBlock * padded};
  int64_t total = 0;
  for (const int64_t size : sizes) total += round_up(size, kPanel<T>);
  T* const memory = context.workspace.allocate<T>(total * context.pool.threads());

  context.pool.parallel_for(params.batch * params.heads * chunks, [&](int64_t task, int worker) {
    // Late chunks see most keys: they come first, so that the threads end together.
    const int64_t chunk = chunks - 1 - task / (params.batch * params.heads);
    const int64_t pair = task % (params.batch * params.heads);
    const AttentionHead<T> head{params, pair / params.heads, pair % params.heads};
    T* next = memory + worker * total;
    const auto take = [&](int index) {
      T* const taken = next;
      next += round_up(sizes[index], kPanel<T>);
      return taken;
    };
    Scratch<T> scratch;
    scratch.key_panels = take(0);
    scratch.position_panels = take(1);
    scratch.values = take(2);
    scratch.content_rows = take(3);
    scratch.position_rows = take(4);
    scratch.content = take(5);
    scratch.position = take(6);
    scratch.scores = take(7);
    scratch.shifted = take(8);
    scratch.out = take(9);
    const int64_t start = chunk * kQueriesPerTask;
    const int64_t count = smaller(kQueriesPerTask, params.query_length - start);
    const int64_t first_key = smaller(head.first_key(start), head.keys());
    const int64_t key_count = head.end_key(start + count - 1) - first_key;
    AttentionRegion<T> region{head_dim, start, round_up(count, kQueryBlock), first_key, key_count, round_up(key_count, kKeyBlock),
                              scratch.key_panels, scratch.position_panels};
    region.pack(head);
    for (int64_t j = 0; j < region.padded_keys; ++j) {
      if (j < key_count) copy_padded(head.value(first_key + j), head_dim, padded, scratch.values + j * padded);
      else zero(padded, scratch.values + j * padded);
    }
    for (int64_t offset = 0; offset < count; offset += kQueryBlock) {
      attend_block(head, region, scratch, mask, offset, smaller(kQueryBlock, count - offset));
    }
  });
}

// For a few queries (decoding): keys, positions and values are read once, where they lie.
template <typename T>
void attend_few(Context& context, const RelativeAttentionParams& params, const DropoutMask& mask) {
  const int64_t head_dim = params.head_dim;
  const int64_t keys = params.memory.length + params.current.length;
  const int64_t padded_keys = round_up(keys, kKeyBlock);
  const int64_t total = padded_keys + 3 * round_up(head_dim, kPanel<T>);
  T* const memory = context.workspace.allocate<T>(total * context.pool.threads());
  context.pool.parallel_for(params.batch * params.heads, [&](int64_t pair, int worker) {
    const AttentionHead<T> head{params, pair / params.heads, pair % params.heads};
    T* const scores = memory + worker * total;
    T* const content = scores + padded_keys;
    T* const position = content + round_up(head_dim, kPanel<T>);
    T* const sum = position + round_up(head_dim, kPanel<T>);
    const T scale = static_cast<T>(params.scale);
    for (int64_t i = 0; i < params.query_length; ++i) {
      const T* q = head.query(i);
      for (int64_t k = 0; k < head_dim; ++k) {
        content[k] = scale * (head.content_bias() == nullptr ? q[k] : q[k] + head.content_bias()[k]);
        position[k] = scale * (head.position_bias() == nullptr ? q[k] : q[k] + head.position_bias()[k]);
      }
      const int64_t begin = head.first_key(i);
      const int64_t end = head.end_key(i);
      for (int64_t j = begin; j < end; ++j) {
        scores[j] = dot(content, head.key(j), head_dim) + dot(position, head.position(params.memory.length + i - j), head_dim);
      }
      RowState<T> state{static_cast<T>(-1e30), 0};
      exponentiate(scores, begin, end, &state);
      zero(head_dim, sum);
      for (int64_t block = begin / kKeyBlock * kKeyBlock; block < end; block += kKeyBlock) {
        const int64_t from = larger(begin, block) - block;
        const int64_t to = smaller(end, block + kKeyBlock) - block;
        if (mask.threshold > 0) drop(mask, head.pair(), i, block, from, to, scores + block, scores + block);
        for (int64_t j = block + from; j < block + to; ++j) {
          const T* value = head.value(j);
          const T p = scores[j];
          for (int64_t k = 0; k < head_dim; ++k) sum[k] += p * value[k];
        }
      }
      T* out = static_cast<T*>(params.out) + head.out_offset(i);
      const T factor = head.scale_of_head() / state.sum;
      for (int64_t k = 0; k < head_dim; ++k) out[k] = sum[k] * factor;
      static_cast<T*>(params.log_sum_exp)[head.statistic_offset(i)] = state.maximum + std::log(state.sum);
    }
  });
}

template <typename T>
Status attend(Context& context, const RelativeAttentionParams& params) {
  if (params.batch == 0 || params.heads == 0 || params.query_length == 0) return ok_status();
  Status status = check_memory_starts(params);
  if (status.ok()) status = check_ring(params.memory);
  if (!status.ok()) return status;
  const DropoutMask mask = dropout_mask(params.dropout, params.seed, params.offset);
  if (params.query_length <= kFewQueries) attend_few<T>(context, params, mask);
  else attend_many<T>(context, params, mask);
  return ok_status();
}

}  // namespace

Status relative_attention(Context& context, const void* params) {
  const auto& p = *static_cast<const RelativeAttentionParams*>(params);
  switch (p.dtype) {
    case DType::f32: return attend<float>(context, p);
    case DType::f64: return attend<double>(context, p);
    default: return make_status(StatusCode::unsupported, "dtype %s, expected f32 or f64", dtype_name(p.dtype));
  }
}

XL_KERNELS_END
