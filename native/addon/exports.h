// What the addon exports, by file.
#pragma once

#include <napi.h>

namespace xlformers::addon {

void export_devices(Napi::Object exports);    // backends, openDevice, memory, resetPeak, releaseCached, packedMatrixElements
void export_buffers(Napi::Object exports);    // allocate, view, release
void export_transfers(Napi::Object exports);  // upload, download, copyDownloaded, fence
void export_recordings(Napi::Object exports); // beginRecording, endRecording, replay, dropRecording
void export_operators(Napi::Object exports);  // one function per operator

}  // namespace xlformers::addon
