# `make` alone lists the targets. CI (.ci/run) runs the same ones.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS  := -X main.version=$(VERSION)
FUZZTIME ?= 30s
RACE     ?= ./...
SEEDS    ?= 2000
FROM     ?= 1
BENCH    ?=
MUTANTS  ?=
export GOFLAGS := -trimpath -buildvcs=false

.PHONY: help build demo torture test race sim mutants lint fuzz bench bench-failover faults-report clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

build: ## bin/repld and bin/replctl
	go build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/repld ./cmd/replctl

demo: build ## three real nodes, a killed and a frozen active, nothing lost: under a minute
	@mkdir -p bin && go build -o bin/demo ./tools/demo
	@bin/demo -bin bin

# What CI holds at least in about two minutes; NIGHTLY=1 holds five times as much.
TORTURE_BUDGET := $(if $(NIGHTLY),12m,2m)
TORTURE_LEAST  := $(if $(NIGHTLY),-min-kills 300 -min-cuts 150,-min-kills 60 -min-cuts 30)

torture: build ## kill, freeze, cut the power of, cut off and starve real nodes: nothing acknowledged is lost (TORTURE='-scenarios kill')
	@go build -tags failpoints -ldflags '$(LDFLAGS)' -o bin/repld-failpoints ./cmd/repld && go build -o bin/ ./tools/torture ./tools/s3store
	@bin/torture -bin bin -failpoints bin/repld-failpoints $(or $(TORTURE),-budget $(TORTURE_BUDGET) $(TORTURE_LEAST))

.PHONY: demo-timetravel
demo-timetravel: build ## a bad DEL of 10,000 keys of 1 M in mid-traffic, undone: under 90 s
	@mkdir -p bin && go build -o bin/demo ./tools/demo
	@bin/demo -bin bin -timetravel

test: ## all tests (the comparison with redis-server is skipped where there is none, unless CI=true)
	go test -timeout 10m ./internal/node # whole clusters on real clocks: not beside the others
	go test -timeout 10m $$(go list ./... | grep -v '/internal/node$$')

race: ## all tests with the race detector, the long ones shortened (RACE='./wal ./replicate' for some)
	go test -race -short -timeout 15m $(RACE)

sim: ## SEEDS (2000) lives of whole clusters in simulated time, from seed FROM (1) on, in two processes
	@mkdir -p bin && go test -c -o bin/sim.test ./test/sim
	@cd test/sim && export GODEBUG=adaptivestackstart=1; half=$$(( ($(SEEDS) + 1) / 2 )); \
	  REPLD_SEEDS=$$half REPLD_FROM=$(FROM) $(CURDIR)/bin/sim.test -test.run 'TestSeeds$$' -test.v -test.timeout 3h & first=$$!; \
	  REPLD_SEEDS=$$half REPLD_FROM=$$(($(FROM) + half)) $(CURDIR)/bin/sim.test -test.run 'TestSeeds$$' -test.v -test.timeout 3h; second=$$?; \
	  wait $$first && exit $$second

mutants: ## plant the deliberate mistakes of test/mutants and say who caught each (MUTANTS='-run commit' for some); all of them bring docs/faults.md up to date
	go run ./tools/mutants $(or $(MUTANTS),-o docs/faults.md)

lint: ## gofmt, go vet, staticcheck, go mod verify
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "not formatted by gofmt:"; echo "$$files"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go mod verify

fuzz: ## every fuzz target for FUZZTIME (30s)
	@set -e; mkdir -p bin; for dir in $$(git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n 1 dirname | sort -u); do \
	  go test -c -fuzz=Fuzz -o bin/fuzz.test ./$$dir; \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/func //'); do \
	    echo "== $$dir $$f"; (cd $$dir && $(CURDIR)/bin/fuzz.test -test.run '^$$' -test.fuzz "^$$f\$$" -test.fuzztime $(FUZZTIME) -test.fuzzcachedir $(CURDIR)/bin/fuzzcache); \
	  done; \
	done

# The whole benchmark is made of pieces that each take less than ten minutes and leave bin/bench-PIECE.json; `make bench-report` makes tables of all. BENCH is added to each.
BENCHPIECES := writes pipelines reads memory peers open overload parts wals catchup seeding sweep-clients sweep-value sweep-keys sweep-cache sweep-standbys

bench: $(addprefix bench-,$(BENCHPIECES)) bench-report ## everything that docs/performance.md tells, beside redis-server and others on the same disk: an hour; each piece alone: make bench-writes, …

BENCHRUN = @bin/bench -bin bin -dir .bench -piece $(@:bench-%=%) -json bin/$@.json

.PHONY: bench-tool bench-servers bench-report $(addprefix bench-,$(BENCHPIECES))
bench-tool: build
	@go build -o bin/bench ./tools/bench

# The versions are pinned in tools/bench/peers/go.mod, so that their dependencies are not ours.
bench-servers: ## bin/etcd and bin/nats-server, to be measured beside us
	@cd tools/bench/peers && go build -o $(CURDIR)/bin/etcd go.etcd.io/etcd/server/v3 && go build -o $(CURDIR)/bin/nats-server github.com/nats-io/nats-server/v2

bench-writes: bench-tool
	$(BENCHRUN) -rows set:1,set:16,set:64,set:256 -rounds 5 -seconds 2 $(BENCH)

bench-pipelines: bench-tool
	$(BENCHRUN) -rows set:64x16,set:64:1024 -rounds 5 -seconds 2 $(BENCH)

bench-reads: bench-tool
	$(BENCHRUN) -systems repld,redis,bound -rows get:1,get:64,get:64x16 -rounds 5 -seconds 3 $(BENCH)

bench-memory: bench-tool
	$(BENCHRUN) -systems repldw -rows set:256,set:64x16 -rounds 1 -seconds 10 $(BENCH)

bench-peers: bench-tool bench-servers
	$(BENCHRUN) -systems repld1,etcd,postgres,nats -rows set:64 -rounds 5 -seconds 5 -keys 100000 $(BENCH)

bench-open: bench-tool
	$(BENCHRUN) -systems repld1,redis1,bound -rate 1000,2000,5000,10000,20000,30000,40000,60000 -clients 64 -rounds 3 -seconds 3 -plot bin/bench-open.svg $(BENCH)

bench-overload: bench-tool
	$(BENCHRUN) -overload -systems repld1 -clients 64 -seconds 10 $(BENCH)

bench-parts: bench-tool
	$(BENCHRUN) -parts -seconds 3 -rounds 3 $(BENCH)

bench-wals:
	@mkdir -p bin && cd tools/bench/peers && go build -o $(CURDIR)/bin/ ./wals
	@bin/wals -dir .bench -json bin/$@.json -seconds 3 -rounds 5 $(BENCH)

bench-catchup: bench-tool
	$(BENCHRUN) -catchup -rounds 3 -seconds 4 -keys 2000000 $(BENCH)

# Larger values, so that the fixed costs of a seeding do not hide its bandwidth.
bench-seeding: bench-tool
	$(BENCHRUN) -catchup -rounds 3 -seconds 4 -keys 400000 -value 1024 $(BENCH)

bench-sweep-clients: bench-tool
	$(BENCHRUN) -sweep clients -rounds 3 -seconds 1.5 -keys 100000 $(BENCH)

bench-sweep-value: bench-tool
	$(BENCHRUN) -sweep value -rounds 3 -seconds 2 -keys 10000 $(BENCH)

bench-sweep-keys: bench-tool
	$(BENCHRUN) -sweep keys -systems repld,redis -rounds 1 -seconds 5 -keys 5000000 $(BENCH)

# More than the cache of 256 MiB holds.
bench-sweep-cache: bench-tool
	$(BENCHRUN) -systems repld -rows set:64,get:64 -rounds 1 -seconds 5 -keys 20000000 $(BENCH)

bench-sweep-standbys: bench-tool
	$(BENCHRUN) -sweep standbys -rounds 3 -seconds 3 -keys 100000 $(BENCH)

bench-report:
	@bin/bench -report $(wildcard $(BENCHPIECES:%=bin/bench-%.json)) >bin/bench.md && echo "the tables are in bin/bench.md"

.PHONY: bench-copies torture-restore
bench-copies: build ## what copies cost: an incremental backup, the replay of a restore, memory (COPIES='-mib 2048')
	@go build -o bin/benchcopies ./tools/benchcopies
	@bin/benchcopies -bin bin $(COPIES)

# Each round takes some 15 s, most of it waiting.
torture-restore: build ## 30 rounds: all nodes wiped and restored to an LSN, a time, the end, with kill -9 of backups, the object store and restores
	@go build -o bin/ ./tools/torture ./tools/s3store
	@bin/torture -bin bin -scenarios restore $(or $(TORTURE),-budget 10m -min-kills 300)

.PHONY: bench-quick
bench-quick: build ## the ratios to redis-server at 64 clients, in less than a minute
	@go build -o bin/bench ./tools/bench
	@bin/bench -bin bin -systems repld,redis,repld1,redis1 -rows set:64,get:64 -rounds 3 -seconds 1.2 -keys 100000 $(BENCH)

faults-report: ## run every test that asserts a row of the fault catalogue; writes docs/faults.md
	go run ./tools/faultsreport

bench-failover: build ## how long writes are away in a failover, beside Redis with Sentinel and etcd (ROUNDS=50; pieces: BENCH='-systems data -modes kill9 -out f.json')
	@go build -o bin/benchfailover ./tools/benchfailover
	@bin/benchfailover -bin bin -rounds $(or $(ROUNDS),50) $(BENCH)

clean: ## remove what was built and left over
	rm -rf bin .demo .bench .torture
