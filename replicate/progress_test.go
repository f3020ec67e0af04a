package replicate

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"repld/wal"
)

// chainLog is a History made of frame ends only.
type chainLog struct {
	ends  []wal.Position // ends[0] is the start
	tries int
}

func (c *chainLog) Start() wal.Position { return c.ends[0] }
func (c *chainLog) End() wal.Position   { return c.ends[len(c.ends)-1] }

func (c *chainLog) PositionAt(lsn wal.LSN) (wal.Position, error) {
	c.tries++
	at := wal.Position{}
	if lsn < c.ends[0].LSN {
		return at, wal.ErrTrimmed
	}
	for _, e := range c.ends {
		if e.LSN <= lsn {
			at = e
		}
	}
	return at, nil
}

func (c *chainLog) add(epoch wal.Epoch, lsn wal.LSN, salt string) {
	h := fnv.New64a()
	fmt.Fprint(h, c.End(), epoch, lsn, salt)
	c.ends = append(c.ends, wal.Position{Epoch: epoch, LSN: lsn, Hash: wal.Hash(h.Sum64())})
}

func (c *chainLog) trim(lsn wal.LSN) {
	for c.ends[0].LSN < lsn {
		c.ends = c.ends[1:]
	}
}

func (c *chainLog) cut(lsn wal.LSN) {
	for c.End().LSN > lsn {
		c.ends = c.ends[:len(c.ends)-1]
	}
}

// TestProgress runs transcripts (R9, R15: what is common is found by LSN and chain hash; what is not is cut or rebuilt).
//
//	log NAME [like=NAME upto=LSN] [trim=LSN]   then one line for each epoch: e2 5 10 15
//	join SENDER STANDBY                        the whole exchange until begin or snapshot
//	ready | rebuild | sent LSN | ack LSN | trimmed | answer LSN | unavailable
func TestProgress(t *testing.T) {
	logs := map[string]*chainLog{}
	var p *Progress
	var begun wal.Position
	say := func(a Action, err error) string {
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		return strings.ReplaceAll(a.String(), "0000000000000000", "-") + "\n"
	}
	lsn := func(d *datadriven.TestData) wal.LSN {
		n, err := strconv.ParseUint(d.CmdArgs[0].Key, 10, 64)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		return wal.LSN(n)
	}
	datadriven.RunTest(t, "testdata/progress", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "log":
			return makeLog(t, d, logs)
		case "join":
			p = NewProgress(logs[d.CmdArgs[0].Key])
			standby := logs[d.CmdArgs[1].Key]
			a, err := p.Join(standby.Start(), standby.End())
			out := say(a, err)
			for err == nil && a.Op == OpProbe {
				at, lookup := standby.PositionAt(a.LSN)
				out += fmt.Sprintf("  standby: %d ok=%v\n", at.LSN, lookup == nil)
				a, err = p.Probed(at, lookup == nil)
				out += say(a, err)
			}
			begun = a.From
			return out
		case "ready":
			return say(p.Ready(begun))
		case "rebuild":
			return say(p.Rebuild("state has applied more"))
		case "trimmed":
			return say(p.Trimmed(), nil)
		case "unavailable":
			return say(p.Probed(wal.Position{}, false))
		case "answer":
			return say(p.Probed(wal.Position{LSN: lsn(d)}, true))
		case "sent":
			end := wal.Position{Epoch: 9, LSN: lsn(d), Hash: wal.Hash(lsn(d))}
			if err := p.SentFrame(p.Sent().Hash, end, p.Sent().LSN+1); err != nil {
				return "error: " + err.Error()
			}
		case "ack":
			if err := p.Acked(lsn(d)); err != nil {
				return "error: " + err.Error()
			}
		default:
			d.Fatalf(t, "unknown command")
		}
		return fmt.Sprintf("%s sent=%d durable=%d", p.State(), p.Sent().LSN, p.Durable())
	})
}

func makeLog(t *testing.T, d *datadriven.TestData, logs map[string]*chainLog) string {
	name := d.CmdArgs[0].Key
	l := &chainLog{ends: make([]wal.Position, 1)}
	var like string
	var upto, trim uint64
	d.MaybeScanArgs(t, "like", &like)
	d.MaybeScanArgs(t, "upto", &upto)
	d.MaybeScanArgs(t, "trim", &trim)
	if like != "" {
		l.ends = append([]wal.Position(nil), logs[like].ends...)
		l.cut(wal.LSN(upto))
	}
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		epoch, _ := strconv.Atoi(strings.TrimPrefix(words[0], "e"))
		for _, w := range words[1:] {
			n, err := strconv.Atoi(w)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			l.add(wal.Epoch(epoch), wal.LSN(n), name)
		}
	}
	l.trim(wal.LSN(trim))
	logs[name] = l
	return fmt.Sprintf("%d..%d", l.Start().LSN, l.End().LSN)
}

// The search finds exactly the last common frame end, in about log2 questions, for every place where logs may part.
func TestProgressSearch(t *testing.T) {
	const frames = 300
	for part := 0; part <= frames; part += 7 {
		ours, theirs := &chainLog{ends: make([]wal.Position, 1)}, &chainLog{ends: make([]wal.Position, 1)}
		for i := 1; i <= frames; i++ {
			ours.add(1, wal.LSN(3*i), "")
			if i <= part {
				theirs.add(1, wal.LSN(3*i), "")
			} else {
				theirs.add(1, wal.LSN(3*part+5*(i-part)), "other")
			}
		}
		p := NewProgress(ours)
		a, err := p.Join(theirs.Start(), theirs.End())
		questions := 0
		for err == nil && a.Op == OpProbe {
			at, _ := theirs.PositionAt(a.LSN)
			a, err = p.Probed(at, true)
			questions++
		}
		if err != nil || a.Op != OpBegin || a.From.LSN != wal.LSN(3*part) {
			t.Fatalf("parted after %d: %v, %v", 3*part, a, err)
		}
		if questions > 12 {
			t.Fatalf("parted after %d: %d questions", 3*part, questions)
		}
	}
}
