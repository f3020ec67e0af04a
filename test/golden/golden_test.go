package golden

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/archive"
	"repld/internal/kv"
	"repld/internal/node"
	"repld/snapshot"
	"repld/wal"
)

var writeGolden = flag.Bool("write", false, "make the golden directories anew; only for a version that adds one")

const version = "1.0"

// expected is what the directories hold.
type expected struct {
	Log    wal.Position `json:"log"`
	State  wal.Position `json:"state"`
	Digest wal.Hash     `json:"digest"`
	Keys   int64        `json:"keys"`
	Epoch  wal.Epoch    `json:"epoch"`
	Backup string       `json:"backup"`
}

func options(dir string) node.Options {
	return node.Options{Cluster: "golden", Name: "a", Dir: dir, SegmentBytes: 64 << 10, Verify: node.VerifyOptions{Every: -1}}
}

// run runs a node on dir while do talks to it as a client.
func run(t *testing.T, dir string, do func(ask func(line string) string)) {
	t.Helper()
	n, err := node.Open(options(dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	<-n.Ready()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.ServeClients(l, false) }()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	do(func(line string) string {
		for end := time.Now().Add(30 * time.Second); ; {
			if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
				t.Fatal(err)
			}
			text, err := in.ReadString('\n')
			if err == nil && strings.HasPrefix(text, "$") && text != "$-1\r\n" {
				text, err = in.ReadString('\n')
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(text, "-READONLY") && !strings.HasPrefix(text, "-LOADING") && !strings.HasPrefix(text, "-MASTERDOWN") || time.Now().After(end) { // it takes over first
				return strings.TrimSpace(text)
			}
		}
	})
	_ = c.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	<-served
}

// TestWrite makes the directories.
func TestWrite(t *testing.T) {
	if !*writeGolden {
		t.Skip("only with -write: what was written once is not written again")
	}
	if _, err := os.Stat(version); err == nil {
		t.Fatalf("%s is there and is never changed", version)
	}
	work := t.TempDir()
	home := filepath.Join(work, "node")
	run(t, home, func(ask func(string) string) {
		for _, line := range []string{"SET plain value", "SET number 41", "INCR number", "SET leaving soon PX 4102444800000", "REPLD.ONCE id-1 604800000 SET once done", "SET gone x", "DEL gone"} {
			if got := ask(line); strings.HasPrefix(got, "-") {
				t.Fatalf("%s: %s", line, got)
			}
		}
	})
	var want expected
	group := filepath.Join(home, "groups", "default")
	rep, err := kv.VerifyDir(t.Context(), vfs.Default, filepath.Join(group, "state"), nil)
	must(t, err)
	want.State, want.Digest, want.Keys = rep.Position, rep.Digest.Hash, rep.Keys
	var frames []*wal.Frame
	logged, err := wal.Verify(vfs.Default, filepath.Join(group, "wal"), wal.VerifyOptions{OnFrame: func(f *wal.Frame) error { frames = append(frames, f); return nil }})
	must(t, err)
	want.Log, want.Epoch = logged.End, logged.End.Epoch

	store, err := kv.Open(kv.Options{Dir: filepath.Join(group, "state")})
	must(t, err)
	m := snapshot.NewManager(snapshot.ManagerOptions{FS: vfs.Default, Dir: filepath.Join(work, "staging"), Cluster: "golden", Group: "default", Source: store, LogStart: func() wal.LSN { return 0 }})
	s, err := m.Acquire(t.Context())
	must(t, err)
	text, err := s.Manifest().Encode()
	must(t, err)
	snap := filepath.Join(work, "snapshot")
	must(t, os.CopyFS(snap, os.DirFS(s.Dir())))
	_ = os.Remove(filepath.Join(snap, "LOCK"))
	must(t, os.WriteFile(filepath.Join(snap, snapshot.ManifestName), text, 0o600))
	ar, err := archive.Open(t.Context(), archive.Options{URL: "file://" + filepath.Join(work, "archive"), Cluster: "golden", Create: true})
	must(t, err)
	src := archive.Source{FS: vfs.Default, Dir: s.Dir(), Node: "a", Position: s.Manifest().Position, Digest: want.Digest, Keys: want.Keys}
	for _, f := range s.Manifest().Files {
		src.Files = append(src.Files, archive.File{Name: f.Name, Size: f.Size, Hash: f.Hash})
	}
	b, err := ar.Create(t.Context(), src, nil)
	must(t, err)
	want.Backup = b.ID
	_, err = ar.PutFrames(t.Context(), frames)
	must(t, err)
	s.Release()
	must(t, m.Close())
	must(t, store.Close())
	for _, name := range []string{"node", "snapshot", "archive"} {
		must(t, os.CopyFS(filepath.Join(version, name), os.DirFS(filepath.Join(work, name))))
	}
	for _, leave := range []string{"node/LOCK", "node/events", "node/reserve", "node/groups/default/state/LOCK"} {
		must(t, os.RemoveAll(filepath.Join(version, leave)))
	}
	text, err = json.MarshalIndent(want, "", "  ")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(version, "expected.json"), append(text, '\n'), 0o644))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// copied returns a copy of a golden directory, and what it holds.
func copied(t *testing.T, name string) (dir string, want expected) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(version, "expected.json"))
	must(t, err)
	must(t, json.Unmarshal(text, &want))
	dir = filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(dir, os.DirFS(filepath.Join(version, name))))
	return dir, want
}

// A node of this version starts on the data of 1.0, with everything in it, and goes on.
func TestNode(t *testing.T) {
	dir, want := copied(t, "node")
	group := filepath.Join(dir, "groups", "default")
	rep, err := kv.VerifyDir(t.Context(), vfs.Default, filepath.Join(group, "state"), nil)
	if err != nil || rep.Digest.Hash != want.Digest || rep.Position != want.State || rep.Keys != want.Keys {
		t.Fatalf("state %+v, %v; want %+v", rep, err, want)
	}
	log, err := wal.Verify(vfs.Default, filepath.Join(group, "wal"), wal.VerifyOptions{})
	if err != nil || log.End != want.Log || len(log.Problems) > 0 {
		t.Fatalf("log %+v, %v; want %+v", log, err, want)
	}
	run(t, dir, func(ask func(string) string) {
		for line, answer := range map[string]string{
			"GET plain": "value", "GET number": "42", "GET once": "done", "EXISTS gone": ":0", "EXISTS leaving": ":1",
			"REPLD.ONCE id-1 604800000 SET once done": "+OK", "SET after x": "+OK",
		} {
			if got := ask(line); got != answer {
				t.Errorf("%s: %s, want %s", line, got, answer)
			}
		}
	})
}

func TestSnapshot(t *testing.T) {
	dir, want := copied(t, "snapshot")
	m, err := snapshot.ReadManifest(vfs.Default, dir)
	must(t, err)
	must(t, snapshot.Check(vfs.Default, dir, m))
	rep, err := kv.VerifyDir(t.Context(), vfs.Default, dir, nil)
	if err != nil || rep.Digest.Hash != want.Digest || rep.Position != m.Position || m.Position != want.State {
		t.Fatalf("%+v, %v; want %+v", rep, err, want)
	}
}

func TestArchive(t *testing.T) {
	dir, want := copied(t, "archive")
	ar, err := archive.Open(t.Context(), archive.Options{URL: "file://" + dir, Cluster: "golden"})
	must(t, err)
	rep, err := ar.Check(t.Context(), true, nil)
	if err != nil || rep.Backups != 1 || rep.To != want.Log {
		t.Fatalf("%+v, %v; want %+v", rep, err, want)
	}
	r, err := node.Restore(t.Context(), node.RestoreOptions{Archive: ar, Of: "golden", Dir: filepath.Join(t.TempDir(), "restored"), Cluster: "restored", Node: "a"})
	if err != nil || r.Digest.Hash != want.Digest || r.Backup != want.Backup {
		t.Fatalf("%+v, %v; want %+v", r, err, want)
	}
}

// patch changes a file.
func patch(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(b), 0o600))
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

// What a newer version has written is refused by name, never guessed at and never taken for damage that may be cut.
func TestNewerIsRefused(t *testing.T) {
	open := func(dir string) error {
		n, err := node.Open(options(dir))
		if err == nil {
			err = errors.Join(errors.New("it was opened"), n.Close())
		}
		return err
	}
	for _, x := range []struct {
		what, name string
		change     func(t *testing.T, dir string)
		open       func(dir string) error
		want       error
		says       string
	}{
		{"segment", "node", func(t *testing.T, dir string) {
			patch(t, only(t, dir+"/groups/default/wal/*1.seg"), func(b []byte) []byte {
				b[4]++
				le64(b[248:], xxhash.Sum64(b[:248]))
				return b
			})
		}, open, wal.ErrVersion, "segment version 2"},
		{"epoch", "node", func(t *testing.T, dir string) {
			patch(t, dir+"/groups/default/epoch", func(b []byte) []byte { return newerBoxes(t, b, "RPE1") })
		}, open, failover.ErrVersion, "RPE2"},
		{"one epoch slot", "node", func(t *testing.T, dir string) { // the other one may be older: a promise would be forgotten
			patch(t, dir+"/groups/default/epoch", func(b []byte) []byte {
				half := len(b) / 2
				return append(newerBoxes(t, b[:half], "RPE1"), b[half:]...)
			})
		}, open, failover.ErrVersion, "RPE2"},
		{"token", "node", func(t *testing.T, dir string) {
			patch(t, only(t, dir+"/groups/default/token/*.token"), func(b []byte) []byte { return newerBoxes(t, b, "RPT1") })
		}, open, failover.ErrVersion, "RPT2"},
		{"identity", "node", func(t *testing.T, dir string) {
			patch(t, dir+"/identity", func(b []byte) []byte {
				const slot = 1024
				for at := 0; at < len(b); at += slot {
					s := b[at : at+slot]
					copy(s, bytes.Replace(s, []byte(`"format":1`), []byte(`"format":2`), 1))
					le64(s[slot-8:], xxhash.Sum64(s[:slot-8]))
				}
				return b
			})
		}, open, nil, "format 2, this program knows 1"},
		{"state", "node", func(t *testing.T, dir string) {
			from := only(t, dir+"/groups/default/state/marker.format-version.*")
			must(t, os.Rename(from, from[:len(from)-3]+"999"))
		}, open, nil, "version"},
		{"snapshot", "snapshot", func(t *testing.T, dir string) {
			patch(t, filepath.Join(dir, snapshot.ManifestName), func(b []byte) []byte {
				var e struct {
					Hash     string          `json:"hash"`
					Manifest json.RawMessage `json:"manifest"`
				}
				must(t, json.Unmarshal(b, &e))
				e.Manifest = bytes.Replace(e.Manifest, []byte(`"format":1`), []byte(`"format":2`), 1)
				e.Hash = fmt.Sprintf("%016x", xxhash.Sum64(e.Manifest))
				b, err := json.Marshal(e)
				must(t, err)
				return b
			})
		}, func(dir string) error { _, err := snapshot.ReadManifest(vfs.Default, dir); return err }, snapshot.ErrManifest, "format 2, known 1"},
		{"archive", "archive", func(t *testing.T, dir string) {
			patch(t, dir+"/golden/default/about.json", func(b []byte) []byte {
				_, body, _ := bytes.Cut(b, []byte("\n"))
				body = bytes.Replace(body, []byte(`"format":1`), []byte(`"format":2`), 1)
				sum := sha256.Sum256(body)
				return append([]byte(hex.EncodeToString(sum[:])+"\n"), body...)
			})
		}, func(dir string) error {
			_, err := archive.Open(context.Background(), archive.Options{URL: "file://" + dir, Cluster: "golden"})
			return err
		}, archive.ErrVersion, "2"},
		{"backup", "archive", func(t *testing.T, dir string) {
			patch(t, only(t, dir+"/golden/default/backups/*.json"), func(b []byte) []byte {
				_, body, _ := bytes.Cut(b, []byte("\n"))
				body = bytes.Replace(body, []byte(`"format":1`), []byte(`"format":2`), 1)
				sum := sha256.Sum256(body)
				return append([]byte(hex.EncodeToString(sum[:])+"\n"), body...)
			})
		}, func(dir string) error {
			ar, err := archive.Open(context.Background(), archive.Options{URL: "file://" + dir, Cluster: "golden"})
			if err != nil {
				return err
			}
			_, err = ar.Backups(context.Background())
			return err
		}, archive.ErrVersion, "backup of format 2, this program knows 1"},
	} {
		t.Run(x.what, func(t *testing.T) {
			dir, _ := copied(t, x.name)
			x.change(t, dir)
			err := x.open(dir)
			if err == nil || (x.want != nil && !errors.Is(err, x.want)) || !strings.Contains(err.Error(), x.says) {
				t.Fatalf("refused with %v; want %v, naming %q", err, x.want, x.says)
			}
		})
	}
}

// newerBoxes raises the version of every box of a kind in b (failover/doc.go draws them), with its hash.
func newerBoxes(t *testing.T, b []byte, magic string) []byte {
	t.Helper()
	b = bytes.Clone(b)
	found := 0
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte(magic))
		if i < 0 {
			break
		}
		at += i
		box := b[at:]
		box[3]++
		n := int(binary.LittleEndian.Uint32(box[4:]))
		d := xxhash.New()
		_, _ = d.Write(box[:16])
		_, _ = d.Write(box[24 : 24+n])
		le64(box[16:], d.Sum64())
		found++
	}
	if found == 0 {
		t.Fatalf("no %s in %d bytes", magic, len(b))
	}
	return b
}

func le64(b []byte, v uint64) {
	for i := range 8 {
		b[i] = byte(v >> (8 * i))
	}
}

// The epoch slots are opened by the package that owns them, too.
func TestEpochSlots(t *testing.T) {
	dir, want := copied(t, "node")
	slots, rec, err := failover.OpenSlots(failover.SlotsOptions{Dir: filepath.Join(dir, "groups", "default")})
	if err != nil || len(rec.Bad) > 0 || slots.State().Epoch() != want.Epoch {
		t.Fatalf("%+v, %+v, %v; want epoch %d", slots, rec, err, want.Epoch)
	}
	must(t, slots.Close())
}

// So are the token, the identity, and the text of a receipt. The journals of the raft store are opened beside their package.
func TestToken(t *testing.T) {
	dir, want := copied(t, "node")
	store, err := failover.OpenFileStore(failover.FileStoreOptions{Dir: filepath.Join(dir, "groups", "default", "token")})
	must(t, err)
	rec, err := store.Load(t.Context())
	if err != nil || rec.Epoch != want.Epoch || rec.Holder != "a" {
		t.Fatalf("%+v, %v; want epoch %d of a", rec, err, want.Epoch)
	}
	must(t, store.Close())
}

func TestIdentity(t *testing.T) {
	dir, _ := copied(t, "node")
	said, err := node.CheckIdentity(vfs.Default, dir)
	if err != nil || !strings.Contains(said, "node a of cluster golden") {
		t.Fatalf("%q, %v", said, err)
	}
}

func TestReceipt(t *testing.T) {
	_, want := copied(t, "node")
	text := want.Log.String()
	if p, err := wal.ParsePosition(text); err != nil || p != want.Log {
		t.Fatalf("%s: %v, %v", text, p, err)
	}
	for _, newer := range []string{"2:" + text, text + "/2", strings.Replace(text, "/", ":", 1), ""} {
		if p, err := wal.ParsePosition(newer); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", newer)) {
			t.Errorf("receipt %q was read as %v: %v", newer, p, err)
		}
	}
}
