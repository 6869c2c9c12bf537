#pragma once

#include "core/backend.h"

namespace xlformers::cpu {

// The embedded backend; always there.
const Backend* cpu_backend();

}  // namespace xlformers::cpu
