package failover

import (
	"cmp"
	"fmt"
	"slices"

	"repld/wal"
)

// DetectorOptions configures a Detector. All lengths are on the detector's clock.
type DetectorOptions struct {
	Node      string
	Nodes     []string // data nodes, this one among them unless it is a witness
	Witnesses []string // voters without data
	Automatic bool     // without it nothing but Suspected and Recovered comes out

	Interval Mono // of heartbeats
	Suspect  Mono // silence after which a node counts as silent
	Lease    Mono // how long a voter does not support a candidate after it heard the active (R14)
	StepDown Mono // an active gives up after so long without its lease
	Startup  Mono // how long a node that just started waits for the others before it becomes a candidate
	Stagger  Mono // how much later the next best candidate tries
	Backoff  Mono // most that a flapping cluster waits before another failover; 0: never

	Preferred  string // node that takes the activity back by a switchover, "" for none
	TakeBack   Mono   // how long it must have been well before it does; 0: it does not
	PreferZone string // candidates in this zone go first
}

// Detector finds out that the active is gone, who should follow it, and asks the other voters whether they think so too; and it has an active that is alone
// give up. It decides when a promotion is tried, never whether it is safe: that is R5's business, in the Machine.
//
// It is pure: observations and time in, measures out. One goroutine owns it.
type Detector struct {
	o     DetectorOptions
	now   Mono // advances with Clock, never by much at once
	clock Mono // of the last Clock
	self  Self
	peers map[string]*peerView

	startup   Mono   // when this node may become a candidate although some have not been heard
	vacant    Mono   // since when there has been no active, 0 while there is one
	why       string // there is none
	rises     []Mono // when the epoch rose, the last minute's
	lost      Mono   // since when this active has no lease, 0 while it has
	leased    bool
	supported struct { // whom this node supported last
		candidate string
		until     Mono
	}
	election election
	well     Mono   // since when another node should rather be active and could be, 0 while none is
	handing  bool   // a hand-over that this detector began is under way
	again    Mono   // no other one before
	said     string // why nothing happens
	saidAt   Mono

	out []Measure
}

// peerView is another node as seen from here.
type peerView struct {
	heard     Mono // last sign of life
	ever      bool
	beat      Beat
	lost      bool // a connection was reset since the last sign of life
	lostAt    Mono // when
	dead      bool // and a new one was refused: its process is gone
	suspected bool
}

// election is a candidacy.
type election struct {
	round   uint64
	polling bool
	asked   Mono
	votes   map[string]Vote
	trying  bool // a promotion is under way
	retry   Mono // not before
	fails   int
}

// maxStep is how many heartbeat intervals one Clock may advance the detector: less than the silence that makes suspicious.
const maxStep = 2

const (
	rememberRises Mono    = 60e9   // failovers of the last minute count for the back-off
	freeRises     int     = 5      // so many of them are nothing strange
	farBehind     wal.LSN = 10_000 // records that make a candidate a bad one
)

// NewDetector returns a detector of a node that just started and has heard nobody.
func NewDetector(o DetectorOptions) *Detector {
	d := &Detector{o: o, peers: map[string]*peerView{}, now: 1}
	for _, n := range slices.Concat(o.Nodes, o.Witnesses) {
		if n != o.Node {
			d.peers[n] = &peerView{heard: d.now}
		}
	}
	d.startup = d.now + o.Startup
	d.leased = true
	return d
}

// Step takes one observation and returns what is to be done, in order.
func (d *Detector) Step(ob Observation) []Measure {
	d.out = nil
	switch ob := ob.(type) {
	case Clock:
		d.advance(ob.Now)
	case BeatHeard:
		d.beatHeard(ob.Beat)
	case TrafficHeard:
		if p := d.peers[ob.Node]; p != nil && p.beat.Epoch == ob.Epoch {
			d.alive(ob.Node, p)
		}
	case LinkLost:
		if p := d.peers[ob.Node]; p != nil {
			p.lost, p.lostAt = true, d.now
		}
	case LinkRefused:
		if p := d.peers[ob.Node]; p != nil && p.lost && p.ever {
			p.dead = true
		}
	case SelfChanged:
		d.selfChanged(ob.Self)
	case LeaseChanged:
		d.leased = ob.Held
	case Voted:
		d.voted(ob)
	case TriedPromotion:
		d.tried(ob.Err)
	case TriedHandOver:
		d.handing, d.well, d.again = false, 0, d.now+handOverPause
	}
	d.suspect()
	if d.o.Automatic && !d.self.Paused.On {
		d.act()
	} else {
		d.election.polling, d.vacant, d.lost, d.well = false, 0, 0, 0
	}
	return d.out
}

func (d *Detector) emit(m Measure) { d.out = append(d.out, m) }

// advance lets time pass, at most maxStep intervals of it: what a process missed while it stood still it has not observed (P3, P4, C3).
func (d *Detector) advance(now Mono) {
	if d.clock != 0 && now > d.clock {
		d.now += min(now-d.clock, maxStep*d.o.Interval)
	}
	d.clock = now
	d.rises = slices.DeleteFunc(d.rises, func(at Mono) bool { return d.now-at > rememberRises })
}

func (d *Detector) beatHeard(b Beat) {
	p := d.peers[b.Node]
	if p == nil {
		return
	}
	p.beat = b
	d.alive(b.Node, p)
}

// alive notes a sign of life. One that is told just after the loss of a connection may have been read before it, by another goroutine, and is no reason to doubt
// the loss: without that, the last words of a process that was killed took the proof of its death away, and its silence had to be waited for.
func (d *Detector) alive(node string, p *peerView) {
	p.heard, p.ever = d.now, true
	if p.lost && d.now-p.lostAt < d.o.Interval {
		return
	}
	p.lost, p.dead = false, false
	if p.suspected {
		p.suspected = false
		d.emit(Recovered{Node: node})
	}
}

func (d *Detector) selfChanged(s Self) {
	if s.Epoch > d.self.Epoch && d.self.Epoch > 0 {
		d.rises = append(d.rises, d.now)
		d.election.fails, d.election.retry = 0, 0
	}
	d.self = s
}

// silent reports whether nothing of p was heard for so long that it counts as gone, and why.
func (d *Detector) silent(p *peerView) (bool, string) {
	switch {
	case p.dead:
		return true, "its connection was reset and a new one refused: the process is gone"
	case d.now-p.heard >= d.o.Suspect:
		return true, fmt.Sprintf("silent for %d ms", (d.now - p.heard).Milliseconds())
	}
	return false, ""
}

// suspect says whom this node suspects, once.
func (d *Detector) suspect() {
	for _, n := range slices.Concat(d.o.Nodes, d.o.Witnesses) {
		p := d.peers[n]
		if p == nil || p.suspected {
			continue
		}
		if yes, why := d.silent(p); yes {
			p.suspected = true
			d.emit(Suspected{Node: n, Evidence: why, Proof: p.dead})
		}
	}
}

// act is everything that only automatic mode does.
func (d *Detector) act() {
	switch {
	case d.isWitness():
	case d.self.Role == RoleActive:
		d.election = election{round: d.election.round}
		d.vacant = 0
		d.actActive()
	case d.self.Role == RoleStandby:
		d.lost, d.well = 0, 0
		d.actStandby()
	}
}

func (d *Detector) isWitness() bool { return !slices.Contains(d.o.Nodes, d.o.Node) }

// active says whether there is an active as far as this node can tell, and if not, why not.
func (d *Detector) active() (node string, gone string) {
	holder := d.self.Holder
	for _, n := range d.o.Nodes {
		p := d.peers[n]
		if p == nil || !p.ever || (p.beat.Role != RoleActive && p.beat.Role != RoleCandidate) {
			continue
		}
		// One of an older epoch does not count, unless it is the holder, whose newest word is still to come.
		if quiet, _ := d.silent(p); !quiet && (p.beat.Epoch >= d.self.Epoch || n == holder) {
			return n, ""
		}
	}
	p := d.peers[holder]
	switch {
	case holder == "":
		return "", "no node was ever active"
	case holder == d.o.Node:
		return "", "this node was active and is not any more"
	case p == nil:
		return "", fmt.Sprintf("%s was active and is not a node of this cluster any more", holder)
	}
	if quiet, why := d.silent(p); quiet {
		return "", fmt.Sprintf("%s: %s", holder, why)
	}
	if !p.ever {
		return holder, "" // not heard yet, and not yet long enough
	}
	return "", fmt.Sprintf("%s is %s", holder, p.beat.Role)
}

func (d *Detector) actStandby() {
	e := &d.election
	node, why := d.active()
	if node != "" {
		if e.polling {
			e.polling = false
		}
		d.vacant, d.said = 0, ""
		return
	}
	if d.vacant == 0 {
		d.vacant = d.now
		e.fails, e.retry = 0, 0
	}
	d.why = why
	if e.trying {
		return
	}
	if e.polling {
		if d.now-e.asked >= 2*d.o.Interval {
			d.pollFailed(noMajority, 0)
		}
		return
	}
	if not := d.unfit(); not != "" {
		d.wait(not)
		return
	}
	if from := max(d.vacant+d.delay(), e.retry); d.now >= from {
		d.poll()
	}
}

// wait says why this node does not take over: when it begins, and then at most once a second, when there is something new to say.
func (d *Detector) wait(reason string) {
	if d.said == reason || (d.said != "" && d.now < d.saidAt+sayEvery) {
		return
	}
	d.said, d.saidAt = reason, d.now
	d.emit(Waits{Reason: reason})
}

const sayEvery Mono = 1e9

// unfit says why this node cannot be a candidate, "" if it can.
func (d *Detector) unfit() string {
	all := d.heardAll()
	switch {
	case !all && d.now < d.startup:
		return "waiting for the other nodes after the start"
	case d.self.Blank && !d.freshCluster():
		return "this node is blank"
	case d.self.Held:
		return "this node is held: a person told it to apply nothing"
	case !d.self.Blank && !d.self.Voter:
		return "this node's log is not known to be complete"
	}
	return ""
}

func (d *Detector) heardAll() bool {
	for _, p := range d.peers {
		if !p.ever {
			return false
		}
	}
	return true
}

// freshCluster reports whether every data node was heard and holds nothing: then the first epoch may begin.
func (d *Detector) freshCluster() bool {
	for _, n := range d.o.Nodes {
		p := d.peers[n]
		if p == nil {
			continue
		}
		if quiet, _ := d.silent(p); quiet || !p.ever || !p.beat.Blank {
			return false
		}
	}
	return d.self.Blank
}

// delay is how long after the vacancy this node tries: the better ones first, and longer when the activity has moved often of late.
func (d *Detector) delay() Mono {
	own, better := d.claim(), 0
	for _, n := range d.o.Nodes {
		p := d.peers[n]
		if p == nil || !p.ever || p.beat.Role != RoleStandby {
			continue
		}
		if quiet, _ := d.silent(p); quiet || (!p.beat.Voter && !d.self.Blank) || p.beat.Blank != d.self.Blank || p.beat.Held {
			continue
		}
		if d.better(claimOf(p.beat), own) {
			better++
		}
	}
	wait := Mono(better) * d.o.Stagger
	if n := len(d.rises) - freeRises; n >= 0 && d.o.Backoff > 0 {
		wait += min(d.o.Backoff, Mono(1e9)<<min(n, 10))
	}
	return wait
}

// claimOf is what a node would say in a poll of its own.
func claimOf(b Beat) Poll {
	return Poll{Candidate: b.Node, Epoch: b.Epoch, Lagged: b.Lagged, Sick: b.Sick, Priority: b.Priority, Zone: b.Zone, LSN: b.Position.LSN, Blank: b.Blank}
}

func (d *Detector) claim() Poll {
	c := claimOf(d.self.Beat)
	c.Candidate = d.o.Node
	return c
}

// better reports whether x should rather be active than y: a hot one before a lagged one, one whose application answers, one that is not far behind, the preferred zone, the
// higher priority; then the name decides.
func (d *Detector) better(x, y Poll) bool {
	no := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	far := func(a, b Poll) int { return no(a.LSN+farBehind < b.LSN) }
	return cmp.Or(
		cmp.Compare(no(x.Lagged), no(y.Lagged)),
		cmp.Compare(no(x.Sick != ""), no(y.Sick != "")),
		cmp.Compare(far(x, y), far(y, x)),
		cmp.Compare(no(x.Zone != d.o.PreferZone), no(y.Zone != d.o.PreferZone)),
		cmp.Compare(y.Priority, x.Priority),
		cmp.Compare(x.Candidate, y.Candidate),
	) < 0
}

func (d *Detector) poll() {
	e := &d.election
	e.round++
	e.polling, e.asked, e.votes = true, d.now, map[string]Vote{}
	d.emit(AskVotes{Round: e.round, Poll: d.claim()})
	d.count()
}

func (d *Detector) voted(v Voted) {
	e := &d.election
	if !e.polling || v.Round != e.round || d.peers[v.Node] == nil {
		return
	}
	e.votes[v.Node] = v.Vote
	d.count()
}

// count ends the poll when its outcome is clear. Nobody waits for the answer of a voter that is suspected itself, as the old active is.
func (d *Detector) count() {
	e := &d.election
	support, open, reason, wait := 1, 0, "", Mono(0)
	for n, p := range d.peers {
		v, voted := e.votes[n]
		switch {
		case !voted && !p.suspected:
			open++
		case !voted:
		case v.Support:
			support++
		default:
			if text := n + ": " + v.Reason; reason == "" || text < reason {
				reason = text
			}
			if v.Wait > 0 && (wait == 0 || v.Wait < wait) {
				wait = v.Wait
			}
		}
	}
	voters := len(d.peers) + 1
	switch {
	case support > voters/2:
		e.polling, e.trying = false, true
		d.said = ""
		d.emit(Promote{Reason: fmt.Sprintf("automatic, supported by %d of %d voters: %s", support, voters, d.why)})
	case support+open <= voters/2:
		d.pollFailed(cmp.Or(reason, noMajority), wait)
	}
}

const noMajority = "no majority of the voters answered"

// pollFailed tries again soon: whom another voter still hears it may cease to hear in a moment, at the latest after wait, if that is known.
func (d *Detector) pollFailed(reason string, wait Mono) {
	e := &d.election
	e.polling = false
	e.fails++
	after := (d.o.Interval / 4) << min(e.fails-1, 5)
	if wait > 0 {
		after = min(after, wait)
	}
	e.retry = d.now + after
	d.wait("not supported: " + reason)
}

func (d *Detector) tried(err error) {
	e := &d.election
	e.trying = false
	if err == nil {
		e.fails, e.retry = 0, d.now+2*d.o.Interval
		return
	}
	e.fails++
	e.retry = d.now + d.o.Interval<<min(e.fails, 6)
	d.wait("promotion failed: " + err.Error())
}

// Judge answers the poll of another node: would this voter have it take over? It grants nothing.
func (d *Detector) Judge(p Poll) Vote {
	no := func(format string, args ...any) Vote { return Vote{Reason: fmt.Sprintf(format, args...)} }
	switch {
	case d.self.Paused.On:
		return no("paused for maintenance: %s", d.self.Paused.Reason)
	case !d.o.Automatic:
		return no("failover.mode is manual here")
	case d.peers[p.Candidate] == nil || !slices.Contains(d.o.Nodes, p.Candidate):
		return no("%s is not a data node of this cluster", p.Candidate)
	case p.Epoch < d.self.Epoch:
		return no("epoch %d of %s is known here", d.self.Epoch, d.self.Holder)
	case d.self.Role == RoleActive:
		return no("it is active in epoch %d", d.self.Epoch)
	case d.self.Role == RoleCandidate:
		return no("it is taking over itself")
	}
	if node, age := d.hears(p.Candidate); node != "" {
		v := no("it heard the active %s %d ms ago", node, age.Milliseconds())
		v.Wait = max(d.o.Lease, d.o.Suspect) - age
		return v
	}
	if !d.isWitness() && p.Lagged && !d.self.Lagged && !d.self.Held && d.self.Voter && !d.self.Blank {
		return no("it is a hot standby, the candidate a lagged one")
	}
	if e := d.election; (e.polling || e.trying) && d.better(d.claim(), p) {
		return no("it is a candidate itself")
	}
	if s := d.supported; s.candidate != p.Candidate && d.now < s.until {
		return no("it supports %s", s.candidate)
	}
	d.supported.candidate, d.supported.until = p.Candidate, d.now+2*d.o.Interval
	d.election.polling = false
	return Vote{Support: true}
}

// hears names the active that this node has heard within the lease, unless its process is proven to be gone or it says itself that it is active no more.
func (d *Detector) hears(candidate string) (node string, age Mono) {
	for _, n := range d.o.Nodes {
		p := d.peers[n]
		if p == nil || !p.ever || p.dead || n == candidate || p.beat.Epoch < d.self.Epoch {
			continue
		}
		serves := p.beat.Role == RoleActive || p.beat.Role == RoleCandidate
		if age := d.now - p.heard; serves && age < max(d.o.Lease, d.o.Suspect) {
			return n, age
		}
	}
	return "", 0
}

// actActive has an active that lost its lease give up, and hands over to the preferred node.
func (d *Detector) actActive() {
	if d.leased {
		d.lost = 0
	} else if d.lost == 0 {
		d.lost = d.now
	} else if d.now-d.lost >= d.o.StepDown {
		d.lost = d.now // once more, should it still be active after as long again
		d.emit(GiveUp{Reason: fmt.Sprintf("no majority of the voters has been heard for %d ms", d.o.StepDown.Milliseconds())})
		return
	}
	to, reason, after := d.handOver()
	switch {
	case to == "":
		d.well = 0
	case d.well == 0:
		d.well = d.now
	case !d.handing && d.now-d.well >= after && d.now >= d.again:
		d.handing = true
		d.emit(HandOverTo{Node: to, Reason: reason})
	}
}

// handOverPause is how long an active leaves a hand-over alone that did not work.
const handOverPause Mono = 10e9

// handOver names the node that should rather be active: the preferred one while it is as good as this one, any good one while this node's application does not answer.
func (d *Detector) handOver() (node, reason string, after Mono) {
	if !d.leased {
		return "", "", 0
	}
	best := Poll{}
	for _, n := range d.o.Nodes {
		p := d.peers[n]
		if p == nil || !p.ever || p.dead || p.beat.Role != RoleStandby || !p.beat.Voter || p.beat.Blank || p.beat.Lagged || p.beat.Held || p.beat.Sick != "" ||
			p.beat.Epoch != d.self.Epoch || p.beat.Position.LSN+farBehind < d.self.Position.LSN {
			continue
		}
		if quiet, _ := d.silent(p); quiet {
			continue
		}
		if n == d.o.Preferred && d.o.TakeBack > 0 {
			return n, n + " is the preferred active", d.o.TakeBack
		}
		if c := claimOf(p.beat); d.self.Sick != "" && (best.Candidate == "" || d.better(c, best)) {
			best = c
		}
	}
	if best.Candidate == "" {
		return "", "", 0
	}
	return best.Candidate, "the application here does not answer: " + d.self.Sick, 0
}

// Suspects lists the nodes that count as silent or dead.
func (d *Detector) Suspects() (nodes []string) {
	for n, p := range d.peers {
		if p.suspected {
			nodes = append(nodes, n)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// Exposure is what a promotion without the old active's log may lose, as far as this node knows: records that the active had when it was heard last and that
// `have` does not reach.
func (d *Detector) Exposure(have wal.LSN) uint64 {
	seen := max(d.self.Seen, have)
	if p := d.peers[d.self.Holder]; p != nil {
		seen = max(seen, p.beat.End)
	}
	return uint64(seen - have)
}
