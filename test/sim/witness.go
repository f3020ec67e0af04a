package sim

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"repld/internal/admin"
	"repld/internal/faultfs"
	"repld/internal/node"
)

// witnessName is the witness' name in the network.
const witnessName = "w"

// witness is a machine on which a node without data runs, in clusters of two data nodes.
type witness struct {
	l *life

	mu       sync.Mutex
	rng      *rand.Rand
	disk     *faultfs.Disk
	proc     *watching
	starting bool
	stays    int // faults that keep it down
}

// watching is one run of a witness.
type watching struct {
	node   *node.Witness
	net    *endpoint
	probe  *probe
	cancel context.CancelFunc
	ended  chan struct{}
	result error // of Run
	asked  bool  // to end; under witness.mu
}

func (w *witness) options(p *watching, fs *faultfs.FS) node.Options {
	c := w.l.c
	o := node.Options{
		Cluster: "shop", Name: witnessName, Dir: "data", FS: fs, Heartbeat: c.Heartbeat, Gossip: 4 * c.Heartbeat, Listen: p.net.listen, Dial: p.net.dial,
		Clock: w.l.clock(c.Nodes), Logger: slog.New(slog.NewTextHandler(w.l.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	o.Failover.Suspect, o.Failover.Lease = 5*c.Heartbeat, 5*c.Heartbeat
	if c.Auto {
		o.Failover.Mode = node.FailoverAutomatic
	}
	w.l.token(&o)
	for i := range c.Nodes {
		o.Peers = append(o.Peers, node.Peer{Name: name(i), Addr: name(i)})
	}
	return o
}

// start starts a process, unless one runs or something keeps it down.
func (w *witness) start() {
	w.mu.Lock()
	if w.proc != nil || w.starting || w.stays > 0 || w.l.over() {
		w.mu.Unlock()
		return
	}
	w.starting = true
	fs := faultfs.New(w.disk, w.rng.Uint64())
	w.mu.Unlock()
	p := &watching{net: &endpoint{net: w.l.net, name: witnessName}, probe: &probe{facts: w.l.facts, node: witnessName}, ended: make(chan struct{})}
	var err error
	p.node, err = node.OpenWitness(w.options(p, fs))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starting = false
	if err != nil {
		w.l.facts.fail("R8", "the witness does not start after what a disk may do: %v", err)
		return
	}
	s := p.status()
	p.probe.restarted(0, s.Epoch, s.Holder)
	w.proc = p
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	w.l.all.Go(func() {
		p.result = p.node.Run(ctx)
		close(p.ended)
		w.exited(p)
	})
}

func (p *watching) status() admin.NodeStatus {
	return p.node.Status(context.Background(), true).Nodes[0]
}

func (w *witness) exited(p *watching) {
	p.cutOff()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.asked {
		w.l.facts.fail("R12", "the witness ended by itself without a reason that was given to it: %v", p.result)
	}
	if w.proc == p {
		w.proc = nil
	}
}

func (p *watching) cutOff() {
	p.probe.bury()
	p.net.close()
}

// die ends the process at once: the disk keeps what the policy says.
func (w *witness) die(policy faultfs.Policy) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.proc
	if p == nil {
		return
	}
	p.asked = true
	p.cutOff()
	w.disk = w.disk.Crash(w.disk.Clock().Now(), policy)
	w.proc = nil
	p.cancel()
}

// down ends the process and starts the next one later.
func (w *witness) down(policy faultfs.Policy, d time.Duration, done func()) {
	w.keepDown(1)
	w.die(policy)
	w.l.after(d, func() {
		w.keepDown(-1)
		done()
		w.start()
	})
}

func (w *witness) keepDown(by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stays += by
}

// look notes what the witness promised (R3).
func (w *witness) look() {
	w.mu.Lock()
	p := w.proc
	w.mu.Unlock()
	if p != nil {
		s := p.status()
		p.probe.promised(0, s.Epoch, s.Holder)
	}
}

// stop ends the process cleanly.
func (w *witness) stop() {
	w.keepDown(1)
	w.mu.Lock()
	p := w.proc
	if p != nil {
		p.asked = true
	}
	w.mu.Unlock()
	if p == nil {
		return
	}
	p.cancel()
	<-p.ended
	if p.result != nil {
		w.l.facts.fail("R12", "the witness does not stop cleanly: %v", p.result)
	}
}
