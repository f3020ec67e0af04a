package snapshot

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/wal"
)

const (
	// Format is the manifest format of this version.
	Format = 1
	// ManifestName is the file in which the receiver keeps the manifest, beside the files that it lists.
	ManifestName = "snapshot.json"

	// MaxManifestBytes bounds an encoded manifest.
	MaxManifestBytes = 64 << 20
	// MaxFiles bounds the files of a snapshot.
	MaxFiles = 200_000
	// MaxFileBytes bounds one file.
	MaxFileBytes = 1 << 40
	// MaxBytes bounds all files together.
	MaxBytes = 1 << 46

	maxNameBytes = 128
	maxIDBytes   = 128
	partSuffix   = ".part"
)

var (
	// ErrManifest is in errors about a manifest that is malformed, over a limit or of another format.
	ErrManifest = errors.New("bad snapshot manifest")
	// ErrCorrupt is in errors about files that are not what the manifest says.
	ErrCorrupt = errors.New("snapshot file is damaged")
	// ErrIncomplete is in errors about files that are not there.
	ErrIncomplete = errors.New("snapshot is incomplete")
	// ErrUnknownFile is in errors about files that the manifest does not list.
	ErrUnknownFile = errors.New("file is not of this snapshot")
	// ErrClosed is returned after Close or Release.
	ErrClosed = errors.New("snapshot is closed")
)

// File is one file of a snapshot.
type File struct {
	Name string   `json:"name"`
	Size int64    `json:"size"` // bytes
	Hash wal.Hash `json:"hash"` // xxhash64 of the content
}

// Manifest says what a snapshot is and which files it consists of.
type Manifest struct {
	Format   int          `json:"format"`
	Cluster  string       `json:"cluster"`
	Group    string       `json:"group"`
	ID       string       `json:"id"`       // of this snapshot, for logs and for resuming
	Position wal.Position `json:"position"` // the files hold exactly the effects up to here
	Created  time.Time    `json:"created"`
	// Digest and Keys are of the state's rows (kv.Digest), zero while nobody has computed them.
	Digest wal.Hash `json:"digest,omitempty"`
	Keys   int64    `json:"keys,omitempty"`
	Files  []File   `json:"files"` // in name order
}

// envelope carries the manifest's own checksum: xxhash64 over the manifest's bytes as they stand.
type envelope struct {
	Hash     wal.Hash        `json:"hash"`
	Manifest json.RawMessage `json:"manifest"`
}

// Bytes is the size of all files together.
func (m Manifest) Bytes() int64 {
	var n int64
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Encode returns the manifest as JSON with its checksum. It refuses what DecodeManifest would.
func (m Manifest) Encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	m.Created = m.Created.UTC()
	inner, err := json.Marshal(m)
	if err != nil {
		return nil, badManifest("%v", err)
	}
	b, err := json.Marshal(envelope{Hash: wal.Hash(xxhash.Sum64(inner)), Manifest: inner})
	if err != nil {
		return nil, badManifest("%v", err)
	}
	if len(b) > MaxManifestBytes {
		return nil, badManifest("%d bytes, limit %d", len(b), MaxManifestBytes)
	}
	return b, nil
}

// DecodeManifest accepts exactly what Encode returns: anything that encodes otherwise (unknown or repeated fields, other
// spellings, bytes behind the end) is ErrManifest. Afterwards all names are safe to use in one directory.
func DecodeManifest(b []byte) (Manifest, error) {
	if len(b) > MaxManifestBytes {
		return Manifest{}, badManifest("%d bytes, limit %d", len(b), MaxManifestBytes)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return Manifest{}, badManifest("%v", err)
	}
	if found := wal.Hash(xxhash.Sum64(e.Manifest)); found != e.Hash {
		return Manifest{}, badManifest("checksum: expected %s, found %s", e.Hash, found)
	}
	var m Manifest
	if err := json.Unmarshal(e.Manifest, &m); err != nil {
		return Manifest{}, badManifest("%v", err)
	}
	again, err := m.Encode()
	if err != nil {
		return Manifest{}, err
	}
	if !bytes.Equal(again, b) {
		return Manifest{}, badManifest("not in canonical form")
	}
	return m, nil
}

func (m Manifest) validate() error {
	switch {
	case m.Format != Format:
		return badManifest("format %d, known %d", m.Format, Format)
	case m.Cluster == "" || m.Group == "":
		return badManifest("no cluster or group")
	case !safeName(m.ID, maxIDBytes):
		return badManifest("id %q", m.ID)
	case m.Created.IsZero():
		return badManifest("no creation time")
	case len(m.Files) == 0 || len(m.Files) > MaxFiles:
		return badManifest("%d files, limit %d", len(m.Files), MaxFiles)
	}
	var total int64
	for i, f := range m.Files {
		switch {
		case !fileName(f.Name):
			return badManifest("file name %q", f.Name)
		case f.Size < 0 || f.Size > MaxFileBytes:
			return badManifest("file %s: %d bytes, limit %d", f.Name, f.Size, int64(MaxFileBytes))
		case i > 0 && f.Name <= m.Files[i-1].Name:
			return badManifest("file %s is repeated or out of order", f.Name)
		}
		if total += f.Size; total > MaxBytes {
			return badManifest("more than %d bytes", int64(MaxBytes))
		}
	}
	return nil
}

// file finds a file by its name.
func (m Manifest) file(name string) (File, error) {
	i, ok := slices.BinarySearchFunc(m.Files, name, func(f File, name string) int { return cmp.Compare(f.Name, name) })
	if ok {
		return m.Files[i], nil
	}
	return File{}, fmt.Errorf("%w: %q", ErrUnknownFile, name)
}

// fileName reports whether a snapshot may hold a file of that name: [A-Za-z0-9._-]+, not only dots, none of ours.
func fileName(name string) bool {
	if name == ManifestName || name == lockName {
		return false
	}
	if n := len(name) - len(partSuffix); n >= 0 && name[n:] == partSuffix {
		return false
	}
	return safeName(name, maxNameBytes)
}

func safeName(name string, limit int) bool {
	if len(name) == 0 || len(name) > limit {
		return false
	}
	dots := 0
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '.':
			dots++
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return dots < len(name)
}

func badManifest(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrManifest, fmt.Sprintf(format, args...))
}

// ReadManifest reads the manifest that Complete has left in dir.
func ReadManifest(fs vfs.FS, dir string) (Manifest, error) {
	b, err := durable.ReadFile(fs, fs.PathJoin(dir, ManifestName), MaxManifestBytes)
	if err != nil {
		return Manifest{}, fmt.Errorf("read snapshot manifest: %w", err)
	}
	m, err := DecodeManifest(b)
	if err != nil {
		return m, fmt.Errorf("read snapshot manifest in %s: %w", dir, err)
	}
	return m, nil
}
