package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/archive"
	"repld/wal"
)

// ShipOptions make a node without peers a log-shipping standby: its log and state come from another cluster's archive, and from nowhere else.
type ShipOptions struct {
	URL     string // of the archive; empty: it is no such standby
	KeyFile string
	Of      string        // cluster that the archive is of; another one than this node's (R11)
	Every   time.Duration // between two looks; default 5 s
	Rate    int64         // bytes/s, 0 = unlimited
	Store   archive.Store // instead of URL, for tests
}

func (o ShipOptions) on() bool { return o.URL != "" || o.Store != nil }

// shipEnded is a file: a person has promoted this node, so that its history is its own from there on.
const shipEnded = "ship.ended"

// alarmShip is raised while the archive cannot be followed.
const alarmShip = "log-shipping"

// shipper follows an archive: it seeds a blank node from the newest backup and appends the archived log, again and again. The archive holds committed frames only, so what is appended is committed.
//
// It knows nobody of the cluster that the archive is of: it is no member of a sync set, has no vote, and is not counted in any promise (R1). For the same reason its promotion cannot fence that
// cluster's active (R2): it becomes the active of a cluster with a name of its own, as a restored one does, and a person says that writes of after the archive's end may be missing.
type shipper struct {
	*group
	o ShipOptions

	mu struct {
		sync.Mutex
		cancel context.CancelFunc
		done   chan struct{} // closed when run has ended; nil before it runs
		newest wal.Position  // of the archive, at the last look
		failed error
		looked time.Time
	}
}

// shipping reports whether this node lives from an archive and was not promoted yet.
func (g *group) shipping() bool {
	return g.ship != nil && !exists(g.o.FS, g.path(shipEnded))
}

// run follows the archive until ctx ends or the node is promoted; then, or if it was before, it serves alone.
func (s *shipper) run(ctx context.Context) error {
	if s.shipping() {
		sctx, cancel := context.WithCancel(ctx)
		s.mu.Lock()
		s.mu.cancel, s.mu.done = cancel, make(chan struct{})
		s.mu.Unlock()
		s.follow(sctx)
		cancel()
		close(s.mu.done)
		<-ctx.Done() // a promotion that is under way does the rest
		return nil
	}
	return s.serveAlone(ctx)
}

func (s *shipper) follow(ctx context.Context) {
	s.commit.learned(s.log.End().LSN) // all of it came from the archive
	t := time.NewTicker(s.o.Every)
	defer t.Stop()
	for {
		err := s.look(ctx)
		if ctx.Err() != nil {
			return
		}
		s.note(err)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *shipper) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.failed = err; err == nil {
		s.mu.looked = time.Now()
		s.alarms.clear(alarmShip)
		return
	}
	s.logger.Warn("archive not followed", "error", err)
	text := fmt.Sprintf("the archive of %s is not followed: %v", s.o.Of, err)
	if errors.Is(err, archive.ErrGap) {
		text += " (empty the data directory to have this node seeded from the newest backup)"
	}
	s.alarms.raise(alarmShip, text)
}

// look appends what has come since the last time.
func (s *shipper) look(ctx context.Context) error {
	ar, err := archive.Open(ctx, archive.Options{URL: s.o.URL, KeyFile: s.o.KeyFile, Cluster: s.o.Of, Group: s.group.o.Group, Rate: s.o.Rate, Store: s.o.Store})
	if err != nil {
		return err
	}
	if s.answer().Blank {
		if err := s.seedFrom(ctx, ar); err != nil {
			return fmt.Errorf("seed from the archive: %w", err)
		}
	}
	chunks, err := ar.Chunks(ctx)
	if err != nil {
		return err
	}
	from := s.log.End()
	path, err := archive.Path(chunks, from, 0)
	if err != nil {
		return err
	}
	if n := len(path); n > 0 {
		s.mu.Lock()
		s.mu.newest = path[n-1].End
		s.mu.Unlock()
	}
	var batch []*wal.Frame
	size := int64(0)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		end, err := s.log.AppendFrames(batch)
		batch, size = nil, 0
		if err == nil {
			s.commit.learned(end.LSN)
		}
		return err
	}
	err = ar.Walk(ctx, path, from, func(f *wal.Frame) error {
		batch, size = append(batch, f), size+f.Size()
		if size >= restoreBatch {
			return flush()
		}
		return nil
	})
	return errors.Join(err, flush()) // what was read before an error is sound
}

// seedFrom makes the newest backup that the archived log continues this node's state. Every file is checked by its hashes; a transfer that was broken off goes on where it was.
func (s *shipper) seedFrom(ctx context.Context, ar *archive.Archive) error {
	all, err := ar.Backups(ctx)
	if len(all) == 0 {
		return errors.Join(fmt.Errorf("%w: there is no backup of %s", archive.ErrNotFound, s.o.Of), err)
	}
	b := all[len(all)-1]
	r, m, err := s.fetchBackup(ctx, ar, b, "incoming", nil)
	if err != nil {
		return err
	}
	if err := r.Complete(s.path("state.new")); err != nil {
		return err
	}
	return s.install(ctx, m, s.path("state.new"), 0)
}

// status is what a person sees of it.
func (s *shipper) status(out *admin.NodeStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Source, out.Link = s.o.URL, "archive"
	if s.mu.failed != nil {
		out.Link = "archive: not followed"
	}
	if s.mu.newest.LSN > out.Durable.LSN {
		out.Lag.Records = uint64(s.mu.newest.LSN - out.Durable.LSN)
	}
}

// promoteShipped makes a log-shipping standby the active of its own cluster. It needs a person's consent, always: what the other cluster has acknowledged behind the end of the archive is not here,
// and nothing here can end that cluster's writes.
func (a adminAPI) promoteShipped(ctx context.Context, req admin.PromoteRequest, opts failover.PromoteOptions, emit func(admin.Event)) (admin.PromoteResult, error) {
	end := a.log.End()
	written := "never"
	if t, err := a.log.TimeOf(end.LSN); err == nil && !t.IsZero() {
		written = fmt.Sprintf("%s, %s ago", t.UTC().Format(time.RFC3339), time.Since(t).Round(time.Second))
	}
	r := admin.PromoteResult{Node: a.o.Name, Plan: req.Plan, Epoch: end.Epoch + 1, Previous: a.fence.Epoch(), From: end, Source: a.ship.o.URL, Allowed: req.AllowDataLoss,
		LossSaid: fmt.Sprintf("whatever %s acknowledged behind LSN %d (written %s), the end of what this node has from the archive", a.ship.o.Of, end.LSN, written),
		Reasons:  []string{fmt.Sprintf("%s may still be running and cannot be fenced from here: stop its nodes, or its clients, first", a.ship.o.Of)}}
	warning := fmt.Sprintf("%s is a log-shipping standby: it lacks %s; %s", a.o.Name, r.LossSaid, r.Reasons[0])
	switch {
	case a.answer().Blank || a.state.lacking() != "":
		r.Allowed = false
		return r, &admin.Error{Code: admin.CodeRefused, Message: fmt.Sprintf("%s has no state from the archive yet", a.o.Name)}
	case req.Plan:
		return r, nil
	case !req.AllowDataLoss:
		return r, &admin.Error{Code: admin.CodeRefused, Message: warning + "; then say --allow-data-loss"}
	}
	emit(admin.Event{Message: warning})
	if err := a.ship.end(ctx, end.Epoch); err != nil {
		return r, err
	}
	said := r.LossSaid
	r, err := a.promote(ctx, opts, emit)
	r.LossSaid = said
	return r, err
}

// end stops following the archive, for ever: from here on the log may go on with records of this node's own.
func (s *shipper) end(ctx context.Context, epoch wal.Epoch) error {
	s.mu.Lock()
	cancel, done := s.mu.cancel, s.mu.done
	s.mu.Unlock()
	if done != nil {
		cancel()
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	epoch = max(epoch, s.log.End().Epoch)
	if s.fence.Epoch() < epoch { // the new cluster's epochs are above all that the archive has
		if err := s.fence.Grant(epoch, s.group.o.Name, wal.SyncSet{Version: 1}); err != nil {
			return err
		}
	}
	if err := s.fence.SetVoter(true); err != nil {
		return err
	}
	return writeWhole(s.group.o.FS, s.path(shipEnded), []byte("promoted at "+time.Now().UTC().Format(time.RFC3339)+"\n"))
}
