package failover

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"repld/wal"
)

// TestDetector replays transcripts: each command is an observation, its output the measures, in order. Lengths are in milliseconds: heartbeats every 100, suspicion
// after 500, lease 500, an active without lease gives up after 2000, stagger 100, startup 1000.
//
//	init node=b nodes=(a,b,c) [witnesses=(w)] [manual] [preferred=a takeback=1000] [backoff=30000] [zone=x]
//	self [active|candidate] epoch= holder= lsn= [blank] [nonvoter] [lagged] [hold=reason] [sick=reason] [priority=]
//	beat NAME, with the same arguments / traffic NAME epoch= / lost NAME / refused NAME
//	tick [ms=100] [n=1]                   n ticks of ms; what comes out is written with the time
//	freeze ms=                            one tick after a standstill
//	vote NAME yes|no=reason [round=]      / lease held|lost / tried [err=] / handed [err=]
//	judge NAME epoch= [lagged] [priority=] / suspects
//
// Faults: P3, P4, W1, W2, W4, W8, C1, C3 (the observations that each of them leads to)
func TestDetector(t *testing.T) {
	datadriven.Walk(t, "testdata/detector", func(t *testing.T, path string) {
		var d *Detector
		var now Mono
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			var out strings.Builder
			step := func(ob Observation) {
				for _, m := range d.Step(ob) {
					fmt.Fprintf(&out, "%s\n", describeMeasure(m))
				}
			}
			name := ""
			if len(td.CmdArgs) > 0 {
				name = td.CmdArgs[0].Key
			}
			switch td.Cmd {
			case "init":
				d, now = initDetector(t, td), 1e9
				step(Clock{Now: now})
			case "self":
				s := Self{Beat: parseBeat(t, td, d.o.Node)}
				step(SelfChanged{Self: s})
			case "beat":
				step(BeatHeard{Beat: parseBeat(t, td, name)})
			case "traffic":
				var e uint64
				td.ScanArgs(t, "epoch", &e)
				step(TrafficHeard{Node: name, Epoch: wal.Epoch(e)})
			case "lost":
				step(LinkLost{Node: name})
			case "refused":
				step(LinkRefused{Node: name})
			case "tick", "freeze":
				ms, n := 100, 1
				td.MaybeScanArgs(t, "ms", &ms)
				td.MaybeScanArgs(t, "n", &n)
				for range n {
					now += Mono(ms) * 1e6
					for _, m := range d.Step(Clock{Now: now}) {
						fmt.Fprintf(&out, "%d ms: %s\n", (now - 1e9).Milliseconds(), describeMeasure(m))
					}
				}
			case "vote":
				v, round := Vote{Support: td.HasArg("yes")}, d.election.round
				td.MaybeScanArgs(t, "no", &v.Reason)
				td.MaybeScanArgs(t, "round", &round)
				step(Voted{Round: round, Node: name, Vote: v})
			case "lease":
				step(LeaseChanged{Held: td.HasArg("held")})
			case "tried":
				step(TriedPromotion{Err: scanErr(t, td)})
			case "handed":
				step(TriedHandOver{Err: scanErr(t, td)})
			case "judge":
				p := claimOf(parseBeat(t, td, name))
				v := d.Judge(p)
				fmt.Fprintf(&out, "support=%t %s\n", v.Support, v.Reason)
			case "suspects":
				fmt.Fprintf(&out, "%v\n", d.Suspects())
			default:
				t.Fatalf("unknown command %q", td.Cmd)
			}
			return out.String()
		})
	})
}

func scanErr(t *testing.T, td *datadriven.TestData) error {
	var text string
	td.MaybeScanArgs(t, "err", &text)
	if text == "" {
		return nil
	}
	return fmt.Errorf("%s", text)
}

func initDetector(t *testing.T, td *datadriven.TestData) *Detector {
	const ms = 1e6
	o := DetectorOptions{Automatic: !td.HasArg("manual"), Interval: 100 * ms, Suspect: 500 * ms, Lease: 500 * ms, StepDown: 2000 * ms,
		Startup: 1000 * ms, Stagger: 100 * ms}
	td.ScanArgs(t, "node", &o.Node)
	td.ScanArgs(t, "nodes", &o.Nodes)
	td.MaybeScanArgs(t, "witnesses", &o.Witnesses)
	td.MaybeScanArgs(t, "preferred", &o.Preferred)
	td.MaybeScanArgs(t, "zone", &o.PreferZone)
	var back, off int
	td.MaybeScanArgs(t, "takeback", &back)
	td.MaybeScanArgs(t, "backoff", &off)
	o.TakeBack, o.Backoff = Mono(back)*ms, Mono(off)*ms
	return NewDetector(o)
}

func parseBeat(t *testing.T, td *datadriven.TestData, node string) Beat {
	b := Beat{Node: node, Role: RoleStandby, Voter: !td.HasArg("nonvoter"), Blank: td.HasArg("blank"), Lagged: td.HasArg("lagged")}
	for _, r := range []Role{RoleActive, RoleCandidate, RoleWitness} {
		if td.HasArg(string(r)) {
			b.Role = r
		}
	}
	var epoch, lsn uint64
	td.MaybeScanArgs(t, "epoch", &epoch)
	td.MaybeScanArgs(t, "lsn", &lsn)
	td.MaybeScanArgs(t, "holder", &b.Holder)
	td.MaybeScanArgs(t, "priority", &b.Priority)
	td.MaybeScanArgs(t, "zone", &b.Zone)
	td.MaybeScanArgs(t, "sick", &b.Sick)
	if td.HasArg("hold") {
		b.Paused.On = true
		td.ScanArgs(t, "hold", &b.Paused.Reason)
	}
	b.Epoch, b.Position, b.End = wal.Epoch(epoch), wal.Position{Epoch: wal.Epoch(epoch), LSN: wal.LSN(lsn)}, wal.LSN(lsn)
	return b
}

func describeMeasure(m Measure) string {
	switch m := m.(type) {
	case Suspected:
		return fmt.Sprintf("suspect %s (%s)", m.Node, m.Evidence)
	case Recovered:
		return fmt.Sprintf("recovered %s", m.Node)
	case AskVotes:
		return fmt.Sprintf("ask for votes, round %d, epoch %d", m.Round, m.Poll.Epoch)
	case Promote:
		return "PROMOTE: " + m.Reason
	case GiveUp:
		return "GIVE UP: " + m.Reason
	case HandOverTo:
		return fmt.Sprintf("HAND OVER to %s: %s", m.Node, m.Reason)
	case Waits:
		return "waits: " + m.Reason
	}
	return fmt.Sprintf("%+v", m)
}

// TestLease holds R14's arithmetic: a majority of all voters and k of the sync set, each counted from the sending of what it acked, margin given away.
func TestLease(t *testing.T) {
	sync := func(k int, members ...string) wal.SyncSet { return wal.SyncSet{Members: members, K: k, Version: 1} }
	for _, c := range []struct {
		name     string
		voters   []string
		majority bool
		sync     []wal.SyncSet
		acked    map[string]Mono
		want     Mono
	}{
		{"alone", nil, true, nil, nil, Forever},
		{"nobody acked", []string{"b", "c"}, true, nil, nil, 0},
		{"one of two others", []string{"b", "c"}, true, nil, map[string]Mono{"b": 1000}, 1450},
		{"the newest of two", []string{"b", "c"}, true, nil, map[string]Mono{"b": 1000, "c": 2000}, 2450},
		{"two of four others", []string{"b", "c", "d", "e"}, true, nil, map[string]Mono{"b": 1000, "c": 2000, "d": 1500}, 1950},
		{"two nodes", []string{"b"}, true, nil, map[string]Mono{}, 0},
		{"the witness is no member", []string{"b", "w"}, true, []wal.SyncSet{sync(1, "b")}, map[string]Mono{"w": 3000, "b": 1000}, 1450},
		{"k=0 in manual mode", []string{"b", "c"}, false, []wal.SyncSet{sync(0, "b", "c")}, nil, Forever},
		{"k=1 in manual mode", []string{"b", "c"}, false, []wal.SyncSet{sync(1, "b", "c")}, map[string]Mono{"c": 1000}, 1450},
		{"k=2", []string{"b", "c"}, false, []wal.SyncSet{sync(2, "b", "c")}, map[string]Mono{"b": 900, "c": 1000}, 1350},
		{"both sets of a change", []string{"b", "c"}, true, []wal.SyncSet{sync(1, "b"), sync(1, "c")}, map[string]Mono{"b": 900, "c": 1000}, 1350},
	} {
		l := NewLease(LeaseOptions{Voters: c.voters, Majority: c.majority, Length: 500, Margin: 50})
		l.SetSync(c.sync...)
		for n, at := range c.acked {
			l.Acked(n, at)
			l.Acked(n, at-100) // an old ack that comes late changes nothing
			l.Acked("stranger", at+1000)
		}
		if got := l.Until(); got != c.want {
			t.Errorf("%s: until %d, want %d", c.name, got, c.want)
		}
		l.Reset(c.sync...)
		if got := l.Until(); len(c.acked) > 0 && got != 0 {
			t.Errorf("%s: until %d after a new epoch began", c.name, got)
		}
	}
}

// TestLeaseAndPromise holds that a lease is over before the promises behind it are, for every sync set, every set of voters that acked, and every set of members that suffices for a
// promotion (R5, R14): whoever is promoted without the old active hears from one of them how long to wait.
func TestLeaseAndPromise(t *testing.T) {
	nodes := []string{"b", "c", "d", "e"}
	pick := func(bits int) (out []string) {
		for i, n := range nodes {
			if bits>>i&1 == 1 {
				out = append(out, n)
			}
		}
		return out
	}
	cases := 0
	for set := 1; set < 16; set++ {
		v := pick(set)
		for k := 1; k <= len(v); k++ {
			for acked := range 16 {
				l := NewLease(LeaseOptions{Voters: nodes, Length: 500, Margin: 50})
				l.SetSync(wal.SyncSet{Members: v, K: k})
				promises := map[string]*Promise{}
				for _, n := range nodes {
					promises[n] = &Promise{Length: 500}
				}
				for i, n := range pick(acked) {
					sent := Mono(1000 + 10*i)
					l.Acked(n, sent)
					promises[n].Heard("a", 1, sent+3)
				}
				for granted := range 16 {
					if len(pick(granted&set)) < len(v)-k+1 {
						continue
					}
					cases++
					const now = 1040
					waited := Mono(0)
					for _, n := range pick(granted) {
						_, left := promises[n].Left(2, now)
						waited = max(waited, left)
					}
					if l.Until() > now+waited {
						t.Fatalf("V=%v k=%d acked=%v granted=%v: the lease lasts until %d, the candidate waits until %d", v, k, pick(acked), pick(granted), l.Until(), now+waited)
					}
				}
			}
		}
	}
	if cases < 1000 {
		t.Fatalf("only %d cases", cases)
	}
}

// TestPromise holds that a voter forgets no promise that may still be relied on: not when it supports another active, not when it starts, and that a proof of death ends it.
func TestPromise(t *testing.T) {
	p := Promise{Length: 500}
	want := func(epoch wal.Epoch, now Mono, holder string, left Mono) {
		t.Helper()
		if h, l := p.Left(epoch, now); l != left || (l > 0 && h != holder) {
			t.Errorf("at %d below epoch %d: %q for %d more, want %q for %d", now, epoch, h, l, holder, left)
		}
	}
	want(1, 1000, "", 0)
	p.Start("a", 3, 1000) // it may have granted 3 just before it died, and have supported anybody until then
	want(3, 1100, "", 400)
	want(4, 1100, "", 400)
	p.Heard("a", 3, 1200)
	want(3, 1300, "", 200)
	want(4, 1500, "a", 200)
	p = Promise{Length: 500}
	p.Heard("a", 3, 1000)
	want(4, 1100, "a", 400)
	p.Heard("a", 3, 1200)
	p.Heard("z", 2, 1300) // an older epoch extends nothing
	want(3, 1300, "", 0)
	want(4, 1300, "a", 400)
	p.Heard("b", 4, 1300)
	want(4, 1350, "a", 350) // still owed to a, however often b is heard
	p.Heard("b", 4, 1400)
	want(4, 1500, "a", 200)
	want(5, 1500, "", 400) // a and b
	want(4, 1800, "", 0)
	want(5, 1800, "b", 100)
	p.Dead("a")
	want(5, 1800, "b", 100)
	p.Dead("b")
	want(5, 1800, "", 0)
}
