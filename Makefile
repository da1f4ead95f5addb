# `make demo` and `make test` do all their own set-up; see README.md.

PYTHON ?= $(shell command -v /usr/bin/python3.11 || command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := pyproject.toml setup.py $(wildcard cext/*.pyx cext/*.pxd)

.PHONY: demo test check bench golden test-pythons broker clean help

help:
	@echo "make demo    see it work: a meter reader, split between two processes"
	@echo "make test    the tests (installs mosquitto where it may)"
	@echo "make check   the long tests: ten-minute load, other Pythons"
	@echo "make bench   every benchmark, JSON in bench/results/"
	@echo "make golden  write the golden vectors anew (after a change of format)"

$(INSTALLED): $(SOURCES)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/edge-agent demo

test: $(INSTALLED) broker
	$(BIN)/python -m pytest -m "not check"

check: $(INSTALLED) broker
	$(BIN)/python -m pytest -m check
	$(MAKE) test-pythons

# The quick tests on every other Python that is installed here.
test-pythons: broker
	@sh tests/other_pythons.sh $(PYTHON)

bench: $(INSTALLED) broker
	$(BIN)/python -m bench

golden: $(INSTALLED)
	$(BIN)/python -m tests.golden.make

# The tests that need mosquitto are skipped, saying so, where it cannot be installed.
broker:
	@sh tests/install_broker.sh

clean:
	rm -rf $(VENV) build *.egg-info cext/*.so
	find . -name __pycache__ -type d -exec rm -rf {} +
