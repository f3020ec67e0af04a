// Package coresim is the deterministic simulation of whole clusters out of the pure cores: the machines that decide in production decide here, and everything
// around them is a model that one seed drives. One goroutine, no clock, no I/O: a seed is a life, to the bit.
//
//	go test ./test/coresim                          as many lives as fit in some seconds, the mutants, the same trace twice
//	NIGHTLY=1 go test -timeout 2h ./test/coresim    100,000 of them, and the mutants without knowing which seeds catch them
//	REPLD_SEED=17 go test ./test/coresim -run 'TestSeed$' -v
//
// A life has a phase with faults and with persons who promote, hand over, demote, at times twice at once and at times with consent to loss; then the faults end and
// the cluster must become healthy within a bound, with a person's help. All the time package invariant watches.
//
// # What is production code
//
//	failover.Machine, Decide   the role and the promotion rule, with the runner's bounds in ticks
//	failover.Fence, Slots      on a model of one file that loses what was not synced, tears writes, and loses power between any two operations
//	failover.Advance           in a model of the token store, shared by all or one a node
//	replicate.CommitRule       what is committed, and how the sync set changes
//	replicate.Progress         where a standby's stream begins
//	failover.Detector          suspicion, elections, stepping down, hand-over to a preferred node, pauses (in half of the lives, as the next two)
//	failover.Lease, Promise    until when an active answers reads, and what voters owe it (R14)
//
// # What is modelled
//
// In steps that other steps may come between, after the code they are named for: the runner and its jobs (runner.go), the host of a promotion (host.go), the log
// writer, the applier and the sequencer (writer.go), both ends of a log stream (follow.go, rejoin.go, serve.go), the changes of the sync set (syncset.go), gossip and
// what a higher epoch ends (proc.go), recovery of log, state and epoch (node.go), heartbeats and votes (voter.go), the lease of the active and the wait for older ones (lease.go). A log is a list of frames with a durable part; a state is a position; a snapshot
// is a position that arrives later.
//
// The network delays, reorders, loses and doubles calls; streams keep their order and break, each direction by itself, and each end finds out by itself; links are cut one
// way or both. Processes crash at any step, stand still, fail a sync; disks are lost, rot at the end of the log, or are set back to an older copy, one at a time.
//
// # What is not
//
// Bytes on disk and wire, and so damage other than at the end of a log (package wal's own tests); the state's content; witnesses, the agent that carries heartbeats, expiry, digests, retention's choice of
// what to trim, the pause guard, WAIT; clients that retry; the wiring of internal/node itself, whose order of steps is copied here by hand: tests with real nodes
// have to show that it is the same.
//
// # What a person has to know
//
// Some lives are outside of what the rules promise, and are taken for what they are: a promotion that counted a disk which was set back to an older copy (Excused), a
// cluster in which only consent leads on although nothing was lost (Stuck), a standby that comes back only in the next epoch (Nudged). Stats counts them. An emptied node is
// started only when the others are up and agree on an epoch; TestCareless shows why.
package coresim
