# The short names of what people do here; scripts/ holds how.

.DEFAULT_GOAL := help
.PHONY: help setup run test lint fmt gen bench soak sim fleet up down

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what a bare Debian or Ubuntu lacks
	@scripts/setup

run: ## build and start the demo on 127.0.0.1:8080; Ctrl-C drains it
	@scripts/setup --run
	@scripts/run

test: ## set up, lint, run every test
	@scripts/setup
	@scripts/lint
	@scripts/test

lint: ## formats, lints, the contract, the scripts
	@scripts/setup
	@scripts/lint

fmt: ## format Rust, Protobuf and Python
	@scripts/setup
	@scripts/fmt

gen: ## regenerate what is generated and committed
	@scripts/setup --run
	@scripts/gen

bench: ## measure; prints ratios against baselines of the same run
	@scripts/setup --run
	@scripts/bench

soak: ## the fault tests, ten rounds each
	@scripts/setup
	@scripts/soak

sim: ## simulate SEEDS=10000 runs beginning with FROM=0, or one with its trace: REPLAY=seed
	@scripts/setup --run
	@SEEDS=$(SEEDS) FROM=$(FROM) REPLAY=$(REPLAY) scripts/sim

fleet: ## what a thousand replicas ask of their shared counters, by a model; ARGS=--help
	@scripts/setup --run
	@scripts/fleet $(ARGS)

up: ## start the server in a container
	docker compose up --build --detach --wait

down: ## stop it; its data stays in the volume
	docker compose down
