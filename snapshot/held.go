package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"repld/internal/durable"
)

// Held is a checkpoint of a Ring that is not removed before Release.
type Held struct {
	ring *Ring
	e    *entry
	m    Manifest
	done bool
}

// Acquire returns the newest checkpoint that choose accepts, or false. It must be released.
func (r *Ring) Acquire(choose func(Manifest) bool) (*Held, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.mu.kept) - 1; i >= 0; i-- {
		if e := r.mu.kept[i]; choose(e.m) {
			e.refs++
			return &Held{ring: r, e: e, m: e.m}, true
		}
	}
	return nil, false
}

// Manifest describes it.
func (h *Held) Manifest() Manifest { return h.m }

// Dir is where its files lie. They must not be changed.
func (h *Held) Dir() string { return h.e.dir }

// Check reads every file and compares it with the manifest. ErrCorrupt, ErrIncomplete, or the context's.
func (h *Held) Check(ctx context.Context) error {
	for _, f := range h.m.Files {
		if err := checkFile(ctx, h.ring.o.FS, h.e.dir, f); err != nil {
			return fmt.Errorf("check checkpoint %s: %w", h.m.ID, err)
		}
	}
	return nil
}

// Fork makes dir, which must not exist, a state of its own with the checkpoint's content: files that are written once are linked, the others copied. All of it is durable on return, but
// dir's entry in its parent.
func (h *Held) Fork(dir string) error {
	fs := h.ring.o.FS
	err := fs.MkdirAll(dir, 0o700)
	for _, f := range h.m.Files {
		if err != nil {
			break
		}
		from, to := fs.PathJoin(h.e.dir, f.Name), fs.PathJoin(dir, f.Name)
		if writtenOnce(f.Name) {
			err = vfs.LinkOrCopy(fs, from, to)
		} else {
			err = vfs.Copy(fs, from, to) // synced
		}
	}
	if err == nil {
		err = durable.SyncDir(fs, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("fork checkpoint %s: %w", h.m.ID, err), fs.RemoveAll(dir))
	}
	return nil
}

// Drop drops it: it was found to be damaged. It is removed with Release.
func (h *Held) Drop() {
	h.ring.mu.Lock()
	defer h.ring.mu.Unlock()
	if !h.e.gone {
		h.ring.dropLocked(h.e)
	}
}

// Release gives it back. A second call does nothing.
func (h *Held) Release() {
	if !h.done {
		h.done = true
		h.ring.release(h.e)
	}
}
