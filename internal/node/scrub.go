package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"repld/internal/kv"
	"repld/wal"
)

// scrubber reads the whole log and all tables of the state now and then, at a set rate, so that what a disk has lost is found while a peer still has it (FAULTS D25).
// A hole of the log is filled from a peer at once, while everything goes on. A damaged table is answered as at any other time: an alarm, and where the state can be
// built anew the node ends and does so when it is started again.
type scrubber struct {
	g    *group
	kick chan struct{} // capacity 1: scrub now

	mu     sync.Mutex
	status ScrubStatus

	tail struct {
		sync.Mutex
		well wal.LSN // up to here the log's tail was well
		at   time.Time
	}
}

// ScrubStatus is how far a scrub is, and how the last one ended.
type ScrubStatus struct {
	Running  bool      `json:"running"`
	Bytes    int64     `json:"bytes"`              // read by the present or the last round
	Rounds   uint64    `json:"rounds"`             // that came to their end
	Finished time.Time `json:"finished,omitempty"` // the last of them
	Found    uint64    `json:"found"`              // damaged places, since the start
	Repaired uint64    `json:"repaired"`           // of these
	Last     string    `json:"last"`               // what the last round found, in words
}

const (
	alarmScrub = "scrub"
	scrubRetry = time.Minute // before a place that no peer could repair is tried again
	scrubTail  = 4 << 20     // bytes of log that a candidate reads again
)

func newScrubber(g *group) *scrubber { return &scrubber{g: g, kick: make(chan struct{}, 1)} }

// run scrubs until ctx ends.
func (s *scrubber) run(ctx context.Context) error {
	wait := s.g.o.ScrubEvery
	for {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-s.kick:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		t.Stop()
		wait = s.g.o.ScrubEvery
		if err := s.round(ctx); err != nil && ctx.Err() == nil {
			s.g.logger.Error("scrub found damage", "error", err)
			wait = min(wait, scrubRetry)
		}
	}
}

// now asks for a round at once.
func (s *scrubber) now() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Status returns how far it is.
func (s *scrubber) Status() ScrubStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *scrubber) note(change func(*ScrubStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

// round reads everything once. The error is what is damaged still.
func (s *scrubber) round(ctx context.Context) error {
	s.note(func(st *ScrubStatus) { st.Running, st.Bytes = true, 0 })
	err := errors.Join(s.log(ctx), s.state(ctx))
	s.note(func(st *ScrubStatus) {
		st.Running = false
		if ctx.Err() != nil {
			return
		}
		st.Rounds, st.Finished, st.Last = st.Rounds+1, time.Now(), "no damage"
		if err != nil {
			st.Last = err.Error()
		}
	})
	if err == nil {
		s.g.alarms.clear(alarmScrub)
	} else if ctx.Err() == nil {
		s.g.alarms.raise(alarmScrub, fmt.Sprintf("scrub: %v", err))
	}
	return err
}

// pace counts what is read and keeps the rate.
func (s *scrubber) pace(ctx context.Context, n int) error {
	s.note(func(st *ScrubStatus) { st.Bytes += int64(n) })
	if s.g.o.ScrubRate <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(time.Duration(float64(n) / float64(s.g.o.ScrubRate) * float64(time.Second)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// log scrubs all segments and repairs what it finds.
func (s *scrubber) log(ctx context.Context) error {
	var errs []error
	for _, seg := range s.g.log.Segments() {
		for {
			hole, err := s.g.log.Scrub(ctx, seg.Seq, s.pace)
			if err != nil {
				return errors.Join(append(errs, err)...)
			}
			if hole == nil {
				break
			}
			if err := s.fill(ctx, *hole); err != nil {
				errs = append(errs, fmt.Errorf("log is damaged: %s: %w", hole, err))
				break
			}
		}
	}
	return errors.Join(errs...)
}

// fill repairs a hole of the open log from the peers.
func (s *scrubber) fill(ctx context.Context, hole wal.Hole) error {
	s.note(func(st *ScrubStatus) { st.Found++ })
	s.g.logger.Error("log is damaged", "hole", hole.String(), "found", hole.Found)
	err := errors.New("no peer is connected")
	for _, p := range s.g.peers.mesh.Peers() {
		if !p.Connected {
			continue
		}
		if err = s.fillFrom(ctx, hole, p.Name); err == nil {
			s.note(func(st *ScrubStatus) { st.Repaired++ })
			return nil
		}
	}
	return err
}

func (s *scrubber) fillFrom(ctx context.Context, hole wal.Hole, peer string) error {
	for {
		in := io.NopCloser(strings.NewReader(""))
		if !hole.Empty() {
			var err error
			if in, err = s.g.peers.frames(ctx, peer, hole.From, hole.To.LSN); err != nil {
				return err
			}
		}
		err := errors.Join(s.g.log.Fill(hole, in, s.g.path("diverged")), in.Close())
		if errors.Is(err, wal.ErrRoom) {
			if hole, err = hole.Beyond(wal.Options{FS: s.g.o.FS, Dir: s.g.path("wal")}); err == nil {
				continue
			}
		}
		if err == nil {
			s.g.logRepaired(hole, peer)
		}
		return err
	}
}

// state scrubs the tables.
func (s *scrubber) state(ctx context.Context) error {
	st, err := s.g.state.acquire()
	if err != nil {
		return nil // being replaced
	}
	err = st.Scrub(ctx, s.pace)
	s.g.state.release()
	if errors.Is(err, kv.ErrCorrupt) {
		s.note(func(st *ScrubStatus) { st.Found++ })
		s.g.stateDamaged(err)
	}
	return err
}

// checkTail is a candidate's look at the newest part of its log, as it lies on the disk: what nobody could read again must not become the history of all.
// What was found well a moment ago is not read again: the first look is before the token is taken, the second while nobody writes.
func (g *group) checkTail(ctx context.Context) error {
	tail := &g.scrub.tail
	tail.Lock()
	defer tail.Unlock()
	var since wal.LSN
	if time.Since(tail.at) < prepareKeeps {
		since = tail.well
	}
	well, hole, err := g.log.ScrubTail(ctx, scrubTail, since)
	tail.well, tail.at = well, time.Now()
	if err != nil || hole == nil {
		return err
	}
	g.scrub.now()
	return fmt.Errorf("the log on this node is damaged: %s: it is being repaired, try again or promote another node", hole)
}

// stateDamaged is told of damage that was found by reading. Where the state can be built anew the node ends, to do so at its next start; elsewhere it goes on with what can be read.
func (g *group) stateDamaged(err error) {
	g.alarms.raise(alarmState, fmt.Sprintf("the state is damaged (%v): look after the disk", err))
	if noted := g.suspect(err); noted != nil {
		g.logger.Error("suspicion of the state not noted", "error", noted)
	}
	if len(g.nodes()) > 1 || g.log.Start().LSN == 0 {
		g.fatal(fmt.Errorf("state is damaged and is built anew at the next start: %w", err))
	}
}
