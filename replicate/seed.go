package replicate

import (
	"context"
	"fmt"
	"io"
	"time"

	"repld/snapshot"
)

// seed sends a snapshot and starts over with the log that the standby has then. Writes go on meanwhile; what they
// append is streamed afterwards, and Needs holds the log from the snapshot's position on.
func (st *served) seed(reason string) (Action, error) {
	st.log.Info("standby needs a snapshot", "reason", reason)
	if st.o.Snapshots == nil {
		return Action{}, st.refuse(CodeSnapshot, "a snapshot is needed and none can be had here: "+reason)
	}
	snap, err := st.acquire()
	if err != nil {
		_ = st.refuse(CodeSnapshot, "a snapshot is needed and could not be taken: "+err.Error())
		return Action{}, fmt.Errorf("acquire snapshot: %w", err)
	}
	defer snap.Release()
	m := snap.Manifest()
	st.s.seedOf(st.peer.Node, m.ID)
	st.setHold(m, true)
	defer st.setHold(m, false)
	if err := st.sendSnapshot(snap, m); err != nil {
		return Action{}, err
	}
	a, err := st.await(st.o.InstallTimeout, msgResumed)
	if err != nil {
		return Action{}, err
	}
	r, err := decodeJSON[resumed](a.b)
	if err != nil {
		return Action{}, err
	}
	st.log.Info("standby installed a snapshot", "snapshot", m.ID, "position", r.End.String())
	return st.advance(func(p *Progress) (Action, error) { return p.Join(r.Start, r.End) })
}

// acquire takes the snapshot in its own goroutine, because that may last and heartbeats must go on.
func (st *served) acquire() (*snapshot.Snapshot, error) {
	type result struct {
		snap *snapshot.Snapshot
		err  error
	}
	ch := make(chan result, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	giveUp := func(err error) (*snapshot.Snapshot, error) {
		cancel()
		if r := <-ch; r.err == nil {
			r.snap.Release()
		}
		return nil, err
	}
	go func() {
		snap, err := st.o.Snapshots.AcquireID(ctx, st.s.seedOf(st.peer.Node, ""))
		ch <- result{snap, err}
	}()
	for {
		select {
		case r := <-ch:
			return r.snap, r.err
		case <-st.done:
			return giveUp(st.reason())
		case <-st.beat.C:
			if err := st.heartbeat(); err != nil {
				return giveUp(err)
			}
		}
	}
}

func (st *served) setHold(m snapshot.Manifest, on bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.hold, st.holding = m.Position.LSN, on
	st.status.Seeding = nil
	if on {
		st.status.Seeding = &SeedStatus{ID: m.ID}
	}
}

// sendSnapshot sends the manifest and then the files that the standby does not have yet.
func (st *served) sendSnapshot(snap *snapshot.Snapshot, m snapshot.Manifest) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	if err := st.w.put(msgManifest, b); err != nil {
		return err
	}
	if err := st.w.flush(); err != nil {
		return err
	}
	a, err := st.await(st.o.InstallTimeout, msgWant) // the standby checks the files it has
	if err != nil {
		return err
	}
	wanted, err := decodeJSON[want](a.b)
	if err != nil {
		return err
	}
	files := make(map[string]snapshot.File, len(m.Files))
	for _, f := range m.Files {
		files[f.Name] = f
	}
	total := int64(0)
	for _, name := range wanted.Files {
		f, ok := files[name]
		if !ok {
			return fmt.Errorf("%w: file %q is not in the manifest", ErrProtocol, name)
		}
		total += f.Size
	}
	st.seeded(0, total)
	for _, name := range wanted.Files {
		if err := st.sendFile(snap, files[name]); err != nil {
			return err
		}
	}
	return st.w.flush()
}

func (st *served) sendFile(snap *snapshot.Snapshot, f snapshot.File) error {
	in, err := snap.Open(f.Name)
	if err != nil {
		return fmt.Errorf("open snapshot file %s: %w", f.Name, err)
	}
	defer in.Close()
	if err := st.w.send(msgFile, file{Name: f.Name, Size: f.Size}); err != nil {
		return err
	}
	buf := make([]byte, dataLimit)
	for left := f.Size; left > 0; {
		n, err := io.ReadFull(in, buf[:min(left, dataLimit)])
		if err != nil {
			return fmt.Errorf("read snapshot file %s: %w", f.Name, err)
		}
		if err := st.w.put(msgData, buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
		st.seeded(int64(n), 0)
		if err := st.between(n); err != nil {
			return err
		}
	}
	return nil
}

// between does what is due between two pieces of bulk.
func (st *served) between(n int) error {
	select {
	case <-st.done:
		return st.reason()
	case <-st.beat.C:
		if err := st.heartbeat(); err != nil {
			return err
		}
	default:
	}
	d := st.s.bulk.take(n, time.Now())
	if d == 0 {
		return nil
	}
	return st.pause(d)
}

func (st *served) seeded(done, total int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.status.Seeding.Done += done
	st.status.Seeding.Total += total
	st.status.BytesSent = st.w.sent
}
