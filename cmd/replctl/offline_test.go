package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/kv"
	"repld/wal"
)

// group is a data directory as a node leaves it, made by hand.
type group struct {
	t     *testing.T
	dir   string // of the node
	path  string // of the group
	log   *wal.Log
	store *kv.Store
	seq   *kv.Sequencer
	clock time.Time
}

func newGroup(t *testing.T) *group {
	t.Helper()
	g := &group{t: t, dir: t.TempDir(), clock: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	g.path = filepath.Join(g.dir, "groups", "default")
	g.must(os.MkdirAll(g.path, 0o755))
	slots, _, err := failover.OpenSlots(failover.SlotsOptions{Dir: g.path, Create: true})
	g.must(err)
	g.must(slots.Close())
	g.open()
	return g
}

func (g *group) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *group) open() {
	var err error
	g.log, _, err = wal.Open(wal.Options{Dir: filepath.Join(g.path, "wal"), SegmentBytes: 64 << 10, Identity: wal.Identity{Cluster: "shop", Group: "default", Incarnation: [16]byte{7}}})
	g.must(err)
	g.store, err = kv.Open(kv.Options{Dir: filepath.Join(g.path, "state")})
	g.must(err)
	g.seq = g.store.NewSequencer()
}

func (g *group) close() {
	g.must(g.store.Flush()) // or the state would be as of the beginning: the log is what lasts
	g.must(g.store.Close())
	g.must(g.log.Close())
}

// write logs one record an edit, each a minute after the last, and applies them.
func (g *group) write(epoch wal.Epoch, edits ...func(*kv.Txn) error) {
	g.t.Helper()
	for _, edit := range edits {
		w, err := g.log.NewWriter(wal.WriterOptions{Epoch: epoch, Now: func() time.Time { return g.clock }})
		g.must(err)
		after := g.log.End().LSN
		t := g.seq.Begin(g.clock)
		g.must(edit(t))
		lsn, err := w.Append(wal.KindEffects, t.Effects())
		g.must(err)
		t.Commit(lsn)
		g.must(w.Close())
		r, err := g.log.NewReader(after)
		g.must(err)
		f, err := r.Next(g.t.Context())
		g.must(err)
		g.must(g.store.Apply([]*wal.Frame{f}))
		r.Close()
		g.seq.Applied(lsn)
		g.clock = g.clock.Add(time.Minute)
	}
}

func set(key, value string) func(*kv.Txn) error {
	return func(t *kv.Txn) error { return t.Set([]byte(key), []byte(value), 0) }
}

func del(key string) func(*kv.Txn) error {
	return func(t *kv.Txn) error { _, err := t.Delete([]byte(key)); return err }
}

func replctl(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = execute(t.Context(), streams{in: strings.NewReader(""), out: &o, err: &e}, args)
	return o.String(), e.String(), code
}

func sample(t *testing.T) *group {
	g := newGroup(t)
	g.write(1, set("cart:1", "apples"), set("cart:2", "pears"), func(t *kv.Txn) error {
		return t.Set([]byte("session"), []byte{0xff, 0x00}, time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli())
	})
	g.write(2, del("cart:1"), func(t *kv.Txn) error { return t.Clear() }, set("cart:3", strings.Repeat("x", 100)))
	return g
}

func TestVerifyDir(t *testing.T) {
	g := sample(t)
	if out, _, code := replctl(t, "verify", g.dir); code != exitError || !strings.Contains(out, "in use") || !strings.Contains(out, "INCOMPLETE") {
		t.Fatalf("open state: exit %d\n%s", code, out)
	}
	g.close()
	out, errOut, code := replctl(t, "verify", g.dir)
	if code != exitOK || !strings.Contains(out, "a state rebuilt from the log has the same digest") || !strings.Contains(out, "6 records") {
		t.Fatalf("exit %d\n%s%s", code, out, errOut)
	}
	if out, _, code := replctl(t, "verify", g.path, "-o", "json"); code != exitOK {
		t.Fatalf("group directory: exit %d\n%s", code, out)
	} else {
		var r dirReport
		if err := json.Unmarshal([]byte(out), &r); err != nil || !r.OK || r.Groups[0].State != r.Groups[0].Log || r.Groups[0].Log.LSN != 6 {
			t.Fatalf("report %+v, %v", r, err)
		}
	}
	if out, _, code := replctl(t, "verify", t.TempDir()); code != exitError {
		t.Fatalf("no data directory: exit %d\n%s", code, out)
	}
}

// A state that the log does not make is found although both are whole by themselves.
func TestVerifyDirStateDiffers(t *testing.T) {
	g, other := sample(t), newGroup(t)
	g.close()
	other.write(1, set("cart:1", "apples"))
	other.close()
	state := filepath.Join(g.path, "state")
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other.path, "state"), state); err != nil {
		t.Fatal(err)
	}
	out, _, code := replctl(t, "verify", g.dir)
	if code != exitOK {
		t.Fatalf("the first record of both is the same, so this state is only behind: exit %d\n%s", code, out)
	}
	// Now of another history: same LSN, another chain hash.
	other = newGroup(t)
	other.write(1, set("cart:1", "oranges"))
	other.close()
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other.path, "state"), state); err != nil {
		t.Fatal(err)
	}
	if out, _, code := replctl(t, "verify", g.dir); code != exitDifference || !strings.Contains(out, "different histories") {
		t.Fatalf("exit %d\n%s", code, out)
	}
}

// Any flipped byte of the log or of the epoch file is found (DESIGN section 5).
func TestVerifyDirDamage(t *testing.T) {
	g := sample(t)
	g.close()
	logs, err := filepath.Glob(filepath.Join(g.path, "wal", "*.seg"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	for _, tc := range []struct {
		file, marker, what string
	}{{logs[0], "RPF1", "log"}, {filepath.Join(g.path, "epoch"), "", "epoch"}} {
		text, err := os.ReadFile(tc.file)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(text, []byte(tc.marker)) + 70 // in the payload of the first frame
		if tc.marker == "" {
			at = 20
		}
		text[at] ^= 1
		if err := os.WriteFile(tc.file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		out, _, code := replctl(t, "verify", g.dir)
		if code != exitDifference || !strings.Contains(out, tc.what) || !strings.Contains(out, verdictDamaged) {
			t.Errorf("%s: exit %d\n%s", tc.file, code, out)
		}
		text[at] ^= 1
		if err := os.WriteFile(tc.file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, _, code := replctl(t, "verify", g.dir); code != exitOK {
		t.Fatalf("mended: exit %d\n%s", code, out)
	}
}

// The log of a running node is read as it is.
func TestLog(t *testing.T) {
	g := sample(t)
	defer g.close()
	want := `EPOCH  LSN  TIME  KIND  EFFECT
1  1  2030-01-02T03:04:05.000Z  effects  set "cart:1" "apples"
1  2  2030-01-02T03:05:05.000Z  effects  set "cart:2" "pears"
1  3  2030-01-02T03:06:05.000Z  effects  set "session" "\xff\x00" expires 2031-01-01T00:00:00Z
2  4  2030-01-02T03:07:05.000Z  effects  del "cart:1"
2  5  2030-01-02T03:08:05.000Z  effects  clear: all keys
2  6  2030-01-02T03:09:05.000Z  effects  set "cart:3" "xxxxxxxxxx"… (100 bytes)
`
	if out, errOut, code := replctl(t, "log", "dump", g.dir, "--width", "10"); code != 0 || out != want {
		t.Fatalf("exit %d\n%s%s", code, out, errOut)
	}
	lines := func(out string) (lsns []string) {
		for _, line := range strings.Split(strings.TrimSpace(out), "\n")[1:] {
			lsns = append(lsns, strings.Fields(line)[1])
		}
		return lsns
	}
	for _, tc := range []struct{ args, want string }{
		{"log dump DIR --from 2 --to 4", "[2 3 4]"},
		{"log dump DIR --epoch 2", "[4 5 6]"},
		{"log dump DIR --since 2030-01-02T03:06:05Z --until 2030-01-02T03:08:05Z", "[3 4]"},
		{"log grep cart:* DIR", "[1 2 4 5 6]"},
		{"log grep cart:? DIR --to 2", "[1 2]"},
		{"log dump DIR --key session", "[3 5]"},
		{"log grep nothing DIR --to 4", "[]"},
	} {
		out, errOut, code := replctl(t, strings.Fields(strings.Replace(tc.args, "DIR", g.path, 1))...)
		if got := fmt.Sprint(lines(out)); code != 0 || got != tc.want {
			t.Errorf("%s: exit %d, LSNs %s, want %s\n%s", tc.args, code, got, tc.want, errOut)
		}
	}
	out, _, _ := replctl(t, "log", "dump", g.dir, "--from", "3", "--to", "3", "-o", "json")
	var rec logRecord
	if err := json.Unmarshal([]byte(out), &rec); err != nil || rec.LSN != 3 || rec.Effects[0].value() != "\xff\x00" {
		t.Fatalf("json %s: %v", out, err)
	}
	if out, _, code := replctl(t, "log", "dump", g.dir, "--from", "3", "-o", "yaml"); code != 0 || strings.Count(out, "---\n") != 4 {
		t.Fatalf("yaml: exit %d\n%s", code, out)
	}
	if _, errOut, code := replctl(t, "log", "dump", g.dir, "--since", "yesterday"); code != exitUsage || !strings.Contains(errOut, "yesterday") {
		t.Fatalf("bad time: exit %d %s", code, errOut)
	}
}

// What was cut from the log stays readable and can be written again (R9).
func TestDiverged(t *testing.T) {
	g := sample(t)
	to, err := g.log.PositionAt(2)
	g.must(err)
	_, err = g.log.TruncateTail(to, wal.SaveOptions{Dir: filepath.Join(g.path, "diverged"), Reason: "test"})
	g.must(err)
	g.close()
	out, errOut, code := replctl(t, "diverged", "list", g.dir, "-o", "json")
	if code != 0 {
		t.Fatalf("exit %d %s", code, errOut)
	}
	var all []struct{ Name string }
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		t.Fatalf("%s: %v", out, err)
	}
	out, errOut, code = replctl(t, "diverged", "export", all[0].Name, g.dir, "--format", "resp")
	want := "*5\r\n$3\r\nSET\r\n$7\r\nsession\r\n$2\r\n\xff\x00\r\n$4\r\nPXAT\r\n$13\r\n1924992000000\r\n*2\r\n$3\r\nDEL\r\n$6\r\ncart:1\r\n*1\r\n$8\r\nFLUSHALL\r\n" +
		"*3\r\n$3\r\nSET\r\n$6\r\ncart:3\r\n$100\r\n" + strings.Repeat("x", 100) + "\r\n"
	if code != 0 || out != want {
		t.Fatalf("exit %d %s\n%q", code, errOut, out)
	}
	out, _, code = replctl(t, "diverged", "export", all[0].Name, g.dir)
	if code != 0 || strings.Count(out, "\n") != 4 {
		t.Fatalf("ndjson: exit %d\n%s", code, out)
	}
	// The state is ahead of the log now: that is missing log, not a state that is behind (R8).
	if out, _, code := replctl(t, "verify", g.dir); code != exitDifference || !strings.Contains(out, "records are missing") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if all, err := wal.ListDiverged(vfs.Default, filepath.Join(g.path, "diverged")); err != nil || len(all) != 1 {
		t.Fatalf("reading changed something: %v %v", all, err)
	}
}

func TestVerifyDirTimeout(t *testing.T) {
	g := sample(t)
	g.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := verifyGroup(ctx, g.path, true); dirCode(dirReport{Groups: []groupReport{r}}) != exitError {
		t.Fatalf("a verification that was cut short is not a result: %+v", r)
	}
}

func TestGlob(t *testing.T) {
	for _, tc := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true}, {"", "", true}, {"", "x", false}, {"a*c", "abbc", true}, {"a*c", "abb", false}, {"a?c", "abc", true}, {"a?c", "ac", false},
		{"*:1", "cart:1", true}, {"*a*b*", "xxaxxbxx", true}, {`a\*`, "a*", true}, {`a\*`, "ab", false}, {`\?`, "?", true}, {"a/*", "a/b/c", true},
		{strings.Repeat("*a", 30), strings.Repeat("a", 2000) + "b", false},
	} {
		if got := glob(tc.pattern, tc.s); got != tc.want {
			t.Errorf("glob(%q, %q) = %v", tc.pattern, tc.s, got)
		}
	}
}
