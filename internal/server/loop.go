package server

import (
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// loop serves many plain connections with two goroutines: one reads what has arrived and executes it, the other sends what the Backend has
// answered. A connection costs no goroutine, no wake-up and no read that finds nothing, as long as its commands do not wait. One that must wait, or
// whose client does not take its replies, gets a goroutine for that time (driver.visit).
type loop struct {
	srv  *Server
	poll *poller
	news chan struct{} // capacity 1: something was posted

	mu struct {
		sync.Mutex
		drivers map[int64]*driver
		posted  []*driver
	}
}

// startLoops makes as many loops as there may be running goroutines, halved: the other half are the log's, the state's and the standbys'. Without
// one, each connection gets a goroutine.
func (s *Server) startLoops() {
	for range max(1, runtime.GOMAXPROCS(0)/2) {
		p, err := newPoller()
		if err != nil {
			s.opts.Logger.Warn("clients are served by a goroutine each", "error", err)
			break
		}
		l := &loop{srv: s, poll: p, news: make(chan struct{}, 1)}
		l.mu.drivers = make(map[int64]*driver)
		s.loops = append(s.loops, l)
		s.loopsDone.Go(l.read)
		s.loopsDone.Go(l.answer)
	}
}

// stopLoops ends the loops when no session is left and none can come. It may be called more than once.
func (s *Server) stopLoops() {
	s.loopsBegin.Do(func() {}) // none from now on
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.loopsEnd:
		return
	default:
	}
	close(s.loopsEnd)
	for _, l := range s.loops {
		if err := l.poll.close(); err != nil {
			s.opts.Logger.Warn("close poller", "error", err)
		}
	}
	s.loopsDone.Wait()
}

// intoLoop chooses a loop for d's connection, false if it cannot be in one: then it needs a goroutine.
func (s *Server) intoLoop(d *driver) bool {
	var raw syscall.RawConn
	var err error
	switch c := d.conn.(type) {
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	default:
		return false // TLS, pipes
	}
	if err != nil {
		return false
	}
	s.loopsBegin.Do(s.startLoops)
	if len(s.loops) == 0 {
		return false
	}
	d.join(s.loops[d.session.info.id%int64(len(s.loops))], raw)
	return true
}

// add begins to serve d. It may have ended before.
func (l *loop) add(d *driver) {
	d.turn.Lock()
	defer d.turn.Unlock()
	if d.phase == ended {
		return
	}
	id := d.session.info.id
	l.mu.Lock()
	l.mu.drivers[id] = d
	l.mu.Unlock()
	if err := l.poll.add(d.raw, id); err != nil {
		l.srv.opts.Logger.Warn("client closed: it cannot be watched", "client", id, "error", err)
		d.end()
	}
}

// tickEvery is how often connections are looked through for those whose input is overdue.
func (s *Server) tickEvery() time.Duration {
	least := s.opts.PartialTimeout
	if s.opts.IdleTimeout > 0 {
		least = min(least, s.opts.IdleTimeout)
	}
	return max(min(least/8, time.Second), 10*time.Millisecond)
}

// read is the goroutine that hears of the poller.
func (l *loop) read() {
	for {
		err := l.poll.wait(func(id int64, hangup bool) {
			l.mu.Lock()
			d := l.mu.drivers[id]
			l.mu.Unlock()
			if d != nil {
				d.readable(hangup)
			}
		})
		if err != nil {
			select {
			case <-l.srv.loopsEnd:
			default:
				l.srv.opts.Logger.Error("no connection can be served any more", "error", err)
			}
			return
		}
	}
}

// answer is the goroutine that hears of the Backend, of who closes connections, and of time.
func (l *loop) answer() {
	closing := l.srv.ctx.Done()
	tick := time.NewTicker(l.srv.tickEvery())
	defer tick.Stop()
	var list []*driver
	for {
		select {
		case <-l.news:
			l.mu.Lock()
			list, l.mu.posted = l.mu.posted, list[:0]
			l.mu.Unlock()
			for i, d := range list {
				d.posted()
				list[i] = nil
			}
		case now := <-tick.C:
			for _, d := range l.all() {
				d.overdue(now)
			}
		case <-closing:
			closing = nil
			for _, d := range l.all() {
				d.abandon()
			}
		case <-l.srv.loopsEnd:
			return
		}
	}
}

// post has the answering goroutine look at d.
func (l *loop) post(d *driver) {
	l.mu.Lock()
	l.mu.posted = append(l.mu.posted, d)
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
}

func (l *loop) all() []*driver {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]*driver, 0, len(l.mu.drivers))
	for _, d := range l.mu.drivers {
		all = append(all, d)
	}
	return all
}

func (l *loop) forget(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.drivers, id)
}
