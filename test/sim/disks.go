package sim

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"repld/internal/faultfs"
)

// What the disks of all hosts are like while nothing is wrong.
const (
	diskBytes   = 64 << 20
	diskReserve = 256 << 10
	newest      = 3 // segments that a running process writes to, or has written just now
)

// fill leaves a host's disk nearly or quite without room (FAULTS D5).
func (h *host) fill(r *rand.Rand) (undo func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.full++
	h.capacity = h.disk.Used() + r.Int64N(diskReserve/4)
	h.disk.SetCapacity(h.capacity)
	if h.proc != nil {
		h.proc.slowFull()
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.full--; h.full == 0 {
			h.capacity = diskBytes
			h.disk.SetCapacity(h.capacity)
		}
	}
}

// slowFull has a table that finds no room take some time to find out. Pebble tries a flush that failed again at once: on a real disk that costs time, and here simulated time would
// stand still.
func (p *process) slowFull() {
	p.fs.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpWrite, faultfs.OpSync}, Path: "state/*.sst", Fault: func(c *faultfs.Call) (int, error) {
		n, err := c.Do()
		if err != nil {
			<-time.After(10 * time.Millisecond)
		}
		return n, err
	}})
}

// roomForManifest lets Pebble's MANIFEST grow on a full disk, as files below a disk's root reserve may. When it cannot, internal/kv stops Pebble where it is, with its locks held
// (package kv's tests hold that): another goroutine that waits for one of those would stop simulated time.
func (p *process) roomForManifest(disk *faultfs.Disk) {
	p.fs.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpWrite}, Path: "state/MANIFEST*", Fault: func(c *faultfs.Call) (int, error) {
		p.h.mu.Lock()
		defer p.h.mu.Unlock()
		disk.SetCapacity(0)
		defer disk.SetCapacity(p.h.capacity)
		return c.Do()
	}})
}

// noRoom says that an operation failed because the disk is full. A process may end for it, and not start.
func noRoom(err error) bool { return strings.Contains(err.Error(), "no space left") }

// stick holds all syncs of the log of a running process until the time is over, or the process has left (FAULTS D17). A process that is held for longer than its limit leaves
// by itself.
func (p *process) stick(d time.Duration) {
	end := time.Now().Add(d)
	a := p.fs.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpSync}, Path: "wal/*.seg", Fault: func(c *faultfs.Call) (int, error) {
		t := time.NewTimer(time.Until(end))
		defer t.Stop()
		select {
		case <-t.C:
		case <-p.free:
		}
		return c.Do()
	}})
	p.h.mu.Lock()
	p.stuck = true
	p.h.mu.Unlock()
	p.h.l.after(d, a.Stop)
}

// rot flips one bit of a file of the log or of the state, and reports whether there was one (FAULTS D8, D9). While the process runs it leaves the newest segments alone: there the probe
// reads what is committed.
func (h *host) rot(r *rand.Rand, runs bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	var files, segments []string
	for _, f := range h.disk.Files() {
		switch dir := path.Base(path.Dir(f)); {
		case dir == "wal" && strings.HasSuffix(f, ".seg"):
			segments = append(segments, f)
		case dir == "state" && strings.HasSuffix(f, ".sst"):
			files = append(files, f)
		}
	}
	slices.Sort(segments)
	if runs {
		segments = segments[:max(0, len(segments)-newest)]
	}
	files = append(files, segments...)
	if len(files) == 0 {
		return false
	}
	f := files[r.IntN(len(files))]
	info, err := h.disk.Stat(f)
	if err != nil || info.Size() == 0 {
		return false
	}
	h.rotten = true
	bit := r.Int64N(8 * info.Size())
	h.disk.Flip(f, bit)
	h.l.log.note("bit %d of %s on %s is wrong now", bit, f, h.name)
	return true
}

// anyRotten reports whether a bit of some node's disk was made to go wrong.
func (l *life) anyRotten() bool {
	for _, h := range l.hosts {
		h.mu.Lock()
		rotten := h.rotten
		h.mu.Unlock()
		if rotten {
			return true
		}
	}
	return false
}

// decay has a bit of a node's disk go wrong, when all the others have what it has and none is in trouble: more than one disk at a time is not what R1 promises for.
func (l *life) decay(h *host, e Event, r *rand.Rand, done func()) {
	if l.c.K == 0 || l.c.Shrink || l.unhealthy(true) != "" {
		done()
		return
	}
	if e.Arg > 0 {
		h.rot(r, true)
		l.after(e.For, done)
		return
	}
	h.keepDown(true)
	if h.die(faultfs.Everything()) {
		h.rot(r, false)
	}
	l.after(e.For, func() {
		h.keepDown(false)
		done()
		h.start()
	})
}

// unreadable is what a person does about a node that does not start because its disk is damaged: the disk is replaced (R8, R11).
func (h *host) unreadable(err error) bool {
	h.mu.Lock()
	rotten := h.rotten
	h.mu.Unlock()
	if !rotten {
		return false
	}
	h.l.log.note("%s does not start with a damaged disk: %v", h.name, err)
	h.l.count(func(s *Stats) { s.Replaced++ })
	h.wipe()
	h.keepDown(true)
	h.l.all.Go(func() {
		for !h.l.over() && !h.l.agreed(h) {
			h.l.sleep(100 * time.Millisecond)
		}
		h.keepDown(false)
		h.start()
	})
	return true
}
