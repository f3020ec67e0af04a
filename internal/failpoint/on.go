//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Enabled says whether this binary has failpoints.
const Enabled = true

// EnvName is the variable that arms places.
const EnvName = "REPLD_FAILPOINTS"

// armed are the places of the environment. The sync.OnceValue parses them at the first Hit, when no other state of the process exists yet.
var armed = sync.OnceValue(func() map[string]*counted {
	points, err := parse(os.Getenv(EnvName))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", EnvName, err)
		os.Exit(2)
	}
	all := map[string]*counted{}
	for name, p := range points {
		all[name] = &counted{point: p}
	}
	return all
})

// counted is a place and how often it was hit.
type counted struct {
	*point
	hits atomic.Uint64
}

// Hit does what the place is armed for, if it is.
func Hit(name string) {
	p := armed()[name]
	if p == nil || p.hits.Add(1) != p.at {
		return
	}
	fmt.Fprintf(os.Stderr, "failpoint %s: %s at hit %d\n", name, p.action, p.at)
	switch p.action {
	case "kill":
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // nothing more may happen in this goroutine while the signal is on its way
	case "stop":
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	case "sleep":
		time.Sleep(p.wait)
	case "panic":
		panic("failpoint " + name)
	}
}
