package main

import (
	"encoding/xml"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startReference runs the reference server with its standby in this process.
func startReference(t *testing.T) *running {
	t.Helper()
	dir := t.TempDir()
	var logs [2]*ring
	for i, name := range []string{"a", "b"} {
		var err error
		if logs[i], err = openRing(filepath.Join(dir, name), 1<<20); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { logs[i].file.Close() })
	}
	standby, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = boundStandby(standby, logs[1]) }() // ends when the connection does
	c, err := net.Dial("tcp", standby.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	run := &running{socket: filepath.Join(dir, "s")}
	clients, err := net.Listen("unix", run.socket)
	if err != nil {
		t.Fatal(err)
	}
	b := newBound(logs[0], c)
	go func() { _ = b.accept(clients) }()
	t.Cleanup(func() { clients.Close(); standby.Close() })
	return run
}

func TestReference(t *testing.T) {
	run := startReference(t)
	o := options{seconds: 0.05, keys: 5000, value: 400, dir: t.TempDir()} // more than the ring holds
	if _, err := load(t.Context(), run, row{requestGet, 1, 1, o.value}, o); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Fatalf("GET of keys that nobody wrote: %v", err)
	}
	if err := fill(t.Context(), run, o); err != nil {
		t.Fatal(err)
	}
	for _, x := range []row{{requestSet, 3, 1, 400}, {requestSet, 2, 16, 1024}, {requestGet, 3, 1, 400}, {requestGet, 2, 16, 400}} {
		s, err := load(t.Context(), run, x, o)
		if err != nil || s.PerSecond <= 0 || s.P50 <= 0 || s.P99 < s.P50 {
			t.Fatalf("%v: %+v, %v", x, s, err)
		}
	}
	if text, err := ask(run.socket, "DBSIZE"); err != nil || !strings.HasPrefix(text, "-ERR") {
		t.Fatalf("%q, %v", text, err)
	}
}

func TestRequest(t *testing.T) {
	w := newWork(1, 1000, 20)
	w.next()
	w.setKey(123456)
	half := string(w.value[:10])
	if got, want := string(appendRequest(nil, false, w)), "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000123456\r\n$20\r\n"+half+"xxxxxxxxxx\r\n"; got != want {
		t.Fatalf("got %q", got)
	}
	w.next()
	if string(w.value[:10]) == half || !strings.HasSuffix(string(w.value), "xxxxxxxxxx") {
		t.Fatalf("value %q after %q", w.value, half)
	}
	w.setKey(0)
	if got := string(appendRequest(nil, true, w)); got != "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n" {
		t.Fatalf("got %q", got)
	}
}

func TestRows(t *testing.T) {
	got, err := parseRows("set:64,get:8x16,SET:1:1024", 100)
	want := []row{{requestSet, 64, 1, 100}, {requestGet, 8, 16, 100}, {requestSet, 1, 1, 1024}}
	if err != nil || len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "set", "del:3", "set:0", "set:3x", "set:3:x"} {
		if r, err := parseRows(bad, 100); err == nil {
			t.Errorf("%q: %v", bad, r)
		}
	}
}

func TestResults(t *testing.T) {
	r := &results{Seconds: 1, Rounds: 3, Keys: 10, Value: 100}
	x := row{requestSet, 64, 1, 100}
	for i, v := range []float64{3000, 1000, 2000} {
		c := &cost{CPU: []processCost{{"a", 0.5, 10}}, Flushes: -1, Written: 200, PerOp: 7}
		r.add(nameRepld1, x, sample{PerSecond: v, P50: time.Duration(i+1) * time.Millisecond, P99: 5 * time.Millisecond, Cost: c})
		r.add(nameRedis1, x, sample{PerSecond: v / 2, P50: time.Millisecond, P99: time.Millisecond})
		r.memory(nameRepld, "repld a", int64(v)<<20)
	}
	var b strings.Builder
	r.print(&b, true)
	r.summary(&b)
	for _, want := range []string{
		"| repld + 1 standby | 2,000 | 1,000–3,000 | 2 | 5 | 1.00 | 7 | n/a | 200 |",
		"| redis + WAIT 1 | 1,000 | 500–1,500 | 1 | 1 | 2.00 | n/a | n/a | n/a |", "| repld | repld a | 3000 |", "set64_vs_wait=2.00",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

func TestOpenLoop(t *testing.T) {
	run := startReference(t)
	const length = 200 * time.Millisecond
	l := openLoad{conns: 3, under: 4, phases: []phase{{500, length}, {1000, length}}, keys: 50, value: 64}
	flows, err := l.run(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	due := 0
	for i, f := range flows {
		if f.unsent[0][1]+f.unsent[1][1] > 0 && t.Context().Err() == nil {
			t.Logf("connection %d: %v due and unsent: the machine is slow", i, f.unsent)
		}
		due += f.unsent[0][0] + f.unsent[1][0] - f.unsent[0][1] - f.unsent[1][1]
	}
	if got := len(between(flows, 0, 2*length)); got != due || got == 0 {
		t.Fatalf("%d answers of %d requests", got, due)
	}
	if lost, err := readBack(run.socket, l, flows); err != nil || lost != 0 {
		t.Fatalf("%d lost, %v", lost, err)
	}
	for i, k := range flows[1].keys {
		if k.accepted > 0 {
			flows[1].keys[i].accepted++ // a write that the server does not have
			break
		}
	}
	if lost, err := readBack(run.socket, l, flows); err != nil || lost != 1 {
		t.Fatalf("%d lost, %v: want 1", lost, err)
	}
}

func TestPlot(t *testing.T) {
	r := &results{}
	for _, rate := range []float64{1000, 10000} {
		r.offered(nameRepld, rate, 4, sample{PerSecond: rate, P50: time.Millisecond, P99: 3 * time.Millisecond})
	}
	var b strings.Builder
	if err := r.plotCurves(&b); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in:\n%s", err, b.String())
		}
	}
	if n := strings.Count(b.String(), "<circle"); n != 4 {
		t.Errorf("%d points, want 4", n)
	}
}
