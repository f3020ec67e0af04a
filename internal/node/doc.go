// Package node puts one node together: it opens the parts of the house in their order, ties them to each other, starts their goroutines
// in one visible list, and stops them in reverse. It is the only package that knows them all.
//
// The way of a write on the active:
//
//	session ── Submit ──▶ sequencer (one lock: evaluate, append) ──▶ wal.Writer (one frame, one pwrite, one fsync)
//	                          │                                        │ published before the fsync
//	                          │                                        ├──▶ replicate.Sender ──▶ standbys: append, fsync, ack
//	                          │                                        ▼                              │
//	                          │                               commit rule ◀───────────────────────────┘
//	                          │                                        │ committed
//	                          ▼                                        ▼
//	                  answers, in LSN order  ◀──────────────────── applier ──▶ state (Pebble)
//
// On a standby the receiver appends and fsyncs, the same applier applies up to what the active says is committed.
//
// Guarantees: no client is answered before its write is committed and applied (R1, R7); when the fence persists a higher epoch, nothing of the
// older one is committed or answered any more before anybody is told of the promise (R3); writes in flight are then answered as unknown (R13);
// the node stops with the reason when its log or state can no longer be trusted (R10).
package node
