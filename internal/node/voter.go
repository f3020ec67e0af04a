package node

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"repld/failover"
	"repld/internal/heartbeat"
	"repld/replicate"
	"repld/wal"
)

// linkHeartbeat is the kind of the links that heartbeats travel on.
const linkHeartbeat = "heartbeat"

// bootTime is the clock of leases: it goes on while the machine sleeps, and nobody sets it (FAULTS C1, C3).
func bootTime() failover.Mono {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("node: CLOCK_BOOTTIME: " + err.Error()) // Linux has had it since 2.6.39
	}
	return failover.Mono(ts.Nano())
}

// voterOptions are what a voter needs of its node, which may be a data node or a witness.
type voterOptions struct {
	peers    []string
	interval time.Duration
	lease    time.Duration
	detector failover.DetectorOptions
	dial     func(ctx context.Context, peer string) (net.Conn, error)
	clock    func() failover.Mono
	self     func() failover.Self                                     // this node now; cheap
	obeys    func() (wal.Epoch, string)                               // the fence
	heard    func(failover.Beat)                                      // every beat of a peer, before it is answered: persists a newer epoch (R3)
	acked    func(peer string, ack heartbeat.Ack, sent failover.Mono) // an answer to a beat of ours
	gone     func(peer string, proof bool)                            // a peer is suspected; must not block
	leased   func() bool                                              // whether this node, if active, has its lease
	traffic  func() (node string, epoch wal.Epoch, heard bool)        // of the log stream since the last call
	record   func(failover.Measure)                                   // for the journal
	voted    func(failover.Poll, failover.Vote)                       // the same for answers to candidates
	do       func(ctx context.Context, m failover.Measure, v *voter)  // carries out what the detector wants; must not block
	logger   *slog.Logger
}

// voter is a node's part in finding failure and in electing: it sends and answers heartbeats, owns the detector, and remembers what it promised (R14).
type voter struct {
	o            voterOptions
	agent        *heartbeat.Agent
	observations chan failover.Observation
	judged       chan judgement
	done         chan struct{} // closed when run ends
	suspects     atomic.Pointer[[]string]
	rounds       atomic.Uint64          // polls asked
	refusals     atomic.Uint64          // polls refused
	told         sync.Map               // peer → failover.Maintenance that it has on disk
	waits        atomic.Pointer[string] // why there is no failover, "" if there is nothing to say
	work         sync.WaitGroup

	promise struct {
		sync.Mutex
		failover.Promise
	}
}

type judgement struct {
	poll failover.Poll
	vote chan failover.Vote
}

func newVoter(o voterOptions) (v *voter, err error) {
	v = &voter{o: o, observations: make(chan failover.Observation, 256), judged: make(chan judgement), done: make(chan struct{})}
	v.suspects.Store(new([]string))
	v.waits.Store(new(string))
	if v.o.record == nil {
		v.o.record = func(failover.Measure) {}
	}
	if v.o.voted == nil {
		v.o.voted = func(failover.Poll, failover.Vote) {}
	}
	v.promise.Length = failover.Mono(o.lease)
	if epoch, holder := o.obeys(); epoch > 0 && len(o.peers) > 0 {
		v.promise.Start(holder, epoch, o.clock())
	}
	v.agent, err = heartbeat.NewAgent(heartbeat.Options{
		Peers: o.peers, Interval: o.interval, Dial: o.dial, Clock: o.clock, Logger: o.logger,
		Beat:     func() failover.Beat { return o.self().Beat },
		Answer:   v.answer,
		Answered: v.answered,
		Lost:     func(peer string) { v.post(failover.LinkLost{Node: peer}) },
		Refused:  func(peer string) { v.post(failover.LinkRefused{Node: peer}) },
	})
	return v, err
}

// listen takes the peers' links.
func (v *voter) listen(mesh *replicate.Mesh) {
	mesh.HandleLink(linkHeartbeat, func(peer replicate.PeerInfo, c net.Conn) { v.agent.Serve(peer.Node, c) })
}

// post tells the detector something.
func (v *voter) post(ob failover.Observation) {
	select {
	case v.observations <- ob:
	case <-v.done:
	}
}

// quietRounds is of how many polls, and refusals of polls, one is told: they are repeated many times a second while a candidate is not supported.
const quietRounds = 20

// tickEvery is the resolution of suspicion, and of waits for what heartbeats tell.
const tickEvery = 20 * time.Millisecond

// tick is how often the detector looks at the clock: a 25th of the shortest of its times, so that a slow cluster does not look as often as a fast one.
func (v *voter) tick() time.Duration {
	return max(tickEvery, min(time.Duration(v.o.detector.Suspect), v.o.lease)/25)
}

// run owns the detector until ctx ends.
func (v *voter) run(ctx context.Context) error {
	defer v.work.Wait()
	defer close(v.done)
	d := failover.NewDetector(v.o.detector)
	step := func(ob failover.Observation) {
		for _, m := range d.Step(ob) {
			if _, again := m.(failover.AskVotes); again && v.rounds.Add(1)%quietRounds != 1 {
				v.o.do(ctx, m, v)
				continue // a poll that is repeated says nothing new
			}
			v.note(m)
			v.o.record(m)
			v.o.do(ctx, m, v)
		}
	}
	t := time.NewTicker(v.tick())
	defer t.Stop()
	for {
		select {
		case ob := <-v.observations:
			step(ob)
		case q := <-v.judged:
			step(failover.SelfChanged{Self: v.o.self()})
			q.vote <- d.Judge(q.poll)
		case <-t.C:
			if node, epoch, heard := v.o.traffic(); heard {
				step(failover.TrafficHeard{Node: node, Epoch: epoch})
			}
			step(failover.SelfChanged{Self: v.o.self()})
			step(failover.LeaseChanged{Held: v.o.leased()})
			step(failover.Clock{Now: v.o.clock()})
		case <-ctx.Done():
			return nil
		}
		if now := d.Suspects(); len(now)+len(*v.suspects.Load()) > 0 {
			v.suspects.Store(&now)
		}
	}
}

// note keeps what others ask for.
func (v *voter) note(m failover.Measure) {
	switch m := m.(type) {
	case failover.Suspected:
		v.o.logger.Warn("node suspected", "peer", m.Node, "evidence", m.Evidence)
		v.o.gone(m.Node, m.Proof)
		if m.Proof {
			v.promise.Lock()
			v.promise.Dead(m.Node)
			v.promise.Unlock()
		}
	case failover.Recovered:
		v.o.logger.Info("node heard again", "peer", m.Node)
		v.promise.Lock()
		v.promise.Alive(m.Node)
		v.promise.Unlock()
	case failover.Waits:
		v.o.logger.Info("no failover yet", "reason", m.Reason)
		v.waits.Store(&m.Reason)
	case failover.AskVotes:
		v.o.logger.Info("asking for support", "round", m.Round, "epoch", m.Poll.Epoch)
	case failover.Promote:
		v.o.logger.Warn("taking over", "reason", m.Reason)
		v.waits.Store(new(string))
	case failover.GiveUp:
		v.o.logger.Warn("stepping down", "reason", m.Reason)
	case failover.HandOverTo:
		v.o.logger.Info("handing over", "to", m.Node, "reason", m.Reason)
	}
}

// poll asks the other voters.
func (v *voter) poll(m failover.AskVotes) {
	v.agent.Poll(m.Poll, func(peer string, vote *failover.Vote) {
		if vote == nil {
			vote = &failover.Vote{Reason: "it does not answer"}
		}
		// Not on this goroutine: it may be the detector's own.
		v.work.Go(func() { v.post(failover.Voted{Round: m.Round, Node: peer, Vote: *vote}) })
	})
}

// judge asks the detector for its vote.
func (v *voter) judge(p failover.Poll) failover.Vote {
	j := judgement{poll: p, vote: make(chan failover.Vote, 1)}
	select {
	case v.judged <- j:
		return <-j.vote
	case <-v.done:
		return failover.Vote{Reason: "it is stopping"}
	}
}

// answer answers a peer's heartbeat or poll.
func (v *voter) answer(peer string, r heartbeat.Request) heartbeat.Response {
	r.Beat.Node = peer // as the handshake says
	v.o.heard(r.Beat)
	v.post(failover.BeatHeard{Beat: r.Beat})
	out := heartbeat.Response{Ack: v.ack(r.Beat)}
	if r.Poll != nil {
		p := *r.Poll
		p.Candidate = peer
		vote := v.judge(p)
		if vote.Support || v.refusals.Add(1)%quietRounds == 1 {
			v.o.voted(p, vote)
		}
		out.Vote = &vote
	}
	out.Beat = v.o.self().Beat
	return out
}

// ack is this voter's word to a node that serves, or is about to, in an epoch that it obeys (R14). The check of the fence and the promise are one step with regard to
// left, which a candidate's fence asks after its grant is persisted.
func (v *voter) ack(b failover.Beat) heartbeat.Ack {
	v.promise.Lock()
	defer v.promise.Unlock()
	var a heartbeat.Ack
	a.Epoch, a.Holder = v.o.obeys()
	serves := (b.Role == failover.RoleActive || b.Role == failover.RoleCandidate) && b.Holder == b.Node
	if !serves || a.Epoch != b.Epoch || a.Holder != b.Node {
		return a
	}
	now := v.o.clock()
	if !v.promise.Heard(b.Node, b.Epoch, now) {
		return a
	}
	of, left := v.promise.Left(b.Epoch, now)
	a.Supports, a.Of, a.Left = true, of, time.Duration(left)
	return a
}

// left is for how much longer an active of an epoch below `epoch` may answer reads by this node's word.
func (v *voter) left(epoch wal.Epoch) (of string, left failover.Mono) {
	v.promise.Lock()
	defer v.promise.Unlock()
	return v.promise.Left(epoch, v.o.clock())
}

// answered takes a peer's answer.
func (v *voter) answered(peer string, r heartbeat.Response, sent failover.Mono, _ bool) {
	r.Beat.Node = peer
	v.told.Store(peer, r.Beat.Paused)
	v.o.heard(r.Beat)
	v.post(failover.BeatHeard{Beat: r.Beat})
	v.o.acked(peer, r.Ack, sent)
}

// knows waits until a peer has said that it has a maintenance, or a newer one, on disk.
func (v *voter) knows(ctx context.Context, peer string, m failover.Maintenance) bool {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		if told, ok := v.told.Load(peer); ok && !m.Newer(told.(failover.Maintenance)) {
			return true
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return false
		}
	}
}

// suspected reports whether a peer counts as silent or dead.
func (v *voter) suspected(peer string) bool {
	for _, n := range *v.suspects.Load() {
		if n == peer {
			return true
		}
	}
	return false
}
