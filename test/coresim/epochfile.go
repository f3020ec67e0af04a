package coresim

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// errPower is what a file operation returns in the middle of which the node lost power.
var errPower = errors.New("power failed")

// half is where the second slot begins; failover keeps its slots that far apart.
const half = 64 << 10

// epochFile is the one file that failover.Slots keeps, as a disk holds it: what is written and what is synced differ until Sync, and a crash keeps an
// arbitrary part of the difference. It is stored as two halves, without the zeros behind their content.
type epochFile struct {
	named   bool // it has its name: a crash while it is made leaves nothing
	written [2][]byte
	synced  [2][]byte
	lies    bool // mutant: Sync reports success and syncs nothing

	fuse int    // power fails at the n-th operation from now; 0 never
	blow func() // what happens then
}

// crash leaves of each half that is not synced the old content, the new one, or a mix.
func (f *epochFile) crash(rng *rand.Rand) {
	for i := range f.written {
		if bytes.Equal(f.written[i], f.synced[i]) {
			continue
		}
		old, now := f.synced[i], f.written[i]
		switch rng.IntN(3) {
		case 0:
			f.written[i] = old
		case 1:
			torn := bytes.Clone(now[:rng.IntN(len(now))])
			if len(old) > len(torn) {
				torn = append(torn, old[len(torn):]...)
			}
			f.written[i] = torn
		}
		f.synced[i] = f.written[i]
	}
	f.fuse, f.blow = 0, nil
}

func (f *epochFile) clone() *epochFile {
	return &epochFile{named: f.named, written: f.written, synced: f.synced, lies: f.lies}
}

// op counts an operation.
func (f *epochFile) op() error {
	if f.blow == nil {
		return nil
	}
	if f.fuse--; f.fuse > 0 {
		return nil
	}
	blow := f.blow
	f.blow = nil
	blow()
	return errPower
}

// epochFS is a vfs.FS that holds nothing but the epoch file. Only what Slots uses is there; the rest panics by the nil FS.
type epochFS struct {
	vfs.FS
	f *epochFile
}

func (e epochFS) PathJoin(elem ...string) string { return path.Join(elem...) }

func (e epochFS) Stat(string) (vfs.FileInfo, error) {
	if !e.f.named {
		return nil, fs.ErrNotExist
	}
	return nil, nil
}

func (e epochFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) {
	return handle{f: e.f}, nil
}

func (e epochFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return handle{f: e.f}, nil
}

func (e epochFS) Rename(string, string) error { return nil }

// OpenDir is called to sync the file's name.
func (e epochFS) OpenDir(string) (vfs.File, error) { return handle{f: e.f, dir: true}, nil }

// handle is an open file.
type handle struct {
	vfs.File
	f   *epochFile
	dir bool
}

func (h handle) Close() error { return nil }

func (h handle) Write(b []byte) (int, error) { return h.WriteAt(b, 0) }

func (h handle) WriteAt(b []byte, off int64) (int, error) {
	if err := h.f.op(); err != nil {
		return 0, err
	}
	for at, rest := off, b; len(rest) > 0; {
		i := at / half
		if at%half != 0 || i > 1 {
			return 0, os.ErrInvalid
		}
		n := min(len(rest), half)
		h.f.write(int(i), rest[:n])
		at, rest = at+int64(n), rest[n:]
	}
	return len(b), nil
}

func (f *epochFile) write(i int, b []byte) {
	next := bytes.Clone(b)
	if old := f.written[i]; len(old) > len(next) {
		next = append(next, old[len(next):]...) // a shorter state leaves the rest of the longer one behind
	}
	f.written[i] = bytes.TrimRight(next, "\x00")
}

func (h handle) Sync() error {
	if err := h.f.op(); err != nil {
		return err
	}
	if h.dir {
		h.f.named = true
		return nil
	}
	if !h.f.lies || !h.f.named {
		h.f.synced = h.f.written
	}
	return nil
}

// SyncData is Sync: the file keeps its size.
func (h handle) SyncData() error { return h.Sync() }

func (h handle) ReadAt(b []byte, off int64) (int, error) {
	i := off / half
	if off%half != 0 || i > 1 {
		return 0, io.EOF
	}
	clear(b)
	copy(b, h.f.written[i])
	if len(h.f.written[1]) == 0 {
		return 0, io.EOF
	}
	return len(b), nil
}
