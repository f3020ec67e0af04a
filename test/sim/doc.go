// Package sim lives whole clusters of real nodes in simulated time: internal/node with its log, Pebble, yamux, role runner and servers, inside a testing/synctest bubble, on
// faultfs disks and a network in memory. A minute of a cluster takes a fraction of a second, and nothing in it waits for a real clock.
//
//	go test ./test/sim                              as many lives as fit in some seconds
//	make sim SEEDS=2000                             so many, in two processes
//	NIGHTLY=1 go test -timeout 2h ./test/sim        2,000 of them
//	REPLD_SEED=17 REPLD_TIMES=20 REPLD_LOG=1 go test ./test/sim -run 'TestSeed$' -v
//
// Each seed draws its own cluster (swarm testing): how many nodes, k, policies, sizes, delays, which kinds of faults and how often. A life has a phase with faults and with
// persons who promote, hand over and demote, at times twice at once; then the faults end and the cluster must become healthy within a bound, take a write, and all copies
// must be the same, by their digests and key by key.
//
// # What watches
//
// A node.Observer in every process tells package invariant of each commit, each opening to clients and each step of a state, before anything follows from it; clients tell
// of each ack; epochs are read from running nodes and compared after restarts. So R1, R2, R3, R5 and R7 are held all the time, R14 by every read; R8 by every start; R10 by every process that ends by itself,
// which it may only for a disk error that was injected; R12 and R15 by the second phase. In the end every
// key is what the committed history makes of it, on all nodes.
//
// # What is not the same as in a real cluster
//
// A process cannot be killed inside this one: it is cut off from network, clients and probe at one moment, its disk is cloned as the power cut left it, and then it ends by
// itself, unseen. Time passes only when all goroutines of all nodes wait, and it is one clock: only those of leases drift, and a process that stands still is only frozen
// outside (its network, its clients, its disk), not inside: coresim has both. Lives are not the same twice: the scheduler and select are random. A seed repeats
// its cluster and its faults; REPLD_TIMES repeats the seed.
//
// # Traps
//
//   - sync.Pools of libraries hand channels from one bubble to the next, which is fatal: two collections before and after each bubble empty them.
//   - A goroutine that waits for a mutex whose holder waits for simulated time stops that time for good. So yamux messages arrive whole (conn.go), only the log's syncs are
//     slow, and a process that ends does not wait for slow ones. A life that stands still for five minutes ends the test with all stacks.
//   - A state whose MANIFEST cannot be written stops with Pebble's locks held, on purpose: there is always room for that (disks.go).
//   - Nothing waits for real files or sockets.
//
// # Who promotes
//
// Two data nodes have a witness in two of three seeds (witness.go): it loses power and is cut off as they are, and R3 is held for it, too.
//
// In some seeds the nodes themselves do (automatic failover, leases on clocks that drift); in the others a person does when nobody has been active for a while. In both,
// persons interfere.
package sim
