package replicate

import (
	"context"
	"errors"
	"fmt"

	"repld/snapshot"
	"repld/wal"
)

// probe answers the sender's search for the last common position.
func (f *follow) probe(b []byte) error {
	p, err := decodeJSON[probe](b)
	if err != nil {
		return err
	}
	at, err := f.o.Log.PositionAt(p.LSN)
	if err != nil && !errors.Is(err, wal.ErrTrimmed) {
		return fmt.Errorf("position at %d: %w", p.LSN, err)
	}
	return f.out.send(msgProbed, probed{At: at, OK: err == nil})
}

// begin makes our log end at the common position: nothing to do, or cut the suffix (R9), or ask for a snapshot (R15).
func (f *follow) begin(b []byte) error {
	m, err := decodeJSON[begin](b)
	if err != nil {
		return err
	}
	if m.Revoke {
		if err := f.revoke(max(f.target, m.Target), "records that were acked are missing"); err != nil {
			return err
		}
	}
	at, err := f.o.Log.PositionAt(m.From.LSN)
	if err != nil {
		return fmt.Errorf("position at %d: %w", m.From.LSN, err)
	}
	if at != m.From {
		return fmt.Errorf("%w: told to begin after %v, have %v", ErrProtocol, m.From, at)
	}
	f.known = m.From.LSN
	if reason := f.o.Rebuild(); reason != "" && f.purpose == Follow {
		return f.out.send(msgRebuild, rebuild{Reason: reason})
	}
	if f.o.Log.End() != m.From {
		if again, err := f.cut(m.From); again || err != nil {
			return err
		}
	}
	if err := f.out.send(msgReady, ready{At: m.From}); err != nil {
		return err
	}
	f.setState(StateStream)
	return f.progress(0, f.at)
}

// cut saves and removes the suffix that the sender's history does not contain. If our state has applied some of it,
// only a snapshot helps: effects are never undone.
func (f *follow) cut(to wal.Position) (rebuilding bool, err error) {
	applied := f.o.Applied()
	if f.o.Rewind != nil {
		if applied, err = f.o.Rewind(to); err != nil {
			return false, fmt.Errorf("rewind to %v: %w", to, err)
		}
	}
	if applied.LSN > to.LSN {
		reason := fmt.Sprintf("the logs part after %d, the state has applied %d", to.LSN, applied.LSN)
		f.o.Logger.Warn("state holds effects outside the new history", "group", f.o.Group, "common", to.String(), "applied", applied.String())
		return true, f.out.send(msgRebuild, rebuild{Reason: reason})
	}
	end := f.o.Log.End()
	reason := fmt.Sprintf("not in the history of epoch %d that %s serves", f.epoch, f.source)
	d, err := f.o.Log.TruncateTail(to, wal.SaveOptions{Dir: f.o.DivergedDir, Reason: reason})
	if err != nil {
		return false, fmt.Errorf("cut the log from %v to %v: %w", end, to, err)
	}
	f.o.Logger.Warn("log suffix was saved aside and cut", "group", f.o.Group, "from", to.String(), "to", end.String(), "saved", d.Path)
	f.o.OnDiverged(d)
	return false, nil
}

func (f *follow) revoke(target wal.LSN, reason string) error {
	f.target = target
	if !f.o.Voter() {
		return nil
	}
	f.revoked = true
	if err := f.o.SetVoter(false); err != nil {
		return fmt.Errorf("persist voter: %w", err)
	}
	f.o.Logger.Warn("this node does not count for data until it has caught up", "group", f.o.Group, "target", target, "reason", reason)
	return nil
}

// seed begins to receive a snapshot. Until that replaces the log, the log holds what this node acked, and counts as before: a transfer that is broken off, by the
// end of the active say, must not leave a cluster without the voter that a promotion needs (R5).
func (f *follow) seed(ctx context.Context, b []byte) error {
	if f.o.Install == nil {
		f.reject(CodeSnapshot, "this node installs no snapshots", f.o.Fence.Epoch(), f.o.Fence.Holder())
		return &RefusedError{Peer: f.source, Code: CodeSnapshot, Message: "a snapshot is needed and this node installs none"}
	}
	m, err := snapshot.DecodeManifest(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if m.Group != f.o.Group {
		return fmt.Errorf("%w: snapshot of group %q", ErrProtocol, m.Group)
	}
	if m.Position.Epoch > f.epoch {
		return fmt.Errorf("%w: snapshot of epoch %d on a stream of epoch %d", ErrProtocol, m.Position.Epoch, f.epoch)
	}
	f.setState(StateSnapshot)
	f.snap, f.manifest = snapshot.NewReceiver(f.o.FS, f.o.IncomingDir), m
	have, err := f.snap.Begin(m)
	if err != nil {
		return fmt.Errorf("begin snapshot %s: %w", m.ID, err)
	}
	w, total := want{Files: []string{}}, int64(0)
	f.missing = map[string]int64{}
	for _, x := range m.Files {
		if _, ok := have[x.Name]; !ok {
			w.Files = append(w.Files, x.Name)
			f.missing[x.Name] = x.Size
			total += x.Size
		}
	}
	f.r.note(func(s *ReceiverStatus) { s.Seeding = &SeedStatus{ID: m.ID, Total: total} })
	f.o.Logger.Info("receiving a snapshot", "group", f.o.Group, "snapshot", m.ID, "position", m.Position.String(),
		"files", len(w.Files), "of", len(m.Files), "bytes", total)
	if err := f.out.send(msgWant, w); err != nil {
		return err
	}
	return f.fileEnded(ctx)
}

func (f *follow) fileBegins(ctx context.Context, b []byte) error {
	m, err := decodeJSON[file](b)
	if err != nil {
		return err
	}
	size, ok := f.missing[m.Name]
	if !ok || size != m.Size || f.file != nil {
		return fmt.Errorf("%w: file %q of %d bytes was not asked for now", ErrProtocol, m.Name, m.Size)
	}
	delete(f.missing, m.Name)
	if f.file, err = f.snap.File(m.Name); err != nil {
		return fmt.Errorf("receive %s: %w", m.Name, err)
	}
	f.left = m.Size
	return f.fileEnded(ctx)
}

func (f *follow) fileData(ctx context.Context, b []byte) error {
	if f.file == nil || int64(len(b)) > f.left {
		return fmt.Errorf("%w: %d bytes beyond the end of a file", ErrProtocol, len(b))
	}
	if _, err := f.file.Write(b); err != nil {
		return fmt.Errorf("receive snapshot: %w", err)
	}
	f.left -= int64(len(b))
	f.r.note(func(s *ReceiverStatus) { s.Seeding.Done += int64(len(b)) })
	return f.fileEnded(ctx)
}

// fileEnded closes the file when all of it has come, and installs the snapshot when all files have.
func (f *follow) fileEnded(ctx context.Context) error {
	if f.file != nil && f.left == 0 {
		err := f.file.Close() // verifies size and hash
		f.file = nil
		if errors.Is(err, snapshot.ErrCorrupt) {
			return fmt.Errorf("%w: snapshot from %s: %w", ErrProtocol, f.source, err)
		}
		if err != nil {
			return fmt.Errorf("receive snapshot: %w", err)
		}
	}
	if f.file != nil || len(f.missing) > 0 {
		return nil
	}
	return f.install(ctx)
}

func (f *follow) install(ctx context.Context) error {
	if err := f.fenced(); err != nil {
		return err
	}
	m := f.manifest
	// Before the snapshot has its final name: from then on a restart installs it (R11).
	if err := f.revoke(max(f.target, m.Position.LSN), "its state is replaced by a snapshot"); err != nil {
		return err
	}
	if err := f.snap.Complete(f.o.StagedDir); err != nil {
		return fmt.Errorf("complete snapshot %s: %w", m.ID, err)
	}
	// What was applied was committed, and so is part of the new history, unless the logs were found to part before.
	known := f.o.Applied().LSN
	if f.known > 0 {
		known = f.known
	}
	if err := f.o.Install(ctx, m, f.o.StagedDir, known); err != nil {
		return fmt.Errorf("install snapshot %s: %w", m.ID, err)
	}
	end := f.o.Log.End()
	if end != m.Position {
		return fmt.Errorf("snapshot %s is at %v, after its installation the log ends at %v", m.ID, m.Position, end)
	}
	f.known = end.LSN
	f.o.Logger.Info("snapshot is installed", "group", f.o.Group, "snapshot", m.ID, "position", end.String())
	f.r.note(func(s *ReceiverStatus) { s.Seeding = nil })
	f.setState(StateProbe)
	return f.out.send(msgResumed, resumed{Start: f.o.Log.Start(), End: end, Applied: f.o.Applied()})
}
