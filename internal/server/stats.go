package server

import (
	"sync/atomic"
	"syscall"
	"time"
)

// Stats are counters since start or CONFIG RESETSTAT, and one gauge.
type Stats struct {
	Clients                        int    // connected now
	Connections, Rejected          uint64 // accepted; refused because there were too many
	Commands, Errors               uint64 // executed; answered with an error
	NetInput, NetOutput            uint64 // bytes
	KeyspaceHits, KeyspaceMisses   uint64
	ProtocolErrors, Panics         uint64
	UnknownOutcomes                uint64 // batches (R13)
	IdleTimeouts, PartialTimeouts  uint64
	OutputOverflows, WriteTimeouts uint64
}

type counters struct {
	connections, rejected, commands, errors, netInput, netOutput, hits, misses atomic.Uint64
	protocolErrors, panics, unknown, idle, partial, overflows, writeTimeouts   atomic.Uint64
}

// reset sets to zero what CONFIG RESETSTAT does; what tells of faults stays.
func (c *counters) reset() {
	for _, n := range []*atomic.Uint64{&c.connections, &c.rejected, &c.commands, &c.errors, &c.netInput, &c.netOutput, &c.hits, &c.misses} {
		n.Store(0)
	}
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	clients := len(s.mu.sessions)
	s.mu.Unlock()
	c := &s.stats
	return Stats{
		Clients: clients, Connections: c.connections.Load(), Rejected: c.rejected.Load(), Commands: c.commands.Load(),
		Errors: c.errors.Load(), NetInput: c.netInput.Load(), NetOutput: c.netOutput.Load(), KeyspaceHits: c.hits.Load(),
		KeyspaceMisses: c.misses.Load(), ProtocolErrors: c.protocolErrors.Load(), Panics: c.panics.Load(),
		UnknownOutcomes: c.unknown.Load(), IdleTimeouts: c.idle.Load(), PartialTimeouts: c.partial.Load(),
		OutputOverflows: c.overflows.Load(), WriteTimeouts: c.writeTimeouts.Load(),
	}
}

// rejected counts a command that was not executed.
func (s *Server) rejected(c *command) {
	if c != nil {
		c.stats.rejected.Add(1)
	}
}

// cpuTimes are what the process used; zero if the system does not tell.
func cpuTimes() (user, system time.Duration) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0
	}
	return time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
}
