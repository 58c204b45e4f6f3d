# pgctl: everything a developer or CI calls. `make` alone shows this list.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help setup build demo test soak bench clean-demo

PGCTL := target/debug/pgctl
INVENTORY ?= inventories/sandbox.yml

# What the sandbox and the tests run beside cargo. Each is only installed when missing.
# iptables: asked, where it exists, whether another's policy stands in the sandbox's way.
PACKAGES := build-essential debian-archive-keyring iproute2 iptables mmdebstrap nftables \
            openssh-client openssh-server postgresql-client sudo systemd-container

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 20

setup: ## install what is missing (Debian or Ubuntu, as root)
	@missing=(); for p in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' "$$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$$p"); done; \
	if (( $${#missing[@]} )); then \
	    (( EUID == 0 )) || { echo "make setup: run it as root to install: $${missing[*]}" >&2; exit 1; }; \
	    apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}"; \
	fi
	@command -v cargo >/dev/null || { echo "make setup: cargo is missing: https://rustup.rs" >&2; exit 1; }
	@cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest

build: ## the binary, for development
	cargo build -j2

demo: setup build ## three local nodes, and a cluster on them (as root)
	$(PGCTL) sandbox up $(INVENTORY)
	$(PGCTL) deploy -y $(INVENTORY)
	$(PGCTL) status $(INVENTORY)

test: setup ## all that CI checks, about half an hour (as root: it boots nodes)
	cargo fmt --check
	cargo clippy -j2 --all-targets -- -D warnings
	cargo nextest run --no-fail-fast

soak: setup ## the same assertions, many more rounds: PGCTL_KILLS first deploys killed (200)
	PGCTL_KILLS=$${PGCTL_KILLS:-200} cargo nextest run --profile soak --test e2e --no-capture -E 'test(killed)'

bench: setup build ## a first deploy beside a hand-written shell script
	tests/bench/first-deploy.sh

clean-demo: build ## remove the demo's nodes, bridge and rules, and the images that nothing else stands on
	$(PGCTL) sandbox down $(INVENTORY) --images
