// Operators over many tensors.
#include <memory>

#include "cuda/testing.h"

using namespace xlformers;
using namespace xlformers::cuda::testing;
using cuda::Compute;
using cuda::widen;

namespace {

// A block that ends in an array of `count` entries.
template <typename Params, typename Entry>
class WithEntries {
 public:
  explicit WithEntries(size_t count) : bytes_(sizeof(Params) + count * sizeof(Entry)) {}
  Params* operator->() { return reinterpret_cast<Params*>(bytes_.data()); }
  Params& operator*() { return *reinterpret_cast<Params*>(bytes_.data()); }
  Entry& entry(size_t i) { return reinterpret_cast<Entry*>(bytes_.data() + offsetof(Params, tensors))[i]; }

 private:
  std::vector<char> bytes_;
};

// More tensors than a table holds, empty ones among them; one of two blocks; one off the alignment of packs.
constexpr size_t kTensors = 230;
size_t size_of(size_t tensor) { return tensor == 100 ? 8205 : tensor % 4; }
size_t shift_of(size_t tensor) { return tensor == 7 ? 1 : 0; }

template <typename T>
struct Tensors {
  std::vector<std::unique_ptr<DeviceArray<T>>> arrays;

  Tensors(uint32_t seed, float low = -1) {
    for (size_t i = 0; i < kTensors; ++i) {
      std::vector<float> values = short_numbers(size_of(i) + shift_of(i), seed + static_cast<uint32_t>(i));
      for (float& value : values) value = std::fmax(value, low);
      arrays.push_back(std::make_unique<DeviceArray<T>>(converted<T>(values)));
    }
  }
  T* data(size_t tensor) { return arrays[tensor]->data() + shift_of(tensor); }
  std::vector<double> values(size_t tensor) {
    std::vector<double> result;
    for (size_t i = 0; i < size_of(tensor); ++i) result.push_back(widen(data(tensor)[i]));
    return result;
  }
};

}  // namespace

TEST(global_norm_covers_tables_blocks_and_empty_tensors) {
  for_all_types([](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    Tensors<T> tensors(1);
    WithEntries<GlobalNormParams, NormTensor> params(kTensors);
    double sum = 0;
    for (size_t i = 0; i < kTensors; ++i) {
      params.entry(i) = {tensors.data(i), static_cast<int64_t>(size_of(i))};
      for (const double value : tensors.values(i)) sum += value * value;
    }
    const double norm = std::sqrt(sum);
    DeviceArray<C> out(3);
    params->dtype = kDType<T>;
    params->out = out.data();
    params->tensor_count = kTensors;
    for (const double scale : {1.0, 1024.0}) {
      for (const double max_norm : {0.25 / scale, 0.0, 1e9}) {
        params->max_norm = max_norm;
        params->scale = scale;
        run(cuda::global_norm, *params);
        const double meant = norm / scale;
        const double clip = (max_norm > 0 && max_norm < 1 ? max_norm / (meant + 1e-6) : 1) / scale;
        expect_near("norm", 0, out[0], meant, 2 * meant * kRounding<C>);
        expect_near("clip", 1, out[1], clip, 2 * clip * kRounding<C>);
        expect_near("finite", 2, out[2], 1, 0);
      }
    }
    *tensors.data(229) = cuda::narrow_double<T>(NAN);
    run(cuda::global_norm, *params);
    expect_near("finite", 2, out[2], 0, 0);
  });
}

TEST(global_norm_of_nothing_is_zero) {
  WithEntries<GlobalNormParams, NormTensor> params(1);
  DeviceArray<float> out(3);
  params->dtype = DType::bf16;
  params->max_norm = 1;
  params->scale = 1;
  params->out = out.data();
  run(cuda::global_norm, *params);
  EXPECT_EQUAL(out[0], 0.0f);
  EXPECT_EQUAL(out[1], 1.0f);
  EXPECT_EQUAL(out[2], 1.0f);
}

TEST(adam_covers_tables_blocks_and_alignments) {
  for_all_types([](auto zero) {
    using T = decltype(zero);
    using C = Compute<T>;
    for (const bool decoupled : {false, true}) {
      Tensors<T> parameters(1), gradients(2), first(3), second(4, 0.0f);
      WithEntries<AdamParams, AdamTensor> params(kTensors);
      DeviceArray<C> clip(std::vector<C>{C(3), C(0.5), C(1)});
      *params = {kDType<T>, DType::bf16, 0.01, 0.9, 0.99, 1e-3, 3, decoupled, kTensors, clip.data(), {}};
      std::vector<std::vector<double>> p, g, m, v;
      for (size_t i = 0; i < kTensors; ++i) {
        const double decay = i % 2 == 0 ? 0.1 : 0;
        params.entry(i) = {parameters.data(i),
                           gradients.data(i),
                           first.data(i),
                           second.data(i),
                           nullptr,
                           static_cast<int64_t>(size_of(i)),
                           decay};
        p.push_back(parameters.values(i));
        g.push_back(gradients.values(i));
        m.push_back(first.values(i));
        v.push_back(second.values(i));
      }
      run(cuda::adam, *params);
      for (size_t i = 0; i < kTensors; ++i) {
        const double decay = i % 2 == 0 ? 0.1 : 0;
        for (size_t k = 0; k < size_of(i); ++k) {
          const double gradient = 0.5 * g[i][k] + (decoupled ? 0 : decay * p[i][k]);
          const double moment = 0.9 * m[i][k] + 0.1 * gradient, square = 0.99 * v[i][k] + 0.01 * gradient * gradient;
          const double denominator = std::sqrt(square) / std::sqrt(1 - std::pow(0.99, 3)) + 1e-3;
          const double step = 0.01 / (1 - std::pow(0.9, 3)) * moment / denominator;
          const double value = p[i][k] * (decoupled ? 1 - 0.01 * decay : 1) - step;
          // Some ten roundings of Compute<T>, and that of the stored number.
          expect_near("first moment", k, widen(first.data(i)[k]), moment, rounding_of<T>(moment) + 10 * kRounding<C>);
          expect_near("second moment", k, widen(second.data(i)[k]), square, rounding_of<T>(square) + 10 * kRounding<C>);
          expect_near(
              "parameter", k, widen(parameters.data(i)[k]), value,
              rounding_of<T>(value) + 10 * kRounding<C> * (1 + std::fabs(step)) + 1e3 * std::fabs(step) * kRounding<C>);
        }
      }
    }
  });
}

TEST(adam_leaves_copies_that_a_cast_would_give) {
  const auto check = [](auto zero, auto short_zero) {
    using T = decltype(zero);
    using Copy = decltype(short_zero);
    const auto with_copy = [](size_t i) { return i % 3 != 2; };
    Tensors<T> parameters(1), gradients(2), first(3), second(4, 0.0f);
    Tensors<T> same_parameters(1), same_first(3), same_second(4, 0.0f);
    Tensors<Copy> copies(5), untouched(5);
    WithEntries<AdamParams, AdamTensor> params(kTensors), without(kTensors);
    DeviceArray<Compute<T>> clip(std::vector<Compute<T>>{3, 0.5, 1});
    *params = {kDType<T>, kDType<Copy>, 0.01, 0.9, 0.99, 1e-3, 3, 1, kTensors, clip.data(), {}};
    *without = {kDType<T>, kDType<Copy>, 0.01, 0.9, 0.99, 1e-3, 3, 1, kTensors, clip.data(), {}};
    for (size_t i = 0; i < kTensors; ++i) {
      const auto count = static_cast<int64_t>(size_of(i));
      params.entry(i) = {parameters.data(i),
                         gradients.data(i),
                         first.data(i),
                         second.data(i),
                         with_copy(i) ? copies.data(i) : nullptr,
                         count,
                         0.1};
      without.entry(i) = {
          same_parameters.data(i), gradients.data(i), same_first.data(i), same_second.data(i), nullptr, count, 0.1};
    }
    run(cuda::adam, *params);
    run(cuda::adam, *without);
    for (size_t i = 0; i < kTensors; ++i) {
      EXPECT(parameters.values(i) == same_parameters.values(i));
      if (size_of(i) == 0) continue;
      DeviceArray<Copy> expected(size_of(i));
      run(cuda::cast, CastParams{kDType<T>, kDType<Copy>, static_cast<int64_t>(size_of(i)), 0, parameters.data(i),
                                 expected.data()});
      for (size_t k = 0; k < size_of(i); ++k) {
        EXPECT_EQUAL(widen(copies.data(i)[k]), widen(with_copy(i) ? expected[k] : untouched.data(i)[k]));
      }
    }
    const std::vector<double> before = copies.values(100);
    clip[2] = 0;
    run(cuda::adam, *params);
    EXPECT(copies.values(100) == before);
  };
  check(float{}, __nv_bfloat16{});
  check(float{}, __half{});
  check(double{}, __nv_bfloat16{});
  check(double{}, __half{});

  AdamParams refused = {};
  DeviceArray<__half> parameter(1), gradient(1), first(1), second(1), copy(1);
  refused.dtype = DType::f16;
  refused.step = refused.tensor_count = 1;
  refused.tensors[0] = {parameter.data(), gradient.data(), first.data(), second.data(), copy.data(), 1, 0};
  Operators operators;
  EXPECT(operators.run(cuda::adam, refused).code == StatusCode::unsupported);
}

TEST(adam_leaves_everything_as_it_was_when_the_norm_is_not_finite) {
  DeviceArray<__half> parameter(std::vector<__half>{__half(1.0f)}), gradient(std::vector<__half>{__half(1.0f)});
  DeviceArray<__half> first(std::vector<__half>{__half(0.0f)}), second(std::vector<__half>{__half(0.0f)});
  DeviceArray<float> clip(std::vector<float>{INFINITY, 0, 0});
  const AdamParams params = {DType::f16,
                             DType::bf16,
                             1,
                             0.9,
                             0.9,
                             1e-8,
                             1,
                             0,
                             1,
                             clip.data(),
                             {{parameter.data(), gradient.data(), first.data(), second.data(), nullptr, 1, 0.1}}};
  run(cuda::adam, params);
  EXPECT_EQUAL(widen(parameter[0]), 1.0f);
  EXPECT_EQUAL(widen(first[0]), 0.0f);
  EXPECT_EQUAL(widen(second[0]), 0.0f);
}

TEST(means_leave_out_zeros_or_ignored_labels) {
  for_short_types([](auto zero) {
    using T = decltype(zero);
    const size_t count = 8200;  // two blocks
    Numbers<T> x(count, 9);
    std::vector<int32_t> labels(count);
    for (size_t i = 0; i < count; ++i) labels[i] = i % 5 == 0 ? kIgnoredLabel : static_cast<int32_t>(i);
    DeviceArray<int32_t> device_labels(labels);
    Numbers<float> out_gradient(std::vector<float>{3});
    for (const bool labelled : {false, true}) {
      double sum = 0, counted = 0;
      const auto counts = [&](size_t i) { return labelled ? labels[i] != kIgnoredLabel : x[i] != 0; };
      for (size_t i = 0; i < count; ++i) {
        sum += x[i];
        counted += counts(i) ? 1 : 0;
      }
      DeviceArray<float> out(2);
      DeviceArray<T> x_gradient(count);
      const int32_t* const given = labelled ? device_labels.data() : nullptr;
      run(cuda::mean_nonzero, MeanNonzeroParams{kDType<T>, static_cast<int64_t>(count), x.data(), given, out.data()});
      expect_near("mean", 0, out[0], sum / counted, 0x1p-24);
      expect_near("number", 1, out[1], counted, 0);
      run(cuda::mean_nonzero_gradient,
          MeanNonzeroGradientParams{kDType<T>, static_cast<int64_t>(count), x.data(), given, out.data(),
                                    out_gradient.data(), x_gradient.data()});
      for (size_t i = 0; i < count; ++i) {
        const double wanted = counts(i) ? 3 / counted : 0;
        expect_near("gradient", i, widen(x_gradient[i]), wanted, rounding_of<T>(wanted));
      }
    }
  });
}
