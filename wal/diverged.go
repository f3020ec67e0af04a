package wal

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/durable"
	"repld/internal/strict"
)

// A saved suffix is a directory with the frames, one behind the other, and their description. It is made under another name
// and renamed, so it is whole or not there.
const (
	divergedFrames = "frames"
	divergedAbout  = "about.json"
	maxAbout       = 64 << 10
	damagedPrefix  = "damaged-" // what Salvage and Fill save
)

// Diverged describes a suffix that was cut from the log and saved (R9).
type Diverged struct {
	Path    string    `json:"-"`       // its directory
	Format  int       `json:"format"`  // 1
	Cluster string    `json:"cluster"` //
	Group   string    `json:"group"`   //
	From    Position  `json:"from"`    // end of the frame before it
	To      Position  `json:"to"`      // end of its last frame
	Frames  uint64    `json:"frames"`  //
	Records uint64    `json:"records"` //
	Bytes   int64     `json:"bytes"`   // of the frames
	Reason  string    `json:"reason"`  //
	Time    time.Time `json:"time"`    // when it was saved
}

func (d Diverged) validate() error {
	switch {
	case d.Format != 1:
		return fmt.Errorf("%w: diverged suffix of format %d: want 1", ErrVersion, d.Format)
	case d.From.LSN >= d.To.LSN || d.Records != uint64(d.To.LSN-d.From.LSN):
		return fmt.Errorf("%w: diverged suffix of %d records from %v to %v", ErrCorrupt, d.Records, d.From, d.To)
	case d.Frames == 0 || d.Frames > d.Records || d.Bytes < int64(d.Frames)*HeaderSize:
		return fmt.Errorf("%w: diverged suffix of %d frames in %d bytes", ErrCorrupt, d.Frames, d.Bytes)
	}
	return nil
}

// decodeDiverged decodes a description. Errors wrap ErrCorrupt or ErrVersion.
func decodeDiverged(b []byte) (Diverged, error) {
	var d Diverged
	if err := strict.Decode(b, &d); err != nil {
		return Diverged{}, fmt.Errorf("%w: diverged suffix: %w", ErrCorrupt, err)
	}
	return d, d.validate()
}

// save copies the frames behind from into o.Dir. The name tells the range and the last hash, so that saving the same suffix
// twice finds the first copy. app is held.
func (l *Log) save(from Position, o SaveOptions) (Diverged, error) {
	fs, to := l.o.FS, l.End()
	if err := durable.MakeDir(fs, o.Dir); err != nil {
		return Diverged{}, err
	}
	path := fs.PathJoin(o.Dir, fmt.Sprintf("%d-%d-%v", from.LSN+1, to.LSN, to.Hash))
	if d, err := readAbout(fs, path); err == nil && d.From == from && d.To == to {
		return d, nil
	}
	tmp := path + tmpSuffix
	if err := errors.Join(fs.RemoveAll(tmp), fs.RemoveAll(path)); err != nil {
		return Diverged{}, fmt.Errorf("remove a half-made copy: %w", err)
	}
	if err := durable.MakeDir(fs, tmp); err != nil {
		return Diverged{}, err
	}
	d := Diverged{Path: path, Format: 1, Cluster: l.o.Identity.Cluster, Group: l.o.Identity.Group, From: from, To: to, Reason: o.Reason, Time: time.Now().UTC()}
	if err := l.copyFrames(fs.PathJoin(tmp, divergedFrames), &d); err != nil {
		return Diverged{}, err
	}
	about, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return Diverged{}, fmt.Errorf("encode %s: %w", path, err)
	}
	if err := durable.WriteFile(fs, fs.PathJoin(tmp, divergedAbout), append(about, '\n')); err != nil {
		return Diverged{}, err
	}
	if err := durable.SyncDir(fs, tmp); err != nil {
		return Diverged{}, err
	}
	if err := fs.Rename(tmp, path); err != nil {
		return Diverged{}, fmt.Errorf("rename %s: %w", tmp, err)
	}
	return d, durable.SyncDir(fs, o.Dir)
}

// copyFrames writes the frames of a suffix into a file, syncs it, and counts them.
func (l *Log) copyFrames(path string, d *Diverged) error {
	r, err := l.NewReader(d.From.LSN)
	if err != nil {
		return err
	}
	defer r.Close()
	out, err := l.o.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	for r.Position() != d.To && err == nil {
		var f *Frame
		if f, err = r.TryNext(); err != nil {
			break
		}
		d.Frames, d.Records, d.Bytes = d.Frames+1, d.Records+uint64(f.Count), d.Bytes+f.Size()
		_, err = out.Write(slices.Clone(f.Bytes)) // a vfs.File may modify what it is given
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("save suffix in %s: %w", path, err)
	}
	return nil
}

func readAbout(fs vfs.FS, path string) (Diverged, error) {
	b, err := durable.ReadFile(fs, fs.PathJoin(path, divergedAbout), maxAbout)
	if err != nil {
		return Diverged{}, err
	}
	d, err := decodeDiverged(b)
	if err != nil {
		return Diverged{}, fmt.Errorf("read %s: %w", path, err)
	}
	d.Path = path
	return d, nil
}

// ListDiverged lists the saved suffixes in dir by their first LSN. A missing directory is an empty one. Suffixes that
// cannot be read are told in the error, beside the list of the others.
func ListDiverged(fs vfs.FS, dir string) ([]Diverged, error) {
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var out []Diverged
	var bad error
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) || strings.HasPrefix(name, damagedPrefix) {
			continue
		}
		d, err := readAbout(fs, fs.PathJoin(dir, name))
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Diverged) int {
		return cmp.Or(cmp.Compare(a.From.LSN, b.From.LSN), a.Time.Compare(b.Time))
	})
	return out, bad
}

// DivergedReader reads a saved suffix.
type DivergedReader struct {
	About Diverged

	f   vfs.File
	pos Position
}

// OpenDiverged opens the saved suffix in a directory that ListDiverged named.
func OpenDiverged(fs vfs.FS, path string) (*DivergedReader, error) {
	d, err := readAbout(fs, path)
	if err != nil {
		return nil, err
	}
	f, err := fs.Open(fs.PathJoin(path, divergedFrames))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &DivergedReader{About: d, f: f, pos: d.From}, nil
}

// Next returns the next frame, io.EOF behind the last one. It checks each frame and the chain; damage wraps ErrCorrupt.
func (r *DivergedReader) Next() (*Frame, error) {
	if r.pos == r.About.To {
		return nil, io.EOF
	}
	f, err := ReadFrame(r.f, MaxFrameBytes)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, io.ErrUnexpectedEOF)
	}
	if err == nil && (f.First != r.pos.LSN+1 || f.Prev != r.pos.Hash || f.Last() > r.About.To.LSN) {
		err = fmt.Errorf("%w: frame of LSN %d to %d behind %v", ErrCorrupt, f.First, f.Last(), r.pos)
	}
	if err != nil {
		return nil, fmt.Errorf("saved suffix %s behind LSN %d: %w", r.About.Path, r.pos.LSN, err)
	}
	r.pos = f.End()
	return f, nil
}

// Close closes the files.
func (r *DivergedReader) Close() error { return r.f.Close() }
