package node

import (
	"errors"
	"strings"
	"testing"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/wal"
)

// max_loss consents only when every limit that is set holds, and to nothing when what may be missing is not known.
func TestConsents(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 0, nil, "a", "b", "c")
	now := failover.Mono(time.Hour)
	c.tune = func(_ string, o *Options) { o.Clock = func() failover.Mono { return now } }
	n := c.open("b")
	defer n.Close()
	g := n.group
	p := failover.Plan{Target: wal.Position{LSN: 100}}
	for _, x := range []struct {
		name  string
		limit MaxLoss
		end   wal.LSN // the active was heard to have
		ago   time.Duration
		ok    bool
	}{
		{"nothing is missing", MaxLoss{Records: 10}, 100, 0, true},
		{"as many as allowed", MaxLoss{Records: 10}, 110, 0, true},
		{"one more", MaxLoss{Records: 10}, 111, 0, false},
		{"recent enough", MaxLoss{Time: time.Second}, 100, time.Second, true},
		{"too long ago", MaxLoss{Time: time.Second}, 100, time.Second + 1, false},
		{"few, but too long ago", MaxLoss{Records: 10, Time: time.Second}, 101, 2 * time.Second, false},
		{"recent, but too many", MaxLoss{Records: 10, Time: time.Minute}, 200, 0, false},
	} {
		g.o.Failover.MaxLoss = x.limit
		g.exposure = exposure{}
		g.exposure.heard(100, 100, now-failover.Mono(x.ago)) // everything was here
		g.exposure.heard(x.end, 100, now)
		if x.end == 100 && x.ago > 0 { // and then nothing was heard
			g.exposure = exposure{}
			g.exposure.heard(100, 100, now-failover.Mono(x.ago))
		}
		if said, ok := g.consents(p); ok != x.ok || said == "" {
			t.Errorf("%s: %t, %s", x.name, ok, said)
		}
	}
	g.exposure = exposure{}
	g.o.Failover.MaxLoss = MaxLoss{Time: 365 * 24 * time.Hour}
	if said, ok := g.consents(p); ok {
		t.Errorf("an active that was never heard: %s", said)
	}
}

// With sync 0 nothing shows that nothing is missing, so nobody takes over by itself; with max_loss somebody does, and history says for ever what was given up, how long it took and why.
func TestMaxLoss(t *testing.T) {
	t.Parallel()
	for _, consent := range []bool{false, true} {
		c, f := automatic(t, func(_ string, o *Options) {
			o.Sync.K = 0
			if consent {
				o.Failover.MaxLoss.Records = 1000
			}
		})
		c.start()
		old := c.elected(0)
		c.settled(old)
		c.nodes[old].mustSet("k")
		c.settled(old)
		epoch := c.nodes[old].epoch()
		f.isolate(old, c.others(old)...)
		if !consent {
			until(t, func() error {
				for _, n := range c.others(old) {
					if w := *c.nodes[n].group.voter.waits.Load(); strings.Contains(w, "promotion refused") {
						return nil
					}
				}
				return errors.New("nobody says why nobody takes over")
			})
			for _, n := range c.others(old) {
				if c.nodes[n].group.active() {
					t.Errorf("%s took over although acked writes may be missing (R5)", n)
				}
			}
			f.heal()
			continue
		}
		next := c.elected(epoch, old)
		taken := c.nodes[next].epoch()
		f.heal()
		c.settled(c.elected(epoch))
		for _, n := range c.names {
			var e admin.Epoch
			until(t, func() error {
				all, err := adminAPI{c.nodes[n].group}.History(t.Context(), false)
				if err != nil {
					return err
				}
				for _, x := range all {
					if uint64(x.Epoch) == taken && x.Source == fromLog && x.Millis > 0 {
						e = x
						return nil
					}
				}
				return errors.New("the history does not have the epoch, or not how long it took")
			})
			if e.Holder != next || e.LostFrom != e.From.LSN+1 || !strings.Contains(e.Reason, "max_loss consents") {
				t.Errorf("%s: %+v", n, e)
			}
		}
	}
}
