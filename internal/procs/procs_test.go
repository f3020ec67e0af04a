package procs

import (
	"runtime"
	"testing"
	"time"
)

// TestShare: a part of the processors while calm, all of them while busy and for a moment after it.
func TestShare(t *testing.T) {
	all := runtime.GOMAXPROCS(4)
	use.Lock()
	use.calm = 0
	use.Unlock()
	defer runtime.GOMAXPROCS(all)
	now := func() int { return runtime.GOMAXPROCS(0) }
	Busy()() // before Share nothing is changed
	if got := now(); got != 4 {
		t.Fatalf("%d processors before anything was said", got)
	}
	for _, x := range []struct{ n, want int }{{0, 2}, {9, 4}, {-1, 2}, {1, 1}} {
		if got := Share(x.n); got != x.want || now() != x.want {
			t.Fatalf("Share(%d) is %d, in use are %d; want %d", x.n, got, now(), x.want)
		}
	}
	first, second := Busy(), Busy()
	first()
	first() // a second call of one end is nothing
	if got := now(); got != 4 {
		t.Fatalf("%d processors while busy", got)
	}
	second()
	Busy()() // before the moment is over
	if got := now(); got != 4 {
		t.Fatalf("%d processors just after", got)
	}
	for deadline := time.Now().Add(20 * time.Second); now() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still %d processors", now())
		}
	}
}
