// Command repld is one node of a replicated state engine: it keeps the state of a service behind a Redis-protocol socket, in step with
// its standbys.
package main

import (
	"os"
)

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}
