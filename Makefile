# The one task file: CI calls nothing but these targets. `make help` lists them.
#
# Two of them stand in the README: `make call` makes a real call, `make test` runs every check. Both set up all they need.
# With CI set in the environment a missing tool or peer is a failure; without it, what needs the tool is left out and said.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The first interpreter that runs and is new enough. A shim on the PATH that can't run does not count.
newest_of = $(firstword $(foreach python,$(2),$(shell $(python) -c 'import sys; sys.version_info >= (3, $(1)) and print(sys.executable)' 2>/dev/null)))
PYTHON ?= $(call newest_of,11,python3 python3.14 python3.13 python3.12 python3.11)
# The newer ones first: aiomoqt has wheels for CPython >= 3.12 only.
PEERS_PYTHON ?= $(call newest_of,12,python3 python3.14 python3.13 python3.12 $(wildcard $(HOME)/.pyenv/versions/3.1[2-4]*/bin/python3))

TARGET ?= $(or $(CARGO_TARGET_DIR),target)
VENV := .venv
VENV_TEST := .venv-test
VENV_BENCH := .venv-bench
VENV_PEERS := .venv-peers
VENV_BENCH_PEERS := .venv-bench-peers
WHEELS := $(abspath $(TARGET)/wheels)
ASTERISK := $(abspath $(TARGET)/asterisk)
export SPEECH ?= /usr/share/asterisk/sounds/en_US_f_Allison
NUMBER ?= +15550009010
# What `make faults` loads the three processes with.
BRIDGES ?= 100

# Nothing of the build machine's paths may stand in the wheel, neither from rustc nor from the C compiler.
wheel_env := RUSTFLAGS="--remap-path-prefix=$(HOME)=~ --remap-path-prefix=$(CURDIR)=clutchcall" CFLAGS="-ffile-prefix-map=$(HOME)=~"
say = @printf '\n== %s\n'
pip = -m pip --disable-pip-version-check --quiet install

.PHONY: help call exits faults fuzz loom loss isolation hostile soak test lint types stubs docs wheel bench bench-peers bench-sip asterisk peers moq-relay interop packages test-rust test-python venv-test clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

call: packages $(VENV)/bin/clutchcall ## make a real call: engine, relay, phone and SDK on this machine
	$(say) "calling $(NUMBER)"
	@mkdir -p $(TARGET)
	$(VENV)/bin/clutchcall call $(NUMBER) --play $(SPEECH)/demo-congrats.wav --record $(TARGET)/heard.wav \
	  --phone-says $(SPEECH)/demo-instruct.wav --phone-records $(TARGET)/phone

test: packages venv-test venv-peers lint docs test-rust loom wheel stubs types test-python ## every check; sets up all it needs (about 25 minutes when cold)

lint: $(VENV_TEST)/tools ## formatting and lints of both languages
	$(say) "formatting"
	cargo fmt --check
	$(VENV_TEST)/bin/ruff format --check --quiet .
	$(say) "lints: ruff"
	$(VENV_TEST)/bin/ruff check --quiet .
	$(say) "lints: clippy, without and with the Python face"
	cargo clippy --locked --quiet --all-targets -- -D warnings
	cargo clippy --locked --quiet --all-targets --features python -- -D warnings
	$(say) "the lock file of the fuzz targets"
	cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null

docs:
	$(say) "Rust documentation"
	# Written for whoever reads the source: private items are in, so links to them are welcome.
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links -A rustdoc::redundant-explicit-links" \
	cargo doc --locked --quiet --no-deps --lib --document-private-items

test-rust: packages venv-peers ## the Rust tests; no Python extension is built
	$(say) "Rust tests"
	CLUTCHCALL_PEERS_PYTHON="$$( [ -x $(VENV_PEERS)/bin/python ] && echo $(CURDIR)/$(VENV_PEERS)/bin/python )" cargo test --locked --quiet

wheel: $(VENV_TEST)/tools ## the release wheel, into target/wheels
	$(say) "wheel (release, a few minutes when cold)"
	rm -rf $(WHEELS)
	$(wheel_env) $(VENV_TEST)/bin/maturin build --locked --quiet --release --compression-level 9 --out $(WHEELS)
	# The same files, packed by zopfli: 3 % smaller.
	if command -v advzip >/dev/null; then
	  advzip --recompress --shrink-insane --iter=5 --quiet $(WHEELS)/*.whl
	else
	  echo "no advzip (Debian: advancecomp): the wheel stays 3 % larger"
	fi
	ls -l $(WHEELS)

stubs: $(VENV_TEST)/tools ## fails when python/clutchcall/_core.pyi differs from the Rust source; FIX=1 rewrites it
	$(say) "stub of the native module"
	# The development profile: a stripped library can't be read.
	out=$$(mktemp -d)
	$(VENV_TEST)/bin/maturin generate-stubs --locked --quiet --out $$out
	[ -z "$(FIX)" ] || cp $$out/clutchcall/_core.pyi python/clutchcall/_core.pyi
	diff -u python/clutchcall/_core.pyi $$out/clutchcall/_core.pyi || { echo "run: make stubs FIX=1"; exit 1; }
	rm -r $$out

types: $(VENV_TEST)/wheel ## types of the package, of its examples and of its tests
	$(say) "types"
	$(VENV_TEST)/bin/mypy --python-executable $(VENV_TEST)/bin/python
	# Every public name has a type that is known: 100 %, or it fails.
	if command -v node >/dev/null; then
	  # It looks for packages where the first `python` of the path does.
	  PATH=$(CURDIR)/$(VENV_TEST)/bin:$$PATH PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright --verifytypes clutchcall --ignoreexternal | tail -4
	  PATH=$(CURDIR)/$(VENV_TEST)/bin:$$PATH PYRIGHT_PYTHON_IGNORE_WARNINGS=1 pyright examples
	else
	  echo "no node: how complete the public types are is not measured"
	  [ -z "$${CI:-}" ] || exit 1
	fi

test-python: $(VENV_TEST)/wheel ## the Python tests, against the installed wheel
	$(say) "Python tests"
	cargo build --locked --quiet --package weather
	CLUTCHCALL_PEERS_PYTHON="$$( [ -x $(VENV_PEERS)/bin/python ] && echo $(CURDIR)/$(VENV_PEERS)/bin/python )" \
	CLUTCHCALL_WHEEL="$$(ls $(WHEELS)/*.whl)" $(VENV_TEST)/bin/python -m pytest $(PYTEST)

faults: $(VENV_TEST)/wheel ## killed, cut and stopped processes under 100 bridges, with figures (about half an hour)
	$(say) "faults under $(BRIDGES) bridges"
	cargo build --locked --quiet --package weather
	CLUTCHCALL_FAULT_BRIDGES=$(BRIDGES) $(VENV_TEST)/bin/python -m pytest -m "faults or not faults" -s --timeout 600 \
	  tests/python/test_restart.py tests/python/test_faults.py $(PYTEST)

exits: $(VENV_TEST)/wheel ## how programs end that have audio running: each cell of the matrix 200 times (ten minutes)
	$(say) "exits"
	CLUTCHCALL_EXIT_RUNS=200 $(VENV_TEST)/bin/python -m pytest tests/python/test_exit.py -k test_a_program_ends $(PYTEST)

soak: $(VENV_TEST)/wheel ## ten thousand calls and ten thousand bridges: threads, files and tasks as before, memory within 1 % (thirteen minutes; needs a quiet machine)
	$(say) "through the Python API, with the wheel"
	$(VENV_TEST)/bin/python -m pytest -m soak -s tests/python/test_soak.py $(PYTEST)

idle: ## ten thousand connections to the API that say nothing, and a call beside them (ten seconds)
	ulimit -n "$$(ulimit -H -n)"
	cargo test --locked --profile bench --test engine limits::idle -- --exact --ignored --nocapture

isolation: ## what a foreign token can't do, and whether a refusal's time tells anything (a minute)
	cargo test --locked --profile bench --test relay isolation -- --include-ignored --nocapture --test-threads 1

hostile: $(VENV_TEST)/wheel ## what floods and slow listeners cost the calls of others (six minutes); needs a quiet machine
	$(VENV_TEST)/bin/python benches/python/slow.py
	cargo test --locked --profile bench --test relay -- hostile floods --include-ignored --nocapture --test-threads 1

loss: $(VENV_TEST)/wheel venv-peers ## frames through a lossy path beside aiomoqt (5 minutes; MINUTES=10: at 30 % for so long besides)
	$(say) "2 and 5 % at 50 ms, 5 and 30 % at 40 ms"
	peers="$$( [ -x $(VENV_PEERS)/bin/python ] && echo --peers $(VENV_PEERS)/bin/python )"
	$(VENV_TEST)/bin/python benches/python/loss.py $$peers
	$(VENV_TEST)/bin/python benches/python/loss.py $$peers --rtt 40 --loss 0.05 0.3
	[ -z "$(MINUTES)" ] || $(VENV_TEST)/bin/python benches/python/loss.py $$peers --rtt 40 --loss 0.3 --secs $$(( 60 * $(MINUTES) ))

loom: ## the ring, its desk and the errands of event loops in every order that their threads can meet in (a minute)
	$(say) "loom"
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(TARGET)/loom LOOM_MAX_PREEMPTIONS=$(or $(PREEMPTIONS),3) \
	cargo test --locked --quiet --release --package models

FUZZ_RUNS ?= 1000000
FUZZ_SECS ?= 0
# What libFuzzer needs of the compiler; no nightly one is asked for. Our own code is safe Rust, so there is no address sanitizer here.
fuzz_flags := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1

fuzz: packages ## every fuzz target with libFuzzer: FUZZ_RUNS executions each (FUZZ_SECS seconds at most), corpus in target/corpus
	$(say) "fuzz targets"
	names="$${TARGETS:-$$(ls fuzz/fuzz_targets | sed 's/\.rs$$//')}"
	RUSTFLAGS="$(fuzz_flags)" cargo build --locked --quiet --release --manifest-path fuzz/Cargo.toml --target-dir $(TARGET)/fuzz --target $(shell rustc -vV | sed -n 's/host: //p')
	$(TARGET)/fuzz/*/release/seeds $(TARGET)/corpus
	for name in $$names; do
	  printf '%-14s ' $$name
	  log=$(TARGET)/corpus/$$name.log
	  $(TARGET)/fuzz/*/release/$$name -runs=$(FUZZ_RUNS) -max_total_time=$(FUZZ_SECS) -max_len=4096 -rss_limit_mb=2048 -timeout=10 \
	    -artifact_prefix=$(TARGET)/corpus/$$name- $(TARGET)/corpus/$$name >$$log 2>&1 || { tail -40 $$log; exit 1; }
	  grep -h 'DONE' $$log | tail -1; ls $(TARGET)/corpus/$$name | wc -l
	done

bench: $(VENV_BENCH)/wheel ## the figures of docs/performance.md, in about ten minutes once built; needs a quiet machine
	$(say) "the package: import and wheel"
	$(VENV_BENCH)/bin/python benches/python/package.py $(WHEELS)/*.whl
	$(say) "a frame through the public Python API, beside bare quinn"
	$(VENV_TEST)/bin/python benches/python/bridges.py --counted-python $(VENV_BENCH)/bin/python
	$(say) "delivery and publishing inside the process"
	$(VENV_BENCH)/bin/python benches/python/rings.py
	$(say) "the floor, the brains, the codecs, the control plane"
	cargo bench --locked

bench-peers: $(VENV_TEST)/wheel $(VENV_BENCH_PEERS)/requirements.txt ## us beside our peers, in about a quarter of an hour once built; needs a quiet machine
	$(say) "channels per core, frames, relays, idle bridges: clutchcall and its peers"
	$(VENV_TEST)/bin/python benches/peers/run.py $(BENCH)

bench-sip: packages $(VENV_TEST)/wheel ## calls over SIP and RTP: how many fit, what one costs, set-up, ten thousand of them, a flood; Asterisk beside (25 minutes)
	$(say) "SIP calls to SIPp, a Python callback each"
	CLUTCHCALL_ASTERISK=$${CLUTCHCALL_ASTERISK:-$(ASTERISK)} $(VENV_TEST)/bin/python benches/sip/run.py $(BENCH)

# Not in `make test`: it installs a second Debian, as root.
asterisk: packages ## SIP calls with Asterisk 22 as the carrier, by their records; installs it into target/asterisk (two minutes)
	$(say) "Asterisk 22 in a folder of its own"
	tests/asterisk/install.sh $(ASTERISK)
	$(say) "calls, with Asterisk as the carrier"
	CLUTCHCALL_ASTERISK=$(ASTERISK) cargo test --locked --test sip asterisk:: -- --ignored --test-threads 1

# The stacks that it measures, in an environment of their own: some have wheels for CPython >= 3.12 only.
$(VENV_BENCH_PEERS)/requirements.txt: requirements/bench-peers.txt
	@if [ -z "$(PEERS_PYTHON)" ]; then
	  echo "no CPython >= 3.12: the peers are left out"
	else
	  printf '\n== peers to measure (%s)\n' "$(PEERS_PYTHON)"
	  rm -rf $(VENV_BENCH_PEERS)
	  $(PEERS_PYTHON) -m venv $(VENV_BENCH_PEERS)
	  $(VENV_BENCH_PEERS)/bin/python $(pip) -r requirements/bench-peers.txt
	  cp requirements/bench-peers.txt $@
	fi

# The release wheel with counters in it, in an environment of its own: nobody else is given that one.
$(VENV_BENCH)/wheel: $(VENV_TEST)/wheel $(shell git ls-files src python Cargo.lock)
	$(say) "wheel with counters (release)"
	[ -x $(VENV_BENCH)/bin/python ] || $(PYTHON) -m venv $(VENV_BENCH)
	rm -rf $(WHEELS)-counted
	$(VENV_TEST)/bin/maturin build --locked --quiet --release --features python,counted --out $(WHEELS)-counted
	$(VENV_BENCH)/bin/python $(pip) --no-deps --force-reinstall $(WHEELS)-counted/*.whl
	touch $@

packages:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it from https://rustup.rs"; exit 1; }
	[ -n "$(PYTHON)" ] || { echo "CPython >= 3.11 is missing: install it, or say make PYTHON=/path/to/python3"; exit 1; }
	missing=()
	command -v cmake >/dev/null || missing+=(cmake)
	command -v openssl >/dev/null || missing+=(openssl)
	command -v cc >/dev/null || missing+=(build-essential)
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
	command -v ip >/dev/null || missing+=(iproute2)
	command -v advzip >/dev/null || missing+=(advancecomp)
	command -v sipp >/dev/null || missing+=(sip-tester)
	command -v baresip >/dev/null || missing+=(baresip-core)
	command -v dnsmasq >/dev/null || [ -x /usr/sbin/dnsmasq ] || missing+=(dnsmasq-base)
	command -v node >/dev/null || missing+=(nodejs)
	[ -f $(SPEECH)/demo-congrats.wav ] || missing+=(asterisk-core-sounds-en-wav)
	[ $${#missing[@]} -gt 0 ] || exit 0
	printf '\n== Debian packages: %s\n' "$${missing[*]}"
	if command -v apt-get >/dev/null; then
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo
	  $$sudo apt-get -qq update
	  DEBIAN_FRONTEND=noninteractive $$sudo apt-get -qq install -y --no-install-recommends "$${missing[@]}" >/dev/null
	else
	  echo "install the equivalents of these Debian packages: $${missing[*]}"
	  [ -z "$${CI:-}" ] || exit 1
	fi

# Fresh for every `make test`, so that nothing an earlier run left behind can help it.
venv-test:
	@rm -rf $(VENV_TEST)
	$(MAKE) $(VENV_TEST)/tools

$(VENV_TEST)/tools: requirements/tools.txt requirements/test.txt
	$(say) "test environment ($(PYTHON))"
	[ -x $(VENV_TEST)/bin/python ] || $(PYTHON) -m venv $(VENV_TEST)
	$(VENV_TEST)/bin/python $(pip) -r requirements/tools.txt -r requirements/test.txt
	touch $@

$(VENV_TEST)/wheel: $(VENV_TEST)/tools $(wildcard $(WHEELS)/*.whl) $(shell find python -name '*.py')
	@ls $(WHEELS)/*.whl >/dev/null 2>&1 || $(MAKE) wheel
	$(VENV_TEST)/bin/python $(pip) --no-deps --force-reinstall $(WHEELS)/*.whl
	touch $@

peers venv-peers: packages ## the environment of foreign MoQT stacks that the interop tests talk to
	@if [ -z "$(PEERS_PYTHON)" ]; then
	  echo "no CPython >= 3.12: the interop tests with aiomoqt and moq-rs are left out"
	  [ -z "$${CI:-}" ] || exit 1
	elif ! cmp -s requirements/peers.txt $(VENV_PEERS)/requirements.txt; then
	  printf '\n== peers (%s)\n' "$(PEERS_PYTHON)"
	  rm -rf $(VENV_PEERS)
	  $(PEERS_PYTHON) -m venv $(VENV_PEERS)
	  $(VENV_PEERS)/bin/python $(pip) -r requirements/peers.txt
	  cp requirements/peers.txt $(VENV_PEERS)/requirements.txt
	fi

# moq-dev's relay, the third of the matrix. Its published lock file names versions that can't be had any more, so it is built without.
moq-relay: $(TARGET)/peers/bin/moq-relay ## the third relay of the interop matrix (a quarter of an hour on two cores)

$(TARGET)/peers/bin/moq-relay:
	$(say) "moq-relay"
	cargo install --quiet moq-relay --version 0.17.10 --root $(TARGET)/peers

interop: $(VENV_TEST)/wheel venv-peers $(TARGET)/peers/bin/moq-relay ## the whole interop matrix; writes the table of docs/interop.md (ten minutes)
	$(say) "interop: every peer, relay, draft, wire and delivery"
	CLUTCHCALL_PEERS_PYTHON="$$( [ -x $(VENV_PEERS)/bin/python ] && echo $(CURDIR)/$(VENV_PEERS)/bin/python )" \
	CLUTCHCALL_MOQ_RELAY=$(abspath $(TARGET))/peers/bin/moq-relay CLUTCHCALL_INTEROP_TABLE=$(CURDIR)/docs/interop.md \
	$(VENV_TEST)/bin/python -m pytest tests/interop -m "matrix or not matrix" $(PYTEST)

$(VENV)/bin/clutchcall: $(shell git ls-files src python Cargo.lock)
	$(say) "building and installing clutchcall (a few minutes when cold)"
	[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(pip) -r requirements/tools.txt
	rm -rf $(WHEELS)
	$(wheel_env) $(VENV)/bin/maturin build --locked --quiet --release --compression-level 9 --out $(WHEELS)
	$(VENV)/bin/python $(pip) --no-deps --force-reinstall $(WHEELS)/*.whl
	touch $@

clean: ## removes what these targets made
	rm -rf $(VENV) $(VENV_TEST) $(VENV_BENCH) $(VENV_PEERS) $(VENV_BENCH_PEERS) $(WHEELS) $(WHEELS)-counted
