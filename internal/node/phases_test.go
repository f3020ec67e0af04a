package node

import (
	"bufio"
	"fmt"
	"io"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/wal"
)

// The parts of a frame's way follow each other, whatever order their ends are told in.
func TestPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPhases()
		want := make(map[string]time.Duration)
		for i := range 3 {
			last := wal.LSN(10 * (i + 1))
			p.frame(wal.FrameTimes{Last: last, Queued: time.Millisecond, Encoded: 2 * time.Millisecond, Synced: 4 * time.Millisecond})
			want["queue"] += time.Millisecond
			want["encode"] += 2 * time.Millisecond
			want["fsync"] += 4 * time.Millisecond
		}
		time.Sleep(8 * time.Millisecond)
		p.committed(9) // not a whole frame
		p.committed(20)
		time.Sleep(16 * time.Millisecond)
		p.committed(30)
		p.applied(20)
		want["replicate"] = (8 + 8 + 24) * time.Millisecond
		want["apply"] = (16 + 16) * time.Millisecond
		p.forget() // the third frame's epoch ended
		p.applied(30)
		for _, s := range p.list() {
			if s.Sum.Round(time.Microsecond) != want[s.Name] {
				t.Errorf("%s took %v, want %v", s.Name, s.Sum, want[s.Name])
			}
		}
		if s := p.list()[phaseEncode]; s.P50 < time.Millisecond || s.P99 > 4*time.Millisecond || s.Count != 3 {
			t.Errorf("median and 99th percentile of three times 2 ms: %+v", s)
		}
	})
}

// A write leaves its mark in each phase, in INFO and in the metrics.
func TestPhasesOfWrites(t *testing.T) {
	const writes = 20
	dir := t.TempDir()
	c := newCluster(t, 1, func(name string, o *Options) { o.FS, o.Dir = vfs.Default, filepath.Join(dir, name) }, "a", "b")
	c.start()
	c.promote("a")
	conn := c.nodes["a"].serve(t)()
	in := bufio.NewReader(conn)
	for i := range writes {
		fmt.Fprintf(conn, "SET k%d v\r\n", i)
		if line, err := in.ReadString('\n'); line != "+OK\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	fmt.Fprint(conn, "INFO repld\r\n")
	head, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	size, _ := strconv.Atoi(strings.Trim(head, "$\r\n"))
	info := make([]byte, size)
	if _, err := io.ReadFull(in, info); err != nil {
		t.Fatalf("INFO after %q: %v", head, err)
	}
	w := httptest.NewRecorder()
	c.nodes["a"].Web().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, name := range phaseNames {
		for where, text := range map[string]string{`write_` + name + `:count=(\d+),`: string(info), `repld_write_phase_seconds_count{.*phase="` + name + `".*} (\d+)`: w.Body.String()} {
			m := regexp.MustCompile(where).FindStringSubmatch(text)
			if m == nil {
				t.Errorf("no %s in:\n%s", where, text)
			} else if n, _ := strconv.Atoi(m[1]); n < writes {
				t.Errorf("%s: %d, of %d writes one after the other", where, n, writes)
			}
		}
	}
}
