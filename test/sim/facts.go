package sim

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"repld/internal/kv"
	"repld/test/invariant"
	"repld/wal"
)

// consentReason begins the reason of promotions that a person consented to lose data with, so that the epoch-start record says so.
const consentReason = "consent: "

// facts is what all nodes and clients report, in one order, held against the rules by an invariant.Checker. Nothing is called while its lock is held.
type facts struct {
	mu       sync.Mutex
	check    *invariant.Checker
	sets     []set           // by LSN, from 1: what the committed history does to keys
	where    map[string]int  // value → index in sets
	consents int             // epochs that were begun with consent
	vague    bool            // a log that was adopted with consent did not reach back to what was committed
	served   map[uint64]bool // epochs that were opened to clients
	opened   string          // the node that opened last
}

// set is what a committed record does: a key gets a value. The zero set does nothing to keys.
type set struct {
	key, value string
	epoch      wal.Epoch
	record     uint64
}

func newFacts() *facts {
	return &facts{check: invariant.New(), where: map[string]int{}, served: map[uint64]bool{}}
}

// err is the first violation.
func (f *facts) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.check.Err()
}

func (f *facts) fail(rule, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.check.Fail(rule, format, args...)
}

// probe is the node.Observer of one process. What a process does after its death does not count.
type probe struct {
	*facts
	node string

	// Under facts.mu.
	dead  bool
	told  wal.LSN // committed, as reported by this process in epoch
	in    wal.Epoch
	log   *wal.Reader // behind told; nil: to be opened
	ahead *wal.Frame  // read, and not committed yet
}

// bury ends the reports of the process.
func (p *probe) bury() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	p.rewindLocked()
}

// Committed implements node.Observer.
func (p *probe) Committed(epoch wal.Epoch, log *wal.Log, lsn wal.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return
	}
	if p.in != epoch {
		p.in, p.told = epoch, 0
		p.rewindLocked()
	}
	frames, err := p.committedLocked(log, lsn)
	if end := p.check.End().LSN; errors.Is(err, wal.ErrCorrupt) && p.told < end && end <= lsn {
		p.told = end // a bit went wrong in what is known: the chain hash of what follows says that it was the same
		frames, err = p.committedLocked(log, lsn)
	}
	if err != nil {
		p.check.Fail("R1", "%s committed LSN %d in epoch %d, which its log does not have: %v", p.node, lsn, epoch, err)
		return
	}
	for _, f := range frames {
		p.consented(f)
	}
	p.check.Committed(p.node, epoch, history{log, p.told, frames}, p.told, lsn)
	p.told = lsn
	if end := p.check.End().LSN; int(end) < len(p.sets) { // set back with consent
		p.sets = p.sets[:end]
	}
	for _, f := range frames {
		p.take(f)
	}
}

// committedLocked returns the frames that were committed since the last call. It goes on where it was, so that a bit that went wrong in what was read before does not matter.
func (p *probe) committedLocked(log *wal.Log, lsn wal.LSN) (all []*wal.Frame, err error) {
	for tries := 0; ; tries++ {
		all, err = p.nextLocked(log, lsn)
		if err != nil {
			p.rewindLocked()
		}
		if !errors.Is(err, wal.ErrTrimmed) || tries > 10 { // meanwhile
			return all, err
		}
	}
}

func (p *probe) nextLocked(log *wal.Log, lsn wal.LSN) (all []*wal.Frame, err error) {
	if p.log == nil {
		at, err := log.PositionAt(max(p.told, log.Start().LSN))
		if err != nil {
			return nil, err
		}
		if p.log, err = log.NewReader(at.LSN); err != nil {
			return nil, err
		}
	}
	for {
		f := p.ahead
		if p.ahead = nil; f == nil {
			if f, err = p.log.TryNext(); f == nil || err != nil {
				return all, err
			}
		}
		if f.Last() > lsn {
			p.ahead = f
			return all, nil
		}
		if f.First > p.told {
			all = append(all, f)
		}
	}
}

// rewindLocked gives the place in the log up.
func (p *probe) rewindLocked() {
	if p.log != nil {
		p.log.Close()
	}
	p.log, p.ahead = nil, nil
}

// consented looks for epochs that began with consent.
func (f *facts) consented(x *wal.Frame) {
	_ = x.Each(func(r wal.Record) error { // the frame was checked when it was made
		if r.Kind == wal.KindEpochStart && strings.Contains(string(r.Payload), consentReason) {
			f.check.Consented(x.Epoch)
			f.consents++
		}
		return nil
	})
}

// latest is the node that let clients write last.
func (f *facts) latest() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened
}

// take remembers what a committed frame does.
func (f *facts) take(x *wal.Frame) {
	if int(x.First) > len(f.sets)+1 {
		f.sets, f.vague = append(f.sets, make([]set, int(x.First)-1-len(f.sets))...), true
	}
	err := x.Each(func(r wal.Record) error {
		if int(r.LSN) <= len(f.sets) {
			return nil
		}
		s := set{epoch: x.Epoch, record: number(r)}
		if r.Kind == wal.KindEffects {
			if err := kv.WalkEffects(r.Payload, func(e kv.Effect) error {
				if e.Row == kv.RowKey && e.Op == kv.OpSet {
					s.key, s.value = string(e.Key), string(e.Value)
				}
				return nil
			}); err != nil {
				return err
			}
		}
		f.where[s.value] = len(f.sets)
		f.sets = append(f.sets, s)
		return nil
	})
	if err != nil {
		f.check.Fail("R1", "frame %v is committed and cannot be read: %v", x.End(), err)
	}
}

// number stands for a record's content.
func number(r wal.Record) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(uint64(r.Kind))
	_, _ = d.Write(r.Payload) // never fails
	return d.Sum64() | 1
}

// Opened implements node.Observer.
func (p *probe) Opened(epoch wal.Epoch, log *wal.Log) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return
	}
	p.served[uint64(epoch)], p.opened = true, p.node
	p.check.Active(p.node, epoch, history{Log: log})
}

// Applied implements node.Observer.
func (p *probe) Applied(from wal.Position, frames []*wal.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return
	}
	var fresh []invariant.Frame
	for _, x := range frames {
		if x.Last() > from.LSN {
			fresh = append(fresh, invariant.Frame{Prev: x.Prev, First: x.First, End: x.End()})
		}
	}
	p.check.Applied(p.node, from, fresh)
}

// acked is a client's word that node answered its write with success (R1).
func (f *facts) acked(node, value string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.where[value]
	if !ok || i >= len(f.sets) || f.sets[i].value != value {
		if f.consents == 0 {
			f.check.Fail("R1", "%s acked %.20q, which is not committed", node, value)
		}
		return
	}
	f.check.Acked(node, f.sets[i].epoch, wal.LSN(i+1), f.sets[i].record)
}

// read is a client's word that node answered the read of a key with value, which began when version was acked.
func (f *facts) read(node, key, value string, version int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.consents > 0 {
		return
	}
	got := 0
	if value != "" {
		if i, ok := f.where[value]; !ok || i >= len(f.sets) || f.sets[i].value != value {
			f.check.Fail("R7", "%s answered a read of %s with %.20q, which is not committed", node, key, value)
		}
		rest, its := strings.CutPrefix(value, key+"#")
		number, _, _ := strings.Cut(rest, "#")
		var err error
		if got, err = strconv.Atoi(number); err != nil || !its {
			f.check.Fail("R1", "%s answered a read of %s with %.20q", node, key, value)
		}
	}
	if got < version {
		f.check.Fail("R14", "%s answered a read of %s with version %d, version %d was acked before", node, key, got, version)
	}
}

// promised says which epoch a running node obeys (R3).
func (p *probe) promised(incarnation uint64, epoch wal.Epoch, holder string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead && epoch > 0 {
		p.check.Answered(p.node, incarnation, epoch, holder)
	}
}

// restarted says which epoch a node obeys after its start (R3).
func (p *probe) restarted(incarnation uint64, epoch wal.Epoch, holder string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.check.Restarted(p.node, incarnation, epoch, holder)
}

// state is what the committed history makes of all keys, and whether it is known exactly.
func (f *facts) state() (values map[string]string, exact bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	values = map[string]string{}
	for _, s := range f.sets {
		if s.key != "" {
			values[s.key] = s.value
		}
	}
	return values, !f.vague
}

// history is a real log as the checker reads it.
type history struct {
	*wal.Log
	from wal.LSN // read holds all frames above it
	read []*wal.Frame
}

// Frames implements invariant.History.
func (h history) Frames(after, to wal.LSN) []invariant.Frame {
	frames := h.read
	if frames == nil || after < h.from {
		var err error
		if frames, err = framesOf(h.Log, after, to); err != nil {
			panic(fmt.Sprintf("sim: frames %d to %d: %v", after, to, err))
		}
	}
	out := make([]invariant.Frame, 0, len(frames))
	for _, x := range frames {
		if x.First <= after || x.Last() > to {
			continue
		}
		f := invariant.Frame{Prev: x.Prev, First: x.First, End: x.End()}
		_ = x.Each(func(r wal.Record) error { // checked when it was made
			f.Records = append(f.Records, number(r))
			return nil
		})
		out = append(out, f)
	}
	return out
}

// framesOf returns the frames with first LSN above after and last LSN up to to, as far back as the log reaches.
func framesOf(log *wal.Log, after, to wal.LSN) ([]*wal.Frame, error) {
	for tries := 0; ; tries++ {
		all, err := readFrames(log, after, to)
		if errors.Is(err, wal.ErrTrimmed) && tries < 10 { // meanwhile
			continue
		}
		return all, err
	}
}

func readFrames(log *wal.Log, after, to wal.LSN) ([]*wal.Frame, error) {
	at, err := log.PositionAt(max(after, log.Start().LSN))
	if err != nil {
		return nil, err
	}
	r, err := log.NewReader(at.LSN)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var all []*wal.Frame
	for at.LSN < to {
		f, err := r.TryNext()
		if err != nil {
			return nil, err
		}
		if f == nil || f.Last() > to {
			break
		}
		if f.First > after {
			all = append(all, f)
		}
		at = f.End()
	}
	return all, nil
}

// lines keeps the last lines of all nodes' logs.
type lines struct {
	mu   sync.Mutex
	ring [][]byte
	next int
}

const keepLines = 4000

// Write implements io.Writer: one line a call.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b = bytes.Clone(b)
	if len(l.ring) < keepLines {
		l.ring = append(l.ring, b)
	} else {
		l.ring[l.next%keepLines] = b
	}
	l.next++
	return len(b), nil
}

// last returns at most n lines, the newest ones.
func (l *lines) last(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for i := max(0, l.next-min(n, len(l.ring))); i < l.next; i++ {
		b.WriteString("  ")
		b.Write(l.ring[i%keepLines])
	}
	return b.String()
}
