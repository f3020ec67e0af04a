package coresim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"

	"repld/test/invariant"
	"repld/wal"
)

// Sim is one run: a cluster, its scheduler and its checker. Everything happens on one goroutine, in the order of (time, sequence).
type Sim struct {
	c     Config
	now   Time
	seq   uint64
	queue queue
	rng   *rand.Rand
	nodes []*node
	store *tokenStore // nil without a shared one
	net   network
	check *invariant.Checker
	trace trace
	stats Stats
	calm  bool // no more faults: the phase in which the cluster must become healthy

	records uint64 // numbers contents of records
	weak    bool   // fewer acks were asked for than configured at some time
	copies  bool   // a disk was set back to an older copy at some time
	hurt    bool   // a disk lost something, or a person consented to loss
	clients clients
	person  person
	stopped error // ends the run
}

// Stats counts what a run did.
type Stats struct {
	Steps      uint64
	Time       Time
	Faults     int
	Promotions int // that made a node active
	Refused    int
	Elections  int // promotions that nodes began by themselves
	GivenUp    int // actives that stepped down without a lease
	Read       int // linearizable reads answered
	Consented  int
	Switchover int
	Written    int
	Acked      int
	Unknown    int
	Restarts   int
	Seeded     int // snapshots installed
	Cut        int // frames cut and saved
	SetChanges int
	Stuck      int       // no promotion was possible without consent, though no disk had lost anything
	Nudged     int       // a person had to begin a new epoch for a standby to come back
	Excused    int       // promotions that counted an old copy of a disk, which nobody can know
	Epoch      wal.Epoch // highest
	Healed     Time      // from the last fault to health
}

func (s *Stats) add(o Stats) {
	s.Steps += o.Steps
	s.Time += o.Time
	s.Faults += o.Faults
	s.Promotions += o.Promotions
	s.Refused += o.Refused
	s.Consented += o.Consented
	s.Elections += o.Elections
	s.GivenUp += o.GivenUp
	s.Read += o.Read
	s.Switchover += o.Switchover
	s.Written += o.Written
	s.Acked += o.Acked
	s.Unknown += o.Unknown
	s.Restarts += o.Restarts
	s.Seeded += o.Seeded
	s.Cut += o.Cut
	s.SetChanges += o.SetChanges
	s.Excused += o.Excused
	s.Nudged += o.Nudged
	s.Stuck += o.Stuck
	s.Epoch = max(s.Epoch, o.Epoch)
	s.Healed = max(s.Healed, o.Healed)
}

// event is one step to come. Those of a process that died are dropped; those of one that is paused wait.
type event struct {
	at  Time
	seq uint64
	p   *proc
	fn  func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// at schedules fn, as a step of p unless that is nil.
func (s *Sim) at(t Time, p *proc, fn func()) {
	s.seq++
	heap.Push(&s.queue, event{at: t, seq: s.seq, p: p, fn: fn})
}

// after schedules fn as a step of p, by p's own clock.
func (s *Sim) after(d Time, p *proc, fn func()) {
	if p != nil {
		d += d * p.n.drift / 1000
	}
	s.at(s.now+d, p, fn)
}

// step runs the next event.
func (s *Sim) step() {
	e := heap.Pop(&s.queue).(event)
	s.now = max(s.now, e.at)
	if p := e.p; p != nil {
		if p.dead {
			return
		}
		if until := p.n.paused; until > s.now {
			s.at(until, p, e.fn)
			return
		}
	}
	s.stats.Steps++
	s.trace.mix(uint64(s.now))
	e.fn()
}

// run goes on until the time, a violation, or done says so.
func (s *Sim) run(until Time, done func() bool) {
	for s.check.Err() == nil && s.stopped == nil && len(s.queue) > 0 && s.queue[0].at <= until && (done == nil || !done()) {
		s.step()
	}
	if s.check.Err() == nil && (done == nil || !done()) {
		s.now = max(s.now, until)
	}
}

func (s *Sim) chance(n, of int) bool { return n > 0 && s.rng.IntN(of) < n }

// between is a random time.
func (s *Sim) between(a, b Time) Time { return a + Time(s.rng.Int64N(int64(b-a+1))) }

// syncTime is how long a sync takes.
func (s *Sim) syncTime() Time {
	if s.c.Slow && !s.calm {
		return s.between(ms/2, 30*ms)
	}
	return s.between(100*us, 3*ms)
}

func (s *Sim) mutant(m Mutant) bool { return s.c.Mutant == m }

// note is a line of the trace. The numbers go into the hash; the line is only written when somebody reads it.
func (s *Sim) note(n *node, what string, args ...uint64) {
	s.trace.word(what)
	for _, a := range args {
		s.trace.mix(a)
	}
	if !s.trace.on || what == "gossip" {
		return
	}
	who := "-"
	if n != nil {
		who = n.name
	}
	s.trace.line(fmt.Sprintf("%10.3f %s %s %v", float64(s.now)/float64(ms), who, what, args))
}

// say is a line for people only.
func (s *Sim) say(n *node, format string, args ...any) {
	if s.trace.on {
		s.trace.line(fmt.Sprintf("%10.3f %s   %s", float64(s.now)/float64(ms), n.name, fmt.Sprintf(format, args...)))
	}
}
