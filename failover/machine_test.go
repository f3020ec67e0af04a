package failover

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"repld/wal"
)

// TestMachine replays transcripts: each command is an event, its output the actions, in order. They hold R2, R5, R7,
// R10, R12 and R15 as the heading of each file says.
//
//	init node=b nodes=(a,b,c) [shared]
//	promote id=1 [reason=word] [allow-data-loss] [bootstrap] [k=0]
//	survey attempt=1 / fence attempt=1    one answer a line: NAME [down] [active] [blank] [nonvoter] pos=EPOCH/LSN
//	                                      [committed=LSN] [obeys=EPOCH:HOLDER:VERSION:K:MEMBERS ...]
//	token-won, token-lost, fast-forwarded, started lsn=, replayed, drained lsn=, handed-over epoch=, writer-stopped,
//	progress                              attempt=N [err=word]
//	demote id= / switchover id= to= / higher epoch= holder= / store-failed err= / tick n= / role
func TestMachine(t *testing.T) {
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		var m *Machine
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "init" {
				o := MachineOptions{Shared: d.HasArg("shared"), Bound: func(string) int { return 3 }}
				d.ScanArgs(t, "node", &o.Node)
				d.ScanArgs(t, "nodes", &o.Nodes)
				m = NewMachine(o)
				return describe(m.Step(Started{}))
			}
			if d.Cmd == "role" {
				return fmt.Sprintf("%s epoch=%d waits=%q\n", m.Role(), m.Epoch(), m.wait.stage)
			}
			n := 1
			d.MaybeScanArgs(t, "n", &n)
			var out strings.Builder
			for range n {
				out.WriteString(describe(m.Step(parseEvent(t, d, m))))
			}
			return out.String()
		})
	})
}

func parseEvent(t *testing.T, d *datadriven.TestData, m *Machine) Event {
	t.Helper()
	var id, attempt, lsn, epoch uint64
	var to, holder, text, reason string
	d.MaybeScanArgs(t, "id", &id)
	d.MaybeScanArgs(t, "attempt", &attempt)
	d.MaybeScanArgs(t, "lsn", &lsn)
	d.MaybeScanArgs(t, "epoch", &epoch)
	d.MaybeScanArgs(t, "to", &to)
	d.MaybeScanArgs(t, "holder", &holder)
	d.MaybeScanArgs(t, "err", &text)
	d.MaybeScanArgs(t, "reason", &reason)
	var err error
	if text != "" {
		err = errors.New(text)
	}
	switch d.Cmd {
	case "promote":
		o := PromoteOptions{Reason: reason, AllowDataLoss: d.HasArg("allow-data-loss"), Bootstrap: d.HasArg("bootstrap")}
		k := 1
		d.MaybeScanArgs(t, "k", &k)
		var members []string
		for _, n := range m.o.Nodes {
			if n != m.o.Node {
				members = append(members, n)
			}
		}
		return PromoteRequested{ID: id, Options: o, Next: wal.SyncSet{Members: members, K: k}}
	case "survey":
		return SurveyDone{Attempt: attempt, Answers: parseAnswers(t, d), Token: Record{}, Err: err}
	case "fence":
		return FenceDone{Attempt: attempt, Answers: parseAnswers(t, d), Err: err}
	case "token-won":
		return TokenWon{Attempt: attempt}
	case "token-lost":
		return TokenLost{Attempt: attempt, Err: &ConflictError{Epoch: wal.Epoch(epoch), Holder: holder, Other: m.o.Node}}
	case "fast-forwarded":
		return FastForwardDone{Attempt: attempt, Err: err}
	case "started":
		return EpochStarted{Attempt: attempt, LSN: wal.LSN(lsn), Err: err}
	case "replayed":
		return ReplayDone{Attempt: attempt, Err: err}
	case "drained":
		return Drained{Attempt: attempt, Position: wal.Position{Epoch: m.Epoch(), LSN: wal.LSN(lsn)}, Err: err}
	case "handed-over":
		return HandedOver{Attempt: attempt, Epoch: wal.Epoch(epoch), Err: err}
	case "writer-stopped":
		return WriterStopped{Attempt: attempt, Err: err}
	case "progress":
		return Progressed{Attempt: attempt, Text: "half"}
	case "demote":
		return DemoteRequested{ID: id, Reason: reason}
	case "switchover":
		return SwitchoverRequested{ID: id, To: to}
	case "higher":
		return HigherEpochSeen{Epoch: wal.Epoch(epoch), Holder: holder}
	case "store-failed":
		return StoreFailed{Err: err}
	case "tick":
		return Tick{}
	}
	d.Fatalf(t, "unknown command")
	return nil
}

func parseAnswers(t *testing.T, d *datadriven.TestData) []Answer {
	t.Helper()
	var out []Answer
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		a := Answer{Node: f[0], Reachable: true, Voter: true}
		for _, w := range f[1:] {
			key, value, _ := strings.Cut(w, "=")
			switch key {
			case "down":
				a = Answer{Node: f[0], Err: "refused"}
			case "active":
				a.Role = RoleActive
			case "blank":
				a.Blank, a.Voter = true, false
			case "nonvoter":
				a.Voter = false
			case "pos":
				e, l, _ := strings.Cut(value, "/")
				a.Position = wal.Position{Epoch: wal.Epoch(number(t, d, e)), LSN: wal.LSN(number(t, d, l))}
			case "committed":
				a.Committed = wal.LSN(number(t, d, value))
			case "obeys":
				a.Tenures = append(a.Tenures, parseTenure(t, d, value))
			default:
				d.Fatalf(t, "unknown word %q", w)
			}
		}
		if n := len(a.Tenures); n > 0 {
			last := a.Tenures[n-1]
			a.Epoch, a.Holder, a.Sync = last.Epoch, last.Holder, last.Sync
		}
		out = append(out, a)
	}
	return out
}

func parseTenure(t *testing.T, d *datadriven.TestData, s string) Tenure {
	t.Helper()
	p := strings.Split(s, ":")
	if len(p) != 5 {
		d.Fatalf(t, "tenure %q", s)
	}
	set := setOf(number(t, d, p[2]), int(number(t, d, p[3])), strings.Split(p[4], ",")...)
	return Tenure{Epoch: wal.Epoch(number(t, d, p[0])), Holder: p[1], Sync: set}
}

func number(t *testing.T, d *datadriven.TestData, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return n
}

func describe(as []Action) string {
	var b strings.Builder
	for _, a := range as {
		switch a := a.(type) {
		case RoleChanged:
			fmt.Fprintf(&b, "role %s -> %s epoch=%d: %s\n", a.Old, a.New, a.Epoch, a.Reason)
		case Report:
			describeReport(&b, a)
		case Tell:
			fmt.Fprintf(&b, "tell id=%d: %s\n", a.ID, a.Text)
		case Ignored:
			fmt.Fprintf(&b, "ignored %s: %s\n", strings.TrimPrefix(fmt.Sprintf("%T", a.Event), "failover."), a.Reason)
		case AcquireToken:
			fmt.Fprintf(&b, "AcquireToken attempt=%d epoch=%d sync=%s version=%d\n", a.Attempt, a.Record.Epoch, a.Record.Sync, a.Record.Sync.Version)
		case StartEpoch:
			s := a.Start
			fmt.Fprintf(&b, "StartEpoch attempt=%d epoch=%d sync=%s previous=%d/%d lost=%d..%d\n", a.Attempt, s.Epoch, s.Sync, s.Previous.Epoch, s.Previous.LSN, s.LostFrom, s.LostTo)
		case FastForward:
			fmt.Fprintf(&b, "FastForward attempt=%d from=%s to=%d/%d\n", a.Attempt, a.From, a.To.Epoch, a.To.LSN)
		default:
			fmt.Fprintf(&b, "%s%+v\n", strings.TrimPrefix(fmt.Sprintf("%T", a), "failover."), a)
		}
	}
	return b.String()
}

func describeReport(b *strings.Builder, r Report) {
	if r.Err != nil {
		fmt.Fprintf(b, "report id=%d error: %v\n", r.ID, r.Err)
		return
	}
	fmt.Fprintf(b, "report id=%d ok epoch=%d already=%v start=%d loss=%s\n", r.ID, r.Result.Epoch, r.Result.Already, r.Result.Start, r.Result.Plan.Loss)
}

// R2, R7, R12: whatever order events come in, stale and fresh, the machine never panics, opens clients only after a replay, never stays
// waiting without a bound, and answers every request.
func TestMachineRandomEvents(t *testing.T) {
	for seed := range uint64(3000) {
		runRandom(t, seed)
	}
}

func runRandom(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	m := NewMachine(MachineOptions{Node: "b", Nodes: names[:3], Bound: func(string) int { return 4 }})
	open, replayed, failed := false, false, false
	pending := make(map[uint64]bool)
	check := func(ev Event) {
		as := m.Step(ev)
		for _, a := range as {
			switch a := a.(type) {
			case Replay:
				replayed = true
			case OpenClients:
				if !replayed || open || m.Role() != RoleActive {
					t.Fatalf("seed %d: clients opened: replayed %v, open %v, %s", seed, replayed, open, m.Role())
				}
				open = true
			case CloseClients:
				open, replayed = false, false
			case Report:
				if !pending[a.ID] {
					t.Fatalf("seed %d: request %d answered twice", seed, a.ID)
				}
				delete(pending, a.ID)
			case Exit:
				failed = true
			}
		}
		if open != (m.Role() == RoleActive) {
			t.Fatalf("seed %d: open %v as %s", seed, open, m.Role())
		}
	}
	for i := range uint64(60) {
		ev := randomEvent(rng, m, i+1)
		switch ev.(type) {
		case PromoteRequested, DemoteRequested, SwitchoverRequested:
			pending[i+1] = true
		}
		check(ev)
	}
	for range 20 {
		check(Tick{})
	}
	if len(pending) > 0 || (m.wait.stage != stageNone && !failed) {
		t.Fatalf("seed %d: as %s it still waits for %q, requests %v", seed, m.Role(), m.wait.stage, pending)
	}
}

func randomEvent(rng *rand.Rand, m *Machine, id uint64) Event {
	attempt := m.attempt
	if rng.IntN(6) == 0 {
		attempt--
	}
	var err error
	if rng.IntN(8) == 0 {
		err = errors.New("no luck")
	}
	set := setOf(1, 1, "b", "c")
	answers := func(fenced bool) []Answer {
		var out []Answer
		for _, n := range names[:3] {
			a := Answer{Node: n, Reachable: true, Voter: true, Position: wal.Position{Epoch: 1, LSN: wal.LSN(len(out))},
				Epoch: 1, Holder: "a", Tenures: []Tenure{{Epoch: 1, Holder: "a", Sync: set}}}
			if fenced {
				a.Epoch, a.Holder = m.Epoch(), "b"
				a.Tenures = append(a.Tenures, Tenure{Epoch: m.Epoch(), Holder: "b", Sync: set})
			}
			out = append(out, a)
		}
		return out
	}
	choices := []Event{
		PromoteRequested{ID: id, Next: wal.SyncSet{Members: []string{"a", "c"}, K: 1}},
		SurveyDone{Attempt: attempt, Answers: answers(false), Err: err}, TokenWon{Attempt: attempt},
		FenceDone{Attempt: attempt, Answers: answers(m.Epoch() > 0), Err: err}, FastForwardDone{Attempt: attempt, Err: err},
		EpochStarted{Attempt: attempt, LSN: 3, Err: err}, ReplayDone{Attempt: attempt, Err: err}, Tick{},
		WriterStopped{Attempt: attempt, Err: err}, Progressed{Attempt: attempt},
	}
	if rng.IntN(4) == 0 {
		choices = []Event{DemoteRequested{ID: id}, SwitchoverRequested{ID: id, To: "c"}, Drained{Attempt: attempt, Err: err},
			HandedOver{Attempt: attempt, Epoch: m.Epoch() + 1, Err: err}, TokenLost{Attempt: attempt, Err: errors.New("lost")},
			HigherEpochSeen{Epoch: m.Epoch() + wal.Epoch(rng.IntN(2)), Holder: names[rng.IntN(3)]}}
		if rng.IntN(10) == 0 {
			return StoreFailed{Err: errors.New("sync")}
		}
	}
	return choices[rng.IntN(len(choices))]
}
