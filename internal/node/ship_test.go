package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"repld/internal/admin"
)

// A log-shipping standby is seeded from a backup, follows the archive without any connection to the cluster, across a restart, is promoted only with consent, and serves a cluster of its own
// then, whatever comes into the archive (R1, R2, R11).
func TestLogShipping(t *testing.T) {
	t.Parallel()
	c, dir := archived(t, nil)
	a := c.nodes["a"]
	for i := range 50 {
		a.mustSet(fmt.Sprintf("k%02d", i))
	}
	a.backup(t)
	a.mustPut(t, "k07", "changed")
	dr := newCluster(t, 0, func(_ string, o *Options) {
		o.Cluster, o.Ship = "shop-dr", ShipOptions{URL: "file://" + dir, Of: "shop", Every: 10 * time.Millisecond}
	}, "z")
	dr.start()
	same := func() {
		t.Helper()
		until(t, func() error {
			a.mustSet("tick") // keeps the log going, so that its end is archived
			x, y := a.digestHere(t), dr.nodes["z"].digestHere(t)
			if x.Hash != y.Hash {
				return fmt.Errorf("the shipped state is %+v, the active's %+v: %s", y, x, dr)
			}
			return nil
		})
	}
	same()
	dr.stop("z")
	a.mustPut(t, "k08", "while it was away")
	dr.start()
	same()
	z := dr.nodes["z"]
	if got := z.get("k08"); got != "while it was away" {
		t.Errorf("k08 is %q", got)
	}
	s := z.group.nodeStatus()
	if s.Role != admin.RoleStandby || s.Link != "archive" || z.group.log.Start().LSN == 0 {
		t.Errorf("status %+v", s)
	}
	if err := z.set("x", "x"); err == nil {
		t.Error("a log-shipping standby takes writes")
	}
	for _, st := range a.group.nodeStatus().Standbys {
		if st.Node == "z" {
			t.Error("the active counts the log-shipping standby")
		}
	}
	plan, err := z.promote(admin.PromoteRequest{Plan: true})
	if err != nil || plan.Allowed || !strings.Contains(plan.LossSaid, "shop acknowledged behind LSN") {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	if _, err := z.promote(admin.PromoteRequest{}); !refused(err) || !strings.Contains(err.Error(), "cannot be fenced") {
		t.Fatalf("promoted without consent: %v", err)
	}
	r, err := z.promote(admin.PromoteRequest{AllowDataLoss: true})
	if err != nil || r.Epoch <= a.group.fence.Epoch() {
		t.Fatalf("promotion %+v, %v", r, err)
	}
	z.mustPut(t, "k08", "its own")
	a.mustPut(t, "k09", "not for z any more")
	a.archivedUpTo(t, a.group.log.End().LSN)
	dr.stop("z")
	dr.start()
	z = dr.nodes["z"]
	until(t, func() error { // it takes over by itself from now on
		if !z.group.active() {
			return errors.New("not active after a restart")
		}
		return nil
	})
	for key, want := range map[string]string{"k08": "its own", "k09": "k09", "k07": "changed"} {
		if got := z.get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}
