// Command replctl is the operator's tool for a repld cluster: it shows status, moves the activity between nodes, and proves that
// copies agree. It talks to one node's admin socket, any node's, or reads a data directory when it is given one.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}
