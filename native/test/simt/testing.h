// A test runner for kernels: TEST(name) { ... }, expectations that throw, and schedules to run under.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/status.h"
#include "simt/launch.h"

namespace simt::testing {

void add_test(const char* name, void (*body)(), bool of_random_cases);

struct Registration {
  Registration(const char* name, void (*body)(), bool of_random_cases) { add_test(name, body, of_random_cases); }
};

[[noreturn]] void fail(Site site, const std::string& message);

inline void expect(bool condition, const char* text, Site site = Site::here()) {
  if (!condition) fail(site, std::string("expected ") + text);
}

template <typename A, typename B>
void expect_equal(const A& got, const B& expected, const char* text, Site site = Site::here()) {
  if (got == expected) return;
  std::ostringstream message;
  message << text << " is " << got << ", expected " << expected;
  fail(site, message.str());
}

inline void expect_ok(const xlformers::Status& status, Site site = Site::here()) {
  if (!status.ok()) fail(site, status.message);
}
inline void expect_ok(const Fault& fault, Site site = Site::here()) {
  if (!fault.ok()) fail(site, fault.message);
}

// A report of this kind whose message has every one of these words.
void expect_fault(const Fault& fault, FaultKind kind, const std::vector<std::string>& words, Site site = Site::here());

// Sets options, and puts them back.
class WithOptions {
 public:
  explicit WithOptions(const std::function<void(Options&)>& change) : before_(options()) { change(options()); }
  ~WithOptions() { options() = before_; }
  WithOptions(const WithOptions&) = delete;
  WithOptions& operator=(const WithOptions&) = delete;

 private:
  Options before_;
};

struct NamedSchedule {
  const char* name;
  Schedule schedule;
  uint64_t seed;
};
const std::vector<NamedSchedule>& all_schedules();

// Runs the body once per schedule; a failure says under which.
void under_all_schedules(const std::function<void()>& body);

// Random choices, the same on every machine.
class Draw {
 public:
  // Generators of neighbouring seeds begin alike unless those are mixed.
  explicit Draw(uint32_t seed) {
    std::seed_seq mixed{seed};
    engine_.seed(mixed);
  }

  int in(int low, int high) { return low + static_cast<int>(engine_() % static_cast<unsigned>(high - low + 1)); }
  bool one_of(int count) { return in(1, count) == 1; }

 private:
  std::mt19937 engine_;
};

// Runs the body for random cases 0 to count - 1, or for those that the command line asks for, and goes on where one fails. Each draws from
// numbers of its own; a failure says how many failed, and of the first few which and why.
void for_random_cases(uint32_t count, const std::function<void(uint32_t number, Draw& draw)>& body);

// Numbers in [-1, 1), multiples of 2^-7: exact in bf16, fp16 and tf32, and so are their products in fp32.
std::vector<float> short_numbers(size_t count, uint32_t seed);

}  // namespace simt::testing

#define SIMT_TEST(name, of_random_cases)                                                  \
  static void name();                                                                     \
  static const simt::testing::Registration register_##name(#name, name, of_random_cases); \
  static void name()
#define TEST(name) SIMT_TEST(name, false)
// One that is for_random_cases: several processes share them.
#define RANDOM_TEST(name) SIMT_TEST(name, true)
#define EXPECT(condition) simt::testing::expect(condition, #condition)
#define EXPECT_EQUAL(got, expected) simt::testing::expect_equal(got, expected, #got)
