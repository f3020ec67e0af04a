package failover

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"repld/wal"
)

// Fence is this node's promise about epochs (R3): no answer is given under an epoch that is not persisted, and
// nothing is accepted from a lower one. It is safe for concurrent use; reading it never waits for the disk.
type Fence struct {
	state  atomic.Pointer[State] // persisted; replaced under mu, never changed in place
	failed atomic.Pointer[error] // why the slots failed: every promise is refused with it from then on (R10)

	mu struct {
		sync.Mutex
		slots  *Slots
		onRise []func(wal.Epoch, string)
	}
}

// NewFence returns the fence over slots, which it owns from now on.
func NewFence(slots *Slots) *Fence {
	f := &Fence{}
	f.mu.slots = slots
	s := slots.State()
	f.state.Store(&s)
	return f
}

// State returns what is persisted. The caller must not change it.
func (f *Fence) State() State { return *f.state.Load() }

// Epoch returns the highest epoch persisted, 0 on a blank node.
func (f *Fence) Epoch() wal.Epoch { return f.state.Load().Epoch() }

// Holder returns who holds Epoch: the only node that this one accepts frames from.
func (f *Fence) Holder() string { return f.state.Load().Holder() }

// OnRise registers fn, called after each rise of the epoch is persisted and before Observe or Grant returns, in
// order. fn must not block and must not call Observe, Grant, SetVoter or OnRise; it may read the fence.
func (f *Fence) OnRise(fn func(epoch wal.Epoch, holder string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.onRise = append(f.mu.onRise, fn)
}

// Observe notes that holder claims epoch e with the sync set given (zero if the caller does not know it). A higher
// epoch, or a newer set of the same epoch, is durable when Observe returns. It returns *StaleEpochError when e is
// lower than what is persisted, *ConflictError when e is held by another, ErrFailed when nothing can be promised.
// Called for every frame, it is cheap when nothing is new.
func (f *Fence) Observe(e wal.Epoch, holder string, sync wal.SyncSet) error {
	if err := f.failed.Load(); err != nil {
		return *err
	}
	if s := f.state.Load(); s.Epoch() == e && s.Holder() == holder && sync.Version <= s.Sync().Version {
		return nil
	}
	return f.raise(Tenure{Epoch: e, Holder: holder, Sync: sync})
}

// Accept is Observe for the word of holder itself, who serves its log in epoch e and so has won it (R5). It differs when this node, self,
// was a rival that granted e to itself, lost, and gave up: then the promise to itself is replaced. The caller makes sure that this node
// is neither candidate nor active. Errors as for Observe.
func (f *Fence) Accept(e wal.Epoch, holder, self string, sync wal.SyncSet) error {
	err := f.Observe(e, holder, sync)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Holder != self || sync.Version == 0 {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	cur := f.state.Load()
	if cur.Epoch() != e || cur.Holder() != self {
		return err // it rose meanwhile
	}
	t := Tenure{Epoch: e, Holder: holder, Sync: sync}
	if err := checkTenure(t); err != nil {
		return err
	}
	return f.persistLocked(cur.with(t))
}

// Grant promises epoch e to candidate, who will write in it under the sync set next: durable on return, after which
// no other node can be granted e and nothing of a lower epoch is accepted here. Granting twice to the same candidate
// is safe. Errors as for Observe. The position reported to the candidate must be read after Grant returned, and
// appends of lower epochs must be checked against the fence under the lock that orders them with that reading.
func (f *Fence) Grant(e wal.Epoch, candidate string, next wal.SyncSet) error {
	if next.Version == 0 {
		return fmt.Errorf("grant epoch %d to %s: %w: sync set without a version", e, candidate, ErrInvalid)
	}
	if err := f.failed.Load(); err != nil {
		return *err
	}
	return f.raise(Tenure{Epoch: e, Holder: candidate, Sync: next})
}

// SetVoter persists whether this node's log counts in promotions and its acks in commits (R11).
func (f *Fence) SetVoter(v bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.State()
	if next.Voter == v && f.failed.Load() == nil {
		return nil
	}
	next.Voter = v
	return f.persistLocked(next)
}

// Voter reports what SetVoter persisted.
func (f *Fence) Voter() bool { return f.state.Load().Voter }

// Close releases the slots. The fence can still be read.
func (f *Fence) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	closed := error(ErrFailed)
	f.failed.CompareAndSwap(nil, &closed)
	return f.mu.slots.Close()
}

func (f *Fence) raise(t Tenure) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	cur := f.state.Load()
	if t.Epoch < cur.Epoch() {
		return &StaleEpochError{Seen: t.Epoch, Epoch: cur.Epoch(), Holder: cur.Holder()}
	}
	if t.Epoch == cur.Epoch() {
		if t.Holder != cur.Holder() {
			return &ConflictError{Epoch: t.Epoch, Holder: cur.Holder(), Other: t.Holder}
		}
		if t.Sync.Version <= cur.Sync().Version {
			return nil
		}
	}
	if err := checkTenure(t); err != nil {
		return err
	}
	if err := f.persistLocked(cur.with(t)); err != nil {
		return err
	}
	if t.Epoch > cur.Epoch() {
		for _, fn := range f.mu.onRise {
			fn(t.Epoch, t.Holder)
		}
	}
	return nil
}

func (f *Fence) persistLocked(next State) error {
	stored, err := f.mu.slots.Write(next)
	if err != nil {
		if errors.Is(err, ErrFailed) {
			f.failed.Store(&err)
		}
		return err
	}
	f.state.Store(&stored)
	return nil
}

func checkTenure(t Tenure) error {
	if t.Holder == "" || t.Sync.K < 0 || t.Sync.K > len(t.Sync.Members) || slices.Contains(t.Sync.Members, "") {
		return fmt.Errorf("%s: %w", t, ErrInvalid)
	}
	return nil
}
