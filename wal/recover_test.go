package wal

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRecover plays transcripts of a log's life, damage included, in testdata/recover (R8, R10; D1, D8, D9, D12–D15, D19, D20,
// D24). Commands:
//
//	new [segment=BYTES]              a new log
//	append n=N [size=BYTES] [sync]   N frames of one record each, in one write, or with a sync after each
//	trim lsn=N | cut lsn=N | reset lsn=N
//	close | crash                    a clean stop, or only what was synced stays
//	flip|zero|stale segment=S frame=F from=A to=B    change bytes A to B-1 of the F-th frame (counted from 0; "end": behind the last)
//	shorten segment=S bytes=N | remove segment=S | swap a=S b=S | foreign segment=S | file name=NAME
//	open [known=LSN]                 what recovery says
//	settle                           Log.SettleDoubt
//
// Faults: D12, D13, D14, D15, D19, D20, D24 (transcripts of damage)
func TestRecover(t *testing.T) {
	datadriven.Walk(t, "testdata/recover", func(t *testing.T, path string) {
		p := &player{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			p.t = t
			return p.play(d)
		})
		p.stop()
	})
}

type player struct {
	t  *testing.T
	fs *vfs.MemFS
	o  Options
	l  *Log
}

func (p *player) stop() {
	if p.l != nil {
		_ = p.l.Close()
		p.l = nil
	}
}

func intArg(d *datadriven.TestData, key string, def int) int {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			if _, err := fmt.Sscan(a.Vals[0], &def); err != nil {
				return -1
			}
		}
	}
	return def
}

func (p *player) play(d *datadriven.TestData) string {
	switch d.Cmd {
	case "append", "close", "trim", "cut", "reset", "settle":
		if p.l == nil {
			return "the log is not open\n"
		}
	}
	switch d.Cmd {
	case "new":
		p.stop()
		p.fs = vfs.NewCrashableMem()
		p.o = testOptions(p.fs)
		p.o.SegmentBytes = int64(intArg(d, "segment", 16<<10))
		return p.open()
	case "open":
		p.stop()
		p.o.KnownDurable = LSN(intArg(d, "known", 0))
		return p.open()
	case "close":
		if err := p.l.Close(); err != nil {
			return err.Error() + "\n"
		}
		p.l = nil
		return "ok\n"
	case "crash":
		p.fs = p.fs.CrashClone(vfs.CrashCloneCfg{})
		p.stop()
		p.o.FS = p.fs
		return "ok\n"
	case "append":
		return p.append(d)
	case "trim", "cut", "reset", "settle":
		return p.change(d)
	}
	return p.damage(d)
}

func (p *player) open() string {
	l, rec, err := Open(p.o)
	if err != nil {
		sum := regexp.MustCompile(`checksum [0-9a-f]+: want [0-9a-f]+`) // of a time, among others
		return strings.ReplaceAll(sum.ReplaceAllString(err.Error(), "bad checksum"), "; ", ";\n  ") + "\n"
	}
	p.l = l
	var b strings.Builder
	fmt.Fprintf(&b, "start %d end %d segments %d", rec.Start.LSN, rec.End.LSN, rec.Segments)
	if rec.Clean {
		b.WriteString(" clean")
	}
	if rec.Redone != "" {
		b.WriteString(" redone " + rec.Redone)
	}
	if rec.Doubt {
		b.WriteString(" doubt")
	}
	if c := rec.Cut; c != nil {
		fmt.Fprintf(&b, "\ncut %s at %d behind LSN %d, claimed %d to %d, harmless %v: %s", c.File, c.Offset, c.After.LSN, c.First, c.Last, c.Harmless, c.Found)
	}
	return b.String() + "\n"
}

func (p *player) append(d *datadriven.TestData) string {
	frames := chain(p.t, p.l.End(), intArg(d, "n", 1), 1, intArg(d, "size", 100), FrameOptions{Epoch: max(1, p.l.End().Epoch)})
	if !d.HasArg("sync") {
		if _, err := p.l.AppendFrames(frames); err != nil {
			return err.Error() + "\n"
		}
	} else {
		for _, f := range frames {
			if _, err := p.l.AppendFrames([]*Frame{f}); err != nil {
				return err.Error() + "\n"
			}
		}
	}
	prepared(p.l)
	return fmt.Sprintf("end %d segments %d\n", p.l.End().LSN, len(p.l.Segments()))
}

func (p *player) change(d *datadriven.TestData) string {
	lsn := LSN(intArg(d, "lsn", 0))
	var err error
	switch d.Cmd {
	case "trim":
		_, err = p.l.TruncateHead(lsn)
	case "cut":
		var to Position
		if to, err = p.l.PositionAt(lsn); err == nil {
			_, err = p.l.TruncateTail(to, SaveOptions{Dir: "diverged"})
		}
	case "reset":
		err = p.l.Reset(Position{Epoch: 9, LSN: lsn, Hash: 99}, SaveOptions{})
	case "settle":
		err = p.l.SettleDoubt()
	}
	if err != nil {
		return err.Error() + "\n"
	}
	return fmt.Sprintf("start %d end %d segments %d\n", p.l.Start().LSN, p.l.End().LSN, len(p.l.Segments()))
}

// prepared waits until the next segment is ready if it was asked for.
func prepared(l *Log) {
	l.prep.mu.Lock()
	defer l.prep.mu.Unlock()
	for l.prep.mu.want != 0 && l.prep.mu.err == nil {
		l.prep.cond.Wait()
	}
}

// frameAt returns where the n-th frame of a segment begins; join marks are stepped over. -1 is the end.
func frameAt(t *testing.T, fs vfs.FS, path string, n int) int64 {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, _ := fileSize(f)
	if n == 0 {
		return segmentHeader
	}
	head, err := decodeSegmentHead(readRaw(t, fs, path))
	if err != nil {
		t.Fatal(err)
	}
	w := newWalker(f, size, segmentHeader, head.Prev, MaxFrameBytes)
	for i := 0; ; i++ {
		st, err := w.look()
		if err != nil {
			t.Fatal(err)
		}
		if st.found != foundFrame || i == n {
			return st.off
		}
		w.accept(st)
	}
}

func (p *player) damage(d *datadriven.TestData) string {
	path := func(seq int) string { return "wal/" + segmentName(uint64(seq)) }
	seg := path(intArg(d, "segment", 1))
	switch d.Cmd {
	case "flip", "zero", "stale":
		base := frameAt(p.t, p.fs, seg, intArg(d, "frame", 0))
		b := readRaw(p.t, p.fs, seg)
		for i := base + int64(intArg(d, "from", 0)); i < base+int64(intArg(d, "to", 0)); i++ {
			switch d.Cmd {
			case "flip":
				b[i] ^= 0x10
			case "zero":
				b[i] = 0
			case "stale":
				b[i] = byte(i*7) | 1
			}
		}
		writeRaw(p.t, p.fs, seg, b)
	case "shorten":
		writeRaw(p.t, p.fs, seg, readRaw(p.t, p.fs, seg)[:intArg(d, "bytes", 0)])
	case "remove":
		if err := p.fs.Remove(seg); err != nil {
			return err.Error() + "\n"
		}
	case "swap":
		a, b := path(intArg(d, "a", 0)), path(intArg(d, "b", 0))
		x, y := readRaw(p.t, p.fs, a), readRaw(p.t, p.fs, b)
		writeRaw(p.t, p.fs, a, y)
		writeRaw(p.t, p.fs, b, x)
	case "foreign":
		b := readRaw(p.t, p.fs, seg)
		h, err := decodeSegmentHead(b)
		if err != nil {
			return err.Error() + "\n"
		}
		h.Identity.Cluster = "other"
		writeRaw(p.t, p.fs, seg, append(h.encode(), b[segmentHeader:]...))
	case "version":
		b := readRaw(p.t, p.fs, seg)
		reseal(b, func(b []byte) { b[4] = 2 })
		writeRaw(p.t, p.fs, seg, b)
	case "file":
		var name string
		d.ScanArgs(p.t, "name", &name)
		writeRaw(p.t, p.fs, "wal/"+name, []byte("half made"))
	case "list":
		return p.list()
	default:
		d.Fatalf(p.t, "unknown command %q", d.Cmd)
	}
	return "ok\n"
}

// list prints the files, with the sequence numbers shortened.
func (p *player) list() string {
	names, err := p.fs.List("wal")
	if err != nil {
		return err.Error() + "\n"
	}
	short := regexp.MustCompile(`^0+`)
	var out []string
	for _, n := range names {
		out = append(out, short.ReplaceAllString(n, ""))
	}
	return strings.Join(sorted(out), " ") + "\n"
}
