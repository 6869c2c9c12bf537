#include "addon/errors.h"
#include "addon/exports.h"
#include "addon/guard.h"
#include "addon/handle.h"
#include "addon/positional.h"
#include "addon/recording.h"

namespace xlformers::addon {
namespace {

// beginRecording(device)
Napi::Value begin_recording(Environment& environment, const Napi::CallbackInfo& info) {
  std::shared_ptr<Device> device = device_argument(info, 0, "record");
  refuse_while_recording(environment, "record", "it cannot hold another one");
  environment.set_recording(std::make_unique<Recording>(std::move(device)));
  return info.Env().Undefined();
}

// endRecording(): a handle to the recording. It has not run yet.
Napi::Value end_recording(Environment& environment, const Napi::CallbackInfo& info) {
  std::unique_ptr<Recording> recording = environment.take_recording();
  if (recording == nullptr) fail(ErrorCode::recording, "record: no recording is being made");
  recording->end();
  return make_handle(info.Env(), std::move(recording));
}

Recording& recording_argument(const Napi::CallbackInfo& info, const char* function) {
  Recording* const recording = unwrap_handle<Recording>(info.Env(), info[0]);
  if (recording == nullptr) fail(ErrorCode::arg_handle, "%s: argument 'recording': not from endRecording()", function);
  return *recording;
}

// replay(recording)
Napi::Value replay(Environment& environment, const Napi::CallbackInfo& info) {
  Recording& recording = recording_argument(info, "replay");
  if (recording.dropped()) fail(ErrorCode::disposed, "replay: the recording was disposed");
  if (recording.device()->environment() != &environment) {
    fail(ErrorCode::arg_handle, "replay: argument 'recording': got one of another copy of the addon");
  }
  refuse_while_recording(environment, "replay", "it cannot hold another one");
  recording.replay();
  return info.Env().Undefined();
}

// dropRecording(recording): harmless when repeated
Napi::Value drop_recording(Environment& environment, const Napi::CallbackInfo& info) {
  Recording& recording = recording_argument(info, "dropRecording");
  if (!recording.dropped()) refuse_while_recording(environment, "dropRecording", "dispose others before or after it");
  recording.drop();
  return info.Env().Undefined();
}

}  // namespace

void export_recordings(Napi::Object exports) {
  export_function<begin_recording>(exports, "beginRecording");
  export_function<end_recording>(exports, "endRecording");
  export_function<replay>(exports, "replay");
  export_function<drop_recording>(exports, "dropRecording");
}

}  // namespace xlformers::addon
