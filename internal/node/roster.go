package node

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"repld/wal"
)

// profile is what a node tells the others of itself, so that each of them can tell clients where the active is.
type profile struct {
	Node        string    `json:"node"`
	Incarnation string    `json:"incarnation"`
	Epoch       wal.Epoch `json:"epoch"`
	Holder      string    `json:"holder"`
	Open        bool      `json:"open"`     // clients may write here, in Epoch
	Lapsed      bool      `json:"lapsed"`   // Open, but its lease is over: another node may be the active by now
	Client      string    `json:"client"`   // host:port where clients reach it over TCP, "" if they cannot
	Sentinel    string    `json:"sentinel"` // host:port of its Sentinel API, "" if it has none
	Mode        Mode      `json:"mode"`
	Voter       bool      `json:"voter"`
	Linked      bool      `json:"linked"` // receives the log of Holder
	Reads       bool      `json:"reads"`  // serves reads as a standby
	Durable     wal.LSN   `json:"durable"`
	Applied     wal.LSN   `json:"applied"`
	Version     uint64    `json:"version"` // another number when Epoch, Holder or Open changed; what a call waits for
}

// rosterRequest asks a node for its profile. It answers at once when its version is another than Seen, else after a while.
type rosterRequest struct {
	Seen uint64 `json:"seen"`
}

// heard is a profile and when this node asked for it: what it says was true at that time or later.
type heard struct {
	profile
	asked time.Time
}

// roster is what this node knows of the roles of all nodes. It keeps one call open to each peer, which the peer answers as soon as its role changes:
// news travel in half a round trip, and silence is noticed. Nothing here decides who may write: it is what clients are told (design decision 0016).
type roster struct {
	self     func() profile // without Version
	ask      func(ctx context.Context, peer string, in rosterRequest, out *profile) error
	names    []string // of the peers
	interval time.Duration

	mu struct {
		sync.Mutex
		version uint64        // of this node
		own     chan struct{} // closed when version changes
		news    chan struct{} // closed when anything changes
		by      map[string]heard
	}
}

func newRoster(self func() profile, p *peers, names []string, interval time.Duration) *roster {
	r := &roster{self: self, names: names, interval: interval}
	r.ask = func(ctx context.Context, peer string, in rosterRequest, out *profile) error {
		return p.call(ctx, peer, peerRoster, in, out)
	}
	r.mu.version = uint64(time.Now().UnixNano()) // another one than before a restart
	r.mu.own, r.mu.news = make(chan struct{}), make(chan struct{})
	r.mu.by = map[string]heard{}
	return r
}

// bump says that this node's role changed.
func (r *roster) bump() {
	if r == nil {
		return // while the node is opened
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.version++
	close(r.mu.own)
	r.mu.own = make(chan struct{})
	r.tellLocked()
}

func (r *roster) tellLocked() {
	close(r.mu.news)
	r.mu.news = make(chan struct{})
}

// changed is closed when anything that is known changes after the call.
func (r *roster) changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.news
}

// answer answers a peer's call.
func (r *roster) answer(ctx context.Context, req rosterRequest) (profile, error) {
	r.mu.Lock()
	own, same := r.mu.own, r.mu.version == req.Seen
	r.mu.Unlock()
	if same {
		late := time.NewTimer(r.interval)
		defer late.Stop()
		select {
		case <-own:
		case <-late.C:
		case <-ctx.Done():
			return profile{}, ctx.Err()
		}
	}
	return r.me(), nil
}

// me is this node's own profile.
func (r *roster) me() profile {
	r.mu.Lock()
	version := r.mu.version // taken first: a change in between makes the next call return at once
	r.mu.Unlock()
	m := r.self()
	m.Version = version
	return m
}

// run keeps asking all peers until ctx ends.
func (r *roster) run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, name := range r.names {
		all.Go(func() { r.listen(ctx, name) })
	}
	all.Wait()
	return nil
}

func (r *roster) listen(ctx context.Context, name string) {
	var seen uint64
	for ctx.Err() == nil {
		asked := time.Now()
		call, cancel := context.WithTimeout(ctx, r.interval+askTimeout)
		var m profile
		err := r.ask(call, name, rosterRequest{Seen: seen}, &m)
		cancel()
		if err == nil && m.Node == name {
			seen = m.Version
			r.record(heard{m, asked})
			continue
		}
		wait := time.NewTimer(r.interval)
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

func (r *roster) record(h heard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.mu.by[h.Node]
	r.mu.by[h.Node] = h
	if !known || old.Version != h.Version || old.Incarnation != h.Incarnation || old.Linked != h.Linked || h.asked.Sub(old.asked) > r.window() {
		r.tellLocked()
	}
}

// all returns what is known of the peers, however old, in order of their names.
func (r *roster) all() []heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.mu.by), func(a, b heard) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
}

// window is how old an answer may be to count as being heard.
func (r *roster) window() time.Duration { return 5 * r.interval }

// active is the node where clients may write, as this node has heard within the window: the open one with the highest epoch.
func (r *roster) active() (m profile, ok bool) {
	best := r.me()
	if !best.Open {
		best = profile{}
	}
	for _, h := range r.all() {
		if h.Open && h.Epoch > best.Epoch && time.Since(h.asked) <= r.window() {
			best = h.profile
		}
	}
	return best, best.Open
}
