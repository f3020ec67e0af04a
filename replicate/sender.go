package replicate

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"repld/wal"
)

// Sender serves the log of one group to the standbys that ask for it. All methods are safe for concurrent use.
type Sender struct {
	o    SenderOptions
	bulk *throttle

	// streams is replaced as a whole under mu, and read without it by CommittedChanged, which is called for each commit.
	streams atomic.Pointer[[]*served]

	// mu is never held while a standby's mutex is taken, so that OnAck may call SetSync.
	mu       sync.Mutex
	standbys map[string]*standby // by name; bounded by the peers of the mesh
	seeds    map[string]string   // last snapshot of each standby, to resume its transfer
	sync     wal.SyncSet
	closed   bool
	running  sync.WaitGroup
}

// standby is what outlives one stream of a standby: what it acked in this epoch (H2).
type standby struct {
	mu          sync.Mutex // held over OnAck and OnRegress; taken before served.mu
	incarnation string
	epoch       wal.Epoch
	acked       wal.LSN // highest durable LSN that was reported through OnAck
	regressed   wal.LSN // not zero: acks below it do not count
	follow      *served // the stream that may ack, newest wins (W9)
}

// NewSender checks the options.
func NewSender(o SenderOptions) (*Sender, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Sender{o: o, bulk: newThrottle(o.BulkRate), standbys: map[string]*standby{}, seeds: map[string]string{}}
	s.streams.Store(&[]*served{})
	return s, nil
}

// Serve serves one inbound log stream until it ends, and closes it. It fits Mesh.Handle.
func (s *Sender) Serve(peer PeerInfo, group string, stream net.Conn) {
	st := newServed(s, peer, group, stream)
	if !s.add(st) {
		st.reject(CodeStopped, "the sender is closed or serves too many streams")
		_ = stream.Close()
		return
	}
	defer s.running.Done()
	err := st.run()
	s.remove(st)
	st.end(err)
}

// SetSync sets the sync set that followers are told: new ones in their welcome, present ones at once. A standby
// persists it before its next ack, which carries its version.
func (s *Sender) SetSync(set wal.SyncSet) {
	s.mu.Lock()
	s.sync = cloneSet(set)
	s.mu.Unlock()
	for _, st := range *s.streams.Load() {
		signal(st.syncCh)
	}
}

func (s *Sender) syncSet() wal.SyncSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sync
}

// CommittedChanged says that Committed has risen. Standbys are told within CommitDelay, with a frame if one is due.
// It is cheap and never blocks.
func (s *Sender) CommittedChanged() {
	for _, st := range *s.streams.Load() {
		signal(st.commitCh)
	}
}

// DropAll ends all streams now, with a reason for our log, and waits for nothing. New streams are
// served as MayServe says.
func (s *Sender) DropAll(reason string) {
	for _, st := range *s.streams.Load() {
		st.stop(errors.New(reason))
	}
}

// Close ends all streams, waits for them, and refuses new ones.
func (s *Sender) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.DropAll("closed")
	s.running.Wait()
	return nil
}

// Standbys returns the status of all streams that are being served.
func (s *Sender) Standbys() []StandbyStatus {
	streams := *s.streams.Load()
	out := make([]StandbyStatus, 0, len(streams))
	for _, st := range streams {
		if x, ok := st.currentStatus(); ok {
			out = append(out, x)
		}
	}
	return out
}

// Needs returns the lowest LSN after which connected standbys still need our log, and whether there is any.
func (s *Sender) Needs() (wal.LSN, bool) {
	low, any := wal.LSN(0), false
	for _, st := range *s.streams.Load() {
		if n, ok := st.needs(); ok && (!any || n < low) {
			low, any = n, true
		}
	}
	return low, any
}

func (s *Sender) add(st *served) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.streams.Load()
	if s.closed || len(old) >= s.o.MaxStreams {
		return false
	}
	s.running.Add(1)
	streams := append(slices.Clone(old), st)
	s.streams.Store(&streams)
	return true
}

func (s *Sender) remove(st *served) {
	s.mu.Lock()
	streams := slices.Clone(*s.streams.Load())
	streams = slices.DeleteFunc(streams, func(x *served) bool { return x == st })
	s.streams.Store(&streams)
	s.mu.Unlock()
	if b := st.standby; b != nil {
		b.mu.Lock()
		if b.follow == st {
			b.follow = nil
		}
		b.mu.Unlock()
	}
}

// follows makes st the one stream of its standby that may ack, and ends the one before. Acks of another incarnation,
// or of another epoch, are forgotten.
func (s *Sender) follows(st *served) *standby {
	s.mu.Lock()
	b := s.standbys[st.peer.Node]
	if b == nil {
		b = &standby{}
		s.standbys[st.peer.Node] = b
	}
	s.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.follow != nil {
		b.follow.stop(errors.New("replaced by a newer stream of the same standby"))
	}
	b.follow = st
	if b.epoch != st.epoch {
		b.epoch, b.acked, b.regressed = st.epoch, 0, 0
	}
	if b.incarnation != st.peer.Incarnation {
		if b.acked > 0 {
			s.o.OnRegress(st.peer.Node, Regress{Had: b.acked, Reason: "another incarnation"})
		}
		b.incarnation, b.acked, b.regressed = st.peer.Incarnation, 0, 0
	}
	return b
}

// seedOf returns the snapshot that was last sent to a standby; set replaces it unless empty.
func (s *Sender) seedOf(standby, set string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set != "" {
		s.seeds[standby] = set
	}
	return s.seeds[standby]
}

// signal wakes whoever waits on a channel of capacity 1.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
