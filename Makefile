# The same commands for people, the pre-commit hooks and CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOTOOL  := go tool -modfile=tools/go.mod
FUZZTIME ?= 10s
# Without it gRPC links a template engine that looks methods up by name, which keeps the linker from dropping any: 14 MB.
NOTRACE := -tags grpcnotrace
IMAGE   ?= mcp-server-demo
# What a commit may bring: tracked files and new ones that are not ignored.
FILES   := git ls-files --cached --others --exclude-standard

##@ Everyday

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## start the demo server on http://127.0.0.1:8000/mcp
	go run ./cmd/mcp-server-demo

.PHONY: client
client: ## call the demo server
	go run ./cmd/mcp-client-demo

.PHONY: build
build: ## build every command into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/ ./cmd/...

.PHONY: test
test: ## all tests that need nothing installed
	go test ./...

.PHONY: fmt
fmt: ## format the Go files
	$(GOTOOL) gofumpt -w .

.PHONY: check
check: fmt-check lint test-short whitespace large-files ## what the commit hook does, in the same order

.PHONY: hooks
hooks: ## install the commit hook: pre-commit's if that is installed, else one that runs make check
	@if command -v pre-commit >/dev/null; then pre-commit install; else \
		hook=$$(git rev-parse --git-path hooks)/pre-commit; \
		printf '#!/bin/sh\nexec make check\n' >"$$hook"; chmod +x "$$hook"; echo "wrote $$hook"; fi

##@ Checks

.PHONY: fmt-check
fmt-check: ## fail if a Go file is not formatted
	@unformatted=$$($(GOTOOL) gofumpt -l .); \
	if [ -n "$$unformatted" ]; then printf 'not formatted (make fmt):\n%s\n' "$$unformatted" >&2; exit 1; fi

.PHONY: lint
lint: fmt-check ## formatting, vet and golangci-lint
	go vet ./...
	$(GOTOOL) golangci-lint run ./...

.PHONY: test-short
test-short: ## the fast tests
	go test -short ./...

.PHONY: race
race: ## all tests under the race detector; with CI=true those that need Redis are required
	go test -race -timeout 8m ./...

.PHONY: load-test
load-test: ## the endpoint's tests while something else keeps every core busy
	@trap 'kill $$(jobs -p)' EXIT; \
	for ((i = $$(getconf _NPROCESSORS_ONLN); i > 0; i--)); do (while :; do :; done) & done; \
	go test -count=1 -timeout 5m . ./internal/{changes,engine,run,servers,session,stateful,stateless,task,view}

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (10s)
	@targets=$$(git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go') || { echo 'no fuzz target found' >&2; exit 1; }; \
	while IFS=: read -r file target; do \
		echo "$${target#func } in $$(dirname "$$file")"; \
		go test -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")" </dev/null; \
	done <<<"$$targets"

.PHONY: conformance
conformance: ## the official conformance suite (needs npm)
	go run ./conformance/run

.PHONY: schemas
schemas: ## what we take for the protocol's schema against the published one (needs pip)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	python3 -m pip --disable-pip-version-check download -q --no-deps --no-binary mcp --require-hashes -d "$$dir" -r internal/schematest/requirements.txt; \
	tar -xzf "$$dir"/mcp-*.tar.gz -C "$$dir" --strip-components=1; \
	SLUICE_TEST_SCHEMAS="$$dir/schema" go test -count=1 -run TestPublished ./internal/schematest

.PHONY: clients
clients: ## real clients that others wrote (needs npm)
	bash clients/run

.PHONY: new-project
new-project: ## make a project with "sluice new", and test, lint, run and break it
	GOLANGCI_LINT=$$($(GOTOOL) -n golangci-lint) go test -count=1 -v -run TestNewProject ./cmd/sluice

.PHONY: deploy-test
deploy-test: ## the manifests in deploy/ and nginx; with CI=true nginx and Redis are required
	cd deploy && go vet ./... && go test -parallel 16 -timeout 5m ./...

.PHONY: telemetry-test
telemetry-test: ## real processes that export to a real receiver
	cd telemetry/export && go vet $(NOTRACE) ./... && go test $(NOTRACE) -timeout 5m ./...

.PHONY: observability-picture
observability-picture: ## draw docs/observability.svg from a real run of half a minute
	cd telemetry/export && OBSERVABILITY_PICTURE=$(CURDIR)/docs/observability.svg go test $(NOTRACE) -count=1 -run TestPicture .

.PHONY: whitespace
whitespace: ## trailing blanks, blank lines at the end of a file, conflict markers
	@git diff --check "$$(git hash-object -t tree /dev/null)" --

.PHONY: large-files
large-files: ## files over 500 KB, which belong elsewhere
	@large=$$($(FILES) -z | xargs -0 wc -c 2>/dev/null | awk '$$2 != "total" && $$1 > 512000'); \
	if [ -n "$$large" ]; then printf 'over 500 KB:\n%s\n' "$$large" >&2; exit 1; fi

.PHONY: ci
ci: ## everything that CI runs (Debian, root)
	bash .ci/run

##@ More

.PHONY: bench
bench: ## compare with other servers
	$(MAKE) -C bench bench

.PHONY: bench-quick
bench-quick: ## the same in two minutes
	$(MAKE) -C bench bench-quick

.PHONY: image
image: ## build the container image
	docker build -t $(IMAGE) .

# sam build calls this one, by the name that the function has in deploy/lambda/template.yaml.
.PHONY: build-McpServer
build-McpServer:
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go build -trimpath -ldflags "-s -w" -o "$(ARTIFACTS_DIR)/bootstrap" ./cmd/mcp-server-demo

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin
