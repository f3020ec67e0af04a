package main

import (
	"bytes"
	"testing"

	"repld/internal/admin"
)

// Without a terminal each step is a line; a bar is as wide as the terminal allows, and no wider.
func TestProgress(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &app{streams: streams{err: &out}}
	a.progress(admin.Event{Message: "checkpoint"})
	a.progress(admin.Event{Message: "file 1 of 2", Percent: 50})
	a.endBar()
	if got, want := out.String(), "  checkpoint\n  file 1 of 2 (50 %)\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, tc := range []struct {
		percent float64
		columns int
		want    string
	}{
		{0.1, 80, "  [........................]   0 %  x"},
		{50, 80, "  [############............]  50 %  x"},
		{100, 80, "  [########################] 100 %  x"},
		{140, 80, "  [########################] 140 %  x"},
		{50, 11, "  [#######"[:10]},
		{50, 1, ""},
	} {
		if got := barText("x", tc.percent, tc.columns); got != tc.want {
			t.Errorf("%v: %q, want %q", tc, got, tc.want)
		}
	}
}
