package failover

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/internal/durable"
	"repld/internal/faultfs"
	"repld/wal"
)

func setOf(version uint64, k int, members ...string) wal.SyncSet {
	return wal.SyncSet{Version: version, Members: members, K: k}
}

func openMem(t *testing.T, fs vfs.FS) (*Slots, SlotsRecovery) {
	t.Helper()
	if _, _, err := OpenSlots(SlotsOptions{FS: fs, Create: true}); !errors.Is(err, ErrInvalid) {
		t.Fatalf("an empty directory name was taken: %v", err)
	}
	s, rec, err := OpenSlots(SlotsOptions{FS: fs, Dir: "g", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return s, rec
}

func newGroupFS(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("g", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := durable.SyncDir(fs, ""); err != nil {
		t.Fatal(err)
	}
	return fs
}

// R3: what Write returned is what every later open reads.
func TestSlotsRoundTrip(t *testing.T) {
	fs := newGroupFS(t)
	s, rec := openMem(t, fs)
	if !rec.Created {
		t.Fatal("not reported as created")
	}
	want, err := s.Write(State{Tenures: []Tenure{{Epoch: 3, Holder: "a", Sync: setOf(2, 1, "b", "c")}}, Voter: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(want); !errors.Is(err, ErrClosed) {
		t.Fatalf("write after close: %v", err)
	}
	again, rec := openMem(t, fs)
	if got := again.State(); !reflect.DeepEqual(got, want) || rec.Created || len(rec.Bad) > 0 || rec.Behind {
		t.Fatalf("got %+v, %+v", got, rec)
	}
}

// D11: any damage to one slot is told and repaired without losing a promise; damage to both is refused.
// Faults: D11 (bytes of one slot, and of both, changed)
func TestSlotsDamage(t *testing.T) {
	fs := newGroupFS(t)
	s, _ := openMem(t, fs)
	want, err := s.Write(State{Tenures: []Tenure{{Epoch: 7, Holder: "b", Sync: setOf(1, 0)}}})
	if err != nil {
		t.Fatal(err)
	}
	file := func() []byte {
		b, err := fs.UnsafeGetFileDataBuffer("g/epoch")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	box, err := encodeState(want)
	if err != nil {
		t.Fatal(err)
	}
	for slot := range 2 {
		for i := range box {
			file()[slot*slotBytes+i] ^= 1 << (i % 8)
			again, rec := openMem(t, fs)
			if !reflect.DeepEqual(again.State(), want) || len(rec.Bad) != 1 || !errors.Is(rec.Bad[0], ErrCorrupt) {
				t.Fatalf("slot %d byte %d: %+v, %+v", slot, i, again.State(), rec)
			}
		}
	}
	file()[20]++
	file()[slotBytes+20]++
	_, _, err = OpenSlots(SlotsOptions{FS: fs, Dir: "g", Create: true})
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "g/epoch") {
		t.Fatalf("both damaged: %v", err)
	}
}

// H5: a slot of a version that this program does not know is refused, not repaired.
// Faults: H5 (a slot of a newer version)
func TestSlotsVersion(t *testing.T) {
	fs := newGroupFS(t)
	openMem(t, fs)
	b, err := fs.UnsafeGetFileDataBuffer("g/epoch")
	if err != nil {
		t.Fatal(err)
	}
	newer := encodeBox(boxMagic{'R', 'P', 'E', '2'}, 2, []byte(`{"new":true}`))
	copy(b[slotBytes:], newer)
	if _, _, err := OpenSlots(SlotsOptions{FS: fs, Dir: "g"}); !errors.Is(err, ErrVersion) {
		t.Fatalf("got %v", err)
	}
}

// R3, R11: a node that lived before does not start with forgotten promises.
func TestSlotsMissing(t *testing.T) {
	if _, _, err := OpenSlots(SlotsOptions{FS: newGroupFS(t), Dir: "g"}); !errors.Is(err, ErrMissing) {
		t.Fatalf("got %v", err)
	}
}

// R3, D2, D22: whatever a power cut leaves at any operation of a life, the promise that was answered last, or the
// one being written, is read, never an older one.
// Faults: D2, D22 (a power cut at each operation of a life)
func TestSlotsCrashAtEveryOperation(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, percent := range []int{0, 50, 100} {
		for stop := range 40 {
			fs := newGroupFS(t)
			answered, began := lifeUntil(fs, stop)
			crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
			s, _, err := OpenSlots(SlotsOptions{FS: crashed, Dir: "g", Create: answered == 0})
			if err != nil {
				t.Fatalf("percent %d, operation %d: %v", percent, stop, err)
			}
			if got := s.State().Epoch(); got < answered || got > began {
				t.Fatalf("percent %d, operation %d: epoch %d read, %d answered, %d begun", percent, stop, got, answered, began)
			}
		}
	}
}

// lifeUntil opens slots and writes epochs 1 to 5; the write operation number stop and all later ones fail.
func lifeUntil(fs vfs.FS, stop int) (answered, began wal.Epoch) {
	broken := faultfs.New(fs, 1)
	broken.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpCreate, faultfs.OpWrite, faultfs.OpSync, faultfs.OpRename, faultfs.OpOpenDir}, After: stop, Fault: faultfs.Fail(syscall.EIO)})
	s, _, err := OpenSlots(SlotsOptions{FS: broken, Dir: "g", Create: true})
	if err != nil {
		return 0, 0
	}
	for e := wal.Epoch(1); e <= 5; e++ {
		began = e
		if _, err := s.Write(s.State().with(Tenure{Epoch: e, Holder: "a", Sync: setOf(1, 0)})); err != nil {
			return answered, began
		}
		answered = e
	}
	return answered, began
}

// R10: after one failed sync nothing more is promised, although later syncs would succeed.
func TestSlotsFailureIsSticky(t *testing.T) {
	fs := faultfs.New(newGroupFS(t), 1)
	s, _, err := OpenSlots(SlotsOptions{FS: fs, Dir: "g", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	f := NewFence(s)
	if err := f.Observe(1, "a", setOf(1, 0)); err != nil {
		t.Fatal(err)
	}
	fs.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpSync}, Times: 1, Fault: faultfs.Fail(syscall.EIO)})
	for i := range 3 {
		if err := f.Observe(2, "b", setOf(2, 0)); !errors.Is(err, ErrFailed) {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	if err := f.Observe(1, "a", setOf(1, 0)); !errors.Is(err, ErrFailed) {
		t.Fatalf("an epoch that is persisted is still answered: %v", err)
	}
	if err := f.SetVoter(true); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	if f.Epoch() != 1 {
		t.Fatalf("epoch %d is shown although it is not persisted", f.Epoch())
	}
}

func TestStateForgets(t *testing.T) {
	var s State
	for e := wal.Epoch(1); e <= MaxTenures+5; e++ {
		s = s.with(Tenure{Epoch: e, Holder: "a", Sync: setOf(1, 0)})
	}
	if len(s.Tenures) != MaxTenures || s.Forgotten != 5 || s.Epoch() != MaxTenures+5 || s.validate() != nil {
		t.Fatalf("%d tenures, forgotten %d, epoch %d", len(s.Tenures), s.Forgotten, s.Epoch())
	}
	big := State{Tenures: []Tenure{{Epoch: 1, Holder: strings.Repeat("x", slotBytes), Sync: setOf(1, 0)}}}
	if _, err := encodeState(big); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a state beyond a slot: %v", err)
	}
}

func FuzzDecodeState(f *testing.F) {
	for _, s := range []State{{Generation: 1}, {Generation: 9, Voter: true, Tenures: []Tenure{{Epoch: 2, Holder: "a", Sync: setOf(1, 1, "b")}}}} {
		b, err := encodeState(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(encodeBox(slotMagic, 1, []byte(`{"generation":1,"voter":false,"future":1}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := encodeState(s)
		if err != nil {
			t.Fatalf("decoded what cannot be encoded: %v", err)
		}
		twin, err := decodeState(again)
		if err != nil || fmt.Sprint(twin) != fmt.Sprint(s) {
			t.Fatalf("%+v became %+v, %v", s, twin, err)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(encodeBox(tokenMagic, 1, []byte(`{"epoch":1,"holder":"a","sync":{"version":1,"members":["b"],"k":1},"reason":"","time":"0001-01-01T00:00:00Z","rev":1}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decodeRecord(b)
		if err == nil && (rec.Rev == 0 || rec.Epoch == 0 || rec.Holder == "") {
			t.Fatalf("accepted %+v", rec)
		}
	})
}

// Of two good slots the newer one holds, whichever it is: the older one is what a write that was cut off left, and its twin is repaired from the newer (D11, R3).
func TestSlotsNewerHolds(t *testing.T) {
	older, newer := State{Generation: 3}, State{Generation: 4}
	for _, c := range []struct {
		slots  [2]*State
		best   *State
		repair int
	}{
		{[2]*State{&newer, &older}, &newer, 1},
		{[2]*State{&older, &newer}, &newer, 0},
		{[2]*State{&older, nil}, &older, 1},
		{[2]*State{nil, &older}, &older, 0},
		{[2]*State{}, nil, -1},
	} {
		if best, repair := chooseSlot(c.slots); best != c.best || repair != c.repair {
			t.Errorf("%v: chose %v and repairs slot %d, want %v and %d", c.slots, best, repair, c.best, c.repair)
		}
	}
}
