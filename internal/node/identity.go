package node

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/durable"
)

// identity is who a data directory belongs to; written once, when the directory is new. Losing the directory loses the incarnation, so that a
// node with an empty disk cannot be taken for its former self (R11).
type identity struct {
	Format      int       `json:"format"`
	Cluster     string    `json:"cluster"`
	Node        string    `json:"node"`
	Incarnation string    `json:"incarnation"` // 32 hex digits
	Created     time.Time `json:"created"`
}

// The file holds the same slot twice, so that one damaged sector does not cost the node its name (FAULTS D11): length (4, little endian),
// JSON, zeros, xxhash64 over all that (8).
const (
	identityFormat = 1
	identitySlot   = 1024
)

// errIdentity: the directory belongs to another node or cluster, or its identity cannot be read.
var errIdentity = errors.New("identity")

func identityPath(fs vfs.FS, dir string) string { return fs.PathJoin(dir, "identity") }

// openIdentity reads the identity of a data directory. When the directory is fresh it makes one up, which the caller writes once the epoch file is durable: a crash
// before leaves a directory that is still fresh, one after a node that knows its promises (R3, R11).
func openIdentity(fs vfs.FS, dir, cluster, node string, now time.Time) (id identity, fresh bool, err error) {
	path := identityPath(fs, dir)
	f, err := fs.Open(path)
	if err != nil && exists(fs, path) {
		return identity{}, false, fmt.Errorf("open %s: %w", path, err)
	}
	if err != nil {
		id, err = newIdentity(cluster, node, now)
		return id, true, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 2*identitySlot))
	if err != nil {
		return identity{}, false, fmt.Errorf("read %s: %w", path, err)
	}
	id, err = decodeIdentity(raw)
	if err != nil {
		return identity{}, false, fmt.Errorf("%s: %w", path, err)
	}
	if id.Cluster != cluster || id.Node != node {
		return identity{}, false, fmt.Errorf("%w: %s belongs to node %q of cluster %q, not to node %q of cluster %q: check the data directory in the configuration",
			errIdentity, dir, id.Node, id.Cluster, node, cluster)
	}
	return id, false, nil
}

// CheckIdentity reads the identity file of a data directory, changing nothing, and says whose it is. Both copies must be whole.
func CheckIdentity(fs vfs.FS, dir string) (string, error) {
	path := identityPath(fs, dir)
	f, err := fs.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, 2*identitySlot+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	id, err := decodeIdentity(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if want, err := encodeIdentity(id); err != nil || !bytes.Equal(raw, want) {
		return "", fmt.Errorf("%s: %w: one of the two copies is damaged, the other one is used", path, errIdentity)
	}
	return fmt.Sprintf("node %s of cluster %s, incarnation %s, since %s", id.Node, id.Cluster, id.Incarnation, id.Created.Format(time.RFC3339)), nil
}

func newIdentity(cluster, node string, now time.Time) (identity, error) {
	var inc [16]byte
	if _, err := rand.Read(inc[:]); err != nil {
		return identity{}, err
	}
	return identity{Format: identityFormat, Cluster: cluster, Node: node, Incarnation: hex.EncodeToString(inc[:]), Created: now.UTC().Truncate(time.Second)}, nil
}

// incarnation returns the incarnation's bytes.
func (id identity) incarnation() (inc [16]byte) {
	b, err := hex.DecodeString(id.Incarnation)
	if err != nil || len(b) != len(inc) {
		panic("node: identity was not validated")
	}
	copy(inc[:], b)
	return inc
}

func encodeIdentity(id identity) ([]byte, error) {
	text, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	if len(text) > identitySlot-12 {
		return nil, fmt.Errorf("%w: %d bytes do not fit the slot", errIdentity, len(text))
	}
	slot := make([]byte, identitySlot)
	binary.LittleEndian.PutUint32(slot, uint32(len(text)))
	copy(slot[4:], text)
	binary.LittleEndian.PutUint64(slot[identitySlot-8:], xxhash.Sum64(slot[:identitySlot-8]))
	return bytes.Repeat(slot, 2), nil
}

// decodeIdentity returns the first slot that is whole.
func decodeIdentity(raw []byte) (identity, error) {
	for ; len(raw) >= identitySlot; raw = raw[identitySlot:] {
		slot := raw[:identitySlot]
		n := binary.LittleEndian.Uint32(slot)
		if xxhash.Sum64(slot[:identitySlot-8]) != binary.LittleEndian.Uint64(slot[identitySlot-8:]) || n > identitySlot-12 {
			continue
		}
		var id identity
		if err := json.Unmarshal(slot[4:4+n], &id); err != nil {
			return identity{}, fmt.Errorf("%w: %v", errIdentity, err)
		}
		if id.Format != identityFormat {
			return identity{}, fmt.Errorf("%w: format %d, this program knows %d", errIdentity, id.Format, identityFormat)
		}
		if b, err := hex.DecodeString(id.Incarnation); err != nil || len(b) != 16 {
			return identity{}, fmt.Errorf("%w: incarnation %q", errIdentity, id.Incarnation)
		}
		return id, nil
	}
	return identity{}, fmt.Errorf("%w: no slot is readable: restore this file from a copy, or empty the directory to let the node be seeded anew", errIdentity)
}

// writeIdentity makes the file durable under its name, whole or not at all.
func writeIdentity(fs vfs.FS, dir string, id identity) error {
	path := identityPath(fs, dir)
	raw, err := encodeIdentity(id)
	if err != nil {
		return err
	}
	return writeWhole(fs, path, raw)
}

// writeWhole makes a small file durable under its name, whole or not at all.
func writeWhole(fs vfs.FS, path string, b []byte) error {
	tmp := path + ".new"
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", tmp, err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := fs.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return durable.SyncDir(fs, fs.PathDir(path))
}
