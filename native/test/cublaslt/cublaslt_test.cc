// matrix_product by cuBLASLt, with a stand-in for the library (fake_cublaslt.cc): how it is found, what it is asked
// for, what is done after it and without it.
#include "cuda/cublaslt.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "cuda/cublaslt_product.h"
#include "test/cublaslt/fake_cublaslt.h"
#include "test/cuda/product_case.h"

using namespace simt::testing;
using namespace xlformers;
using namespace xlformers::cuda;
using namespace xlformers::cuda::testing;
namespace lt = xlformers::cuda::cublaslt;

namespace {

// The library that all products of this process get, which is why it is a process of its own: named before the first
// product asks for one.
const bool named = setenv("XLFORMERS_CUBLASLT", FAKE_CUBLASLT, 1) == 0;

fake_cublaslt::Control& control() {
  static void* const library = dlopen(FAKE_CUBLASLT, RTLD_NOW);
  EXPECT(named && library != nullptr);
  return *static_cast<fake_cublaslt::Control*>(dlsym(library, fake_cublaslt::kControl));
}

// As good as new; counts go on.
void obey() {
  fake_cublaslt::Control& fake = control();
  fake.version = 130000;
  fake.refuses_algorithms = fake.fails_to_multiply = false;
  fake.workspace_bytes = 0;
  fake.wrote = simt::mark_initialized;
}

// Is something left to do after the library, which has stored its sums in the operands' type by then?
bool finishes(const MatrixProductParams& params) {
  lt::Call call;
  return lt::describe(params, 0, &call) && call.finishes;
}

// Runs the operator; returns the number of products that the library has made.
template <typename T>
int run(Size size, Options options) {
  const int before = control().products;
  TestContext context;
  ProductCase<T> product(size, options);
  const MatrixProductParams block = product.params();
  const Status status = matrix_product(context.get(), &block);
  if (!status.ok()) throw std::runtime_error(std::string(status.message) + ": " + product.name());
  if (control().complaint[0] != '\0')
    throw std::runtime_error(std::string(control().complaint) + ": " + product.name());
  product.check(finishes(block));
  return control().products - before;
}

}  // namespace

TEST(cublaslt_is_looked_for_in_order) {
  const lt::SearchPath none = lt::search_path("", "/opt/cuda", {"/usr/local/cuda-13.0"});
  EXPECT(!none.loaded_first && none.files.empty());
  const lt::SearchPath only = lt::search_path("/home/me/libcublasLt.so.13", nullptr, {"/usr/local/cuda"});
  EXPECT(!only.loaded_first);
  EXPECT(only.files == std::vector<std::string>{"/home/me/libcublasLt.so.13"});
  const lt::SearchPath all = lt::search_path(nullptr, "/opt/cuda", {"/usr/local/cuda-13.0"});
  EXPECT(all.loaded_first);
  const std::vector<std::string> expected = {"libcublasLt.so.13",
                                             "libcublasLt.so.12",
                                             "/opt/cuda/lib64/libcublasLt.so.13",
                                             "/opt/cuda/lib64/libcublasLt.so.12",
                                             "/usr/local/cuda-13.0/lib64/libcublasLt.so.13",
                                             "/usr/local/cuda-13.0/lib64/libcublasLt.so.12"};
  EXPECT(all.files == expected);
}

TEST(libraries_that_do_not_serve_are_passed_over) {
  obey();
  lt::Interface library{};
  Status status = lt::open_first({false, {"/nowhere/libcublasLt.so.13"}}, &library);
  EXPECT(std::strstr(status.message, "/nowhere/libcublasLt.so.13") != nullptr);
  status = lt::open_first({false, {"libm.so.6"}}, &library);
  EXPECT(std::strstr(status.message, "cublasLtGetVersion") != nullptr);
  control().version = 110803;
  status = lt::open_first({false, {FAKE_CUBLASLT}}, &library);
  EXPECT(std::strstr(status.message, "110803") != nullptr);
  control().version = 120000;
  expect_ok(lt::open_first({false, {"/nowhere/libcublasLt.so.13", "libm.so.6", FAKE_CUBLASLT}}, &library));
  EXPECT_EQUAL(library.GetVersion(), size_t{120000});
  EXPECT(!lt::open_first({false, {}}, &library).ok());
}

TEST(row_major_products_are_described_as_their_transposes) {
  MatrixProductParams params{};
  float a = 0, b = 0, c = 0;
  params.dtype = params.c_dtype = DType::bf16;
  params.rows = 10, params.columns = 20, params.inner = 30;
  params.transpose_b = 1;
  params.a = &a, params.a_stride = 32;
  params.b = &b, params.b_stride = 33;
  params.c = &c, params.c_stride = 24;
  lt::Call call;
  EXPECT(lt::describe(params, 3, &call));
  EXPECT(call.a == &b && call.b == &a && call.d == &c && !call.finishes);
  EXPECT_EQUAL(call.shape.m, 20);
  EXPECT_EQUAL(call.shape.n, 10);
  EXPECT_EQUAL(call.shape.k, 30);
  EXPECT_EQUAL(call.shape.device, 3);
  EXPECT_EQUAL(call.shape.transpose_a, 1);
  EXPECT_EQUAL(call.shape.transpose_b, 0);
  EXPECT_EQUAL(call.shape.a_stride, 33);
  EXPECT_EQUAL(call.shape.b_stride, 32);
  EXPECT_EQUAL(call.shape.d_stride, 24);
  EXPECT_EQUAL(call.shape.type, 14);
  EXPECT_EQUAL(call.shape.output_type, 14);

  MatrixProductParams other = params;
  other.dtype = other.c_dtype = DType::f64;
  EXPECT(!lt::describe(other, 0, &call));
  other = params;
  other.inner = 0;
  EXPECT(!lt::describe(other, 0, &call));
  other = params;
  other.a_stride = 29;  // rows that overlap
  EXPECT(!lt::describe(other, 0, &call));
  other = params;
  other.rows = int64_t{1} << 31;
  EXPECT(!lt::describe(other, 0, &call));
}

TEST(the_library_multiplies_all_transposes_in_all_formats) {
  obey();
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      for (const int64_t padding : {0, 1, 8}) {
        Options options;
        options.transpose_a = transpose_a;
        options.transpose_b = transpose_b;
        options.padding = padding;
        EXPECT_EQUAL(run<float>({17, 7, 9}, options), 1);
        EXPECT_EQUAL(run<__nv_bfloat16>({33, 16, 41}, options), 1);
        EXPECT_EQUAL(run<__half>({18, 5, 64}, options), 1);
        EXPECT_EQUAL(run<double>({17, 3, 5}, options), 0);
      }
    }
  }
}

TEST(the_library_writes_floats_and_adds_to_them) {
  obey();
  for (const bool accumulate : {false, true}) {
    Options options;
    options.transpose_a = options.wide = true;
    options.accumulate = accumulate;
    EXPECT_EQUAL(run<__nv_bfloat16>({40, 24, 56}, options), 1);
    EXPECT_EQUAL(run<__half>({33, 9, 20}, options), 1);
  }
}

TEST(the_library_and_a_pass_after_it_make_every_epilogue) {
  obey();
  for (int kind = 0; kind <= 5; ++kind) {
    for (int choice = 0; choice < 16; ++choice) {
      for (const int64_t columns : {16, 11}) {
        Options options;
        options.transpose_b = true;
        options.activation = static_cast<Activation>(kind);
        options.bias = (choice & 1) != 0;
        options.residual = (choice & 2) != 0;
        options.accumulate = (choice & 4) != 0;
        options.pre_activation = (choice & 8) != 0;
        options.dropout = (choice + kind) % 4 == 1 ? 0.5 : 0;
        const Size size = {17, columns, 8};
        EXPECT_EQUAL(run<__nv_bfloat16>(size, options), 1);
        if (columns == 16) EXPECT_EQUAL(run<float>(size, options), 1);
      }
    }
  }
}

TEST(what_the_library_can_do_in_one_pass_it_does) {
  const auto passes = [](Activation activation, bool residual, bool accumulate, bool pre_activation,
                         int64_t columns = 16) {
    Options options;
    options.activation = activation;
    options.bias = true;
    options.residual = residual;
    options.accumulate = accumulate;
    options.pre_activation = pre_activation;
    return finishes(ProductCase<__half>({17, columns, 8}, options).params()) ? 2 : 1;
  };
  EXPECT_EQUAL(passes(Activation::none, false, false, false), 1);
  EXPECT_EQUAL(passes(Activation::none, true, false, false), 1);
  EXPECT_EQUAL(passes(Activation::none, false, true, false), 1);
  EXPECT_EQUAL(passes(Activation::none, true, true, false), 2);
  EXPECT_EQUAL(passes(Activation::relu, false, false, false), 1);
  EXPECT_EQUAL(passes(Activation::relu, true, false, false), 2);
  EXPECT_EQUAL(passes(Activation::gelu_tanh, false, false, false), 1);
  EXPECT_EQUAL(passes(Activation::gelu_tanh, false, false, true), 1);
  EXPECT_EQUAL(passes(Activation::gelu_tanh, false, false, true, 11), 2);  // its rows are not multiples of 8
  EXPECT_EQUAL(passes(Activation::gelu, false, false, false), 2);          // the library's gelu is the tanh form
  EXPECT_EQUAL(passes(Activation::silu, false, false, true), 2);
  Options options;
  options.activation = Activation::gelu_tanh;
  EXPECT(finishes(ProductCase<float>({17, 16, 8}, options).params()));
  for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu_tanh}) {
    Options drops;
    drops.activation = activation;
    drops.dropout = 0.5;
    EXPECT(finishes(ProductCase<__half>({17, 16, 8}, drops).params()));
  }
}

TEST(algorithms_are_remembered_by_shape) {
  obey();
  Options options;
  options.bias = true;
  run<float>({19, 13, 21}, options);
  const int before = control().heuristics;
  EXPECT_EQUAL(run<float>({19, 13, 21}, options), 1);
  EXPECT_EQUAL(control().heuristics, before);
  run<float>({20, 13, 21}, options);
  EXPECT_EQUAL(control().heuristics, before + 1);
  options.bias = false;
  run<float>({20, 13, 21}, options);
  EXPECT_EQUAL(control().heuristics, before + 2);
  EXPECT_EQUAL(control().handles, 1);
}

TEST(algorithms_get_the_scratch_memory_they_ask_for) {
  obey();
  control().workspace_bytes = 1 << 20;
  Options options;
  options.activation = Activation::gelu;
  options.accumulate = true;  // the library's output goes to scratch memory too
  EXPECT_EQUAL(run<__half>({21, 14, 9}, options), 1);
  control().workspace_bytes = size_t{1} << 30;
  EXPECT_EQUAL(run<__half>({22, 14, 9}, options), 0);
  obey();
}

TEST(without_an_algorithm_the_own_kernels_multiply) {
  obey();
  control().refuses_algorithms = true;
  EXPECT_EQUAL(run<__nv_bfloat16>({23, 15, 40}, {}), 0);
  control().refuses_algorithms = false;
  const int before = control().heuristics;
  EXPECT_EQUAL(run<__nv_bfloat16>({23, 15, 40}, {}), 0);  // not asked again
  EXPECT_EQUAL(control().heuristics, before);
  control().fails_to_multiply = true;
  EXPECT_EQUAL(run<__nv_bfloat16>({24, 15, 40}, {}), 0);
  obey();
  EXPECT_EQUAL(run<__nv_bfloat16>({24, 15, 40}, {}), 0);
  EXPECT_EQUAL(run<__nv_bfloat16>({25, 15, 40}, {}), 1);
}

TEST(few_rows_are_not_left_to_the_library) {
  obey();
  Options options;
  options.transpose_b = true;
  EXPECT_EQUAL(run<__nv_bfloat16>({16, 24, 40}, options), 0);
  EXPECT_EQUAL(run<__nv_bfloat16>({17, 24, 40}, options), 1);
}
