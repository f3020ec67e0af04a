package sim

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"repld/internal/admin"
	"repld/internal/faultfs"
)

// clients is the name of all clients in the network.
const clients = "clients"

// healthyWithin is how long, after the last fault, a cluster may take to become healthy with a person's help (R12, R15), a lagged node's delay apart.
const healthyWithin = 100 * time.Second

// Stats counts what lives did.
type Stats struct {
	Lives       int
	Time        time.Duration // simulated
	Faults      int
	Kinds       map[Kind]int
	Most        int           // kinds of faults at once
	Three       time.Duration // with three kinds of faults or more at once
	Starts      int
	Exits       int // processes that ended by themselves for a reason that was given to them
	Promotions  int
	Refused     int
	Switchovers int
	Written     int
	Acked       int
	Unknown     int
	Read        int
	Committed   int
	Epochs      int
	Replaced    int           // disks that a person replaced because the node did not start
	Paused      int           // maintenance that a person ordered
	Stuck       int           // promotions for which only consent was left, though nothing was lost
	Healed      time.Duration // longest time from the last fault to health
}

// Result is how a life ended.
type Result struct {
	Config Config
	Err    error
	Log    string // the last lines of all nodes
	Stats  Stats
}

// Report is all that a person needs to know of a failure.
func (r Result) Report() string {
	return fmt.Sprintf("%v\n%v\nreplay (a life is the same only as far as the scheduler lets it; REPLD_TIMES repeats it): REPLD_SEED=%d REPLD_TIMES=20 go test ./test/sim -run 'TestSeed$' -v\nevents:\n%s\nlast lines:\n%s",
		r.Err, r.Config, r.Config.Seed, list(r.Config.Events), r.Log)
}

// life is one cluster from its beginning to its end, inside a synctest bubble.
type life struct {
	c       Config
	began   time.Time
	net     *network
	tokens  *tokens
	facts   *facts
	log     *journal
	hosts   []*host
	witness *witness       // nil: there is none
	all     sync.WaitGroup // all goroutines
	end     chan struct{}  // closed when everything ends

	mu    sync.Mutex
	calm  bool
	stats Stats
	now   map[Kind]int // faults that last now
	since time.Time    // of the last change of now
}

// Run lives one life. It must be called in a synctest bubble.
func Run(c Config, verbose func(string)) Result {
	l := &life{
		c: c, began: time.Now(), net: newNetwork(c), tokens: &tokens{cut: map[string]int{}}, facts: newFacts(), end: make(chan struct{}),
		now: map[Kind]int{}, since: time.Now(),
	}
	l.log = &journal{life: l, say: verbose}
	l.stats.Kinds = map[Kind]int{}
	for i := range c.Nodes {
		l.hosts = append(l.hosts, &host{l: l, id: i, name: name(i), disk: faultfs.NewDisk(), capacity: diskBytes, rng: rand.New(rand.NewPCG(c.Seed, uint64(i)))})
	}
	for _, h := range l.hosts {
		l.all.Go(h.start)
	}
	if c.Witness {
		l.witness = &witness{l: l, disk: faultfs.NewDisk(), rng: rand.New(rand.NewPCG(c.Seed, 0x317))}
		l.all.Go(l.witness.start)
	}
	if c.Nodes > 1 {
		l.all.Go(l.found)
	}
	var writers sync.WaitGroup
	for i := range c.Writers {
		w := &writer{l: l, id: i, rng: rand.New(rand.NewPCG(c.Seed, uint64(100+i)))}
		writers.Go(w.run)
	}
	patience := time.Duration(1+c.Seed%4) * time.Second
	if c.Auto {
		patience = 20 * time.Second // more than nodes need among themselves
	}
	watcher := &person{l: l, patience: patience}
	l.all.Go(watcher.run)
	l.faults()
	l.heal(&writers)
	close(l.end)
	writers.Wait()
	for _, h := range l.hosts {
		h.keepDown(true)
		if err := h.stop(); err != nil {
			l.facts.fail("R12", "%s does not stop cleanly: %v", h.name, err)
		}
	}
	if l.witness != nil {
		l.witness.stop()
	}
	l.all.Wait()
	time.Sleep(leave) // nothing of this life is waited for after the return
	return l.result()
}

// leave is how long a process that left without closing, because its disk stood still, may be closing all the same.
const leave = 2 * time.Minute

func (l *life) result() Result {
	s := l.stats
	s.Lives, s.Time = 1, time.Since(l.began)-leave
	l.facts.mu.Lock()
	s.Committed, s.Epochs = len(l.facts.sets), len(l.facts.served)
	l.facts.mu.Unlock()
	r := Result{Config: l.c, Err: l.facts.err(), Stats: s}
	if r.Err != nil {
		r.Log = l.log.last(400)
	}
	return r
}

// faults is the first phase.
func (l *life) faults() {
	rng := rand.New(rand.NewPCG(l.c.Seed, 0xfa))
	for _, e := range l.c.Events {
		l.sleep(time.Until(l.began.Add(e.At)))
		if l.facts.err() != nil {
			return
		}
		l.log.note("event: %v", e)
		l.inject(e, rng)
	}
	l.sleep(time.Until(l.began.Add(l.c.Length)))
}

// heal is the second phase: no more faults; within a bound the cluster is healthy, takes a write, and all copies are the same.
func (l *life) heal(writers *sync.WaitGroup) {
	for l.lasting() > 0 && l.facts.err() == nil {
		l.sleep(100 * time.Millisecond)
	}
	l.mu.Lock()
	l.calm = true
	l.mu.Unlock()
	l.log.note("calm")
	l.resume()
	writers.Wait()
	for bad := 0; l.recovers() && !l.compare(bad < 3); bad++ {
	}
}

// recovers waits until the cluster is healthy and has taken a write, and reports whether that was within the bound.
func (l *life) recovers() bool {
	began := time.Now()
	why := "not looked at"
	for why != "" && time.Since(began) < healthyWithin+2*l.c.Lag && l.facts.err() == nil {
		l.sleep(100 * time.Millisecond)
		for _, h := range l.hosts {
			h.start()
		}
		if l.witness != nil {
			l.witness.start()
		}
		if why = l.unhealthy(true); why == "" {
			why = l.finalWrite()
		}
	}
	if l.facts.err() != nil {
		return false
	}
	took := time.Since(began)
	l.count(func(s *Stats) { s.Healed = max(s.Healed, took) })
	if why != "" {
		l.facts.fail("R12", "%v after the last fault the cluster is not healthy: %s", took, why)
	}
	return why == ""
}

// finalWrite writes once to the healthy cluster and waits until all have it.
func (l *life) finalWrite() string {
	a := l.active()
	if a == nil {
		return "nobody is active"
	}
	c, err := l.dial(a.name)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	value := fmt.Sprintf("final#%v", time.Since(l.began))
	if _, err := c.do("SET", "final", value); err != nil {
		return fmt.Sprintf("the last write: %v", err)
	}
	l.facts.acked(a.name, value)
	for range 100 + int(l.c.Lag/(100*time.Millisecond)) {
		if l.unhealthy(true) == "" {
			return ""
		}
		l.sleep(100 * time.Millisecond)
	}
	return "after the last write: " + l.unhealthy(true)
}

// compare holds that all copies are what the committed history makes of them (R1, R7): by reading every key, and by the digests that
// nodes exchange. It is false if that may have met a bit that was made to rot, of which a node has to recover first, and again.
func (l *life) compare(again bool) bool {
	want, exact := l.facts.state()
	var keys []string
	for i := range l.c.Writers {
		for j := range keysOf {
			keys = append(keys, fmt.Sprintf("w%d:%d", i, j))
		}
	}
	a := l.active()
	if a == nil || a.running() == nil {
		return true
	}
	c, err := l.dial(a.name)
	if err != nil {
		l.facts.fail("R12", "%s is not to be read: %v", a.name, err)
		return true
	}
	defer c.Close()
	got, err := c.do(append([]string{"MGET"}, keys...)...)
	if again && err != nil && l.anyRotten() {
		return false
	}
	if err != nil || len(got) != len(keys) {
		l.facts.fail("R12", "%s is not to be read: %d values, %v", a.name, len(got), err)
		return true
	}
	for i, k := range keys {
		if exact && got[i] != want[k] {
			l.facts.fail("R1", "%s has %.30q for %s, the committed history makes it %.30q", a.name, got[i], k, want[k])
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+2*l.c.Lag)
	defer cancel()
	e, err := a.running().post(ctx, admin.PathVerify, admin.VerifyRequest{})
	if agree := err == nil && e.Verify != nil && e.Verify.OK; !agree {
		if again && l.anyRotten() {
			return false
		}
		l.facts.fail("R7", "the copies differ: %v, %+v", err, e.Verify)
	}
	return true
}

// dial connects a client to a node.
func (l *life) dial(node string) (*session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	e := &endpoint{net: l.net, name: clients}
	c, err := e.dial(ctx, node+"/service")
	if err != nil {
		return nil, err
	}
	return &session{Conn: c, r: bufio.NewReader(c)}, nil
}

// quiet reports whether the phase with faults is over.
func (l *life) quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calm
}

// over reports whether everything ends.
func (l *life) over() bool {
	select {
	case <-l.end:
		return true
	default:
		return false
	}
}

// sleep waits, unless everything ends.
func (l *life) sleep(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.end:
	}
}

// after calls fn later, at the latest when everything ends.
func (l *life) after(d time.Duration, fn func()) {
	l.all.Go(func() {
		l.sleep(d)
		fn()
	})
}

func (l *life) count(fn func(*Stats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(&l.stats)
}

// happens counts a fault, until the function that it returns is called.
func (l *life) happens(k Kind) (done func()) {
	if !k.fault() {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Faults++
	l.stats.Kinds[k]++
	l.changeLocked(k, 1)
	l.stats.Most = max(l.stats.Most, len(l.now))
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changeLocked(k, -1)
	}
}

func (l *life) changeLocked(k Kind, by int) {
	if len(l.now) >= 3 {
		l.stats.Three += time.Since(l.since)
	}
	l.since = time.Now()
	if l.now[k] += by; l.now[k] == 0 {
		delete(l.now, k)
	}
}

// lasting is how many kinds of faults last now.
func (l *life) lasting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.now)
}

// journal keeps the last lines of all nodes' logs, and notes.
type journal struct {
	lines
	life *life
	say  func(string)
}

func (j *journal) Write(b []byte) (int, error) {
	if j.say != nil {
		j.say(strings.TrimSuffix(string(b), "\n"))
	}
	return j.lines.Write(b)
}

func (j *journal) note(format string, args ...any) {
	_, _ = fmt.Fprintf(j, "%s %s\n", time.Now().Format("15:04:05.000000"), fmt.Sprintf(format, args...)) // never fails
}
