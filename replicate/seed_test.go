package replicate

import (
	"sync/atomic"
	"testing"
	"time"

	"repld/snapshot"
	"repld/wal"
)

// seeded is a pair whose active can make snapshots, with its log trimmed.
func seeded(t *testing.T, files, size int, change func(*SenderOptions)) (*testNet, *testNode, *testNode) {
	t.Helper()
	var manager *snapshot.Manager
	net, a, b := pair(t, func(node string, s *SenderOptions, r *ReceiverOptions) {
		if node != "a" {
			return
		}
		log := s.Log
		fs := r.FS
		manager = snapshot.NewManager(snapshot.ManagerOptions{
			FS: fs, Dir: "snapshots", Cluster: "test", Group: "g", Source: &memSource{fs: fs, log: log, files: files, size: size},
			LogStart: func() wal.LSN { return log.Start().LSN },
		})
		s.Snapshots = manager
		if change != nil {
			change(s)
		}
	})
	t.Cleanup(func() {
		must(t, a.sender.Close())
		must(t, manager.Close())
	})
	a.activate(1, set(1, 1, "b"))
	return net, a, b
}

// trim writes until the head of a's log can be cut, and cuts it.
func trim(t *testing.T, a *testNode) {
	t.Helper()
	for a.log.Start().LSN == 0 {
		last := a.write(2000)
		a.waitDurable(last)
		_, err := a.log.TruncateHead(last)
		must(t, err)
	}
}

// R11, R15: a standby whose log is gone is seeded while writes go on, and counts only afterwards.
func TestSeedWipedStandby(t *testing.T) {
	_, a, b := seeded(t, 5, 300_000, nil)
	b.voter = false
	trim(t, a)
	stop := make(chan struct{})
	var last atomic.Uint64
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		for {
			last.Store(uint64(a.write(20)))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	b.keepFollowing("a", nil)
	eventually(t, "a commit, which needs b", func() bool { return a.commit() > 0 })
	close(stop)
	<-writing
	b.waitDurable(wal.LSN(last.Load()))
	if len(b.installed) != 1 || b.log.Start() != b.installed[0].Position {
		t.Fatalf("log starts at %v, installed %+v", b.log.Start(), b.installed)
	}
	sameLog(t, a.log, b.log)
}

// A transfer that is interrupted goes on with the files that are missing.
func TestSeedResumes(t *testing.T) {
	const files, size = 8, 400_000
	net, a, b := seeded(t, files, size, func(s *SenderOptions) { s.BulkRate = 6 << 20 })
	trim(t, a)
	b.keepFollowing("a", nil)
	progress := func() SeedStatus {
		if st := b.receiver.Status(); st.Seeding != nil {
			return *st.Seeding
		}
		return SeedStatus{}
	}
	eventually(t, "two files and a half", func() bool { return progress().Done > 2.5*size })
	first := progress()
	if first.Total != files*size {
		t.Fatalf("first transfer: %+v", first)
	}
	net.kill("a")
	if !b.votes() {
		t.Fatal("half a transfer has replaced nothing and cost the vote: if a does not come back, nobody can be promoted (R5, R11)")
	}
	eventually(t, "the second transfer", func() bool { s := progress(); return s.Total > 0 && s.Total < first.Total })
	if second := progress(); second.ID != first.ID || second.Total > (files-2)*size {
		t.Fatalf("first %+v, second %+v", first, second)
	}
	b.waitDurable(a.log.Durable().LSN)
	if len(b.snapshotInstalls()) != 1 {
		t.Fatalf("installed %+v", b.snapshotInstalls())
	}
	sameLog(t, a.log, b.log)
}

func (n *testNode) votes() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.voter
}

func (n *testNode) snapshotInstalls() []snapshot.Manifest {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.installed
}

// R9, R15: a state that holds effects outside the new history is rebuilt from a snapshot, and the suffix is kept.
func TestRebuildOfAppliedSuffix(t *testing.T) {
	_, a, b := seeded(t, 2, 1000, nil)
	for range 5 {
		a.write(20)
		a.waitDurable(a.log.End().LSN)
	}
	a.waitDurable(100)
	r, err := a.log.NewReader(0)
	must(t, err)
	for b.log.End().LSN < 50 {
		f, err := r.TryNext()
		must(t, err)
		_, err = b.log.AppendFrames([]*wal.Frame{f})
		must(t, err)
	}
	r.Close()
	common := b.log.End().LSN
	b.extend(1, 10, "applied, but of no history now")
	b.applied = b.log.End()
	b.keepFollowing("a", nil)
	eventually(t, "installation", func() bool { return len(b.snapshotInstalls()) == 1 })
	last := a.write(5)
	b.waitDurable(last)
	sameLog(t, a.log, b.log)
	saved, err := wal.ListDiverged(b.fs, "diverged")
	must(t, err)
	if len(saved) != 1 || saved[0].From.LSN != common || saved[0].Records != 10 {
		t.Fatalf("saved after %d: %+v", common, saved)
	}
	eventually(t, "b to count", func() bool { return a.commit() == last })
}

// Without snapshots the refusal names the reason.
func TestSeedIsRefusedWithoutSnapshots(t *testing.T) {
	_, a, b := pair(t, nil)
	a.activate(1, set(1, 0))
	trim(t, a)
	err := b.follow(t.Context(), "a", Follow, wal.Position{})
	if refused, ok := err.(*RefusedError); !ok || refused.Code != CodeSnapshot {
		t.Fatalf("got %v", err)
	}
}
