// simt_test [part of a name] [--cases FIRST COUNT | --jobs COUNT]: runs the tests and prints a line for each, "ok NAME" or
// "not ok NAME: why". Of random cases, those numbers; in so many processes, which share the tests and the random cases of a test.
#include "simt/testing.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

namespace simt::testing {

namespace {

struct Test {
  const char* name;
  void (*body)();
  bool of_random_cases;
};

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

// What the command line says.
struct AskedCases {
  bool asked = false;
  uint32_t first = 0, count = 0;
};
AskedCases asked_cases;

// Of several processes, this one.
struct Job {
  uint32_t number = 0, count = 1;
};
Job job;

}  // namespace

void add_test(const char* name, void (*body)(), bool of_random_cases) { tests().push_back({name, body, of_random_cases}); }

void fail(Site site, const std::string& message) {
  throw std::runtime_error(std::string(site.name()) + ":" + std::to_string(site.line) + ": " + message);
}

void expect_fault(const Fault& fault, FaultKind kind, const std::vector<std::string>& words, Site site) {
  if (fault.kind != kind) {
    fail(site, std::string("expected a report of kind '") + fault_name(kind) + "', got '" + fault_name(fault.kind) +
                   "' " + fault.message);
  }
  for (const std::string& word : words) {
    if (fault.message.find(word) == std::string::npos) fail(site, "no '" + word + "' in: " + fault.message);
  }
}

const std::vector<NamedSchedule>& all_schedules() {
  static const std::vector<NamedSchedule> all = {
      {"in order", Schedule::in_order, 0},      {"run ahead", Schedule::run_ahead, 0},
      {"run ahead, 1", Schedule::run_ahead, 1}, {"run ahead, 2", Schedule::run_ahead, 2},
      {"random, 1", Schedule::random, 1},       {"random, 2", Schedule::random, 2},
      {"random, 3", Schedule::random, 3}};
  return all;
}

void under_all_schedules(const std::function<void()>& body) {
  for (const NamedSchedule& each : all_schedules()) {
    const WithOptions with([&](Options& options) {
      options.schedule = each.schedule;
      options.seed = each.seed;
    });
    try {
      body();
    } catch (const std::exception& error) {
      throw std::runtime_error(std::string(error.what()) + " (schedule: " + each.name + ")");
    }
  }
}

void for_random_cases(uint32_t count, const std::function<void(uint32_t, Draw&)>& body) {
  const AskedCases cases = asked_cases.asked ? asked_cases : AskedCases{true, 0, count};
  constexpr int kMostTold = 4;
  int failures = 0;
  std::string told;
  for (uint32_t number = cases.first; number != cases.first + cases.count; ++number) {
    if (number % job.count != job.number) continue;
    Draw draw(number);
    try {
      body(number, draw);
    } catch (const std::exception& error) {
      if (++failures <= kMostTold) told += "; --cases " + std::to_string(number) + " 1: " + error.what();
    }
  }
  if (failures > 0) {
    throw std::runtime_error(std::to_string(failures) + " of " + std::to_string(cases.count) + " random cases failed" + told);
  }
}

std::vector<float> short_numbers(size_t count, uint32_t seed) {
  std::vector<float> numbers(count);
  uint32_t state = seed * 2654435761u + 1;
  for (float& number : numbers) {
    state = state * 1664525u + 1013904223u;
    number = static_cast<float>(static_cast<int>(state >> 24) - 128) / 128;
  }
  return numbers;
}

}  // namespace simt::testing

namespace {

// The exit status.
int run_tests(const char* part_of_name) {
  using namespace simt::testing;
  uint32_t number = 0;
  int failures = 0;
  for (const Test& test : tests()) {
    if (std::strstr(test.name, part_of_name) == nullptr) continue;
    if (!test.of_random_cases && number++ % job.count != job.number) continue;
    const auto start = std::chrono::steady_clock::now();
    std::string failure;
    try {
      test.body();
    } catch (const std::exception& error) {
      failure = error.what();
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (failure.empty()) {
      std::printf("ok %s (%.3f s)\n", test.name, seconds);
    } else {
      std::printf("not ok %s: %s\n", test.name, failure.c_str());
      ++failures;
    }
    std::fflush(stdout);
  }
  return failures == 0 ? 0 : 1;
}

// Before anything of CUDA's is there: it does not survive a fork.
int run_in_processes(uint32_t count, const char* part_of_name) {
  using simt::testing::job;
  std::vector<pid_t> processes;
  for (uint32_t number = 0; number < count; ++number) {
    const pid_t process = fork();
    if (process == 0) {
      job = {number, count};
      _exit(run_tests(part_of_name));
    }
    processes.push_back(process);
  }
  int worst = 0;
  for (const pid_t process : processes) {
    int status = 0;
    if (process < 0 || waitpid(process, &status, 0) < 0) {
      std::printf("not ok: no process could be started\n");
      worst = 1;
    } else if (WIFSIGNALED(status)) {
      std::printf("not ok: a process was ended by signal %d\n", WTERMSIG(status));
      worst = 1;
    } else {
      worst |= WEXITSTATUS(status);
    }
  }
  return worst;
}

}  // namespace

int main(int count, char** arguments) {
  const auto number = [&](int behind) { return static_cast<uint32_t>(std::strtoul(arguments[count - behind], nullptr, 10)); };
  uint32_t jobs = 1;
  if (count > 3 && std::strcmp(arguments[count - 3], "--cases") == 0) {
    simt::testing::asked_cases = {true, number(2), number(1)};
    count -= 3;
  } else if (count > 2 && std::strcmp(arguments[count - 2], "--jobs") == 0) {
    jobs = number(1);
    count -= 2;
  }
  const char* part_of_name = count > 1 ? arguments[1] : "";
  return jobs > 1 ? run_in_processes(jobs, part_of_name) : run_tests(part_of_name);
}
