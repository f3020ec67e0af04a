package kv

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"repld/internal/procs"
)

// compactions permits Pebble's compactions: as many at once as Pebble thinks right at the time, as its own scheduler does. That one has a goroutine, which pebble.Open
// starts and which stays for ever when Open fails after that (v2.1.7), and with it all that the state had in memory: a node whose disk has trouble opens its state again and again.
//
// Nothing needs a look now and then, as Pebble's scheduler takes: what Pebble allows changes with a new version, that is when a compaction or a flush has ended, and both are told.
//
// Once the state has failed none is permitted: Pebble repeats one that met a damaged block at once, for ever, and would take a processor until the node has left.
type compactions struct {
	db     pebble.DBForCompaction // set by Register, before anything else is called
	failed <-chan struct{}        // closed when the state has failed
	mu     struct {
		sync.Mutex            // taken inside Pebble's DB.mu, so never held while calling what takes that
		idle       *sync.Cond // neither granting nor asked
		running    int
		busy       func() // ends the busy time that began with the first of them
		refused    bool   // something waits for a permission
		granting   bool
		asked      bool // a goroutine is about to grant
		over       bool
	}
}

var _ pebble.CompactionScheduler = (*compactions)(nil)

func newCompactions(failed <-chan struct{}) *compactions {
	c := &compactions{failed: failed}
	c.mu.idle = sync.NewCond(&c.mu.Mutex)
	return c
}

// Register implements pebble.CompactionScheduler.
func (c *compactions) Register(_ int, db pebble.DBForCompaction) { c.db = db }

// Unregister implements pebble.CompactionScheduler: once it has returned, Pebble is not called any more.
func (c *compactions) Unregister() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.over = true
	for c.mu.granting || c.mu.asked {
		c.mu.idle.Wait()
	}
}

// freeLocked is how many more compactions may run.
func (c *compactions) freeLocked() int {
	select {
	case <-c.failed:
		return 0
	default:
	}
	if c.mu.over {
		return 0
	}
	return c.db.GetAllowedWithoutPermission() - c.mu.running // one atomic load
}

// TrySchedule implements pebble.CompactionScheduler. What is refused is granted when a running one is done, or a flush allows more.
func (c *compactions) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.freeLocked() <= 0 {
		c.mu.refused = true
		return false, nil
	}
	c.runLocked(1)
	return true, c
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler. Pebble calls it with DB.mu held.
func (c *compactions) UpdateGetAllowedWithoutPermission() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.refused && !c.mu.asked && c.freeLocked() > 0 {
		c.mu.asked = true
		go c.grant()
	}
}

// runLocked counts one compaction more, or less.
func (c *compactions) runLocked(change int) {
	before := c.mu.running
	c.mu.running += change
	switch {
	case before <= 0 && c.mu.running > 0:
		c.mu.busy = procs.Busy()
	case before > 0 && c.mu.running <= 0:
		c.mu.busy()
	}
}

// Done implements pebble.CompactionGrantHandle.
func (c *compactions) Done() {
	c.mu.Lock()
	c.runLocked(-1)
	c.mu.Unlock()
	c.grant()
}

// grant has Pebble start what it wants to, as far as there is room.
func (c *compactions) grant() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.mu.granting {
		c.mu.idle.Wait()
	}
	c.mu.granting, c.mu.asked = true, false
	for c.freeLocked() > 0 {
		c.mu.refused = false // unless one is refused anew
		c.mu.Unlock()
		waiting, _ := c.db.GetWaitingCompaction()
		started := waiting && c.db.Schedule(c)
		c.mu.Lock()
		if !started {
			break
		}
		// Counted late, as Pebble's does: it may be done already, and one more than allowed may run for a moment. Counted early, one could be refused for the sake of one that
		// does not come, and nobody would grant it again.
		c.runLocked(1)
		c.mu.refused = true // there may be more
	}
	c.mu.granting = false
	c.mu.idle.Broadcast()
}

// Started implements pebble.CompactionGrantHandle.
func (c *compactions) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (c *compactions) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (c *compactions) CumulativeStats(pebble.CompactionGrantHandleStats) {}
