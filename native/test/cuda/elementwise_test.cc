#include <limits>

#include "core/philox.h"
#include "cuda/testing.h"

using namespace xlformers;
using namespace xlformers::cuda::testing;
using cuda::Compute;
using cuda::narrow_double;
using cuda::widen;

namespace {

bool kept(uint64_t seed, uint64_t offset, size_t index, double probability) {
  const PhiloxBlock block = PhiloxStream{seed, offset}.block(static_cast<uint32_t>(index >> 3), 0, 0);
  return philox_lane16(block, static_cast<int>(index & 7)) >= dropout_threshold(probability);
}

double activation_reference(Activation kind, double x) {
  switch (kind) {
    case Activation::none: return x;
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::gelu: return x * 0.5 * std::erfc(-x * std::sqrt(0.5));
    case Activation::gelu_tanh: return x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::tanh: return std::tanh(x);
  }
  return 0;
}

constexpr Activation kActivations[] = {Activation::none,      Activation::relu, Activation::gelu,
                                       Activation::gelu_tanh, Activation::silu, Activation::tanh};

// Whole packs, packs and a rest, less than a pack; begun `shift` elements into an allocation.
struct Span {
  size_t count, shift;
};
constexpr Span kSpans[] = {{64, 0}, {2085, 0}, {3, 0}, {77, 1}};

}  // namespace

TEST(dropout_keeps_what_the_counters_say_whatever_period_and_alignment) {
  for_all_types([](auto zero) {
    using T = decltype(zero);
    for (const Span& span : kSpans) {
      const Numbers<T> x(span.count + span.shift, 5);
      for (const int64_t period : {0, 1, 16, 21}) {
        DeviceArray<T> out(span.count + span.shift);
        const auto* const from = const_cast<Numbers<T>&>(x).data() + span.shift;
        run(cuda::dropout, DropoutParams{kDType<T>, static_cast<int64_t>(span.count), period, 0.25, 99,
                                         uint64_t{7} << 33, from, out.data() + span.shift});
        for (size_t i = 0; i < span.count; ++i) {
          const size_t index = period > 0 ? i % static_cast<size_t>(period) : i;
          const double wanted = kept(99, uint64_t{7} << 33, index, 0.25) ? x[i + span.shift] / 0.75 : 0;
          expect_near("dropout", i, widen(out[i + span.shift]), wanted, 2 * rounding_of<T>(wanted));
        }
      }
    }
  });
}

TEST(cast_between_all_types_at_all_alignments_overwrites_or_adds) {
  for_all_types([](auto from) {
    for_all_types([](auto to) {
      using In = decltype(from);
      using Out = decltype(to);
      for (const Span& span : kSpans) {
        const size_t all = span.count + span.shift;
        Numbers<In> x(all, 3);
        for (const int32_t accumulate : {0, 1}) {
          const std::vector<float> before = short_numbers(all, 4);
          DeviceArray<Out> out(converted<Out>(before));
          run(cuda::cast, CastParams{kDType<In>, kDType<Out>, static_cast<int64_t>(span.count), accumulate,
                                     x.data() + span.shift, out.data() + span.shift});
          for (size_t i = 0; i < all; ++i) {
            const double kept = i < span.shift || accumulate != 0 ? before[i] : 0;
            const double wanted = i < span.shift ? kept : kept + x[i];
            expect_near("out", i, widen(out[i]), wanted, accumulate * rounding_of<Out>(wanted));
          }
        }
      }
    });
  });
}

TEST(dropout_works_in_place_and_scales_alone_when_nothing_is_dropped) {
  for_short_types([](auto zero) {
    using T = decltype(zero);
    const std::vector<float> values = short_numbers(41, 6);
    DeviceArray<T> x(converted<T>(values));
    run(cuda::dropout, DropoutParams{kDType<T>, 41, 0, 1e-7, 1, 2, x.data(), x.data()});
    for (size_t i = 0; i < 41; ++i) expect_near("x", i, widen(x[i]), values[i], rounding_of<T>(1));
  });
}

TEST(activations_and_their_gradients_in_short_types) {
  for_short_types([](auto zero) {
    using T = decltype(zero);
    std::vector<float> values = short_numbers(101, 7);
    for (size_t i = 0; i < values.size(); i += 3) values[i] *= 8;
    const Numbers<T> gradient(values.size(), 8);
    for (const Activation kind : kActivations) {
      Numbers<T> x(values);
      DeviceArray<T> y(values.size()), slope(values.size());
      const double dropout = kind == Activation::tanh ? 0 : 0.25;
      const auto share = [&](size_t i) { return dropout == 0 || kept(99, 3, i, dropout) ? 1 / (1 - dropout) : 0; };
      run(cuda::activation, ActivationParams{kDType<T>, kind, 101, x.data(), y.data()});
      const bool by_output = kind == Activation::relu || kind == Activation::tanh;
      DeviceArray<T> dropped(values.size());
      run(cuda::dropout, DropoutParams{kDType<T>, 101, 0, dropout, 99, 3, y.data(), dropped.data()});
      run(cuda::activation_gradient,
          ActivationGradientParams{kDType<T>, kind, 101, dropout, 99, 3, by_output ? dropped.data() : x.data(),
                                   const_cast<Numbers<T>&>(gradient).data(), slope.data()});
      for (size_t i = 0; i < values.size(); ++i) {
        const double wanted = activation_reference(kind, x[i]);
        // The activation in fp32 within 16 of its units, and the result's rounding.
        expect_near("activation", i, widen(y[i]), wanted, rounding_of<T>(wanted) + 16 * 0x1p-24);
        const double step = 1e-6;
        double derivative =
            (activation_reference(kind, x[i] + step) - activation_reference(kind, x[i] - step)) / (2 * step);
        if (kind == Activation::relu) derivative = x[i] > 0 ? 1 : 0;
        // tanh's slope is 1 - y^2 of an output that was rounded.
        const double inherited = kind == Activation::tanh ? 2 * rounding_of<T>(1) : 0;
        const double expected = share(i) * gradient[i] * derivative;
        expect_near("gradient", i, widen(slope[i]), expected,
                    rounding_of<T>(expected) + inherited + 1e-8 + 32 * 0x1p-24);
      }
    }
  });
}

TEST(activation_gradients_drop_what_dropout_drops_at_all_alignments) {
  for_all_types([](auto zero) {
    using T = decltype(zero);
    for (const Span& span : kSpans) {
      const size_t all = span.count + span.shift;
      const auto count = static_cast<int64_t>(span.count);
      Numbers<T> x(all, 12), gradient(all, 13);
      for (const Activation kind : {Activation::none, Activation::relu, Activation::silu}) {
        DeviceArray<T> dropped(all), expected(all), got(all);
        const T* operand = x.data() + span.shift;
        if (kind == Activation::relu) {  // by the output of the dropout
          DeviceArray<T> activated(all);
          run(cuda::activation, ActivationParams{kDType<T>, kind, count, operand, activated.data() + span.shift});
          run(cuda::dropout, DropoutParams{kDType<T>, count, 0, 0.25, 99, 5, activated.data() + span.shift,
                                           dropped.data() + span.shift});
          operand = dropped.data() + span.shift;
        }
        run(cuda::activation_gradient,
            ActivationGradientParams{kDType<T>, kind, count, 0, 0, 0, operand, gradient.data() + span.shift,
                                     expected.data() + span.shift});
        run(cuda::activation_gradient,
            ActivationGradientParams{kDType<T>, kind, count, 0.25, 99, 5, kind == Activation::none ? nullptr : operand,
                                     gradient.data() + span.shift, got.data() + span.shift});
        for (size_t i = 0; i < span.count; ++i) {
          const double slope_times_gradient = widen(expected[i + span.shift]);
          const double wanted = kept(99, 5, i, 0.25) ? slope_times_gradient / 0.75 : 0;
          // Both results were stored; the scale and two products are rounded before.
          expect_near("gradient", i, widen(got[i + span.shift]), wanted,
                      2 * rounding_of<T>(wanted) + 3 * rounding_of<Compute<T>>(wanted));
        }
      }
    }
  });
}

TEST(losses_of_short_types_are_fp32) {
  for_short_types([](auto zero) {
    using T = decltype(zero);
    std::vector<float> values = short_numbers(45, 9);
    for (float& value : values) value *= 8;
    Numbers<T> x(values), target(45, 10);
    Numbers<float> loss_gradient(45, 11);
    for (const bool squared : {true, false}) {
      DeviceArray<float> loss(45);
      DeviceArray<T> x_gradient(45);
      const ElementLossParams params = {
          kDType<T>, 45, x.data(), target.data(), loss.data(), loss_gradient.data(), x_gradient.data()};
      run(squared ? cuda::squared_error : cuda::binary_cross_entropy, params);
      run(squared ? cuda::squared_error_gradient : cuda::binary_cross_entropy_gradient, params);
      for (size_t i = 0; i < 45; ++i) {
        const double v = x[i], t = target[i];
        const double wanted =
            squared ? (v - t) * (v - t) : std::fmax(v, 0) - v * t + std::log1p(std::exp(-std::fabs(v)));
        const double slope = (squared ? 2 * (v - t) : 1 / (1 + std::exp(-v)) - t) * loss_gradient[i];
        // Terms of up to 81 in fp32.
        expect_near("loss", i, loss[i], wanted, 4 * 81 * 0x1p-24);
        expect_near("gradient", i, widen(x_gradient[i]), slope, rounding_of<T>(slope) + 4 * 0x1p-24);
      }
    }
  });
}

TEST(masks_hide_and_fill) {
  std::vector<uint8_t> mask(300);
  for (size_t i = 0; i < mask.size(); ++i) mask[i] = i % 3 == 0 ? static_cast<uint8_t>(i % 7 + 1) : 0;
  DeviceArray<uint8_t> device_mask(mask);
  for_short_types([&](auto zero) {
    using T = decltype(zero);
    Numbers<T> x(300, 12);
    DeviceArray<T> out(300);
    run(cuda::masked_fill, MaskedFillParams{kDType<T>, 300, -3.5, x.data(), device_mask.data(), out.data()});
    for (size_t i = 0; i < 300; ++i) expect_near("masked", i, widen(out[i]), mask[i] != 0 ? -3.5 : x[i], 0);
  });
  const std::vector<float> values = {0, -1, 1, 0.5f, 2, std::numeric_limits<float>::quiet_NaN(), 1e-20f};
  DeviceArray<float> x(values);
  for (const bool inverted : {false, true}) {
    DeviceArray<uint8_t> out(values.size());
    run(cuda::binary_mask,
        BinaryMaskParams{DType::f32, static_cast<int64_t>(values.size()), inverted, x.data(), out.data()});
    for (size_t i = 0; i < values.size(); ++i) EXPECT_EQUAL(int{out[i]}, int{inverted ? values[i] < 1 : values[i] > 0});
  }
}

TEST(random_numbers_are_those_of_double_rounded) {
  for (const RandomKind kind : {RandomKind::uniform, RandomKind::normal}) {
    DeviceArray<double> exact(203);
    RandomFillParams params = {DType::f64, kind, 203, -1, 0.5, 11, 12, exact.data()};
    run(cuda::random_fill, params);
    for_short_types([&](auto zero) {
      using T = decltype(zero);
      DeviceArray<T> aligned(203), shifted(204);
      params.dtype = kDType<T>;
      params.out = aligned.data();
      run(cuda::random_fill, params);
      params.out = shifted.data() + 1;
      run(cuda::random_fill, params);
      for (size_t i = 0; i < 203; ++i) {
        expect_near("aligned", i, widen(aligned[i]), widen(narrow_double<T>(exact[i])), 0);
        expect_near("shifted", i, widen(shifted[i + 1]), widen(aligned[i]), 0);
      }
    });
  }
}

TEST(sinusoids_of_far_distances_lose_nothing) {
  for_short_types([](auto zero) {
    using T = decltype(zero);
    const int64_t first = 3000000;
    DeviceArray<T> out(3 * 10);
    run(cuda::sinusoid_positions, SinusoidPositionsParams{kDType<T>, 3, 10, first, 0, out.data()});
    for (size_t p = 0; p < 3; ++p) {
      for (size_t k = 0; k < 5; ++k) {
        const double angle =
            static_cast<double>(first + static_cast<int64_t>(p)) * std::pow(10000.0, -0.2 * static_cast<double>(k));
        expect_near("sine", p * 10 + k, widen(out[p * 10 + k]), std::sin(angle), rounding_of<T>(1));
        expect_near("cosine", p * 10 + k, widen(out[p * 10 + 5 + k]), std::cos(angle), rounding_of<T>(1));
      }
    }
  });
}

TEST(sums_and_constants_of_short_types) {
  std::vector<Span> spans(std::begin(kSpans), std::end(kSpans));
  spans.push_back({32 * 4 * 256 * 8 + 77, 0});  // more than one turn of the emulated device's blocks
  for_short_types([&](auto zero) {
    using T = decltype(zero);
    for (const Span& span : spans) {
      Numbers<T> x(span.count + span.shift, 13), y(span.count + span.shift, 14);
      DeviceArray<T> sum(span.count + span.shift), half(span.count);
      const auto count = static_cast<int64_t>(span.count);
      run(cuda::add,
          AddParams{kDType<T>, count, 2, -0.5, x.data() + span.shift, y.data() + span.shift, sum.data() + span.shift});
      run(cuda::fill, FillParams{kDType<T>, count, 0.5, half.data()});
      for (size_t i = 0; i < span.count; ++i) {
        const double wanted = 2 * x[i + span.shift] - 0.5 * y[i + span.shift];
        expect_near("sum", i, widen(sum[i + span.shift]), wanted, rounding_of<T>(wanted));
        expect_near("half", i, widen(half[i]), 0.5, 0);
      }
    }
  });
}
