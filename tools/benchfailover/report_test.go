package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What several runs kept adds up to what one run would have printed.
func TestReportsMerge(t *testing.T) {
	piece := func(system string, ours bool, mode string, errors, lost int, ms ...int) *report {
		r := newReport(system, ours)
		for _, m := range ms {
			r.add(mode, 0, time.Duration(m)*time.Millisecond)
		}
		r.add(mode, errors)
		r.Acked, r.Lost = 1000, lost
		return r
	}
	pieces := []*report{
		piece("three", true, "kill9", 5, 0, 90, 100, 80), piece("three", true, "kill9", 0, 0, 300), piece("three", true, "switchover", 1, 1, 20),
		piece("two", true, "kill9", 0, 0, 95, 400), piece("redis", false, "kill9", 0, 9, 2000),
	}
	file := filepath.Join(t.TempDir(), "out.json")
	var once, merged reports
	for _, p := range pieces {
		if err := p.save(file); err != nil {
			t.Fatal(err)
		}
		once.add(p)
	}
	if err := merged.load([]string{file}); err != nil {
		t.Fatal(err)
	}
	var a, b bytes.Buffer
	once.print(&a)
	merged.print(&b)
	if a.String() != b.String() {
		t.Fatalf("merged:\n%s\nonce:\n%s", &b, &a)
	}
	const want = "kill9_p50_ms=95 kill9_p99_ms=400 host_p99_ms=- pause_p99_ms=- switchover_p99_ms=20 client_errors=1 lost=1\n"
	if !strings.HasSuffix(b.String(), "\n"+want) {
		t.Fatalf("printed\n%s\nwant the last line %s", &b, want)
	}
	if err := os.WriteFile(file, []byte("{\"System\": \"th"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := merged.load([]string{file}); err == nil {
		t.Fatal("a file that was cut off is taken for a whole one")
	}
}
