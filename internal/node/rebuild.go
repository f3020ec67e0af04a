package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/internal/kv"
	"repld/wal"
)

// A state that is damaged is built anew: from the log if that reaches back to the beginning, otherwise from a peer's snapshot. The log is whole, so the node keeps its
// vote and serves its log to a candidate; but it serves no client and is not promoted until it has a state again.
//
//	state          → state.damaged     when it is found to be damaged; removed once there is a sound one
//	state.suspect  why the state is to be checked, block by block, at the next start: Pebble notices a damaged table only when it reads it

const (
	damagedSuffix = ".damaged"
	suspectNote   = "state.suspect"
	alarmState    = "state-damaged"
)

// openStore opens the state. One that is damaged is set aside; then none is open, and the state says why.
func (g *group) openStore(prepare func(wal.Position) error) error {
	if err := g.checkSuspect(); err != nil {
		return err
	}
	err := g.state.open(g.path("state.new"), prepare)
	if !damagedState(err) {
		return err
	}
	if exists(g.o.FS, g.path("state.new")) { // the snapshot itself is damaged: the state that it was to replace may be sound
		if err := setAside(g.o.FS, g.path("state.new")); err != nil {
			return err
		}
		g.logger.Error("a snapshot that was being installed is damaged, it is set aside", "error", err)
		if err = g.state.open(g.path("state.new"), prepare); !damagedState(err) {
			return err
		}
	}
	return g.dropState(err)
}

// damagedState reports whether a state has to be built anew. Other errors may pass: a disk that cannot be read now is no reason to give its contents up.
func damagedState(err error) bool {
	return errors.Is(err, kv.ErrCorrupt) || errors.Is(err, kv.ErrNotExist)
}

// dropState sets the state aside, durably.
func (g *group) dropState(why error) error {
	g.logger.Error("state is damaged", "error", why)
	if g.ring != nil {
		g.ring.Clear() // what is wrong with the state may be wrong with its checkpoints
	}
	if exists(g.o.FS, g.path("state")) {
		if err := setAside(g.o.FS, g.path("state")); err != nil {
			return errors.Join(why, err)
		}
	}
	g.state.now.Store(nil)
	g.state.mu.Lock()
	defer g.state.mu.Unlock()
	g.state.mu.lacks = why.Error()
	return nil
}

// rebuild finds a way to a state for the log that is open.
func (g *group) rebuild(why error) error {
	if g.state.lacking() == "" {
		if len(g.nodes()[1:]) == 0 && g.log.Start().LSN > 0 {
			return fmt.Errorf("%w: restore both from one copy, or empty the data directory to have the node seeded anew", why)
		}
		if err := g.state.shut(); err != nil {
			return errors.Join(why, err)
		}
		if err := g.dropState(why); err != nil {
			return err
		}
	}
	g.alarms.raise(alarmState, fmt.Sprintf("the state was damaged and is being built anew (%v): look after the disk", why))
	if g.log.Start().LSN == 0 {
		g.logger.Warn("state is built anew from the log", "end", g.log.End())
		return g.state.open(g.path("state.new"), func(wal.Position) error { return nil })
	}
	if len(g.nodes()[1:]) > 0 {
		g.logger.Warn("state will be built anew from a peer's snapshot, because the log does not reach back to the beginning", "start", g.log.Start())
		return nil
	}
	return fmt.Errorf("%w; the log begins behind LSN %d and there is no peer: restore the data directory from a copy (what was damaged is in %s)", why, g.log.Start().LSN,
		g.path("state"+damagedSuffix))
}

// rebuilding is what the receiver asks for: why this node needs a snapshot, whatever its log holds.
func (g *group) rebuilding() string { return g.state.lacking() }

// rebuilt is called when there is a sound state: what was kept of a damaged one goes.
func (g *group) rebuilt() {
	for _, name := range []string{"state", "state.new"} {
		if path := g.path(name + damagedSuffix); exists(g.o.FS, path) {
			if err := g.o.FS.RemoveAll(path); err != nil {
				g.logger.Warn("damaged state not removed", "path", path, "error", err)
			}
		}
	}
}

// stateFailed is the state's word that it cannot go on. If damage is the reason, the next start checks all of it: otherwise it would open, and fail, again and
// again (P6).
func (g *group) stateFailed(err error) {
	if errors.Is(err, kv.ErrCorrupt) {
		if err := g.suspect(err); err != nil {
			g.logger.Error("suspicion of the state not noted", "error", err)
		}
	}
	g.fatal(fmt.Errorf("state: %w", err))
}

// suspect notes, durably, that the state is to be checked at the next start.
func (g *group) suspect(why error) error {
	return writeWhole(g.o.FS, g.path(suspectNote), []byte(why.Error()+"\n"))
}

// checkSuspect verifies a state that is suspected, and sets it aside if it is damaged.
func (g *group) checkSuspect() error {
	fs, note := g.o.FS, g.path(suspectNote)
	if !exists(fs, note) {
		return nil
	}
	g.logger.Warn("state is suspected to be damaged and is checked", "note", note)
	if exists(fs, g.path("state")) {
		if _, err := kv.VerifyDir(context.Background(), fs, g.path("state"), nil); damagedState(err) {
			if err := setAside(fs, g.path("state")); err != nil {
				return err
			}
			g.logger.Error("state is damaged", "error", err)
			g.alarms.raise(alarmState, fmt.Sprintf("the state was damaged and is being built anew (%v): look after the disk", err))
		} else if err != nil {
			return err
		}
	}
	if err := fs.Remove(note); err != nil {
		return fmt.Errorf("remove %s: %w", note, err)
	}
	return durable.SyncDir(fs, fs.PathDir(note))
}

// setAside renames a directory, replacing what was set aside before.
func setAside(fs vfs.FS, path string) error {
	to := path + damagedSuffix
	if err := fs.RemoveAll(to); err != nil {
		return fmt.Errorf("remove %s: %w", to, err)
	}
	if err := fs.Rename(path, to); err != nil {
		return fmt.Errorf("set %s aside: %w", path, err)
	}
	return durable.SyncDir(fs, fs.PathDir(path))
}
