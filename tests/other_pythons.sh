# Runs the quick tests on each other Python (3.12, 3.13) found here, each in its own environment.
# Load and faults are the same code on the same broker whatever the Python: once is enough; and
# processes, brokers and services are started with the oldest and the newest, not between.
main=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
status=0
for version in 3.12 3.13; do
    [ "$version" = "$main" ] && continue
    python=
    for candidate in "$(command -v python$version)" "$HOME"/.pyenv/versions/$version.*/bin/python; do
        if [ -x "$candidate" ] && "$candidate" -c 'import ensurepip' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "Python $version is not installed here: skipped"
        continue
    fi
    skipped="--ignore tests/integration/test_faults.py --ignore tests/integration/test_overload.py"
    [ "$version" = 3.12 ] && skipped="--ignore tests/integration --ignore tests/service"
    # The compiled kernels of each version lie side by side.
    make ".venv-$version/.installed" PYTHON="$python" VENV=".venv-$version" &&
        ".venv-$version/bin/python" -m pytest -m "not check" $skipped ||
        status=1
done
exit $status
