package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// fakeHost answers as a healthy node would, in memory, and records what it is told. A hook replaces one call.
type fakeHost struct {
	node string
	mu   sync.Mutex
	log  []string
	hook map[string]func(ctx context.Context, progress func(string)) error
	// answers of a survey and of the fence
	answers func(fenced wal.Epoch, next wal.SyncSet) []Answer
}

func (h *fakeHost) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *fakeHost) calls() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.log, ", ")
}

func (h *fakeHost) run(ctx context.Context, name string, progress func(string)) error {
	h.note("%s", name)
	if fn := h.hook[name]; fn != nil {
		return fn(ctx, progress)
	}
	return nil
}

func (h *fakeHost) Survey(ctx context.Context) []Answer {
	_ = h.run(ctx, "survey", nil)
	return h.answers(0, wal.SyncSet{})
}
func (h *fakeHost) StopFollowing(ctx context.Context) error { return h.run(ctx, "stop-following", nil) }
func (h *fakeHost) FencePeers(ctx context.Context, e wal.Epoch, _ string, next wal.SyncSet) []Answer {
	_ = h.run(ctx, "fence", nil)
	return h.answers(e, next)
}
func (h *fakeHost) FastForward(ctx context.Context, _ string, _ wal.Position, progress func(string)) error {
	return h.run(ctx, "fast-forward", progress)
}
func (h *fakeHost) StartEpoch(ctx context.Context, s wal.EpochStart) (wal.LSN, error) {
	return s.Previous.LSN + 1, h.run(ctx, "start", nil)
}
func (h *fakeHost) Replay(ctx context.Context, progress func(string)) error {
	return h.run(ctx, "replay", progress)
}
func (h *fakeHost) OpenClients(e wal.Epoch)      { h.note("open %d", e) }
func (h *fakeHost) CloseClients(string)          { h.note("close") }
func (h *fakeHost) PauseWrites()                 { h.note("pause") }
func (h *fakeHost) ResumeWrites()                { h.note("resume") }
func (h *fakeHost) Follow(n string, _ wal.Epoch) { h.note("follow %q", n) }
func (h *fakeHost) Exit(err error)               { h.note("exit") }
func (h *fakeHost) Drain(ctx context.Context, _ string) (wal.Position, error) {
	return wal.Position{}, h.run(ctx, "drain", nil)
}
func (h *fakeHost) HandOver(ctx context.Context, _ string, _ wal.Position) (wal.Epoch, error) {
	return 3, h.run(ctx, "hand-over", nil)
}
func (h *fakeHost) StopWriter(ctx context.Context) error { return h.run(ctx, "stop-writer", nil) }

// newFakeHost is node b of three; a held epoch 1 and has the most advanced log.
func newFakeHost() *fakeHost {
	h := &fakeHost{node: "b", hook: make(map[string]func(context.Context, func(string)) error)}
	old := Tenure{Epoch: 1, Holder: "a", Sync: setOf(1, 1, "b", "c")}
	h.answers = func(fenced wal.Epoch, next wal.SyncSet) []Answer {
		var out []Answer
		for i, n := range names[:3] {
			s := State{Voter: true}.with(old)
			if fenced != 0 {
				s = s.with(Tenure{Epoch: fenced, Holder: "b", Sync: next})
			}
			a := s.Answer(n)
			a.Position = wal.Position{Epoch: 1, LSN: wal.LSN(10 - i)}
			out = append(out, a)
		}
		return out
	}
	return h
}

// running is a runner in a synctest bubble with its surroundings.
type running struct {
	*Runner
	host    *fakeHost
	fence   *Fence
	store   *FileStore
	changes []RoleChange
	stop    func() error
}

// start runs a runner over h until the test ends. Not to be called outside a bubble.
func start(t *testing.T, h *fakeHost, fs vfs.FS) *running {
	t.Helper()
	if err := fs.MkdirAll("g/token", 0o755); err != nil {
		t.Fatal(err)
	}
	slots, _, err := OpenSlots(SlotsOptions{FS: fs, Dir: "g", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	store, err := OpenFileStore(FileStoreOptions{FS: fs, Dir: "g/token"})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{host: h, fence: NewFence(slots), store: store}
	if err := r.fence.Observe(1, "a", setOf(1, 1, "b", "c")); err != nil {
		t.Fatal(err)
	}
	r.Runner, err = NewRunner(RunnerOptions{Node: "b", Nodes: names[:3], Host: h, Fence: r.fence, Store: store,
		Next: func() wal.SyncSet { return wal.SyncSet{Members: names[:3], K: 1} }})
	if err != nil {
		t.Fatal(err)
	}
	r.Subscribe(func(c RoleChange) { r.changes = append(r.changes, c) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = r.stop() })
	synctest.Wait()
	return r
}

func (r *running) mustPromote(t *testing.T) {
	t.Helper()
	res, err := r.Promote(t.Context(), PromoteOptions{Reason: "test"}, nil)
	if err != nil || res.Epoch != 2 || res.Already {
		t.Fatalf("promote: %+v, %v", res, err)
	}
}

func wantCalls(t *testing.T, h *fakeHost, want string) {
	t.Helper()
	synctest.Wait()
	if got := h.calls(); got != want {
		t.Fatalf("host was told\n%s\nwant\n%s", got, want)
	}
}

const callsOfPromotion = `follow "a", survey, stop-following, fence, fast-forward, start, replay, open 2`

// R5, R7: the steps of a promotion in order; promoting again is a success; demotion closes clients before it stops the writer.
func TestRunnerPromoteDemote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newFakeHost(), vfs.NewMem())
		var said []string
		res, err := r.Promote(t.Context(), PromoteOptions{Reason: "test"}, func(s string) { said = append(said, s) })
		if err != nil || res.Epoch != 2 || res.Start != 11 || len(said) < 4 {
			t.Fatalf("%+v, %v, said %q", res, err, said)
		}
		wantCalls(t, r.host, callsOfPromotion)
		if r.Role() != RoleActive || r.Epoch() != 2 || r.fence.Holder() != "b" {
			t.Fatalf("%s in epoch %d, held by %s", r.Role(), r.Epoch(), r.fence.Holder())
		}
		if rec, err := r.store.Load(t.Context()); err != nil || rec.Epoch != 2 || rec.Holder != "b" || rec.Reason != "test" || len(rec.History) != 1 {
			t.Fatalf("token: %+v, %v", rec, err)
		}
		if res, err := r.Promote(t.Context(), PromoteOptions{}, nil); err != nil || !res.Already || res.Epoch != 2 {
			t.Fatalf("again: %+v, %v", res, err)
		}
		if err := r.Demote(t.Context(), "test"); err != nil {
			t.Fatal(err)
		}
		wantCalls(t, r.host, callsOfPromotion+`, close, stop-writer, follow ""`)
		var roles []Role
		for _, c := range r.changes {
			roles = append(roles, c.New)
		}
		if !slices.Equal(roles, []Role{RoleCandidate, RoleActive, RoleFenced, RoleStandby}) {
			t.Fatalf("roles %v", roles)
		}
	})
}

func TestRunnerPlanChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newFakeHost(), vfs.NewMem())
		before := r.fence.State().Generation
		k := 2
		p, err := r.Plan(t.Context(), PromoteOptions{K: &k})
		if err != nil || !p.Allowed || p.Epoch != 2 || p.Source != "a" || p.Next.K != 2 || p.Next.Has("b") {
			t.Fatalf("%+v, %v", p, err)
		}
		if rec, err := r.store.Load(t.Context()); err != nil || rec.Rev != 0 || r.fence.State().Generation != before {
			t.Fatalf("the plan changed something: %+v, %v", rec, err)
		}
		wantCalls(t, r.host, `follow "a", survey`)
	})
}

// R3, R15: a higher epoch ends a promotion at once, in the middle of any step, without waiting for its bound.
func TestRunnerHigherEpochAtEachStep(t *testing.T) {
	for _, step := range []string{"survey", "stop-following", "fence", "fast-forward", "start", "replay"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHost()
				h.hook[step] = func(ctx context.Context, _ func(string)) error {
					<-ctx.Done()
					return ctx.Err()
				}
				r := start(t, h, vfs.NewMem())
				begin := time.Now()
				got := make(chan error, 1)
				go func() {
					_, err := r.Promote(context.Background(), PromoteOptions{}, nil)
					got <- err
				}()
				synctest.Wait()
				if err := r.fence.Observe(9, "c", setOf(5, 0)); err != nil {
					t.Fatal(err)
				}
				if err := <-got; !errors.Is(err, ErrFenced) || time.Since(begin) > time.Millisecond {
					t.Fatalf("after %s: %v", time.Since(begin), err)
				}
				synctest.Wait()
				if c := h.calls(); !strings.HasSuffix(c, `follow "c"`) || strings.Contains(c, "open") || r.Role() != RoleStandby {
					t.Fatalf("%s as %s", c, r.Role())
				}
				if writer := step == "start" || step == "replay"; strings.Contains(h.calls(), "close, stop-writer") != writer {
					t.Fatalf("writer: %s", h.calls())
				}
			})
		})
	}
}

// R2, R3, R15: an active node is told of a newer epoch by whoever observes it, and steps down.
func TestRunnerHigherEpochWhileActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newFakeHost(), vfs.NewMem())
		r.mustPromote(t)
		if err := r.fence.Grant(3, "c", setOf(9, 1, "a", "b")); err != nil {
			t.Fatal(err)
		}
		wantCalls(t, r.host, callsOfPromotion+`, close, stop-writer, follow "c"`)
	})
}

// R12: each step that does not return in time fails the promotion, although it ignores its context until then.
func TestRunnerBounds(t *testing.T) {
	var b Bounds
	b.EnsureDefaults()
	for step, bound := range map[string]time.Duration{"survey": b.Survey, "fence": b.Fence, "fast-forward": b.FastForward, "start": b.EpochStart, "replay": b.Replay} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHost()
				h.hook[step] = func(ctx context.Context, _ func(string)) error {
					<-ctx.Done()
					return ctx.Err()
				}
				r := start(t, h, vfs.NewMem())
				begin := time.Now()
				_, err := r.Promote(t.Context(), PromoteOptions{}, nil)
				if took := time.Since(begin); !errors.Is(err, ErrTimeout) || took < bound-r.o.Tick || took > bound+r.o.Tick {
					t.Fatalf("after %s, bound %s: %v", took, bound, err)
				}
			})
		})
	}
}

// R12: a long step that progresses is not cut off.
func TestRunnerProgressExtends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.hook["replay"] = func(ctx context.Context, progress func(string)) error {
			for i := range 10 {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(20 * time.Second):
					progress(fmt.Sprintf("%d0 %%", i+1))
				}
			}
			return nil
		}
		r := start(t, h, vfs.NewMem())
		var said []string
		if _, err := r.Promote(t.Context(), PromoteOptions{}, func(s string) { said = append(said, s) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(said, "100 %") {
			t.Fatalf("said %q", said)
		}
	})
}

// R10, R12: a writer that cannot be stopped ends the process.
func TestRunnerStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		release := make(chan struct{})
		h.hook["stop-writer"] = func(context.Context, func(string)) error {
			<-release
			return nil
		}
		r := start(t, h, vfs.NewMem())
		r.mustPromote(t)
		if err := r.Demote(t.Context(), "test"); !errors.Is(err, ErrFailed) || !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
		wantCalls(t, h, callsOfPromotion+", close, stop-writer, exit")
		close(release)
	})
}

// R10: storage fails while active: clients are closed at once, and the node leaves.
func TestRunnerStorageFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newFakeHost(), vfs.NewMem())
		r.mustPromote(t)
		r.Failed(errors.New("fdatasync: input/output error"))
		r.Failed(errors.New("a second one"))
		synctest.Wait()
		if c := r.host.calls(); !strings.HasPrefix(c, callsOfPromotion+", close") || strings.Count(c, "exit") != 1 {
			t.Fatal(c)
		}
		if _, err := r.Promote(t.Context(), PromoteOptions{}, nil); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
	})
}

// R10, R3: the grant to itself cannot be persisted: no promotion, and the node leaves.
func TestRunnerFenceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newFakeHost(), vfs.NewMem())
		if err := r.fence.mu.slots.mu.file.Close(); err != nil {
			t.Fatal(err)
		}
		r.fence.mu.slots.mu.err = fmt.Errorf("sync: %w", ErrFailed)
		if _, err := r.Promote(t.Context(), PromoteOptions{}, nil); !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		synctest.Wait()
		if c := r.host.calls(); !strings.Contains(c, "exit") || strings.Contains(c, "fence") {
			t.Fatal(c)
		}
	})
}

// A caller that leaves does not stop a promotion half-way; the runner that ends does, and leaves no writer behind.
func TestRunnerCallerLeavesAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.hook["replay"] = func(ctx context.Context, _ func(string)) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Second):
				return nil
			}
		}
		r := start(t, h, vfs.NewMem())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Promote(ctx, PromoteOptions{}, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		if _, err := r.Promote(t.Context(), PromoteOptions{}, nil); !errors.Is(err, ErrBusy) {
			t.Fatalf("promoted twice: %v", err)
		}
		time.Sleep(5 * time.Second) // of the bubble's clock
		synctest.Wait()
		if r.Role() != RoleActive {
			t.Fatalf("still %s", r.Role())
		}
		h.hook["drain"] = func(ctx context.Context, _ func(string)) error {
			<-ctx.Done()
			return ctx.Err()
		}
		go func() {
			_, err := r.Switchover(context.Background(), "c", nil)
			got <- err
		}()
		synctest.Wait()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, ErrClosed) {
			t.Fatalf("a request that was under way: %v", err)
		}
		if err := r.Demote(t.Context(), "late"); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		wantCalls(t, h, callsOfPromotion+", pause, drain, close, stop-writer")
	})
}

func TestRunnerSwitchover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newFakeHost(), vfs.NewMem())
		if _, err := r.Switchover(t.Context(), "c", nil); !errors.Is(err, ErrNotActive) {
			t.Fatal(err)
		}
		r.mustPromote(t)
		r.host.hook["hand-over"] = func(context.Context, func(string)) error { return errors.New("c is lagging") }
		if _, err := r.Switchover(t.Context(), "c", nil); err == nil || errors.Is(err, ErrFenced) {
			t.Fatal(err)
		}
		wantCalls(t, r.host, callsOfPromotion+", pause, drain, hand-over, resume")
		// c asks this node for its grant before it says that it is active.
		r.host.hook["hand-over"] = func(context.Context, func(string)) error {
			return r.fence.Grant(3, "c", setOf(9, 1, "a", "b"))
		}
		e, err := r.Switchover(t.Context(), "c", nil)
		if err != nil || e != 3 {
			t.Fatalf("epoch %d, %v", e, err)
		}
		synctest.Wait()
		if c := r.host.calls(); !strings.HasSuffix(c, `resume, pause, drain, hand-over, close, stop-writer, follow "c"`) {
			t.Fatal(c)
		}
	})
}

// What was surveyed ahead is not asked again; out of date, it makes the promotion fail at the token, with nothing changed, or at the fence (R5): never succeed wrongly.
func TestRunnerPreparedPromotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newFakeHost(), vfs.NewMem())
		seen, err := r.Prepare(t.Context(), PromoteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		before := r.fence.State().Generation
		rec, err := r.store.CompareAndSet(t.Context(), seen.Token.Rev, Record{Epoch: 1, Holder: "a", Sync: setOf(2, 1, "b", "c"), Reason: "sync set changed"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Promote(t.Context(), PromoteOptions{Surveyed: seen}, nil); !errors.Is(err, ErrConflict) {
			t.Fatalf("a token that was written after the survey: %v", err)
		}
		synctest.Wait()
		if now, err := r.store.Load(t.Context()); err != nil || now.Rev != rec.Rev || r.fence.State().Generation != before || r.Role() != RoleStandby {
			t.Fatalf("a failed promotion changed something: %+v, %v", now, err)
		}
		if seen, err = r.Prepare(t.Context(), PromoteOptions{}); err != nil {
			t.Fatal(err)
		}
		asked := strings.Count(r.host.calls(), "survey")
		res, err := r.Promote(t.Context(), PromoteOptions{Surveyed: seen}, nil)
		if err != nil || res.Epoch != 2 || !strings.Contains(r.host.calls(), "fence") {
			t.Fatalf("%+v, %v: %s", res, err, r.host.calls())
		}
		if n := strings.Count(r.host.calls(), "survey"); n != asked {
			t.Fatalf("surveyed %d times, before the promotion %d: %s", n, asked, r.host.calls())
		}
	})
}

// A preparation says beforehand that the promotion would be refused.
func TestRunnerPrepareRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.answers = func(wal.Epoch, wal.SyncSet) []Answer {
			return []Answer{{Node: "a", Err: "gone"}, {Node: "b", Reachable: true, Blank: true}, {Node: "c", Err: "gone"}}
		}
		r := start(t, h, vfs.NewMem())
		var refused *RefusedError
		if _, err := r.Prepare(t.Context(), PromoteOptions{}); !errors.As(err, &refused) {
			t.Fatalf("prepared with nobody there: %v", err)
		}
	})
}

func TestRunnerOptions(t *testing.T) {
	if _, err := NewRunner(RunnerOptions{Node: "b", Nodes: names[:3]}); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}
