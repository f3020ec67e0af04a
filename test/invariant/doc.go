// Package invariant holds what must be true of a whole cluster at all times, whoever drives it: the deterministic simulation, tests
// with real nodes, the torture tool. A driver tells a Checker what it sees happen; the Checker keeps the first violation.
//
// # What it holds
//
//	R1   acked ⊆ committed, and every node that becomes active holds all that is committed
//	R2   one committer an epoch; no commit of a lower epoch after one of a higher; one record for each (epoch, LSN)
//	R3   no epoch that was answered under is forgotten by a restart
//	R5   a new epoch's log continues the committed history
//	R7   applied ⊆ committed, in LSN order without gaps
//	R9   what is removed from a log is committed elsewhere or saved aside; what is committed is never cut
//	R11  a wiped node is not counted before it holds again what was committed when it was wiped
//
// # Consent
//
// When a person consents to data loss, epoch e begins from a log that may lack committed records. Then the committed history is
// set back to that log, acks above it are forgiven, and what nodes of lower epochs still commit afterwards, not knowing of e, counts as given up
// as well. Everything else stays as strict as before.
//
// # Assumptions
//
// The driver reports each fact when it happens, in one order, before anything can follow from it. A Checker is not safe for concurrent use.
package invariant
