package raftstore

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/durable"
)

// fileNames are the two journals, in the order in which each change is written to them.
var fileNames = [2]string{"a.journal", "b.journal"}

// maxFile bounds what is read of a journal: far above MaxJournal and one change.
const maxFile = 64 << 20

// journal keeps what raft asks to be durable: term, vote, log and snapshot, and the id of this voter. All of it is in memory too: it is tiny.
//
// Each change goes to two files, one after the other, each synced. So a crash tears at most one of them, and damage in both is never a crash's
// work: then this voter's promises are unknown, and it refuses to start instead of cutting what it may have promised (R8, D11).
//
// Behind its records a file has zeros, written ahead: a change overwrites them, so that its sync has data to write and no metadata of the file system.
type journal struct {
	o Options

	mu struct {
		sync.Mutex
		state state
		files [2]*journalFile
		err   error // sticky: nothing more is promised (R10)
	}
}

// journalFile is one of the two, open for writing.
type journalFile struct {
	vfs.File
	last chain // of the newest record
	end  int64 // of the newest record
}

// openJournal recovers the journals, or makes them with a new voter id.
func openJournal(o Options) (*journal, error) {
	j := &journal{o: o}
	st, worse, err := j.recover()
	if err != nil {
		return nil, err
	}
	if st.ID == "" {
		var id [8]byte
		_, _ = rand.Read(id[:]) // never fails
		st.ID = hex.EncodeToString(id[:])
	}
	j.mu.state = st
	// What was read may be in the page cache only, after a sync that failed (R10), and one file may be behind or damaged: both are written anew,
	// the worse one first.
	for _, i := range []int{worse, 1 - worse} {
		if err := j.renew(i); err != nil {
			return nil, errors.Join(fmt.Errorf("token journal: %w", err), j.close())
		}
	}
	return j, nil
}

// found is what was read of one file.
type found struct {
	missing bool
	state   state
	last    chain
	damage  error // the file does not end with a whole record
}

// recover chooses the state to go on with, and says which file is not needed for it.
func (j *journal) recover() (state, int, error) {
	var f [2]found
	for i := range f {
		var err error
		if f[i], err = j.read(i); err != nil {
			return state{}, 0, err
		}
	}
	a, b := &f[0], &f[1]
	switch {
	case a.missing && b.missing:
		return newState(), 0, nil
	case a.missing || b.missing:
		// Made one after the other; or one was lost. The one that is there was written whole before it got its name.
		i := 0
		if a.missing {
			i = 1
		}
		if f[i].damage != nil {
			return state{}, 0, j.corrupt(f[i].damage)
		}
		return f[i].state, 1 - i, nil
	case a.damage != nil && b.damage != nil:
		return state{}, 0, j.corrupt(errors.Join(a.damage, b.damage))
	}
	good, bad := 0, 1
	if a.damage != nil || b.damage == nil && b.last.seq > a.last.seq {
		good, bad = 1, 0
	}
	if f[good].last.seq < f[bad].last.seq {
		return state{}, 0, j.corrupt(fmt.Errorf("%s ends at change %d, %s has at least %d: %w", fileNames[good], f[good].last.seq, fileNames[bad], f[bad].last.seq, f[bad].damage))
	}
	if f[bad].damage != nil {
		j.o.Logger.Warn("token journal damaged or torn, the other one is used", "file", fileNames[bad], "error", f[bad].damage)
	} else if a.last.seq == b.last.seq && !a.state.equal(b.state) {
		return state{}, 0, j.corrupt(fmt.Errorf("%s and %s differ after change %d", fileNames[0], fileNames[1], a.last.seq))
	}
	return f[good].state, bad, nil
}

func (j *journal) corrupt(why error) error {
	return fmt.Errorf("%w; empty %s to have this voter join anew", &failover.CorruptError{File: j.o.Dir, Reason: "token journal: " + why.Error()}, j.o.Dir)
}

func (j *journal) path(i int) string { return j.o.FS.PathJoin(j.o.Dir, fileNames[i]) }

// read reads one file up to its end or its first damage.
func (j *journal) read(i int) (found, error) {
	f, err := j.o.FS.Open(j.path(i))
	if errors.Is(err, fs.ErrNotExist) {
		return found{missing: true}, nil
	}
	if err != nil {
		return found{}, fmt.Errorf("open token journal: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err = errors.Join(err, f.Close()); err != nil {
		return found{}, fmt.Errorf("read token journal %s: %w", j.path(i), err)
	}
	out := found{state: newState()}
	b = bytes.TrimRight(b, "\x00") // a record ends with its document, which is no zero
	for at := 0; at < len(b) || at == 0; {
		n, next, c, err := decodeRecord(b[at:], out.last)
		if errors.Is(err, failover.ErrVersion) {
			return found{}, fmt.Errorf("%s: %w", j.path(i), err)
		}
		if err == nil {
			err = out.state.apply(c, next.seq)
		}
		if err != nil {
			out.damage = fmt.Errorf("%s at offset %d: %w", fileNames[i], at, err)
			break
		}
		out.last = next
		at += n
	}
	return out, nil
}

// renew replaces file i by one that holds the present state as its only record, and room for others.
func (j *journal) renew(i int) error {
	b, last, err := encodeRecord(chain{seq: j.mu.state.seq - 1}, change{State: &j.mu.state})
	if err != nil {
		return err
	}
	tmp := j.path(i) + ".tmp"
	f, err := j.o.FS.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, make([]byte, j.o.MaxJournal)...))
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.o.FS.Rename(tmp, j.path(i))
	}
	if err == nil {
		err = durable.SyncDir(j.o.FS, j.o.Dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := j.mu.files[i]
	j.mu.files[i] = &journalFile{File: f, last: last, end: int64(len(b))}
	if old != nil {
		return old.Close()
	}
	return nil
}

// do makes a change durable in both files. After any failure nothing is done any more.
func (j *journal) do(c change) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.err != nil {
		return j.mu.err
	}
	next := j.mu.state.clone()
	if err := next.apply(c, j.mu.state.seq+1); err != nil {
		return err
	}
	if err := j.writeLocked(c); err != nil {
		j.mu.err = fmt.Errorf("token journal in %s: %w: %w", j.o.Dir, failover.ErrFailed, err)
		j.o.OnFatal(j.mu.err)
		return j.mu.err
	}
	j.mu.state = next
	return nil
}

func (j *journal) writeLocked(c change) error {
	for i, f := range j.mu.files {
		if f.end > j.o.MaxJournal {
			if err := j.renew(i); err != nil {
				return err
			}
			f = j.mu.files[i]
		}
		b, last, err := encodeRecord(f.last, c)
		if err != nil {
			return err
		}
		if _, err := f.WriteAt(b, f.end); err != nil {
			return err
		}
		if err := f.SyncData(); err != nil {
			return err
		}
		f.last, f.end = last, f.end+int64(len(b))
	}
	return nil
}

// view lets fn read the state, which it must not keep.
func (j *journal) view(fn func(*state)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fn(&j.mu.state)
}

// close releases the files. Later changes are refused.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.err == nil {
		j.mu.err = fmt.Errorf("token journal: %w", failover.ErrClosed)
	}
	var errs []error
	for i, f := range j.mu.files {
		if f != nil {
			errs = append(errs, f.Close())
			j.mu.files[i] = nil
		}
	}
	return errors.Join(errs...)
}
