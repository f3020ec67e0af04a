package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret is typed as the passwords of the node are.
type secret string

func (secret) LogValue() slog.Value { return slog.StringValue("***") }

// life opens the journal, records n events while it runs, and stops it.
func life(t *testing.T, o Options, n int) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	for i := range n {
		l.Record(Role, "role changed", slog.Int("i", i), slog.String("pad", strings.Repeat("x", 100)))
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return l
}

func folder(t *testing.T) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("j", 0o700); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestNil(t *testing.T) {
	var l *Log
	l.Record(Start, "nobody listens")
	if all, _ := l.Since(0, 0); all != nil || l.Last() != 0 || l.Lost() != 0 {
		t.Fatal("a nil log has events")
	}
}

func TestReopen(t *testing.T) {
	fs := folder(t)
	life(t, Options{FS: fs, Dir: "j"}, 3)
	l := life(t, Options{FS: fs, Dir: "j"}, 2)
	all, _ := l.Since(0, 0)
	if len(all) != 5 {
		t.Fatalf("%d events: %+v", len(all), all)
	}
	for i, e := range all {
		if e.Seq != uint64(i+1) || e.Kind != Role {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	read, damaged, err := Read(fs, "j")
	if err != nil || damaged != 0 || len(read) != 5 {
		t.Fatalf("read %d, damaged %d, %v", len(read), damaged, err)
	}
	if some, _ := l.Since(2, 2); len(some) != 2 || some[0].Seq != 4 {
		t.Errorf("newest two: %+v", some)
	}
}

func TestAttrs(t *testing.T) {
	l, err := Open(Options{FS: folder(t), Dir: "j"})
	if err != nil {
		t.Fatal(err)
	}
	l.Record(Security, "m", slog.Any("err", errors.New("boom")), slog.Duration("d", time.Second), slog.Uint64("n", 1<<63), slog.Any("password", secret("hunter2")),
		slog.Group("g", slog.Bool("b", true)), slog.String("long", strings.Repeat("y", 1<<20)))
	all, _ := l.Since(0, 0)
	line, err := appendLine(nil, all[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"err":"boom"`, `"d":"1s"`, `"n":9223372036854775808`, `"password":"***"`, `"g.b":true`} {
		if !strings.Contains(string(line), want) {
			t.Errorf("no %s in %.300s", want, line)
		}
	}
	if strings.Contains(string(line), "hunter2") || len(line) > 4<<10 {
		t.Errorf("a secret, or %d bytes", len(line))
	}
}

// Two files of bounded size hold the newest events, whatever is recorded.
func TestBounded(t *testing.T) {
	fs := folder(t)
	const limit = 8 << 10
	var last uint64
	for range 20 {
		last = life(t, Options{FS: fs, Dir: "j", MaxBytes: limit}, 30).Last()
	}
	for _, name := range []string{nameNow, nameOld} {
		if st, err := fs.Stat("j/" + name); err != nil || st.Size() > limit {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	all, damaged, err := Read(fs, "j")
	if err != nil || damaged != 0 || len(all) < 20 || all[len(all)-1].Seq != last {
		t.Fatalf("%d events, damaged %d, %v", len(all), damaged, err)
	}
}

// Every cut and every flipped bit of the newest file costs at most the lines that it hits, and what is recorded afterwards is whole.
func TestDamage(t *testing.T) {
	fs := folder(t)
	life(t, Options{FS: fs, Dir: "j"}, 4)
	f, err := fs.Open("j/" + nameNow)
	if err != nil {
		t.Fatal(err)
	}
	sound, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	try := func(what string, content []byte, least int) {
		t.Helper()
		fs := folder(t)
		f, err := fs.Create("j/"+nameNow, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(bytes.Clone(content)); err != nil { // under the race detector MemFS spoils what it was given
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		life(t, Options{FS: fs, Dir: "j"}, 1)
		all, _, err := Read(fs, "j")
		if err != nil || len(all) < least+1 {
			t.Fatalf("%s: %d events, want %d and a new one, %v", what, len(all), least, err)
		}
	}
	for cut := 0; cut < len(sound); cut++ {
		try(fmt.Sprintf("cut at %d", cut), sound[:cut], strings.Count(string(sound[:cut]), "\n"))
	}
	for at := 0; at < len(sound); at += 3 {
		b := []byte(string(sound))
		b[at] ^= 1 << (at % 8)
		try(fmt.Sprintf("flip at %d", at), b, 2) // a flipped line end joins two lines
	}
	try("zeros behind", append([]byte(string(sound)), make([]byte, 4096)...), 4)
}

// A disk that refuses the journal is told as trouble, stops nobody, and the journal says later how much is missing.
func TestTrouble(t *testing.T) {
	mem := folder(t)
	var broken atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && (op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpFileSyncData) {
			return errors.New("no space")
		}
		return nil
	}))
	told := make(chan error, 10)
	l, err := Open(Options{FS: fs, Dir: "j", OnTrouble: func(err error) { told <- err }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	broken.Store(true)
	l.Record(Alarm, "lost")
	if err := <-told; err == nil || !strings.Contains(err.Error(), "no space") {
		t.Fatalf("told %v", err)
	}
	broken.Store(false)
	l.Record(Alarm, "kept")
	if err := <-told; err != nil {
		t.Fatalf("told %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	all, _, err := Read(mem, "j")
	if err != nil || len(all) != 2 || all[0].Msg != "kept" || all[1].Kind != Dropped || all[1].Text("events") != "1" {
		t.Fatalf("%+v, %v", all, err)
	}
	if l.Lost() != 1 {
		t.Errorf("lost %d", l.Lost())
	}
}

// Record does not wait for a writer that stands still: what does not fit is counted.
func TestFull(t *testing.T) {
	l, err := Open(Options{FS: folder(t), Dir: "j", Queue: 8, Keep: 4})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 { // nobody runs it
		l.Record(Peer, "flood")
	}
	if l.Lost() != 92 {
		t.Errorf("lost %d", l.Lost())
	}
	if all, _ := l.Since(0, 0); len(all) > 8 || all[len(all)-1].Seq != 100 {
		t.Errorf("%d in memory", len(all))
	}
}

func TestFollow(t *testing.T) {
	l, err := Open(Options{FS: folder(t), Dir: "j"})
	if err != nil {
		t.Fatal(err)
	}
	_, more := l.Since(l.Last(), 0)
	l.Record(Vote, "supported")
	<-more
	if all, _ := l.Since(0, 0); len(all) != 1 || all[0].Kind != Vote {
		t.Errorf("%+v", all)
	}
}

func FuzzLine(f *testing.F) {
	line, _ := appendLine(nil, Event{Seq: 1, Kind: Role, Msg: "m"})
	f.Add(line[:len(line)-1])
	f.Fuzz(func(t *testing.T, in []byte) {
		e, ok := parseLine(in)
		if !ok {
			return
		}
		if _, err := appendLine(nil, e); err != nil {
			t.Fatal(err)
		}
	})
}
