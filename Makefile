# Every target does its own set-up, on a machine with Rust and Debian's or Ubuntu's base. `make` alone lists them.
#
# One profile and one set of packages for everything: RocksDB takes 14 minutes to build, and another profile, other flags or
# another choice of packages can mean another RocksDB. So cargo is always asked for `--release --workspace`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Outside the tree, so that a fresh clone starts warm. Without HOME, the shell looks up whose it is.
HOME := $(or $(HOME),$(shell unset HOME; echo ~))
CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/wavekeep/target)
# Where the tests find the real binaries.
WAVEKEEP_BIN := $(CURDIR)/bin
export HOME CARGO_TARGET_DIR WAVEKEEP_BIN

BUILT := $(CARGO_TARGET_DIR)/release
BINARIES := wavekeep-agent wavekeep-server wavekeep
SEEDS ?= 2000
MINUTES ?= 10
SECONDS ?= 60
SEED ?=
TIMESCALE ?=
ARGS ?=
BENCH ?=
SCALE ?= 0.25

.PHONY: help
help: ## lists the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## installs what is missing (Debian and Ubuntu, as root or through sudo; otherwise prints the exact line)
	@scripts/setup

# Copied under another name first: a binary that is running cannot be written, but it can be replaced.
.PHONY: build
build: setup ## release binaries in ./bin
	cargo build --release --workspace --locked --bins --lib
	@mkdir -p bin
	@for name in $(BINARIES); do \
	    if ! cmp -s "$(BUILT)/$$name" "bin/$$name"; then cp "$(BUILT)/$$name" "bin/.$$name.new" && mv -f "bin/.$$name.new" "bin/$$name"; fi; \
	done

.PHONY: demo
demo: build ## the main job: a simulated JS220 into a private Postgres through kill -9 of both, then every sample checked
	"$(BUILT)/demo"

.PHONY: test
test: build ## all fast tests (2,000 seeds of the simulation among them)
	@scripts/cargo-test --workspace

.PHONY: test-deploy
test-deploy: build ## Dockerfile, compose.yaml and k8s/: linted, validated, and their exact commands and settings run as processes
	@scripts/test-deploy

.PHONY: test-timescale
test-timescale: build ## the store's tests and the whole way, against TimescaleDB (TIMESCALE_URL, or as root on Debian one of its own)
	@scripts/test-timescale

.PHONY: test-official
test-official: build ## JLS files against the official reader and writer, and the vendor's driver against the emulated JS220 (Pythons of yours: see the script)
	@scripts/test-official

.PHONY: test-py
test-py: build ## the Python client: ruff, mypy, pytest against the real server, the notebook (Python 3.11; ARGS='-k gaps': some of pytest's)
	@scripts/test-py $(ARGS)

.PHONY: sql-extension
sql-extension: setup ## builds the Postgres extension that makes rows of samples, for the newest Postgres here or that of PG_CONFIG, and says how to install it
	@scripts/sql-extension --how-to-install

.PHONY: test-sql
test-sql: build ## samples in SQL: the extension by itself, then the pages' queries and real recordings through a private Postgres that has it
	@scripts/test-sql

.PHONY: test-usb220
test-usb220: build ## the real agent on a real USB bus: Debian's kernel under QEMU, emulated JS220s over USB/IP, SECONDS=60 of one at SCALE=0.25 of its clock (Debian; as root, QEMU is installed)
	@scripts/test-usb220 $(SECONDS) $(SCALE)

.PHONY: simulate
simulate: setup ## the protocol, and the real shells on a simulated network, in a seeded hostile world: SEEDS=2000 of each (WAVEKEEP_SEED=n replays one, WAVEKEEP_SEED_FROM=n begins there)
	@WAVEKEEP_SEEDS=$(SEEDS) scripts/cargo-test --workspace --test simulation --test network -- --nocapture

.PHONY: mutations
mutations: build ## takes out one rule of the protocol after the other: the simulation must notice each
	"$(BUILT)/mutate"

.PHONY: soak
soak: build ## real processes under every fault for MINUTES=10, then each stored sample against the truth and a conservation report (SEED=n: the choices of another run, TIMESCALE=1: on TimescaleDB, as root on Debian, ARGS=--json)
	@$(if $(TIMESCALE),scripts/with-timescale) "$(BUILT)/soak" --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(if $(TIMESCALE),--timescale) $(ARGS)

.PHONY: fuzz
fuzz: setup ## what an instrument or another program may send, under libFuzzer, for SECONDS=60 each
	@scripts/fuzz $(SECONDS)

.PHONY: bench
bench: build ## the benchmarks and their peers, as ratios within one run (BENCH=name: one of them)
	"$(BUILT)/wavekeep-bench" $(BENCH)

.PHONY: lint
lint: setup ## formatting, the rules of the tree, bans, licences and sources of dependencies, clippy
	@scripts/lint

.PHONY: deny
deny: setup ## all that cargo-deny checks, known vulnerabilities too (their list is fetched)
	scripts/cargo-deny check -D warnings

.PHONY: fmt
fmt: ## formats the code
	cargo fmt --all

.PHONY: generate
generate: setup ## writes the committed protobuf code anew from proto/wavekeep/v1/*.proto
	WAVEKEEP_GENERATE=1 cargo test --release --workspace --locked --test generated --test vectors
	PYTHON="$$(scripts/python-environment)" clients/python/generate

.PHONY: doc
doc: setup ## the documentation of all crates, as HTML
	cargo doc --release --workspace --no-deps --locked
	@echo "open $(CARGO_TARGET_DIR)/doc/wavekeep_agent/index.html"

.PHONY: ci
ci: ## what .ci/run calls: setup, build, lint, test, test-timescale, test-official, test-py, test-sql, simulate, demo, soak (a minute), fuzz (half a minute each), test-deploy; each timed, tests counted
	@scripts/ci

.PHONY: clean
clean: ## removes ./bin and what was built of our own crates; RocksDB and other dependencies stay
	rm -rf bin .run
	cargo metadata --no-deps --format-version 1 | grep -oP '"name":"\K[^"]+(?=","version")' | sed 's/^/-p/' | xargs cargo clean --release
