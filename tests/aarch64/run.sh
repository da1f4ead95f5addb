# The golden vectors and the kernels' tests on aarch64: sh tests/aarch64/run.sh PYTHON
#
# Debian's Python 3.11 for arm64, unpacked under build/aarch64, runs under qemu's user emulation
# with wheels from PyPI; the kernels are cross-compiled. Nothing is installed and nothing needs
# root: an interpreter alone wants no chroot. Where a tool is missing the test is skipped.
set -eu
cd "$(dirname "$0")/../.."
python=$1
skip() {
    echo "aarch64: skipped, $1"
    exit 0
}
for tool in apt-get dpkg-deb qemu-aarch64-static aarch64-linux-gnu-gcc; do
    command -v $tool >/dev/null || skip "no $tool here (packages qemu-user-static, gcc-aarch64-linux-gnu)"
done
[ "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = 3.11 ] ||
    skip "the kernels are built with Python 3.11, $python is another"

base=$PWD/build/aarch64
root=$base/root
if [ ! -e "$base/.fetched-2" ]; then
    rm -rf "$base"
    mkdir -p "$base"/apt/state "$base"/apt/lists/partial "$base"/apt/cache/archives/partial "$root"
    touch "$base/apt/status"
    # The machine's sources and keys, but a package state of its own: an empty one.
    apt() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User= \
            -o Dir::State="$base/apt/state" -o Dir::State::Lists="$base/apt/lists" \
            -o Dir::State::status="$base/apt/status" -o Dir::Cache="$base/apt/cache" \
            -o Debug::NoLocking=1 "$@"
    }
    { apt update && apt install -y --no-install-recommends --download-only python3.11 libpython3.11-dev; } \
        >"$base/apt.log" 2>&1 || skip "cannot fetch arm64 packages: $(tail -n 1 "$base/apt.log")"
    for package in "$base"/apt/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    "$python" -m pip install --quiet --disable-pip-version-check --target "$base/site" \
        --platform manylinux2014_aarch64 --python-version 3.11 --only-binary=:all: \
        'numpy<2' msgspec zstandard pillow pytest cryptography || skip "cannot fetch aarch64 wheels"
    # Headers and build settings of that Python, and nothing of its C library's.
    mkdir -p "$base/include/aarch64-linux-gnu" "$base/settings"
    cp -r "$root/usr/include/python3.11" "$base/include/"
    cp -r "$root/usr/include/aarch64-linux-gnu/python3.11" "$base/include/aarch64-linux-gnu/"
    cp "$root/usr/lib/python3.11/_sysconfigdata__aarch64-linux-gnu.py" "$base/settings/"
    rm -rf "$base/apt"
    touch "$base/.fetched-2"
fi

# What CPython's own cross builds use: the settings of the other machine.
_PYTHON_HOST_PLATFORM=linux-aarch64 _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__aarch64-linux-gnu \
    PYTHONPATH="$base/settings" CFLAGS="-I$base/include/python3.11 -I$base/include" \
    "$python" setup.py -q build --build-base "$base/objects" --build-lib "$base/lib" \
    >"$base/build.log" 2>&1 || { cat "$base/build.log"; exit 1; }

# Behind the packages just built, so that cext is found there; tests are found here. Left out:
# the baseline once more, which is all there is on this processor; a test that starts a second
# Python, which cannot be done this way; and two that say the same of any processor, slowly.
PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$base/lib:$base/site:$PWD" \
    qemu-aarch64-static -L "$root" "$root/usr/bin/python3.11" -m pytest -q \
    -p no:cacheprovider --import-mode=append -m "not check" -k "not baseline" \
    --deselect tests/cext/test_transform.py::test_the_environment_chooses_a_path \
    --deselect tests/cext/test_entropy.py::test_garbage_is_refused_alike \
    --deselect tests/cext/test_entropy.py::test_size_is_the_static_entropy_of_the_tables \
    tests/wire/test_golden.py tests/cext/test_selftest.py tests/cext/test_entropy.py \
    tests/cext/test_transform.py
