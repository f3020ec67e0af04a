package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/server"
)

// space watches the disk that the data directory lies on (FAULTS D5). Before it is full, writes are refused with -OOM, which clients do not retry blindly, a standby stops taking
// the log, and a file that was held in reserve is given back, so that what is in memory can be flushed and the node can be stopped cleanly. Reads go on. When there is room for the
// reserve again it is taken, and then writes are taken.
type space struct {
	g       *group
	fs      vfs.FS
	reserve int64 // bytes of the file
	short   bool  // owned by the goroutine of run
}

const (
	alarmSpace = "disk-full"
	spaceEvery = 100 * time.Millisecond
	spaceFile  = "reserve"
)

// floor is what has to be free besides the reserve.
func (s *space) floor() int64 { return s.reserve / 4 }

func (s *space) path() string { return s.fs.PathJoin(s.g.o.Dir, spaceFile) }

// run watches until ctx ends.
func (s *space) run(ctx context.Context) error {
	if s.reserve <= 0 {
		return nil
	}
	t := time.NewTicker(spaceEvery)
	defer t.Stop()
	said := "" // not ten times a second
	for first := true; ; first = false {
		err := s.look(first)
		if errors.Is(err, vfs.ErrUnsupported) {
			return nil
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			s.g.logger.Warn("space of the disk not looked after", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look compares what is free with what has to be.
func (s *space) look(first bool) error {
	u, err := s.fs.GetDiskUsage(s.g.o.Dir)
	if err != nil {
		return err
	}
	free := int64(u.AvailBytes)
	if s.g.tight.Store(free < s.reserve); free < s.reserve {
		if n := s.g.ring.Clear(); n > 0 { // before anything that somebody needs
			s.g.logger.Warn("checkpoints dropped, because the disk is short", "checkpoints", n, "free", free)
			return nil // look again
		}
	}
	held := exists(s.fs, s.path())
	switch {
	case held && free < s.floor():
		return s.refuse(free)
	case held && !s.short:
		return nil
	case held, free >= s.reserve+s.floor()+s.floor()/2:
		return s.accept()
	case first || !s.short:
		return s.refuse(free)
	}
	return nil
}

// refuse gives the reserve back and stops what needs more space.
func (s *space) refuse(free int64) error {
	s.short = true
	text := fmt.Sprintf("the disk is nearly full (%d MiB free of %d MiB that have to be): writes are refused, reads go on; make room, writes are taken again by themselves",
		free>>20, s.floor()>>20)
	s.g.logger.Error("disk nearly full", "free", free, "wanted", s.floor())
	s.g.alarms.raise(alarmSpace, text)
	s.g.seq.full.Store(server.Errorf("OOM", "command not allowed: %s", text))
	s.g.follower.hold(true)
	if err := s.fs.Remove(s.path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// accept takes the reserve and lets everything go on.
func (s *space) accept() error {
	if err := s.take(); err != nil {
		return errors.Join(err, s.fs.Remove(s.path()))
	}
	s.g.seq.full.Store(nil)
	s.g.follower.hold(false)
	if s.short {
		s.g.logger.Info("disk has room again")
	}
	s.short = false
	s.g.alarms.clear(alarmSpace)
	return nil
}

// take makes the reserve's file. Its blocks are allocated, not written.
func (s *space) take() error {
	if exists(s.fs, s.path()) {
		return nil
	}
	f, err := s.fs.Create(s.path(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = f.Preallocate(0, s.reserve)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		s.g.logger.Warn("this file system cannot allocate a reserve: writes are refused before the disk is full, but nothing is held back for a clean stop", "error", err)
		err = nil
	}
	return errors.Join(err, f.Sync(), f.Close())
}
