// Package torture hurts real repld processes below one folder, with the tools that this machine offers, and holds that no acknowledged write is lost. `tools/torture` and
// `replctl torture` are its two faces; the runbook is docs/operating/torture.md.
//
// # A run
//
//	Run ─▶ scenario ─▶ round ─▶ round … until its share of the budget is used ─▶ judge ─▶ row of the report
//	                   │
//	                   fleet: 3 (or 1) processes, configuration, sockets
//	                   load: clients that write, read and remember (test/history)
//	                   one fault after another
//
// Each scenario is one file, scenario_NAME.go, and says which rows of the fault catalogue it asserts. What this machine cannot do is reported as skipped, with
// the reason, and its rows are not called covered.
//
// # What every scenario asserts at its end
//
//	R1   every acked write is there; what a node acked while it was the active is in the log that all of them share
//	R2   the logs of all nodes are one history; every acked LSN lies in an epoch of the node that acked it; no LSN was acked twice
//	R7   replies of transactions are what the log, replayed to their LSN, gives
//	R13  nothing that was refused is there; an unknown outcome is either
//	     operations on single keys are linearizable
//	     all nodes follow again by themselves and `verify` finds their digests equal
//	     all nodes stop cleanly
//
// # What it touches
//
// Processes that it started, by their pid; files below its folder and sockets in a temporary one; with root, loop devices, mounts below its folder and network namespaces with names
// of its own. It leaves none of it behind unless it is killed.
package torture
