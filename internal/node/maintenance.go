package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/durable"
)

// maintenance is the word of a person that nothing is to happen by itself, as this node knows it: persisted in the file `maintenance`, spread by heartbeats, the highest version
// wins.
type maintenance struct {
	mu struct {
		sync.Mutex
		fs    vfs.FS
		dir   string
		value failover.Maintenance
	}
}

const maxMaintenanceBytes = 16 << 10

// open reads what was said before the start.
func (h *maintenance) open(files vfs.FS, dir string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.fs, h.mu.dir = files, dir
	path := files.PathJoin(dir, "maintenance")
	f, err := files.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxMaintenanceBytes))
	if err == nil {
		err = json.Unmarshal(text, &h.mu.value)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w: remove it if nothing is to be paused", path, err)
	}
	return nil
}

func (h *maintenance) get() failover.Maintenance {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.value
}

// set persists next if it is newer than what is known; it reports whether it was.
func (h *maintenance) set(next failover.Maintenance) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !next.Newer(h.mu.value) {
		return false, nil
	}
	if err := h.writeLocked(next); err != nil {
		return false, fmt.Errorf("write maintenance: %w", err)
	}
	h.mu.value = next
	return true, nil
}

// writeLocked makes the file durable, whole or not at all.
func (h *maintenance) writeLocked(v failover.Maintenance) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	files := h.mu.fs
	path := files.PathJoin(h.mu.dir, "maintenance")
	f, err := files.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := files.Rename(path+".new", path); err != nil {
		return err
	}
	return durable.SyncDir(files, h.mu.dir)
}

// adoptMaintenance takes over a newer word from a peer.
func (g *group) adoptMaintenance(next failover.Maintenance) {
	if next.Version == 0 || !next.Newer(g.maintenance.get()) {
		return
	}
	_ = g.changeMaintenance(next) // logged; the next heartbeat brings it again
}

// changeMaintenance puts a word in force: persisted first, then in the lease's terms and in the heartbeats.
func (g *group) changeMaintenance(next failover.Maintenance) error {
	changed, err := g.maintenance.set(next)
	if err != nil {
		g.logger.Warn("maintenance not noted", "error", err)
		return err
	}
	if changed {
		g.leaseTerms()
		g.voter.agent.Kick()
		g.logger.Info("maintenance changed", "paused", next.On, "reason", next.Reason, "said_at", next.Node)
	}
	return nil
}

// pauseFailover is the word of a person at this node.
func (g *group) pauseFailover(on bool, reason string) error {
	return g.changeMaintenance(failover.Maintenance{Version: g.maintenance.get().Version + 1, On: on, Reason: reason, Node: g.o.Name, At: time.Now().Unix()})
}
