package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/internal/server"
	"repld/wal"
)

// laggedC makes c the lagged standby of a cluster.
func laggedC(name string, o *Options) {
	if name == "c" {
		o.Mode, o.ApplyDelay = ModeLagged, time.Hour
	}
}

func (m *member) api() adminAPI { return adminAPI{m.group} }

func ignore(admin.Event) {}

func (m *member) salvage(t *testing.T, req admin.SalvageRequest) admin.SalvageResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := m.api().Salvage(ctx, req, ignore)
	if err != nil {
		t.Fatalf("salvage: %v", err)
	}
	return r
}

// del removes several keys by one record.
func (m *member) del(t *testing.T, keys ...string) {
	t.Helper()
	err := m.write(func(x *kv.Txn) error {
		for _, k := range keys {
			if _, err := x.Delete([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// mustPut writes a key as soon as the node takes it.
func (m *member) mustPut(t *testing.T, key, value string) {
	t.Helper()
	until(t, func() error { return m.set(key, value) })
}

// A bad DEL is undone by promoting the lagged standby to just before it; what came after is set aside and salvaged, but for the keys that were changed
// since; every node ends with the new history (R5, R9, R15).
func TestPromoteToMoment(t *testing.T) {
	t.Parallel()
	c := three(t, laggedC)
	a := c.nodes["a"]
	for i := range 20 {
		a.mustPut(t, fmt.Sprintf("user:%02d", i), "old")
	}
	a.mustPut(t, "order:1", "one")
	a.del(t, "user:03", "user:04", "user:05")
	a.mustPut(t, "order:2", "two")
	a.mustPut(t, "order:3", "three")
	a.mustPut(t, "user:04", "back")
	c.settled("a")

	plan, err := c.nodes["c"].promote(admin.PromoteRequest{Before: "DEL user:*", Plan: true})
	if err != nil || !plan.Allowed || plan.Moment == nil {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	if m := plan.Moment; m.Matched != 1 || m.MatchedEffects != 3 || m.Aside < 4 || len(m.Around) == 0 {
		t.Fatalf("moment %+v", m)
	}
	if !a.group.active() {
		t.Fatal("a plan changed the active")
	}
	// Without consent nothing is cut, but c is held from now on.
	if _, err := c.nodes["c"].promote(admin.PromoteRequest{Before: "DEL user:*"}); !refused(err) {
		t.Fatalf("a cut without consent: %v", err)
	}
	if c.nodes["c"].group.held() == nil {
		t.Fatal("a promotion to a moment does not hold the state")
	}
	r, err := c.nodes["c"].promote(admin.PromoteRequest{Before: "DEL user:*", AcceptCut: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.LostFrom != plan.Moment.LSN+1 || r.Moment.LSN != plan.Moment.LSN {
		t.Fatalf("result %+v, plan %+v", r, plan.Moment)
	}
	n := c.nodes["c"]
	for i := range 20 {
		if v := n.get(fmt.Sprintf("user:%02d", i)); v != "old" {
			t.Errorf("user:%02d is %q after the cut", i, v)
		}
	}
	if v := n.get("order:1"); v != "one" {
		t.Errorf("order:1, written before the cut, is %q", v)
	}
	if v := n.get("order:2"); v != "" {
		t.Errorf("order:2, written after the cut, is %q", v)
	}
	start := epochStarts(t, n)
	if s := start[len(start)-1]; s.CutAt != plan.Moment.LSN || s.Cut != "before DEL user:*" || s.LostFrom != s.CutAt+1 {
		t.Errorf("epoch-start record %+v does not tell of the cut", s)
	}

	n.mustPut(t, "order:3", "changed since")
	saved, err := n.api().Diverged(t.Context())
	if err != nil || len(saved) != 1 {
		t.Fatalf("set aside: %+v, %v", saved, err)
	}
	req := admin.SalvageRequest{Name: saved[0].Name, Except: "DEL user:*"}
	look := n.salvage(t, req)
	req.Apply = true
	got := n.salvage(t, req)
	for _, r := range []admin.SalvageResult{look, got} {
		// order:2 and user:04 are untouched since, order:3 is not; what the cut carried over is there already.
		if r.Apply != 2 || r.Conflicts != 1 || r.Excepted != 3 || r.Items[0].Key != "order:3" {
			t.Fatalf("salvage %+v", r)
		}
	}
	for key, want := range map[string]string{"order:2": "two", "order:3": "changed since", "user:04": "back", "user:05": "old"} {
		if v := n.get(key); v != want {
			t.Errorf("%s is %q after the salvage, want %q", key, v, want)
		}
	}
	c.settled("c") // the others are rebuilt
	until(t, func() error {
		v, err := n.verified(t.Context())
		if err == nil && !v.OK {
			err = fmt.Errorf("copies differ: %+v", v)
		}
		return err
	})
	// The old active set its own suffix aside; salvaging it finds nothing left to do but the conflict.
	var old []admin.Diverged
	if old, err = c.nodes["a"].api().Diverged(t.Context()); err != nil || len(old) != 1 {
		t.Fatalf("a set aside %+v, %v", old, err)
	}
	again := n.salvage(t, admin.SalvageRequest{Node: "a", Name: old[0].Name, Keys: "order:*", Apply: true})
	if again.Apply != 0 || again.Conflicts != 1 {
		t.Fatalf("salvage of a's suffix %+v", again)
	}
	until(t, func() error { // the promise is the configured one again
		if k := n.group.fence.State().Sync().K; k != 1 {
			return fmt.Errorf("sync is still %d", k)
		}
		return nil
	})
}

func refused(err error) bool {
	var fault *admin.Error
	return errors.As(err, &fault) && fault.Code == admin.CodeRefused
}

func epochStarts(t *testing.T, m *member) (out []wal.EpochStart) {
	t.Helper()
	frames, err := m.group.logFrames(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		frame, err := m.group.log.FrameAt(f.First)
		if err != nil {
			t.Fatal(err)
		}
		if err := frame.Each(func(r wal.Record) error {
			if r.Kind != wal.KindEpochStart {
				return nil
			}
			var s wal.EpochStart
			out = append(out, s)
			return json.Unmarshal(r.Payload, &out[len(out)-1])
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Records of one frame on both sides of the cut: those before it are written again in the new epoch, so that the cut is exact to the record.
func TestCutWithinFrame(t *testing.T) {
	t.Parallel()
	c := three(t, laggedC)
	a := c.nodes["a"]
	cut, before := a.bigFrame(t)
	c.settled("a")
	f, err := a.group.log.FrameAt(cut)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.nodes["c"].promote(admin.PromoteRequest{ToLSN: cut, AcceptCut: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(cut - f.First + 1); r.Moment.Carried != want {
		t.Fatalf("carried %d records, want %d: %+v", r.Moment.Carried, want, r.Moment)
	}
	st, err := c.nodes["c"].group.state.acquire()
	if err != nil {
		t.Fatal(err)
	}
	keys := st.Metrics().Keys
	c.nodes["c"].group.state.release()
	if want := int64(cut - before); keys != want {
		t.Fatalf("%d keys after a cut at LSN %d, want %d", keys, cut, want)
	}
}

// bigFrame writes new keys, one a record, so that some share a frame, and returns an LSN in the middle of such a frame, and the log's end before.
func (m *member) bigFrame(t *testing.T) (middle, before wal.LSN) {
	t.Helper()
	before = m.group.log.End().LSN
	const n = 200
	done := make(chan error, 1)
	m.group.seq.submit(t.Context(), func(q server.Sequence) error { // under one lock: they gather in few frames
		for i := range n {
			if err := q.Record(time.Now(), func(x *kv.Txn) error { return x.Set(fmt.Appendf(nil, "k%03d", i), []byte("x"), 0) }); err != nil {
				return err
			}
		}
		return nil
	}, func(_ wal.LSN, err error) { done <- err })
	if err := soon(t, done, "the answer to a batch"); err != nil {
		t.Fatal(err)
	}
	for lsn := before + 1; lsn <= m.group.log.End().LSN; {
		f, err := m.group.log.FrameAt(lsn)
		if err != nil {
			t.Fatal(err)
		}
		if f.Count >= 3 {
			return f.First + wal.LSN(f.Count)/2, before
		}
		lsn = f.Last() + 1
	}
	t.Fatalf("%d records of one batch make no frame of three", n)
	return 0, 0
}

// A held standby applies nothing, across a restart too, and cannot be promoted as if nothing were.
func TestHold(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	c.nodes["a"].mustSet("x")
	c.settled("a")
	until(t, func() error {
		if c.nodes["c"].get("x") == "" {
			return errors.New("c has not applied x")
		}
		return nil
	})
	if _, err := c.nodes["c"].api().Hold(t.Context(), admin.HoldRequest{Reason: "a look"}, ignore); err != nil {
		t.Fatal(err)
	}
	at := c.nodes["c"].group.state.applied()
	c.nodes["a"].mustSet("y")
	c.settled("a")
	c.stop("c")
	c.start("c")
	c.nodes["a"].mustSet("z")
	c.settled("a")
	if got := c.nodes["c"].group.state.applied(); got != at {
		t.Fatalf("a held node went on from %s to %s", at, got)
	}
	if _, err := c.nodes["c"].promote(admin.PromoteRequest{}); !refused(err) || !strings.Contains(err.Error(), "held") {
		t.Fatalf("promotion of a held node: %v", err)
	}
	// A moment that the state has passed cannot be promoted to.
	if _, err := c.nodes["b"].promote(admin.PromoteRequest{ToLSN: 1, AcceptCut: true}); err == nil {
		t.Fatal("a hot standby was promoted to a moment that it has passed")
	}
	until(t, func() error { // c has just started: b may not have a session with it yet
		_, err := c.nodes["b"].api().Hold(t.Context(), admin.HoldRequest{Node: "c", Release: true}, ignore)
		return err
	})
	until(t, func() error {
		if c.nodes["c"].get("z") == "" {
			return errors.New("c does not go on after its release")
		}
		return nil
	})
}
