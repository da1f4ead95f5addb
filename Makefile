# `make demo` and `make test` do all their own set-up; see README.md.

PYTHON ?= $(shell command -v /usr/bin/python3.11 || command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FUZZER := $(VENV)/.fuzzer
SOURCES := pyproject.toml setup.py $(wildcard cext/*.pyx cext/*.pxd)

# How long `make fuzz` and `make corpus` give each target.
SECONDS ?= 60
TARGETS := entropy payload wire coding model
FUZZ := sh fuzz/sanitized.sh sanitized $(BIN)/python -m fuzz.run

.PHONY: demo test check bench golden reference fuzz corpus coverage deb deb-lock check-deb test-aarch64 test-pythons broker clean help

help:
	@echo "make demo    see it work: a meter reader, split between two processes"
	@echo "make test    the tests (installs mosquitto where it may)"
	@echo "make check   the long tests: ten-minute load, sanitizers, aarch64, other Pythons"
	@echo "make deb     packages for Debian 12, amd64 and arm64, in build/deb/"
	@echo "make bench   every benchmark, JSON in bench/results/"
	@echo "make reference  write docs/configuration.md and docs/asyncapi.json from the code"
	@echo "make golden  write the golden vectors anew (after a change of format)"
	@echo "make fuzz    fuzz the decoders, SECONDS=60 for each target (needs clang)"
	@echo "make corpus  the same, then keep in fuzz/corpus what reaches most"

$(INSTALLED): $(SOURCES)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/edge-agent demo

test: $(INSTALLED) broker
	$(BIN)/python -m pytest -m "not check"

check: $(FUZZER) broker
	$(BIN)/python -m pytest -m check
	$(MAKE) test-aarch64 test-pythons

# The golden vectors and the kernels' tests under qemu, where the tools for it are.
test-aarch64: $(FUZZER)
	@sh tests/aarch64/run.sh $(BIN)/python

# The quick tests on every other Python that is installed here.
test-pythons: broker
	@sh tests/other_pythons.sh $(PYTHON)

# Needs Debian 12's Python, and its cross compilers for both machines; no emulator.
deb: $(FUZZER)
	$(BIN)/python packaging/build.py

# Choose the newest wheels that pyproject.toml allows, and pin them.
deb-lock: $(FUZZER)
	$(BIN)/python packaging/build.py --lock

# A part of `make check`: the packages installed in a virtual machine, and in an arm64 root.
check-deb: $(FUZZER) broker
	$(BIN)/python -m pytest -m check --durations=8 tests/packaging

bench: $(INSTALLED) broker
	$(BIN)/python -m bench

# tests/cli/test_reference.py and tests/docs/test_asyncapi.py say when it is due.
reference: $(INSTALLED)
	{ echo '# Configuration' && echo && $(BIN)/edge-agent config reference && echo \
		&& $(BIN)/cloud-worker config reference; } > docs/configuration.md.part
	mv docs/configuration.md.part docs/configuration.md
	$(BIN)/edge-agent asyncapi > docs/asyncapi.json.part
	mv docs/asyncapi.json.part docs/asyncapi.json

golden: $(INSTALLED)
	$(BIN)/python -m tests.golden.make

# What builds the kernels otherwise than pip does. Not every Python has a wheel of the fuzzer;
# tests that need it are then skipped.
$(FUZZER): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=65' 'cython>=3.1' 'coverage>=7'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: 'atheris>=3' || \
		echo "no fuzzer for this Python"
	@touch $@

fuzz: $(FUZZER)
	$(BIN)/python -m fuzz.build sanitized
	$(BIN)/python -m fuzz.seeds build/seeds
	for t in $(TARGETS); do \
		mkdir -p build/found/$$t && \
		$(FUZZ) $$t build/found/$$t fuzz/corpus/$$t build/seeds/$$t -max_total_time=$(SECONDS) \
			-max_len=4000 -timeout=10 -print_final_stats=1 -artifact_prefix=build/found/ || exit 1; \
	done

# The smallest set that reaches every edge anything found so far does.
corpus: fuzz
	for t in $(TARGETS); do \
		rm -rf build/corpus/$$t && mkdir -p build/corpus/$$t && \
		$(FUZZ) $$t -set_cover_merge=1 -use_counters=0 -max_len=4000 \
			build/corpus/$$t fuzz/corpus/$$t build/found/$$t build/seeds/$$t || exit 1; \
	done
	rm -rf fuzz/corpus && cp -r build/corpus fuzz/corpus

coverage: $(FUZZER)
	$(BIN)/python -m fuzz.coverage

# The tests that need mosquitto are skipped, saying so, where it cannot be installed.
broker:
	@sh tests/install_broker.sh

clean:
	rm -rf $(VENV) build *.egg-info cext/*.so
	find . -name __pycache__ -type d -exec rm -rf {} +
