package node

import "repld/wal"

// Observer is told of facts at the moment when they come true, on the goroutine that makes them true and before anything can follow from them. Whole-cluster tests hold
// the rules by it. Its methods must not block and must not call the node; the log given may be read.
type Observer interface {
	// Committed: as the active of epoch, this node counts everything up to lsn of its log as committed from now on (R1, R2).
	Committed(epoch wal.Epoch, log *wal.Log, lsn wal.LSN)
	// Opened: clients may write from now on (R5).
	Opened(epoch wal.Epoch, log *wal.Log)
	// Applied: the state, which is at from, takes in frames; it skips those that it has (R7).
	Applied(from wal.Position, frames []*wal.Frame)
}

// noObserver is told everything and does nothing.
type noObserver struct{}

func (noObserver) Committed(wal.Epoch, *wal.Log, wal.LSN) {}
func (noObserver) Opened(wal.Epoch, *wal.Log)             {}
func (noObserver) Applied(wal.Position, []*wal.Frame)     {}
