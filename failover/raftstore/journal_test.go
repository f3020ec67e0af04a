package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"repld/failover"
	"repld/internal/durable"
	"repld/internal/faultfs"
)

// journalDisk is a disk with the journal's directory on it, durable.
func journalDisk(t *testing.T) *faultfs.Disk {
	t.Helper()
	d := faultfs.NewDisk()
	if err := d.MkdirAll("raft", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/", "raft"} {
		if err := durable.SyncDir(d, dir); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func journalOn(fs vfs.FS) (*journal, error) {
	o := Options{FS: fs, Dir: "raft", Node: "a", Voters: []string{"a"}, MaxJournal: 2000}
	o.EnsureDefaults()
	return openJournal(o)
}

// life is what raft may ask of a journal: terms and votes, entries, a suffix replaced, snapshots, a prefix dropped. With MaxJournal as above its
// files are written anew several times.
func life() []change {
	var all []change
	log := func(from, to uint64, term uint64) change {
		var c change
		for i := from; i <= to; i++ {
			c.Logs = append(c.Logs, entry{Index: i, Term: term, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(i)}, 60)})
		}
		return c
	}
	set := func(key, value string) change { return change{Values: map[string][]byte{key: []byte(value)}} }
	all = append(all, set("CurrentTerm", "1"), log(1, 1, 1), set("LastVoteTerm", "2"), set("LastVoteCand", "b"), log(2, 6, 2), change{Cut: &[2]uint64{4, 6}}, log(4, 5, 3))
	for i := uint64(6); i < 16; i++ {
		all = append(all, log(i, i, 3))
		if i%4 == 0 {
			all = append(all, change{Snapshot: &snapshot{Meta: raft.SnapshotMeta{ID: fmt.Sprint(i), Index: i, Term: 3}, Data: []byte("token")}}, change{Cut: &[2]uint64{1, i - 2}})
		}
	}
	return all
}

func (j *journal) text(t *testing.T) string {
	t.Helper()
	var b []byte
	j.view(func(s *state) { b, _ = json.Marshal(s) })
	return string(b)
}

// lived is a disk on which a life was lived, with what the journal held after each of its changes was promised.
type lived struct {
	disk  *faultfs.Disk
	after []moment
}

type moment struct {
	clock int // first operation after the promise
	text  string
}

func live(t *testing.T) lived {
	t.Helper()
	l := lived{disk: journalDisk(t)}
	j, err := journalOn(l.disk)
	if err != nil {
		t.Fatal(err)
	}
	mark := func() { l.after = append(l.after, moment{l.disk.Clock().Now(), j.text(t)}) }
	mark()
	for _, c := range life() {
		if err := j.do(c); err != nil {
			t.Fatal(err)
		}
		mark()
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	return l
}

// promised is the index in after of the newest promise before operation n; -1 when there was none.
func (l lived) promised(n int) int {
	at, found := slices.BinarySearchFunc(l.after, n, func(m moment, n int) int { return m.clock - n })
	if !found {
		at--
	}
	return at
}

// R3, D1, D2, D21, D22 for the token log: whatever power cut, the journal opens and holds what was promised, or that and the one change under way.
// Faults: D1, D2, D21, D22 (power cuts of the token log)
func TestJournalCrash(t *testing.T) {
	t.Parallel()
	l := live(t)
	first := len(l.after) // crash points before the first promise end with any new journal
	cases := 0
	for n := range l.disk.Clock().Now() + 1 {
		unsynced := len(l.disk.Unsynced(n))
		policies := []faultfs.Policy{faultfs.Nothing(), faultfs.Everything()}
		for i := range unsynced {
			policies = append(policies, faultfs.Lose(i), faultfs.Keep(i), faultfs.Torn(i, 1), faultfs.Torn(i, recordHeader+9))
		}
		for seed := range uint64(4) {
			policies = append(policies, faultfs.Random(uint64(n)<<8+seed))
		}
		for _, p := range policies {
			cases++
			crashed := l.disk.Crash(n, p)
			if _, err := crashed.Stat("raft"); err != nil {
				continue // the directory itself was not made yet
			}
			j, err := journalOn(crashed)
			if err != nil {
				t.Fatalf("crash before operation %d, %s: %v", n, p, err)
			}
			got, at := j.text(t), l.promised(n)
			ok := at < 0 || slices.ContainsFunc(l.after[at:min(at+2, first)], func(m moment) bool { return m.text == got })
			if !ok {
				t.Fatalf("crash before operation %d, %s, after promise %d:\n got %s\nwant %s\n  or the next", n, p, at, got, l.after[at].text)
			}
			// What it says now it says for good, and it goes on.
			if err := j.do(change{Values: map[string][]byte{"CurrentTerm": []byte("9")}}); err != nil {
				t.Fatal(err)
			}
			want := j.text(t)
			again, err := journalOn(crashed.Crash(crashed.Clock().Now(), faultfs.Nothing()))
			if err != nil || again.text(t) != want {
				t.Fatalf("crash before operation %d, %s, and once more: %v", n, p, err)
			}
		}
	}
	t.Logf("%d crashes", cases)
}

// R10: each operation fails once. Nothing is promised any more, the node is told, and what is on disk is the promises.
func TestJournalFailures(t *testing.T) {
	t.Parallel()
	for _, fault := range []faultfs.Fault{faultfs.Fail(errors.New("EIO")), faultfs.Short(5, errors.New("ENOSPC")), faultfs.DropPages(errors.New("EIO"))} {
		for n := 0; ; n++ {
			disk := journalDisk(t)
			j, err := journalOn(disk)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
			ffs := faultfs.New(disk, 1)
			rule := ffs.Add(faultfs.Rule{Ops: []faultfs.Kind{faultfs.OpCreate, faultfs.OpWrite, faultfs.OpSync, faultfs.OpRename, faultfs.OpOpenDir}, After: n, Times: 1, Fault: fault})
			done, told, err := liveOn(t, ffs)
			if rule.Hits() == 0 {
				if err != nil {
					t.Fatal(err)
				}
				break // further than there are operations
			}
			if err == nil {
				t.Fatalf("operation %d failed unnoticed: %v", n, ffs.Hits())
			}
			if done >= 0 && told != 1 {
				t.Fatalf("operation %d failed, the node was told %d times", n, told)
			}
			after, err := journalOn(disk.Crash(disk.Clock().Now(), faultfs.Nothing()))
			if err != nil {
				t.Fatalf("operation %d failed, then a power cut: %v", n, err)
			}
			want := newState()
			after.view(func(s *state) { want.ID = s.ID })
			texts := []string{}
			for i, c := range append([]change{{}}, life()...) {
				if i > 0 {
					if err := want.apply(c, uint64(i)+1); err != nil {
						t.Fatal(err)
					}
				}
				b, _ := json.Marshal(&want)
				texts = append(texts, string(b))
			}
			if got := after.text(t); !slices.Contains(texts[max(done, 0):min(max(done, 0)+2, len(texts))], got) {
				t.Fatalf("operation %d failed after promise %d, left behind:\n%s", n, done, got)
			}
		}
	}
}

// liveOn lives a life until something fails; it returns how many changes were promised, -1 when not even opening worked.
func liveOn(t *testing.T, fs vfs.FS) (done, told int, err error) {
	t.Helper()
	o := Options{FS: fs, Dir: "raft", Node: "a", Voters: []string{"a"}, MaxJournal: 2000, OnFatal: func(error) { told++ }}
	o.EnsureDefaults()
	j, err := openJournal(o)
	if err != nil {
		return -1, told, err
	}
	for _, c := range life() {
		if err := j.do(c); err != nil {
			if !errors.Is(err, failover.ErrFailed) {
				t.Errorf("%v is no ErrFailed", err)
			}
			if again := j.do(c); !errors.Is(again, failover.ErrFailed) {
				t.Errorf("it went on after %v: %v", err, again)
			}
			return done, told, err
		}
		done++
	}
	return done, told, j.close()
}

// D11: a bit that rots in one of the two files loses no promise; rot in both is refused and named, never guessed.
// Faults: D11 (bits of the token log changed)
func TestJournalRot(t *testing.T) {
	t.Parallel()
	l := live(t)
	want := l.after[len(l.after)-1].text
	size := func(name string) int64 {
		info, err := l.disk.Stat("raft/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	step := int64(7) // every byte
	if testing.Short() {
		step = 61
	}
	for _, name := range fileNames {
		for bit := int64(0); bit < 8*size(name); bit += step {
			d := l.disk.Copy()
			d.Flip("raft/"+name, bit)
			j, err := journalOn(d)
			if err != nil || j.text(t) != want {
				t.Fatalf("bit %d of %s: %v", bit, name, err)
			}
		}
	}
	for bit := int64(0); bit < 8*min(size(fileNames[0]), size(fileNames[1])); bit += 97 {
		d := l.disk.Copy()
		d.Flip("raft/"+fileNames[0], bit)
		d.Flip("raft/"+fileNames[1], bit+1)
		if _, err := journalOn(d); !errors.Is(err, failover.ErrCorrupt) || !strings.Contains(err.Error(), "join anew") {
			t.Fatalf("bits %d and %d of both files: %v", bit, bit+1, err)
		}
	}
	for _, name := range fileNames { // one file is gone
		d := l.disk.Copy()
		if err := d.Remove("raft/" + name); err != nil {
			t.Fatal(err)
		}
		if j, err := journalOn(d); err != nil || j.text(t) != want {
			t.Fatalf("without %s: %v", name, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	st := newState()
	st.ID = "0123456789abcdef"
	first, at, _ := encodeRecord(chain{}, change{State: &st})
	next, _, _ := encodeRecord(at, change{Values: map[string][]byte{"CurrentTerm": {1}}})
	f.Add(first, uint64(0), uint64(0))
	f.Add(next, at.seq, at.hash)
	f.Fuzz(func(t *testing.T, b []byte, seq, hash uint64) {
		n, after, c, err := decodeRecord(b, chain{seq, hash})
		if err != nil {
			return
		}
		if n > len(b) || after.seq == 0 {
			t.Fatalf("%d of %d bytes, change %d", n, len(b), after.seq)
		}
		st := newState()
		st.ID = "x"
		_ = st.apply(c, after.seq)
	})
}
