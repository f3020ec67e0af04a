// Package hooks runs an operator's programs when something happens on a node.
//
// A hook gets one JSON object on its standard input, an environment of its own (PATH and three REPLD_… variables, nothing of the node's), and a process
// group of its own. It has until its time limit; then the whole group is killed, so that a hook that hangs, or a child that it left, holds nothing up for
// longer. What it prints is kept, up to a limit, for the node's journal. No shell is involved.
package hooks
