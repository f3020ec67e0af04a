package wal

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/durable"
)

// Salvage makes a log that Open refused with e open again, up to e.Good: the way to repair it from a peer, which then sends the
// frames behind that once more (R8). All files from the damaged segment on are first copied into a new directory below
// saveDir, synced, as they are (R9). The doubt is noted: until it is settled, Recovery.Doubt says that durable records may be
// missing, and the node must neither vote nor ack as if it had them. Open the log afterwards with a KnownDurable that it can
// fulfil. It may be called again after a crash. Errors: e itself if it does not say up to where the log is good, I/O errors.
func Salvage(o Options, e *CorruptError, saveDir string) (savedIn string, err error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return "", err
	}
	if e.Unwrap() != ErrCorrupt || e.Good == (Position{}) {
		return "", e
	}
	dir, err := openDirectory(o.FS, o.Dir)
	if err != nil {
		return "", err
	}
	defer dir.close()
	l, err := listDir(o.FS, o.Dir)
	if err != nil {
		return "", err
	}
	seq, err := segmentBefore(o, l.segments, e.Good)
	if err != nil {
		return "", errors.Join(e, err)
	}
	savedIn = o.FS.PathJoin(saveDir, fmt.Sprintf("%s%d-%v", damagedPrefix, e.Good.LSN, e.Good.Hash))
	if err := saveFiles(dir, l.segments, seq, savedIn); err != nil {
		return "", fmt.Errorf("save damaged segments: %w", err)
	}
	if err := dir.writeNote(noteDoubt, Cut{File: e.File, Offset: e.Offset, After: e.Good, Found: e.Found}); err != nil {
		return savedIn, err
	}
	if err := dir.removeNote(noteClean); err != nil { // it vouches for what is given up
		return savedIn, err
	}
	o.Logger.Warn("damaged log cut for repair", "file", e.File, "offset", e.Offset, "lsn", uint64(e.Good.LSN), "saved", savedIn)
	return savedIn, dir.writeNote(noteIntent, intentNote{Op: intentCut, To: e.Good, Seq: seq}) // Open does it
}

// segmentBefore returns the last sound segment that begins at or before p.
func segmentBefore(o Options, segments []uint64, p Position) (seq uint64, err error) {
	for _, s := range segments {
		f, err := readSegmentFile(o.FS, o.Dir, s)
		if err != nil {
			return 0, err
		}
		if f.state != headGood || f.head.Prev.LSN > p.LSN {
			break
		}
		seq = s
	}
	if seq == 0 {
		return 0, fmt.Errorf("no segment holds %v", p)
	}
	return seq, nil
}

// saveFiles copies the segments from seq on.
func saveFiles(d *directory, segments []uint64, seq uint64, to string) error {
	if err := durable.MakeDir(d.fs, to); err != nil {
		return err
	}
	for _, s := range segments {
		if s < seq {
			continue
		}
		if err := copyFile(d.fs, d.join(segmentName(s)), d.fs.PathJoin(to, segmentName(s))); err != nil {
			return err
		}
	}
	return durable.SyncDir(d.fs, to)
}

func copyFile(fs vfs.FS, from, to string) error {
	in, err := fs.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// Discard makes a log that cannot be repaired begin anew, empty, behind at (the position of the state): all its files are first linked, or copied, into a new
// directory below saveDir (R9), and the doubt is noted, as by Salvage. It may be called again after a crash.
func Discard(o Options, at Position, why, saveDir string) (savedIn string, err error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return "", err
	}
	dir, err := openDirectory(o.FS, o.Dir)
	if err != nil {
		return "", err
	}
	defer dir.close()
	l, err := listDir(o.FS, o.Dir)
	if err != nil {
		return "", err
	}
	last := uint64(0)
	for _, seq := range l.segments {
		last = max(last, seq)
	}
	savedIn = o.FS.PathJoin(saveDir, fmt.Sprintf("%sall-%d-%v", damagedPrefix, at.LSN, at.Hash))
	if err := linkFiles(dir, l.segments, savedIn); err != nil {
		return "", fmt.Errorf("save damaged log: %w", err)
	}
	if err := dir.writeNote(noteDoubt, Cut{File: o.Dir, After: at, Found: why}); err != nil {
		return savedIn, err
	}
	if err := dir.removeNote(noteClean); err != nil {
		return savedIn, err
	}
	o.Logger.Warn("damaged log set aside", "lsn", uint64(at.LSN), "saved", savedIn, "why", why)
	return savedIn, dir.writeNote(noteIntent, intentNote{Op: intentReset, To: at, Seq: last + 1}) // Open does it
}

// linkFiles gives all segments a second name.
func linkFiles(d *directory, segments []uint64, to string) error {
	if err := durable.MakeDir(d.fs, to); err != nil {
		return err
	}
	for _, s := range segments {
		path := d.fs.PathJoin(to, segmentName(s))
		if err := d.fs.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if d.fs.Link(d.join(segmentName(s)), path) == nil {
			continue
		}
		if err := copyFile(d.fs, d.join(segmentName(s)), path); err != nil {
			return err
		}
	}
	return durable.SyncDir(d.fs, to)
}
