// Times matrix_product on the shapes of the models beside other libraries, in turns within one process, so that
// whatever else loads the machine hits all of them alike. Not a test: it prints GFLOP/s, the best and the median of the
// rounds.
//
//   gemm_benchmark [rounds] [libopenblas.so.0 | another library with cblas_sgemm]... [libdnnl.so.2 | another with
//   dnnl_sgemm]...
//
// Compile with -DXL_ISA=<instruction set> as the kernels; set OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and
// XLFORMERS_NUM_THREADS to the same number and OMP_WAIT_POLICY=passive, so that idle threads of one library do not slow
// the next.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cpu/kernel.h"

namespace xlformers::cpu::XL_ISA {
Status matrix_product(Context& context, const void* params);
Status pack_matrix(Context& context, const void* params);
int64_t packed_matrix_elements(DType dtype, int64_t columns, int64_t inner);
}  // namespace xlformers::cpu::XL_ISA

namespace {

using namespace xlformers;
using Clock = std::chrono::steady_clock;

// C[m, n] = op(A) op(B) over k steps; "NT" is a linear layer, "NN" its input's gradient, "TN" its weight's.
struct Shape {
  int64_t m, n, k;
  bool transpose_a, transpose_b;
  bool cold;  // B comes from memory, not from the cache: weights take turns
};

const Shape kShapes[] = {
    {2048, 2048, 2048, false, true, false}, {1024, 1024, 1024, false, true, false},
    {512, 768, 768, false, true, false},    {512, 2304, 768, false, true, false},
    {512, 3072, 768, false, true, false},   {512, 768, 3072, false, true, false},
    {512, 1536, 512, false, true, false},   {512, 2048, 512, false, true, false},
    {512, 512, 2048, false, true, false},   {256, 4096, 1024, false, true, false},
    {256, 1024, 4096, false, true, false},  {128, 3072, 1024, false, true, false},
    {64, 1024, 1024, false, true, false},   {64, 3072, 768, false, true, false},
    {64, 4096, 1024, false, true, true},    {32, 1024, 1024, false, true, false},
    {16, 1024, 1024, false, true, false},   {512, 768, 3072, false, false, false},
    {512, 3072, 768, false, false, false},  {512, 512, 1536, false, false, false},
    {768, 3072, 512, true, false, false},   {3072, 768, 512, true, false, false},
    {1536, 512, 512, true, false, false},   {1024, 1024, 2048, true, false, false},
    {150, 1230, 410, false, true, false},   {512, 2100, 410, false, true, false},
    {512, 410, 2100, false, true, false},   {512, 410, 2100, false, false, false},
    {2100, 410, 512, true, false, false},   {512, 204, 410, false, true, false},
    {512, 256, 512, false, true, false},    {8, 1024, 1024, false, true, false},
    {8, 4096, 1024, false, true, true},     {4, 1024, 1024, false, true, false},
    {1, 1024, 1024, false, true, false},    {1, 4096, 1024, false, true, true},
    {1, 1024, 4096, false, true, true},     {1, 1536, 512, false, true, true},
    {3, 5, 7, false, true, false},          {16, 16, 16, false, true, false},
};

using CblasSgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha,
                            const float* a, int lda, const float* b, int ldb, float beta, float* c, int ldc);
using DnnlSgemm = int (*)(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                          const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

struct Contender {
  std::string name;
  std::function<void(const Shape&, const float* a, const float* b, float* c)> multiply;
  std::vector<double> times;
};

Status run_own(cpu::Context& context, const Shape& shape, const float* a, const float* b, float* c, bool packed) {
  MatrixProductParams params{};
  params.dtype = DType::f32;
  params.rows = shape.m;
  params.columns = shape.n;
  params.inner = shape.k;
  params.transpose_a = shape.transpose_a;
  params.transpose_b = shape.transpose_b;
  params.packed_b = packed;
  params.a = a;
  params.a_stride = shape.transpose_a ? shape.m : shape.k;
  params.b = b;
  params.b_stride = shape.transpose_b ? shape.k : shape.n;
  params.c = c;
  params.c_stride = shape.n;
  const Status status = cpu::XL_ISA::matrix_product(context, &params);
  context.workspace.reset();
  return status;
}

std::vector<Contender> load_contenders(int count, char** libraries) {
  std::vector<Contender> contenders;
  for (int i = 0; i < count; ++i) {
    void* library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
      std::fprintf(stderr, "%s\n", dlerror());
      std::exit(1);
    }
    if (auto* sgemm = reinterpret_cast<CblasSgemm>(dlsym(library, "cblas_sgemm"))) {
      contenders.push_back({libraries[i],
                            [sgemm](const Shape& s, const float* a, const float* b, float* c) {
                              const int m = static_cast<int>(s.m), n = static_cast<int>(s.n), k = static_cast<int>(s.k);
                              sgemm(101, s.transpose_a ? 112 : 111, s.transpose_b ? 112 : 111, m, n, k, 1, a,
                                    s.transpose_a ? m : k, b, s.transpose_b ? k : n, 0, c, n);
                            },
                            {}});
    } else if (auto* dnnl = reinterpret_cast<DnnlSgemm>(dlsym(library, "dnnl_sgemm"))) {
      contenders.push_back({libraries[i],
                            [dnnl](const Shape& s, const float* a, const float* b, float* c) {
                              dnnl(s.transpose_a ? 'T' : 'N', s.transpose_b ? 'T' : 'N', s.m, s.n, s.k, 1, a,
                                   s.transpose_a ? s.m : s.k, b, s.transpose_b ? s.k : s.n, 0, c, s.n);
                            },
                            {}});
    }
  }
  return contenders;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 5;
  cpu::Workspace workspace;
  cpu::Context context{cpu::ThreadPool::instance(), workspace};
  std::vector<Contender> contenders = load_contenders(argc - 2, argv + 2);
  const auto own = [&](bool packed) {
    return [&context, packed](const Shape& s, const float* a, const float* b, float* c) {
      run_own(context, s, a, b, c, packed);
    };
  };
  contenders.insert(contenders.begin(), {{"own", own(false), {}}, {"own, packed B", own(true), {}}});

  std::printf("GFLOP/s, best (median) of %d rounds, %d threads\n%-28s", rounds, context.pool.threads(), "m x n x k");
  for (const Contender& contender : contenders) std::printf(" | %-16s", contender.name.c_str());
  std::printf("\n");
  for (const Shape& shape : kShapes) {
    const int64_t b_elements = shape.n * shape.k;
    // Enough copies to push each other out of any cache.
    const int64_t copies = shape.cold ? std::max<int64_t>(1, (int64_t{768} << 20) / (b_elements * 4)) : 1;
    std::vector<float> a(static_cast<size_t>(shape.m * shape.k)), b(static_cast<size_t>(b_elements * copies));
    std::vector<float> c(static_cast<size_t>(shape.m * shape.n));
    for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 17) * 0.1f;
    for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 13) * 0.1f;
    const int64_t packed_elements = cpu::XL_ISA::packed_matrix_elements(DType::f32, shape.n, shape.k);
    std::vector<float> packed(static_cast<size_t>(packed_elements * copies));
    for (int64_t i = 0; i < copies; ++i) {
      const PackMatrixParams pack{DType::f32,
                                  shape.n,
                                  shape.k,
                                  shape.transpose_b,
                                  &b[static_cast<size_t>(i * b_elements)],
                                  shape.transpose_b ? shape.k : shape.n,
                                  &packed[static_cast<size_t>(i * packed_elements)]};
      cpu::XL_ISA::pack_matrix(context, &pack);
      workspace.reset();
    }
    const double flops =
        2.0 * static_cast<double>(shape.m) * static_cast<double>(shape.n) * static_cast<double>(shape.k);
    for (Contender& contender : contenders) contender.times.clear();
    size_t turn = 0;
    for (int round = 0; round < rounds; ++round) {
      for (Contender& contender : contenders) {
        const bool uses_packed = contender.name == "own, packed B";
        const auto once = [&] {
          const size_t copy = turn++ % static_cast<size_t>(copies);
          const float* operand = uses_packed ? &packed[copy * static_cast<size_t>(packed_elements)]
                                             : &b[copy * static_cast<size_t>(b_elements)];
          contender.multiply(shape, a.data(), operand, c.data());
        };
        std::this_thread::sleep_for(std::chrono::milliseconds(200));  // OpenBLAS spins for 0.1 s
        const Clock::time_point start = Clock::now();
        once();
        const double first = std::chrono::duration<double>(Clock::now() - start).count();
        const int calls = static_cast<int>(std::min(10000.0, std::max(2.0, 0.015 / first)));
        const Clock::time_point begin = Clock::now();
        for (int i = 0; i < calls; ++i) once();
        contender.times.push_back(std::chrono::duration<double>(Clock::now() - begin).count() / calls);
      }
    }
    char label[64];
    std::snprintf(label, sizeof label, "%lld x %lld x %lld %c%c%s", static_cast<long long>(shape.m),
                  static_cast<long long>(shape.n), static_cast<long long>(shape.k), shape.transpose_a ? 'T' : 'N',
                  shape.transpose_b ? 'T' : 'N', shape.cold ? " cold" : "");
    std::printf("%-28s", label);
    for (Contender& contender : contenders) {
      std::sort(contender.times.begin(), contender.times.end());
      std::printf(" | %7.1f (%6.1f)", flops / contender.times.front() * 1e-9,
                  flops / contender.times[contender.times.size() / 2] * 1e-9);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
  return 0;
}
