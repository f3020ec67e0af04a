package events

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/durable"
)

const (
	nameNow = "events.jsonl"
	nameOld = "events.old.jsonl"
)

// journal is the two files. It belongs to the goroutine of Run.
type journal struct {
	fs    vfs.FS
	dir   string
	limit int64
	file  vfs.File // nil until something is written
	at    int64    // where the next line goes
	fresh bool     // a new line begins at at
}

func (j *journal) path(name string) string { return j.fs.PathJoin(j.dir, name) }

// open finds the end of what is there. Nothing is written: a node that cannot be opened should leave its files as they are.
func (j *journal) open(content []byte) {
	j.at = int64(len(content))
	j.fresh = len(content) == 0 || content[len(content)-1] == '\n'
}

// write appends lines and syncs them. After an error the next call writes behind whatever came to be, on a line of its own.
func (j *journal) write(lines []byte) error {
	if j.at > 0 && j.at+int64(len(lines)) > j.limit {
		if err := j.rotate(); err != nil {
			return err
		}
	}
	if j.file == nil {
		f, err := j.fs.OpenReadWrite(j.path(nameNow), vfs.WriteCategoryUnspecified)
		if err != nil {
			return fmt.Errorf("open event journal: %w", err)
		}
		if err := durable.SyncDir(j.fs, j.dir); err != nil {
			return errors.Join(err, f.Close())
		}
		j.file = f
	}
	if !j.fresh {
		lines = slices.Concat([]byte("\n"), lines)
	}
	j.fresh = false
	if n, err := j.file.WriteAt(lines, j.at); err != nil {
		j.at += int64(n)
		return fmt.Errorf("write event journal: %w", err)
	}
	j.at += int64(len(lines))
	j.fresh = true
	if err := j.file.SyncData(); err != nil {
		return fmt.Errorf("sync event journal: %w", err)
	}
	return nil
}

// rotate makes the file the old one. A crash in between leaves one or both names: readers take what is there.
func (j *journal) rotate() error {
	if err := j.close(); err != nil {
		return err
	}
	if err := j.fs.Rename(j.path(nameNow), j.path(nameOld)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate event journal: %w", err)
	}
	j.at, j.fresh = 0, true
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	if err != nil {
		return fmt.Errorf("close event journal: %w", err)
	}
	return nil
}

// read returns the content of one file, nothing if it is not there. More than a file of twice the limit is not read.
func (j *journal) read(name string) ([]byte, error) {
	f, err := j.fs.Open(j.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read event journal: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, 2*j.limit))
	if err != nil {
		return content, fmt.Errorf("read event journal: %w", err)
	}
	return content, nil
}

// Read returns the events in the journal at dir, oldest first, and how many lines were damaged. It is for a node that does not run; a running one is
// asked for its Log's events.
func Read(fs vfs.FS, dir string) (all []Event, damaged int, err error) {
	j := &journal{fs: fs, dir: dir, limit: DefaultMaxBytes}
	for _, name := range []string{nameOld, nameNow} {
		content, rerr := j.read(name)
		err = errors.Join(err, rerr)
		some, bad := parse(content)
		all, damaged = append(all, some...), damaged+bad
	}
	return ordered(all), damaged, err
}

// ordered sorts by number and drops repeated ones, which a rotation that a crash cut off could leave.
func ordered(all []Event) []Event {
	slices.SortStableFunc(all, func(a, b Event) int {
		switch {
		case a.Seq < b.Seq:
			return -1
		case a.Seq > b.Seq:
			return 1
		}
		return 0
	})
	return slices.CompactFunc(all, func(a, b Event) bool { return a.Seq == b.Seq })
}
