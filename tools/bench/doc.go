// Command bench measures repld beside others in one run, on one disk: durable SET and GET at several numbers of clients, pipelines and sizes of values. `make bench` runs it, piece by piece;
// docs/performance.md is written from it.
//
// The others are redis-server (alone, and with one replica and WAIT 1), etcd (three members), PostgreSQL (one synchronous standby), NATS JetStream (three servers), and the bound: a reference server in
// this program (bound.go) that does nothing but the commit path, so that a ratio to it says how much of what the machine allows is reached. What is not installed is left out, and that is said.
//
// The systems take turns in every round, each started fresh, and the medians of all rounds are compared, because on a shared machine only ratios of neighbouring runs mean anything. Everything
// lives below one folder that is removed at the end; only its own children are signalled.
//
//	bench                    rows of durable SET and GET, systems side by side
//	bench -parts             the log alone, replay, what a record costs in the log and on the wire, a standby's catch-up, seeding
//	bench -rate 5000,20000   open loop: requests arrive at a set rate; latency counts from the moment they were due
//	bench -overload          twice the capacity is offered for a while: memory, latency, refusals, recovery, nothing lost
//	bench -sweep clients     how cost grows with clients, value, keys or standbys
//	bench -verify            what comparing all copies costs the clients
//	bench -report FILE…      tables in Markdown from what -json wrote
package main
