package crashlife

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"repld/internal/faultfs"
)

// trouble is a disk fault that a running node meets.
type trouble struct {
	name string
	rule faultfs.Rule
	lies bool // the disk reported as done what it did not do: a refusal to start afterwards is right
}

func onWrite(pattern string, f faultfs.Fault) faultfs.Rule {
	return faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpWrite}, Path: pattern, Times: 1, Fault: f}
}

func onSync(pattern string, f faultfs.Fault) faultfs.Rule {
	return faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpSync}, Path: pattern, Times: 1, Fault: f}
}

var troubles = []trouble{
	{"log write is short and says nothing (D3)", onWrite("wal/*.seg", faultfs.Short(100, nil)), false},
	{"log write is short with an error (D3)", onWrite("wal/*.seg", faultfs.Short(100, syscall.EINTR)), false},
	{"log sync fails and drops the pages (D4)", onSync("wal/*.seg", faultfs.DropPages(syscall.EIO)), false},
	{"segment preparation fails and drops the pages (D4)", onSync("wal/*.tmp", faultfs.DropPages(syscall.EIO)), false},
	{"log directory cannot be synced (D18)", onSync("wal", faultfs.Fail(syscall.EIO)), false},
	{"log write fails (D18)", onWrite("wal/*.seg", faultfs.Fail(syscall.EROFS)), false},
	{"state directory cannot be synced (D7, D18)", onSync("default/state", faultfs.Fail(syscall.EIO)), false},
	{"table write fails once (D6)", onWrite("*.sst", faultfs.Fail(syscall.EIO)), false},
	{"table sync drops the pages once (D4, D6)", onSync("*.sst", faultfs.DropPages(syscall.EIO)), false},
	{"log write goes elsewhere (D13)", onWrite("wal/*.seg", faultfs.Misdirect(4096)), true},
	{"log write goes to another segment (D13)", onWrite("wal/*.seg", faultfs.MisdirectTo("data/groups/default/wal/00000000000000000002.seg")), true},
	{"log write is lost and reported as done (D14)", onWrite("wal/*.seg", faultfs.Lost()), true},
	{"log write is cut and reported as done (D14)", onWrite("wal/*.seg", faultfs.Cut(77)), true},
	{"bit flips on its way to the log (D8)", onWrite("wal/*.seg", faultfs.FlipBit(1234)), true},
	{"bit flips on its way to a table (D10)", onWrite("*.sst", faultfs.FlipBit(12345)), true},
}

// TestTrouble lets each kind of fault happen once while a node writes: it goes on or it ends with the reason, within the bound; what it acked is there when it starts
// again, or, if the disk lied, it refuses with the name of what is damaged; it never answers with something else (N1 to N5, R10, R12).
func TestTrouble(t *testing.T) {
	for _, x := range troubles {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := newSolo(t)
			faults := faultfs.New(s.disk, 1)
			s.host.fs = faults
			s.start()
			s.write(8, 0)
			rule := faults.Add(x.rule)
			for i := 0; i < 400 && (rule.Hits() == 0 || i%25 != 0); i++ {
				if err := put(s.host, s.model, keyName(i%keys)); err != nil {
					s.ends()
					break
				}
			}
			if rule.Hits() == 0 {
				t.Fatal("the fault was not met")
			}
			rule.Stop()
			now := s.disk.Clock().Now()
			cut := s.disk.Crash(now, faultfs.Nothing())
			stopped := s.host.stop()
			s.again("after the end of the process", x, now, s.disk.Crash(s.disk.Clock().Now(), faultfs.Everything()))
			s.again("after a power cut", x, now, cut)
			t.Logf("run ended with: %v", stopped)
		})
	}
}

// ends expects the node to end by itself, within its bound (R12).
func (s *solo) ends() {
	s.Helper()
	select {
	case <-s.host.ended:
	case <-time.After(patience):
		s.Error("the node goes on although it cannot write")
	}
}

// again starts a node on what is left.
func (s *solo) again(when string, x trouble, now int, disk *faultfs.Disk) {
	s.Helper()
	err := s.recovered(now, disk)
	var lie *lieError
	switch {
	case err == nil:
	case errors.As(err, &lie) || !x.lies:
		s.Errorf("%s: %v%s", when, err, keep(disk))
	case !strings.Contains(err.Error(), "damaged"):
		s.Errorf("%s the refusal does not say what is damaged: %v", when, err)
	default:
		s.Logf("%s: refused: %v", when, err)
	}
}

// TestDirSyncAtStart fails each sync of the state's directory while a node starts on it: the node is refused or ends, with the reason (D7, D18, R10).
// Faults: D7, D18 (each sync of the state's directory fails)
func TestDirSyncAtStart(t *testing.T) {
	s := newSolo(t)
	s.start()
	s.write(8, 0)
	s.must(s.host.stop())
	now := s.disk.Clock().Now()
	for nth := 0; ; nth++ {
		image := s.disk.Crash(now, faultfs.Everything())
		faults := faultfs.New(image, 1)
		rule := faults.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpSync}, Path: "default/state", After: nth, Times: 1, Fault: faultfs.Fail(syscall.EIO)})
		err := s.recoveredOn(now, faults)
		if rule.Hits() == 0 {
			if nth == 0 {
				t.Error("the directory was never synced")
			}
			return
		}
		if err == nil || !errors.Is(err, syscall.EIO) {
			t.Errorf("sync %d failed, and the node said: %v", nth, err)
		}
		if err := s.recovered(now, image.Crash(image.Clock().Now(), faultfs.Nothing())); err != nil {
			t.Errorf("after the failure of sync %d: %v", nth, err)
		}
	}
}

// TestFull fills the disk: the node stops taking writes, ends, and has all that it acked when there is room again (D5, D6).
// Faults: D5, D6 (a disk of limited size)
func TestFull(t *testing.T) {
	for _, room := range []int64{0, 1 << 10, 20 << 10, 60 << 10} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			t.Parallel()
			s := newSolo(t)
			s.start()
			s.write(8, 0)
			s.disk.SetCapacity(s.disk.Used() + room)
			var failed error
			for i := 0; i < 2000 && failed == nil; i++ {
				failed = put(s.host, s.model, keyName(i%keys))
			}
			if failed == nil {
				t.Error("writes go on without room")
			}
			s.ends()
			now := s.disk.Clock().Now()
			s.disk.SetCapacity(0) // what still tries comes to its end
			t.Logf("write: %v; run: %v", failed, s.host.stop())
			for _, p := range []faultfs.Policy{faultfs.Nothing(), faultfs.Everything()} {
				if err := s.recovered(now, s.disk.Crash(now, p)); err != nil {
					t.Errorf("%s: %v", p, err)
				}
			}
		})
	}
}

// TestStale gives old blocks to a node that starts: it notices, or it is none the worse (D15).
// Faults: D15 (old blocks given to a reader)
func TestStale(t *testing.T) {
	s := newSolo(t)
	s.start()
	s.write(40, 0)
	s.must(s.host.stop())
	now := s.disk.Clock().Now()
	for nth := range 30 {
		for _, path := range []string{"wal/*.seg", "default/epoch", "*.sst", "MANIFEST-*"} {
			faults := faultfs.New(s.disk.Copy(), 1)
			faults.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpRead}, Path: path, After: nth, Times: 1, Fault: faultfs.Stale()})
			err := s.recoveredOn(now, faults)
			var lie *lieError
			if errors.As(err, &lie) {
				t.Errorf("read %d of %s: %v", nth, path, err)
			}
		}
	}
}

// TestPlanted proves that the cuts find what they are to find: a node whose syncs do nothing loses something.
func TestPlanted(t *testing.T) {
	for _, pattern := range []string{"wal/*.seg", "wal", "default/epoch", "*.sst", "default", "data", "MANIFEST-*"} {
		t.Run(strings.ReplaceAll(pattern, "/", " "), func(t *testing.T) {
			t.Parallel()
			s := newSolo(t)
			faults := faultfs.New(s.disk, 1)
			faults.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpSync}, Path: pattern, Fault: faultfs.Lost()})
			s.host.fs = faults
			s.live()
			var found error
			for _, c := range cases(s.disk, s.disk.Clock().Now()) {
				if found = s.recovered(c.at, s.disk.Crash(c.at, c.policy)); found != nil {
					t.Logf("%v: %v", c, found)
					return
				}
			}
			t.Error("nothing was found missing")
		})
	}
}
