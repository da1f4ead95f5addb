# Runs Python with sanitized kernels: sh fuzz/sanitized.sh VARIANT PYTHON ARGUMENTS
# The address sanitizer must be in the process before the first malloc: atheris brings one with
# libFuzzer in it. Its fakes see neither Python's small objects nor NumPy's freed buffers
# otherwise; what Python never frees at its end is no leak; and nothing here needs 64 MB at once.
variant=$1 python=$2
shift 2
runtime=$("$python" -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so
export PYTHONSAFEPATH=1 PYTHONPATH="build/$variant/lib:." PYTHONMALLOC=malloc
export ASAN_OPTIONS="detect_leaks=0:quarantine_size_mb=32:max_allocation_size_mb=64:$ASAN_OPTIONS"
LD_PRELOAD="$runtime" exec "$python" "$@"
