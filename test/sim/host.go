package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"time"

	"repld/failover"
	"repld/internal/admin"
	"repld/internal/faultfs"
	"repld/internal/node"
)

// host is a machine with a disk, on which one process runs at a time.
type host struct {
	l    *life
	id   int
	name string

	mu          sync.Mutex
	rng         *rand.Rand
	disk        *faultfs.Disk
	incarnation uint64 // counts disks
	proc        *process
	starting    bool
	stays       int // faults that keep it down
	full        int // faults that leave no room on its disk
	capacity    int64
	rotten      bool // a bit of its disk went wrong at some time
}

// process is one run of a node, from its start to its death, and beyond: a goroutine cannot be killed, so a dead process is cut off from everything and ends by itself.
type process struct {
	h       *host
	fs      *faultfs.FS
	node    *node.Node
	net     *endpoint
	probe   *probe
	clients *listener
	cancel  context.CancelFunc
	free    chan struct{} // closed when slow operations must not wait any more
	once    sync.Once
	ended   chan struct{}
	result  error // of Run
	asked   bool  // to end; under host.mu
	stuck   bool  // its disk stood still for some time; under host.mu
}

// errInjected is what a failing disk says.
var errInjected = errors.New("injected disk error")

// bounds of the nodes in a life.
const (
	commitTimeout = 2 * time.Second
	stallLimit    = 8 * time.Second
)

func (h *host) options(p *process) node.Options {
	c := h.l.c
	o := node.Options{
		Cluster: "shop", Name: h.name, Dir: "data", FS: p.fs, Sync: node.SyncOptions{K: c.K, ShrinkAfter: 3 * time.Second},
		SegmentBytes: c.Segment, LogBudget: c.Retain, MemTableBytes: c.MemTable, CacheBytes: 256 << 10, MemoryTail: c.Memory, Codec: c.Codec,
		StallLimit: stallLimit, CommitTimeout: commitTimeout, Trim: 2 * time.Second, Heartbeat: c.Heartbeat, Gossip: 4 * c.Heartbeat, PauseLimit: 4 * c.Heartbeat,
		Listen: p.net.listen, Dial: p.net.dial, Observer: p.probe, Sentinel: node.SentinelOptions{Tick: time.Second},
		Logger: slog.New(slog.NewTextHandler(h.l.log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	o.DiskReserve, o.RepairWait = diskReserve, 3*time.Second
	if c.Scrub {
		o.ScrubEvery = 5 * time.Second
	}
	o.Clock = h.l.clock(h.id)
	o.Failover.Suspect, o.Failover.Lease = 5*c.Heartbeat, 5*c.Heartbeat
	if c.Auto {
		o.Failover.Mode = node.FailoverAutomatic
	}
	if c.Shrink {
		o.Sync.Policy = node.PolicyShrink
	}
	if c.Lagged == h.id {
		o.Mode, o.ApplyDelay = node.ModeLagged, c.Lag
	}
	h.l.token(&o)
	if c.Witness {
		o.Peers = append(o.Peers, node.Peer{Name: witnessName, Addr: witnessName, Witness: true})
	}
	for i := range c.Nodes {
		if i != h.id {
			o.Peers = append(o.Peers, node.Peer{Name: name(i), Addr: name(i)})
		}
	}
	return o
}

// token gives a node its way to the token store.
func (l *life) token(o *node.Options) {
	switch c := l.c; {
	case c.Raft:
		o.Raft = &node.RaftOptions{Election: 4 * c.Heartbeat}
	case c.Shared:
		o.Token = reach{tokens: l.tokens, node: o.Name, net: l.net}
	}
}

// clock is the clock of a node's leases.
func (l *life) clock(node int) func() failover.Mono {
	drift := l.c.drift(node)
	return func() failover.Mono { return failover.Mono(float64(time.Since(l.began)) * drift) }
}

// running returns the process, nil while there is none.
func (h *host) running() *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proc
}

// start starts a process, unless one runs or something keeps it down.
func (h *host) start() {
	h.mu.Lock()
	if h.proc != nil || h.starting || h.stays > 0 || h.l.over() {
		h.mu.Unlock()
		return
	}
	h.starting = true
	disk, seed := h.disk, h.rng.Uint64()
	disk.SetCapacity(h.capacity)
	full := h.full > 0
	h.mu.Unlock()
	p := &process{h: h, fs: faultfs.New(disk, seed), free: make(chan struct{}), ended: make(chan struct{})}
	p.net = &endpoint{net: h.l.net, name: h.name}
	p.probe = &probe{facts: h.l.facts, node: h.name}
	p.slowSyncs(h.l.c.Slow)
	p.roomForManifest(disk)
	if full {
		p.slowFull()
	}
	var err error
	p.node, err = node.Open(h.options(p))
	h.mu.Lock()
	h.starting = false
	if err != nil {
		h.mu.Unlock()
		switch {
		case strings.Contains(err.Error(), errInjected.Error()), noRoom(err):
		case h.unreadable(err):
			return
		default:
			h.l.facts.fail("R8", "%s does not start after what a disk may do: %v", h.name, err)
			return
		}
		h.l.after(500*time.Millisecond, h.start)
		return
	}
	s := p.status()
	p.probe.restarted(h.incarnation, s.Epoch, s.Holder)
	h.proc = p
	h.mu.Unlock()
	h.l.count(func(s *Stats) { s.Starts++ })
	p.run()
}

func (p *process) run() {
	l := p.h.l
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.clients = newListener(p.h.name + "/service")
	l.net.mu.Lock()
	l.net.at[p.h.name+"/service"] = p.clients
	l.net.mu.Unlock()
	l.all.Go(func() { _ = p.node.ServeClients(p.clients, false) })
	l.all.Go(func() {
		p.result = p.node.Run(ctx)
		close(p.ended)
		p.exited()
	})
}

// exited looks at why a process ended by itself (R10), as a supervisor does, and starts the next one.
func (p *process) exited() {
	h := p.h
	p.cutOff()
	h.mu.Lock()
	asked := p.asked
	if h.proc == p {
		h.proc = nil
		h.disk = h.disk.Crash(h.disk.Clock().Now(), faultfs.Everything())
	}
	h.mu.Unlock()
	if asked {
		return
	}
	h.l.count(func(s *Stats) { s.Exits++ })
	h.mu.Lock()
	allowed := p.stuck && stalled(p.result) || h.rotten
	h.mu.Unlock()
	if p.result == nil || !strings.Contains(p.result.Error(), errInjected.Error()) && !noRoom(p.result) && !allowed {
		h.l.facts.fail("R12", "%s ended by itself without a reason that was given to it: %v", h.name, p.result)
	}
	h.l.after(time.Second, h.start)
}

// stalled says that a process left because its log or its state stood still (R12).
func stalled(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "stalled") || strings.Contains(err.Error(), "watchdog"))
}

// cutOff takes a process off the network and from its clients.
func (p *process) cutOff() {
	p.probe.bury()
	p.net.close()
	_ = p.clients.Close()
	p.h.l.net.mu.Lock()
	mine := p.h.l.net.at[p.h.name+"/service"] == p.clients
	if mine {
		delete(p.h.l.net.at, p.h.name+"/service")
	}
	p.h.l.net.mu.Unlock()
	if mine {
		p.h.l.net.reset(p.h.name+"/service", "")
	}
	p.release()
}

// release lets slow operations go on.
func (p *process) release() { p.once.Do(func() { close(p.free) }) }

// die ends the process at once: the disk keeps what the policy says.
func (h *host) die(policy faultfs.Policy) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.proc
	if p == nil {
		return false
	}
	p.asked = true
	p.cutOff() // from here on nobody hears of what it does
	h.disk = h.disk.Crash(h.disk.Clock().Now(), policy.InOrder(pebbles))
	h.proc = nil
	p.cancel()
	return true
}

// pebbles says whether Pebble keeps its files in a directory.
func pebbles(dir string) bool { return path.Base(dir) == "state" }

// stop ends the process cleanly.
func (h *host) stop() error {
	h.mu.Lock()
	p := h.proc
	if p == nil || p.asked {
		h.mu.Unlock()
		return nil
	}
	p.asked = true
	h.mu.Unlock()
	p.release()
	p.cancel()
	<-p.ended
	return p.result
}

// wipe empties the disk.
func (h *host) wipe() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.disk, h.rotten = faultfs.NewDisk(), false
	h.disk.SetCapacity(h.capacity)
	h.incarnation++
}

// keepDown keeps the host down, or lets it go.
func (h *host) keepDown(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on {
		h.stays++
	} else {
		h.stays--
	}
}

// slowSyncs makes syncs of the log slow by chance, up to limit.
func (p *process) slowSyncs(limit time.Duration) *faultfs.Active {
	if limit == 0 {
		return nil
	}
	p.h.mu.Lock()
	rng := rand.New(rand.NewPCG(p.h.rng.Uint64(), 0))
	p.h.mu.Unlock()
	var mu sync.Mutex
	return p.fs.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpSync}, Path: "wal/*.seg", Fault: func(c *faultfs.Call) (int, error) {
		mu.Lock()
		d := time.Duration(rng.Int64N(int64(limit)))
		mu.Unlock()
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.free:
		}
		return c.Do()
	}})
}

func (p *process) status() admin.NodeStatus {
	return p.node.Status(context.Background(), true).Nodes[0]
}

// post asks the admin API of the process.
func (p *process) post(ctx context.Context, to string, req any) (admin.Event, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return admin.Event{}, err
	}
	w := httptest.NewRecorder()
	p.node.Handler().ServeHTTP(w, httptest.NewRequest("POST", to, bytes.NewReader(body)).WithContext(ctx))
	for lines := json.NewDecoder(w.Body); ; {
		var e admin.Event
		if err := lines.Decode(&e); err != nil {
			return e, fmt.Errorf("%s: %w", to, err)
		}
		if e.Error != "" {
			return e, errors.New(e.Error)
		}
		if e.Done {
			return e, nil
		}
	}
}
