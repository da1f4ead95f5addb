# Runs the quick tests on each other Python (3.12, 3.13) found here, each in its own environment.
# Load, faults and brokers are the same code whatever the Python: once is enough. Of what starts
# processes the plain ways are tried.
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
    # The compiled kernels of each version lie side by side.
    make ".venv-$version/.installed" PYTHON="$python" VENV=".venv-$version" &&
        ".venv-$version/bin/python" -m pytest -m "not check" \
            --ignore tests/integration --ignore tests/service &&
        ".venv-$version/bin/python" -m pytest -m "not check" tests/integration/test_happy_path.py \
            tests/integration/test_daemon.py tests/service/test_agent_daemon.py ||
        status=1
done
exit $status
