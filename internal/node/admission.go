package node

import (
	"context"
	"time"

	"repld/internal/server"
)

// admit returns with s.mu locked and the gate open, or with an error and s.mu unlocked.
func (s *sequencer) admit(ctx context.Context) error {
	for {
		if w := s.writer.Load(); w != nil {
			if err := w.Admit(ctx); err != nil {
				return notAdmitted(ctx, err)
			}
		}
		s.mu.Lock()
		if s.mu.gate == gateOpen && s.mu.bytes <= s.limit {
			return nil
		}
		if s.mu.gate == gateOpen {
			if err := s.awaitRoomLocked(ctx); err != nil {
				return err
			}
			continue
		}
		refusal, resumed, paused := s.mu.refusal, s.mu.resumed, s.mu.gate == gatePaused
		s.mu.Unlock()
		if !paused {
			return refusal
		}
		select {
		case <-resumed:
		case <-ctx.Done():
			return server.Errorf("TRYAGAIN", "writes are paused for a hand-over, nothing was written: %v", context.Cause(ctx))
		}
	}
}

// ready reports whether admit would not wait now.
func (s *sequencer) ready() bool {
	if w := s.writer.Load(); w != nil && w.Full() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.gate == gateClosed || s.mu.gate == gateOpen && s.mu.bytes <= s.limit
}

// awaitRoomLocked waits until less is in flight: records that are in the log and not committed cannot be trimmed from it nor dropped from the overlay, so they must
// not pile up while no standby acks (R12). It is called with s.mu locked and returns with it unlocked; an error refuses the submission, of which nothing is written.
func (s *sequencer) awaitRoomLocked(ctx context.Context) error {
	if s.mu.room == nil {
		s.mu.room = make(chan struct{})
	}
	room, bytes := s.mu.room, s.mu.bytes
	s.mu.Unlock()
	late := time.NewTimer(s.wait)
	defer late.Stop()
	select {
	case <-room:
		return nil
	case <-late.C:
	case <-ctx.Done():
	}
	return server.Errorf("NOREPLICAS", "Not enough good replicas to write. (%d bytes of earlier writes are not committed yet; nothing was written)", bytes)
}

// roomLocked tells those who wait that there is room again.
func (s *sequencer) roomLocked() {
	if s.mu.room != nil && s.mu.bytes <= s.limit {
		close(s.mu.room)
		s.mu.room = nil
	}
}

func notAdmitted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return server.Errorf("TRYAGAIN", "the log's queue is full, nothing was written: %v", context.Cause(ctx))
	}
	return server.Errorf("MASTERDOWN", "the log takes no records: %v", err)
}
