# What there is to do in this repository. `make` says it.

SHELL := /bin/bash
CARGO ?= cargo
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help setup build install demo demo-pulls demo-cluster demo-kubernetes demo-check test test-referees test-gpu test-kube lint doc deny unit-check bench schemas ci clean

help: ## Say what there is to do
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## Install what tests need and is missing (apt, Debian 12); starts no service
	@tests/support/install-packages test

build: ## Build the program into target/release
	@tests/support/install-packages build
	$(CARGO) build --release --locked

install: build ## Install the program and its unit under PREFIX and /etc/systemd
	install -D -m 755 "$${CARGO_TARGET_DIR:-target}/release/trueup" $(DESTDIR)$(PREFIX)/bin/trueup
	install -D -m 644 systemd/trueup.service $(DESTDIR)/etc/systemd/system/trueup.service
	install -D -m 644 systemd/trueup.sysusers $(DESTDIR)/usr/lib/sysusers.d/trueup.conf

# One after the other: named together, Cargo would choose their features together, and build the program
# a second time beside that of `build`.
demo: demo-check build ## Show the main job end to end on this machine, beside a simulated GPU
	@tests/support/install-packages demo
	$(CARGO) build --release --locked -p trueup-fake-nvml
	@tests/support/demo

# The fake in the profile of the tests, which build it too: an example has the tests' dependencies.
demo-pulls: build ## Show what a pull request says, against a fake GitHub
	@tests/support/install-packages demo
	$(CARGO) build --locked --example fake-github
	@tests/support/demo-pulls

demo-cluster: ## Show a Slurm cluster that is built of virtual machines (ten minutes and more, emulated)
	@tests/support/demo-cluster --check
	@$(MAKE) --no-print-directory build
	@tests/support/install-packages demo
	@tests/support/demo-cluster

demo-kubernetes: ## Show a Kubernetes cluster that is built of virtual machines (half an hour, emulated)
	@tests/support/demo-kubernetes --check
	@$(MAKE) --no-print-directory build
	@tests/support/install-packages demo
	@tests/support/demo-kubernetes

# Before the build, which takes minutes.
demo-check:
	@tests/support/demo --check

test: setup ## Run the whole suite
	@tests/support/run-tests

test-referees: setup ## Hold the forge's client against programs of others (npm; kept in ~/.cache)
	@tests/support/referees
	$(CARGO) test --locked --test it -- --nocapture forge::referee::

test-gpu: ## Compare a real NVIDIA GPU with what is modelled; it only reads
	TRUEUP_TEST_GPU=1 $(CARGO) test --locked -p trueup-nvml --test it -- --nocapture real::

test-kube: ## Hold crates/kubernetes against the cluster of KUBECONFIG, or an API server built once
	@tests/support/kube

lint: ## Formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --lib --bins --no-default-features -- -D warnings

doc: ## The documentation of the code, without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

deny: ## Licences, duplicates, sources and advisories of what is depended on
	@tests/support/cargo-deny

unit-check: ## The exposure of the systemd unit
	@tests/support/unit-check

bench: setup ## Run the benchmarks
	$(CARGO) bench --locked
	$(CARGO) bench --locked -p trueup-mig --bench gpu
	$(CARGO) bench --locked -p trueup-nvml --bench observe
	$(CARGO) bench --locked -p trueup-backup --bench backup
	$(CARGO) bench --locked -p trueup-slurm --bench look
	$(CARGO) bench --locked -p trueup-kubernetes --bench rest

schemas: ## Write schemas/ anew from the types
	$(CARGO) run --locked --quiet -- schema --write schemas

ci: ## What a change has to pass
	@.ci/run

clean: ## Remove what was built
	$(CARGO) clean
