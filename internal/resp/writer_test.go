package resp

import (
	"math"
	"strings"
	"testing"
)

func TestWriter(t *testing.T) {
	for _, c := range []struct {
		name     string
		fn       func(w *Writer)
		two, six string
	}{
		{"simple", func(w *Writer) { w.Simple("QUEUED") }, "+QUEUED\r\n", ""},
		{"ok", func(w *Writer) { w.OK() }, "+OK\r\n", ""},
		{"error", func(w *Writer) { w.Error("ERR a\r\nb") }, "-ERR a  b\r\n", ""},
		{"int", func(w *Writer) { w.Int(math.MinInt64) }, ":-9223372036854775808\r\n", ""},
		{"bulk", func(w *Writer) { w.Bulk([]byte("a\r\nb")) }, "$4\r\na\r\nb\r\n", ""},
		{"empty", func(w *Writer) { w.BulkString("") }, "$0\r\n\r\n", ""},
		{"bulk int", func(w *Writer) { w.BulkInt(-12) }, "$3\r\n-12\r\n", ""},
		{"null", func(w *Writer) { w.Null() }, "$-1\r\n", "_\r\n"},
		{"null array", func(w *Writer) { w.NullArray() }, "*-1\r\n", "_\r\n"},
		{"array", func(w *Writer) { w.Array(2) }, "*2\r\n", ""},
		{"map", func(w *Writer) { w.Map(2) }, "*4\r\n", "%2\r\n"},
		{"set", func(w *Writer) { w.Set(2) }, "*2\r\n", "~2\r\n"},
		{"push", func(w *Writer) { w.Push(2) }, "*2\r\n", ">2\r\n"},
		{"true", func(w *Writer) { w.Bool(true) }, ":1\r\n", "#t\r\n"},
		{"false", func(w *Writer) { w.Bool(false) }, ":0\r\n", "#f\r\n"},
		{"double", func(w *Writer) { w.Double(0.1) }, "$19\r\n0.10000000000000001\r\n", ",0.10000000000000001\r\n"},
		{"infinity", func(w *Writer) { w.Double(math.Inf(-1)) }, "$4\r\n-inf\r\n", ",-inf\r\n"},
		{"large double", func(w *Writer) { w.Double(1e20) }, "$5\r\n1e+20\r\n", ",1e+20\r\n"},
		{"verbatim", func(w *Writer) { w.Verbatim("txt", "hi") }, "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"},
	} {
		if c.six == "" {
			c.six = c.two
		}
		for proto, want := range map[int]string{2: c.two, 3: c.six} {
			w := NewWriter(1 << 10)
			w.SetProto(proto)
			c.fn(w)
			if got := string(w.Bytes()); got != want {
				t.Errorf("%s in RESP%d: got %q, want %q", c.name, proto, got, want)
			}
		}
	}
}

func TestWriterLimit(t *testing.T) { // FAULTS R4
	w := NewWriter(100)
	w.BulkString(strings.Repeat("x", 50))
	w.BulkString(strings.Repeat("x", 50))
	if !w.Overflow() || w.Len() > 100 {
		t.Fatalf("overflow %v with %d bytes, want it reported and at most 100 held", w.Overflow(), w.Len())
	}
	at := w.Len()
	if w.OK(); w.Len() != at {
		t.Fatal("written to after the overflow")
	}
}

func TestWriterReset(t *testing.T) {
	w := NewWriter(1 << 20)
	w.BulkString(strings.Repeat("x", 1000))
	if w.Reset(100); cap(w.buf) != 0 || w.Len() != 0 {
		t.Fatalf("kept %d bytes, want none", cap(w.buf))
	}
	w.OK()
	w.OK()
	if w.Truncate(5); string(w.Bytes()) != "+OK\r\n" {
		t.Fatalf("got %q after Truncate", w.Bytes())
	}
}

func TestWriterInsert(t *testing.T) {
	w := NewWriter(1 << 10)
	w.OK()
	at := w.Len()
	w.BulkString("a")
	w.BulkString("b")
	w.InsertArray(at, 2)
	if got, want := string(w.Bytes()), "+OK\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	w.Truncate(at)
	w.BulkString("k")
	w.InsertScan(at, 1<<52, 1)
	if got, want := string(w.Bytes()), "+OK\r\n*2\r\n$16\r\n4503599627370496\r\n*1\r\n$1\r\nk\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	small := NewWriter(20)
	small.buf = append(small.buf, make([]byte, 18)...)
	if small.InsertArray(0, 1); !small.Overflow() || small.Len() != 18 {
		t.Errorf("an insertion over the limit: overflow %v, %d bytes", small.Overflow(), small.Len())
	}
}

func TestWriterErrorIsOneLine(t *testing.T) {
	w := NewWriter(1 << 10)
	w.Error("ERR Unsupported option \r\n")
	w.Error("ERR a\nb")
	if got, want := string(w.Bytes()), "-ERR Unsupported option \r\n-ERR a b\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
