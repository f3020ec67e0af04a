package failover

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/internal/failpoint"
)

// slotBytes is the distance of the two slots: far more than a sector or page, so that a torn or misdirected write of one
// does not reach the other.
const slotBytes = 64 << 10

// SlotsOptions says where a state is kept.
type SlotsOptions struct {
	FS   vfs.FS // default vfs.Default
	Dir  string // existing and itself durable; required
	Name string // of the file in Dir, default "epoch"
	// Create makes a blank state when the file is missing. A node that has a log must not set it: a node that forgot its
	// promises may break them (R3, R11).
	Create bool
}

// EnsureDefaults fills what is unset.
func (o *SlotsOptions) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Name == "" {
		o.Name = "epoch"
	}
}

// Validate reports the first option that cannot work.
func (o *SlotsOptions) Validate() error {
	if o.Dir == "" {
		return fmt.Errorf("slots: Dir: %w: empty", ErrInvalid)
	}
	return nil
}

// SlotsRecovery tells what OpenSlots found.
type SlotsRecovery struct {
	Created bool    // the file was missing and was made
	Bad     []error // slots that were damaged, *CorruptError each; repaired from the other
	Behind  bool    // one slot was older: a write was cut off, before or after it was answered
}

// Slots keeps a State in two checksummed slots of one file. Each write goes to both, one after the other, each
// synced: after Write returns, either slot alone still tells the newest state, so a bit that rots in one loses no
// promise (D11); a write cut off in the middle leaves the other slot whole (D22). It is safe for concurrent use.
type Slots struct {
	path string

	mu struct {
		sync.Mutex
		file  vfs.File
		state State
		err   error // sticky: why nothing more is written (R10)
	}
}

// OpenSlots reads the state, and repairs a slot that is damaged or behind from the other one. Both slots damaged, or
// a version this program does not know, is an error: guessing an epoch could let a fenced node write.
func OpenSlots(o SlotsOptions) (*Slots, SlotsRecovery, error) {
	o.EnsureDefaults()
	var rec SlotsRecovery
	if err := o.Validate(); err != nil {
		return nil, rec, err
	}
	s := &Slots{path: o.FS.PathJoin(o.Dir, o.Name)}
	if _, err := o.FS.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		if !o.Create {
			return nil, rec, fmt.Errorf("%s: %w: this node's promises are unknown; wipe its data directory to re-seed it", s.path, ErrMissing)
		}
		if err := createSlots(o, s.path); err != nil {
			return nil, rec, fmt.Errorf("create %s: %w", s.path, err)
		}
		rec.Created = true
	} else if err != nil {
		return nil, rec, fmt.Errorf("open epoch file: %w", err)
	}
	f, err := o.FS.OpenReadWrite(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, rec, fmt.Errorf("open epoch file: %w", err)
	}
	s.mu.file = f
	if err := s.recover(&rec); err != nil {
		return nil, rec, errors.Join(err, f.Close())
	}
	return s, rec, nil
}

// State returns the state last written.
func (s *Slots) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.state
}

// Write makes next durable under a new generation and returns it as stored. After any failed write or sync it is not known
// what a restart will read: every later Write is refused with ErrFailed, and nothing is retried (R10).
func (s *Slots) Write(next State) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err != nil {
		return State{}, s.mu.err
	}
	next.Generation = s.mu.state.Generation + 1
	box, err := encodeState(next)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", s.path, err)
	}
	for i := range 2 {
		if err := writeSlot(s.mu.file, i, box); err != nil {
			s.mu.err = fmt.Errorf("%s: %w: %w", s.path, ErrFailed, err)
			return State{}, s.mu.err
		}
		if i == 0 {
			failpoint.Hit(failpoint.SlotBetween)
		}
	}
	failpoint.Hit(failpoint.SlotWritten)
	s.mu.state = next
	return next, nil
}

// Close releases the file. Later writes are refused.
func (s *Slots) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.file == nil {
		return nil
	}
	err := s.mu.file.Close()
	s.mu.file = nil
	if s.mu.err == nil {
		s.mu.err = fmt.Errorf("%s: %w", s.path, ErrClosed)
	}
	return err
}

// recover chooses the newest valid slot, and brings the other one up to it.
func (s *Slots) recover(rec *SlotsRecovery) error {
	var states [2]*State
	for i := range states {
		st, err := s.readSlot(i)
		var corrupt *CorruptError
		switch {
		case err == nil:
			states[i] = &st
		case errors.As(err, &corrupt):
			rec.Bad = append(rec.Bad, err)
		default:
			return err
		}
	}
	best, repair := chooseSlot(states)
	if best == nil {
		return fmt.Errorf("both slots are damaged, so this node's epoch is unknown; re-seed it: %w", errors.Join(rec.Bad...))
	}
	s.mu.state = *best
	box, err := encodeState(*best)
	if err != nil {
		return err
	}
	if repair < 0 {
		return s.checkTwins(box, states)
	}
	rec.Behind = len(rec.Bad) == 0
	if err := writeSlot(s.mu.file, repair, box); err != nil {
		return fmt.Errorf("repair slot %d of %s: %w", repair, s.path, err)
	}
	return nil
}

// chooseSlot returns the state to use, nil if there is none, and the slot to be rewritten, -1 if there is none.
func chooseSlot(s [2]*State) (best *State, repair int) {
	switch {
	case s[0] == nil && s[1] == nil:
		return nil, -1
	case s[1] == nil:
		return s[0], 1
	case s[0] == nil:
		return s[1], 0
	case s[0].Generation > s[1].Generation:
		return s[0], 1
	case s[0].Generation < s[1].Generation:
		return s[1], 0
	}
	return s[0], -1
}

// checkTwins refuses two different states of one generation: no write of ours leaves that behind.
func (s *Slots) checkTwins(box []byte, states [2]*State) error {
	twin, err := encodeState(*states[1])
	if err != nil {
		return err
	}
	if !bytes.Equal(box, twin) {
		return &CorruptError{File: s.path, Offset: slotBytes, Reason: fmt.Sprintf("two states of generation %d", states[0].Generation)}
	}
	return nil
}

// createSlots makes the file whole before it gets its name: a crash leaves no file or a valid one.
func createSlots(o SlotsOptions, path string) error {
	box, err := encodeState(State{Generation: 1})
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	f, err := o.FS.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	b := make([]byte, 2*slotBytes)
	copy(b, box)
	copy(b[slotBytes:], box)
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := o.FS.Rename(tmp, path); err != nil {
		return err
	}
	return durable.SyncDir(o.FS, o.Dir)
}
