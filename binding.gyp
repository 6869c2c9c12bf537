# The node-gyp route; CMakeLists.txt is the real build. Both read native/sources.json.
{
  "target_defaults": {
    "include_dirs": ["native", "<!(node -p \"require('node-addon-api').include_dir\")"],
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++14", "-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fexceptions", "-Wall", "-Wextra", "-Wno-psabi"],
  },
  "variables": {
    "kernel_flags": ["-ffp-contract=fast", "-fno-math-errno"],
    "kernel_sources": ["<!@(node -p \"require('./native/sources.json').kernels.join(' ')\")"],
  },
  "targets": [
    {
      "target_name": "xlformers",
      "sources": ["<!@(node -p \"require('./native/sources.json').host.join(' ')\")"],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_CPP_EXCEPTIONS"],
      "libraries": ["-ldl", "-pthread"],
      "conditions": [
        ["target_arch=='x64'", {
          "dependencies": ["kernels_baseline", "kernels_avx2", "kernels_avx512"],
          "defines": ["XL_HAS_baseline", "XL_HAS_avx2", "XL_HAS_avx512"],
        }],
        ["target_arch=='arm64'", { "dependencies": ["kernels_neon"], "defines": ["XL_HAS_neon"] }],
      ],
    },
  ],
  "conditions": [
    ["target_arch=='x64'", {
      "targets": [
        {
          "target_name": "kernels_baseline", "type": "static_library", "standalone_static_library": 1,
          "sources": ["<@(kernel_sources)"], "defines": ["XL_ISA=baseline"], "cflags_cc": ["<@(kernel_flags)"],
        },
        {
          "target_name": "kernels_avx2", "type": "static_library", "standalone_static_library": 1,
          "sources": ["<@(kernel_sources)"], "defines": ["XL_ISA=avx2"], "cflags_cc": ["<@(kernel_flags)", "-mavx2", "-mfma"],
        },
        {
          "target_name": "kernels_avx512", "type": "static_library", "standalone_static_library": 1,
          "sources": ["<@(kernel_sources)"], "defines": ["XL_ISA=avx512"],
          "cflags_cc": ["<@(kernel_flags)", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
        },
      ],
    }],
    ["target_arch=='arm64'", {
      "targets": [
        {
          "target_name": "kernels_neon", "type": "static_library", "standalone_static_library": 1,
          "sources": ["<@(kernel_sources)"], "defines": ["XL_ISA=neon"], "cflags_cc": ["<@(kernel_flags)"],
        },
      ],
    }],
  ],
}
