# To be sourced: names the cuBLASLt that PyTorch brings, where none is named, so that both sides of the benchmark multiply with the same library
# also where CUDA's own folder has none. Without one there, the plugin searches as it always does.
if [ -z "${XLFORMERS_CUBLASLT+named}" ]; then
  of_torch=$("${XLFORMERS_PYTHON:-python3}" -c 'import glob, importlib.util, os
packages = os.path.dirname(os.path.dirname(importlib.util.find_spec("torch").origin))
print(glob.glob(f"{packages}/nvidia/*/lib/libcublasLt.so.*")[0])' 2> /dev/null) && export XLFORMERS_CUBLASLT=$of_torch
fi
echo "cuBLASLt: ${XLFORMERS_CUBLASLT-whatever the plugin finds}"
