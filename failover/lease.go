package failover

import (
	"math"
	"slices"

	"repld/wal"
)

// Mono is a moment, or a length of time, in nanoseconds on a clock that nobody sets and that goes on while the machine sleeps
// (CLOCK_BOOTTIME). Moments of two nodes are never compared.
type Mono int64

// Forever is a moment that does not come.
const Forever Mono = math.MaxInt64

// Milliseconds is a length for messages.
func (m Mono) Milliseconds() int64 { return int64(m) / 1e6 }

// LeaseOptions configures a Lease.
type LeaseOptions struct {
	Voters []string // the others: data nodes and witnesses
	// Majority: the lease needs a majority of all voters, the active itself among them. Without it, in manual mode, only members of the
	// sync set matter, because nobody but a person promotes.
	Majority bool
	Length   Mono // how long a voter keeps its promise, by its own clock
	Margin   Mono // given away for clocks that run at different speeds
}

// Lease is the active's side of R14: until when it may answer linearizable reads. A voter that acks a heartbeat promises that for Length from
// then on no new active opens by its word; as it heard the heartbeat after it was sent, the active may count Length − Margin from the sending.
//
// Needed are a majority of the voters, and k of the recorded sync set V: whoever is promoted without this node's own grant has the grant of |V| − k + 1
// members of V (R5), so one of those who acked is among them, and tells the candidate how long to wait. With k = 0 such a promotion
// is a consent to data loss, and only the majority protects reads.
//
// It is pure: no clock, no I/O.
type Lease struct {
	o     LeaseOptions
	sent  map[string]Mono // voter → sending of the newest heartbeat that it acked
	syncs []wal.SyncSet
	until Mono
}

// NewLease returns a lease that nobody has supported yet.
func NewLease(o LeaseOptions) *Lease {
	l := &Lease{o: o}
	l.Reset()
	return l
}

// Reset begins the lease of a new epoch: what was acked under an older one does not count.
func (l *Lease) Reset(syncs ...wal.SyncSet) {
	l.sent = make(map[string]Mono, len(l.o.Voters))
	l.SetSync(syncs...)
}

// SetSync changes the sync sets whose members matter: the one in force and, while it is being changed (R6), the one to come.
func (l *Lease) SetSync(syncs ...wal.SyncSet) {
	l.syncs = syncs
	l.update()
}

// Acked notes that voter acked the heartbeat that was sent at `sent`.
func (l *Lease) Acked(voter string, sent Mono) {
	if old, ok := l.sent[voter]; ok && old >= sent {
		return
	}
	l.sent[voter] = sent
	l.update()
}

// Until returns the moment at which the lease ends: Forever when nobody's word is needed, 0 when too few have acked.
func (l *Lease) Until() Mono { return l.until }

func (l *Lease) update() {
	l.until = Forever
	if l.o.Majority {
		l.until = l.newest(l.o.Voters, (len(l.o.Voters)+1)/2) // with this node itself that is a majority
	}
	for _, v := range l.syncs {
		l.until = min(l.until, l.newest(v.Members, v.K))
	}
}

// newest returns until when `need` of the nodes support this one.
func (l *Lease) newest(nodes []string, need int) Mono {
	if need <= 0 {
		return Forever
	}
	var sent []Mono
	for _, n := range nodes {
		if at, ok := l.sent[n]; ok {
			sent = append(sent, at)
		}
	}
	if len(sent) < need {
		return 0
	}
	slices.Sort(sent)
	return sent[len(sent)-need] + l.o.Length - l.o.Margin
}

// SetMajority changes LeaseOptions.Majority: maintenance suspends it.
func (l *Lease) SetMajority(on bool) {
	if l.o.Majority != on {
		l.o.Majority = on
		l.update()
	}
}

// Promise is a voter's side of R14: which active it supports, and for how much longer an older one may still answer reads. The caller makes sure that
// Heard is called only for an epoch that the fence obeys, under one lock with that check.
type Promise struct {
	Length Mono // of the lease

	epoch  wal.Epoch
	holder string
	until  Mono // of the promise to holder
	// old is the promise to an earlier active, "" when there were several.
	old      string
	oldUntil Mono

	gone map[string]bool // nodes whose process is known to be gone
}

// Start is called when the process starts: what it promised before is not known any more, so it counts as promised now, to the holder of the epoch that it obeys and to any
// earlier one: it may have granted that epoch a moment before it died, to another node or, as a candidate, to itself.
func (p *Promise) Start(holder string, epoch wal.Epoch, now Mono) {
	p.holder, p.epoch, p.until = holder, epoch, now+p.Length
	p.old, p.oldUntil = "", p.until
}

// Heard notes a heartbeat of the active of epoch, and reports whether it may be acked: not to a process that is known to be gone, whose last words are answered late. Nobody
// takes that ack, and the next active would wait for the end of a lease that nobody has.
func (p *Promise) Heard(holder string, epoch wal.Epoch, now Mono) bool {
	if p.gone[holder] {
		return false
	}
	if epoch < p.epoch {
		return true
	}
	if epoch > p.epoch && p.until > now {
		if p.old = p.holder; p.oldUntil > now {
			p.old = ""
		}
		p.oldUntil = max(p.oldUntil, p.until)
	}
	p.holder, p.epoch, p.until = holder, epoch, now+p.Length
	return true
}

// Dead notes the proof that holder's process is gone: it answers no reads any more.
func (p *Promise) Dead(holder string) {
	if p.gone == nil {
		p.gone = map[string]bool{}
	}
	p.gone[holder] = true
	if p.holder == holder {
		p.until = 0
	}
	if p.old == holder {
		p.oldUntil = 0
	}
}

// Alive notes that a node is there again.
func (p *Promise) Alive(node string) { delete(p.gone, node) }

// Left returns for how much longer an active of an epoch below `epoch` may answer reads by this voter's word, and its name ("" if there may be
// several).
func (p *Promise) Left(epoch wal.Epoch, now Mono) (holder string, left Mono) {
	if p.epoch >= epoch {
		return p.old, max(0, p.oldUntil-now)
	}
	if p.oldUntil > now {
		return "", max(p.until, p.oldUntil) - now
	}
	return p.holder, max(0, p.until-now)
}
