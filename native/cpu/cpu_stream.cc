#include "cpu/cpu_stream.h"

#include <cstring>
#include <exception>
#include <new>

namespace xlformers::cpu {

struct CpuStream::Record {
  enum class Kind { run, replay, copy, fence };

  Kind kind;
  Call call{Operator::count, nullptr};
  Recording recording;
  std::unique_ptr<char[]> payload;  // the source of an upload
  void* destination = nullptr;
  const void* source = nullptr;
  size_t bytes = 0;
  FenceCallback callback = nullptr;
  void* user = nullptr;
};

CpuStream::CpuStream(const KernelTable& table) : table_(table), worker_([this] { drain(); }) {}

CpuStream::~CpuStream() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
  }
  ready_.notify_one();
  worker_.join();
  const Status cancelled = make_status(StatusCode::cancelled, "the device's queue was closed");
  for (const auto& record : queue_) {
    if (record->kind == Record::Kind::fence) record->callback(record->user, &cancelled);
  }
}

Status CpuStream::enqueue(Operator op, const void* params, size_t bytes) {
  const auto index = static_cast<int32_t>(op);
  if (index < 0 || index >= kOperatorCount) {
    return make_status(StatusCode::unsupported, "operator %d is unknown to the CPU backend", index);
  }
  Call call{op, std::make_unique<char[]>(bytes)};
  std::memcpy(call.params.get(), params, bytes);
  if (noted_ != nullptr) {
    noted_->push_back(std::move(call));
    return ok_status();
  }
  auto record = std::make_unique<Record>();
  record->kind = Record::Kind::run;
  record->call = std::move(call);
  return push(std::move(record));
}

Status CpuStream::begin_recording() {
  if (noted_ != nullptr) return make_status(StatusCode::invalid_argument, "a recording is being made already");
  noted_ = std::make_unique<std::vector<Call>>();
  return ok_status();
}

Status CpuStream::take_recording(Recording* recording) {
  if (noted_ == nullptr) return make_status(StatusCode::invalid_argument, "no recording is being made");
  *recording = std::move(noted_);
  return ok_status();
}

Status CpuStream::replay(const Recording& recording) {
  auto record = std::make_unique<Record>();
  record->kind = Record::Kind::replay;
  record->recording = recording;
  return push(std::move(record));
}

Status CpuStream::upload(void* destination, const void* source, size_t bytes) {
  auto record = std::make_unique<Record>();
  record->kind = Record::Kind::copy;
  record->payload.reset(new (std::nothrow) char[bytes]);
  if (!record->payload) return make_status(StatusCode::out_of_memory, "upload: no memory for a copy of %zu bytes", bytes);
  std::memcpy(record->payload.get(), source, bytes);
  record->destination = destination;
  record->source = record->payload.get();
  record->bytes = bytes;
  return push(std::move(record));
}

Status CpuStream::download(void* destination, const void* source, size_t bytes) {
  auto record = std::make_unique<Record>();
  record->kind = Record::Kind::copy;
  record->destination = destination;
  record->source = source;
  record->bytes = bytes;
  return push(std::move(record));
}

Status CpuStream::fence(FenceCallback callback, void* user) {
  auto record = std::make_unique<Record>();
  record->kind = Record::Kind::fence;
  record->callback = callback;
  record->user = user;
  return push(std::move(record));
}

Status CpuStream::push(std::unique_ptr<Record> record) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(std::move(record));
  }
  ready_.notify_one();
  return ok_status();
}

void CpuStream::drain() {
  for (;;) {
    std::unique_ptr<Record> record;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      ready_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (closing_) return;
      record = std::move(queue_.front());
      queue_.pop_front();
    }
    run(*record);
  }
}

void CpuStream::run(const Record& record) {
  switch (record.kind) {
    case Record::Kind::copy:
      std::memcpy(record.destination, record.source, record.bytes);
      return;
    case Record::Kind::fence: {
      const Status status = error_;
      error_ = ok_status();
      record.callback(record.user, &status);
      return;
    }
    case Record::Kind::run:
      run_call(record.call);
      return;
    case Record::Kind::replay:
      for (const Call& call : *record.recording) run_call(call);
      return;
  }
}

void CpuStream::run_call(const Call& call) {
  const Status status = run_operator(call);
  if (status.ok() || !error_.ok()) return;
  error_ = make_status(status.code, "%s: %s", kOperatorNames[static_cast<int>(call.op)], status.message);
}

Status CpuStream::run_operator(const Call& call) {
  Context context{ThreadPool::instance(), workspace_};
  Status status;
  try {
    status = table_.kernels[static_cast<int>(call.op)](context, call.params.get());
  } catch (const std::bad_alloc&) {
    status = make_status(StatusCode::out_of_memory, "no memory for scratch space beyond the %lld bytes held",
                         static_cast<long long>(workspace_.bytes()));
  } catch (const std::exception& error) {
    status = make_status(StatusCode::internal, "%.200s", error.what());
  }
  workspace_.reset();
  return status;
}

}  // namespace xlformers::cpu
