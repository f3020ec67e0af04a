package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"repld/internal/admin"
	"repld/internal/kv"
	"repld/wal"
)

// plant changes a row of a stopped node's state behind everybody's back; an empty value deletes it.
func (c *cluster) plant(name, row, value string) {
	c.t.Helper()
	db, err := pebble.Open("data/groups/default/state", &pebble.Options{FS: c.disks[name], DisableWAL: true, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err == nil {
		if value == "" {
			err = db.Delete([]byte(row), pebble.NoSync)
		} else {
			err = db.Set([]byte(row), []byte(value), pebble.NoSync)
		}
	}
	if err == nil {
		err = db.Flush()
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (m *member) verify(t *testing.T, req admin.VerifyRequest) (admin.VerifyResult, error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return m.api().Verify(ctx, req, ignore)
}

// equal verifies until all nodes answer, and expects them to be equal.
func (m *member) equal(t *testing.T) {
	t.Helper()
	until(t, func() error {
		v, err := m.verify(t, admin.VerifyRequest{WaitSeconds: 1})
		if err == nil && !v.OK {
			err = fmt.Errorf("%+v", v)
		}
		return err
	})
}

// load writes n keys.
func (m *member) load(t *testing.T, n int) {
	t.Helper()
	for i := 0; i < n; i += 100 {
		until(t, func() error { return m.write(setMany(i, min(i+100, n))) })
	}
}

// One key planted in the state of a stopped standby is named, with the kind of difference, and nothing else is; the alarm is raised on it and on the active, in every node's status,
// until the standby has been given the active's state and all are equal again.
func TestVerifyNamesAndRepairs(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	a := c.nodes["a"]
	a.load(t, 3000)
	c.settled("a")
	a.equal(t)
	c.stop("b")
	c.plant("b", "\x01m000777", "\x00\x00planted")
	c.start("b")
	c.settled("a")
	v, err := a.verify(t, admin.VerifyRequest{Keys: 10})
	if err != nil || v.OK || v.Reference != "a" || len(v.Differences) != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	d := v.Differences[0]
	if d.Node != "b" || d.From != `key "m000777"` || d.To != `key "m000778"` || d.Rows != 1 || d.RefRows != 1 ||
		!slices.Equal(d.Keys, []admin.KeyDifference{{Row: `key "m000777"`, Kind: admin.KeyChanged}}) {
		t.Fatalf("%+v", d)
	}
	for _, n := range []string{"a", "b"} {
		if alarm := c.nodes[n].group.alarms.get(alarmDiffers); !strings.Contains(alarm, "m000777") {
			t.Errorf("alarm of %s: %q", n, alarm)
		}
	}
	for _, n := range c.names {
		if s := c.nodes[n].group.nodeStatus().Verified; s == nil || s.OK || !slices.Equal(s.Odd, []string{"b"}) {
			t.Errorf("status of %s: %+v", n, s)
		}
	}

	// What differs from the active is no source, and the active is never repaired.
	if _, err := a.verify(t, admin.VerifyRequest{RepairFrom: "b"}); !refused(err) {
		t.Fatalf("repair from the odd one: %v", err)
	}
	if !a.group.active() || c.nodes["c"].group.state.lacking() != "" {
		t.Fatal("a refused repair changed something")
	}
	// Asked of any node, from any that is right.
	v, err = c.nodes["b"].verify(t, admin.VerifyRequest{RepairFrom: "c"})
	if err != nil || !v.OK || !slices.Equal(v.Repaired, []string{"b"}) {
		t.Fatalf("repair: %+v, %v", v, err)
	}
	for _, n := range c.names {
		g := c.nodes[n].group
		if g.alarms.get(alarmDiffers) != "" || g.nodeStatus().Verified == nil || !g.nodeStatus().Verified.OK {
			t.Errorf("%s after the repair: %v, %+v", n, g.alarms.list(), g.nodeStatus().Verified)
		}
	}
	a.mustSet("after")
	c.settled("a")
	if got := c.nodes["b"].get("m000777"); got != "m000777" {
		t.Fatalf("b has %q", got)
	}
}

// A key that is missing and one that is there too many are told apart.
func TestVerifyKinds(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	a := c.nodes["a"]
	a.load(t, 300)
	c.settled("a")
	c.stop("c")
	c.plant("c", "\x01m000100", "")
	c.plant("c", "\x01zzz", "\x00\x00x")
	c.start("c")
	c.settled("a")
	v, err := c.nodes["b"].verify(t, admin.VerifyRequest{Keys: 10})
	if err != nil || v.OK {
		t.Fatalf("%+v, %v", v, err)
	}
	var keys []admin.KeyDifference
	for _, d := range v.Differences {
		keys = append(keys, d.Keys...)
	}
	want := []admin.KeyDifference{{Row: `key "m000100"`, Kind: admin.KeyMissing}, {Row: `key "zzz"`, Kind: admin.KeyExtra}}
	if !slices.Equal(keys, want) {
		t.Fatalf("%+v, want %+v", keys, want)
	}
}

// A standby whose state is being replaced is not promotable, and its active refuses to have its own replaced (R11).
func TestReplaceStateIsNoVote(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	a, b := c.nodes["a"], c.nodes["b"]
	a.load(t, 300)
	c.settled("a")
	if _, err := a.group.replaceState(t.Context(), replaceRequest{Reason: "test"}); !refused(err) {
		t.Fatalf("the active's state: %v", err)
	}
	b.group.follower.hold(true) // no snapshot comes
	if _, err := b.group.replaceState(t.Context(), replaceRequest{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if p, err := b.promote(admin.PromoteRequest{Plan: true}); !refused(err) && p.Allowed {
		t.Fatalf("a node without a state may be promoted: %+v, %v", p, err)
	}
	if b.group.answer().Stateless == "" {
		t.Fatal("a node without a state says that it has one")
	}
	b.group.follower.hold(false)
	a.equal(t)
}

// The active compares all copies by itself, every node knows how that came out, and a difference is an alarm without anybody asking.
func TestSelfVerification(t *testing.T) {
	t.Parallel()
	c := three(t, func(_ string, o *Options) { o.Verify.Every = 50 * time.Millisecond })
	a := c.nodes["a"]
	a.load(t, 300)
	until(t, func() error {
		for _, n := range c.names {
			if v := c.nodes[n].group.nodeStatus().Verified; v == nil || !v.OK || !v.Self || len(v.Nodes) != 3 {
				return fmt.Errorf("%s: %+v", n, v)
			}
		}
		return nil
	})
	c.stop("c")
	c.plant("c", "\x01m000100", "\x00\x00planted")
	c.start("c")
	until(t, func() error {
		if text := a.group.alarms.get(alarmDiffers); !strings.Contains(text, "m000100") {
			return fmt.Errorf("no alarm: %q", text)
		}
		return nil
	})
}

// Chain heads that differ at one LSN of one epoch are an alarm on whoever hears of it; equal ones, and suffixes of other epochs, are none.
func TestChainHeads(t *testing.T) {
	t.Parallel()
	c := three(t, nil)
	a := c.nodes["a"]
	a.load(t, 300)
	c.settled("a")
	g := a.group
	end := g.log.End()
	for _, harmless := range []wal.Position{end, {}, {Epoch: end.Epoch + 1, LSN: end.LSN, Hash: 1}, {Epoch: end.Epoch, LSN: end.LSN + 1, Hash: 1}} {
		g.compareHead("b", harmless)
		if text := g.alarms.get(alarmChain + "b"); text != "" {
			t.Fatalf("%s: %s", harmless, text)
		}
	}
	g.proof.heads.heard("x", wal.Position{Epoch: end.Epoch, LSN: end.LSN, Hash: end.Hash + 1}) // as a heartbeat would
	until(t, func() error {
		if g.alarms.get(alarmChain+"x") == "" {
			return fmt.Errorf("no alarm of another history")
		}
		return nil
	})
	g.compareHead("x", end)
	if text := g.alarms.get(alarmChain + "x"); text != "" {
		t.Fatalf("the alarm stays: %s", text)
	}
}

func TestMarkRate(t *testing.T) {
	for _, x := range []struct {
		id        string
		own, want int64
	}{
		{"verify/a/1/1", 0, 0}, {"verify/a/1/1", 7, 7}, {"verify/a/1/1;rate=5", 0, 5}, {"verify/a/1/1;rate=5", 7, 5}, {"verify/a/1/1;rate=9", 7, 7},
		{"x;rate=-1", 7, 7}, {"x;rate=zz", 0, 0},
	} {
		if got := markRate(x.id, x.own); got != x.want {
			t.Errorf("markRate(%q, %d) = %d, want %d", x.id, x.own, got, x.want)
		}
	}
}

// setMany writes the keys m000000 … by one record, each with its own name as the value.
func setMany(from, to int) func(*kv.Txn) error {
	return func(t *kv.Txn) error {
		for i := from; i < to; i++ {
			k := fmt.Appendf(nil, "m%06d", i)
			if err := t.Set(k, k, 0); err != nil {
				return err
			}
		}
		return nil
	}
}

// quiet is a pebble.Logger.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
