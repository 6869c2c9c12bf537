// The backends of this process: those that are linked in, and plugins opened at run time.
#pragma once

#include <string>

#include "core/backend.h"

namespace xlformers {

// Keeps this library in memory to the end of the process: its threads outlive the worker thread that loaded it, after which Node would
// close it.
void stay_loaded();

// Adds a backend that is linked in; called once, before the first look-up.
void register_backend(const Backend* backend);

// The backend of that name, opening its plugin (xlformers_<name>.so beside this library, or $XLFORMERS_<NAME>_PLUGIN) on first use.
// Null with the reason when there is none. A plugin is never closed: its threads and driver state outlive any user.
const Backend* find_backend(const char* name, std::string* why_none);

}  // namespace xlformers
