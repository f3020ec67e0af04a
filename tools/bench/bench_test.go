package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRequest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	r := newRequest(kindSetWait, 20)
	r.next(rng, 1000)
	r.setKey(123456)
	half := string(r.value[:10])
	want := "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000123456\r\n$20\r\n" + half + "xxxxxxxxxx\r\n*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n"
	if string(r.buf) != want {
		t.Fatalf("got %q", r.buf)
	}
	r.next(rng, 1000)
	if string(r.value[:10]) == half || !strings.HasSuffix(string(r.value), "xxxxxxxxxx") {
		t.Fatalf("value %q after %q", r.value, half)
	}
	if g := newRequest(kindGet, 20); string(g.buf) != "*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000000\r\n" {
		t.Fatalf("got %q", g.buf)
	}
}

// fakeServer keeps what is SET and answers GET and WAIT.
func fakeServer(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var values sync.Map
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c, &values) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return path
}

func serve(c net.Conn, values *sync.Map) {
	r := bufio.NewReader(c)
	for {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		switch args[0] {
		case "SET":
			values.Store(args[1], args[2])
			fmt.Fprint(c, "+OK\r\n")
		case "WAIT":
			fmt.Fprint(c, ":1\r\n")
		case "GET":
			v, ok := values.Load(args[1])
			if !ok {
				fmt.Fprint(c, "$-1\r\n")
				continue
			}
			fmt.Fprintf(c, "$%d\r\n%s\r\n", len(v.(string)), v)
		}
	}
}

func readCommand(r *bufio.Reader) ([]string, error) {
	var n int
	if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		var size int
		if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		buf := make([]byte, size+2)
		if _, err := io.ReadFull(r, buf); err != nil {
			return nil, err
		}
		args[i] = string(buf[:size])
	}
	return args, nil
}

func TestLoad(t *testing.T) {
	socket := fakeServer(t)
	o := options{seconds: 0.1, keys: 1000, value: 100}
	if _, err := load(t.Context(), socket, kindGet, 1, o); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Fatalf("GET of keys that nobody wrote: %v", err)
	}
	if err := fill(t.Context(), socket, o); err != nil {
		t.Fatal(err)
	}
	for _, k := range []kind{kindSet, kindSetWait, kindGet} {
		s, err := load(t.Context(), socket, k, 3, o)
		if err != nil || s.PerSecond <= 0 || s.P50 <= 0 || s.P99 < s.P50 {
			t.Fatalf("%+v: %+v, %v", k, s, err)
		}
	}
}

func TestResults(t *testing.T) {
	r := &results{CPUs: 2, Seconds: 1, Rounds: 3, Keys: 10, Value: 100}
	for i, v := range []float64{300, 100, 200} {
		r.add(nameRepld, "SET", 16, sample{PerSecond: v, P50: time.Duration(i+1) * time.Millisecond, P99: 5 * time.Millisecond})
		r.add(nameRedis, "SET", 16, sample{PerSecond: v / 2, P50: time.Millisecond, P99: time.Millisecond})
		r.memory(nameRepld, "repld a", int64(v)<<20)
	}
	var b bytes.Buffer
	r.print(&b, []int{16})
	for _, want := range []string{"16  200 (2/5)                    100 (1/1)                    2.00", "repld a       300 MiB"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}
