// Package coresim runs whole clusters out of the pure cores: the role machine, the promotion rule and the tenures of failover, the commit rule and the
// progress machine of replicate. What production does around them in internal/node (disk, network, clients, a person who promotes) is a
// model here, driven by one seeded scheduler: no goroutine, no clock, no I/O, so that a seed replays exactly, in any process.
//
// Faults are drawn for each seed: messages delayed, reordered, lost and doubled, partitions in one or both directions, crashes at any step with the loss of
// what was not synced, pauses, wiped and restored disks. After them comes a healed phase, in which the cluster must become healthy
// within a bound, given that a person promotes.
//
// Package invariant checks what happens. A run that violates it prints the seed, the command that replays it, and the end of its trace. A model with a
// planted mistake (mutant.go) shows that the checks bite.
package coresim
