// Command replctl is the operator's tool for a repld cluster: it shows status, moves the activity between nodes, and proves that
// copies agree. It talks to one node's admin socket, any node's, or reads a data directory when it is given one.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// memoryLimit is what the garbage collector keeps the heap to, as far as it can: verify and restore run beside a node, on its host. Their caches and memtables, which are not the collector's, come on top.
const memoryLimit = 72 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}
