package procs

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// TestShare: a part of the processors while calm, all of them while busy and for a moment after it.
func TestShare(t *testing.T) { synctest.Test(t, testShare) }

func testShare(t *testing.T) {
	all := runtime.GOMAXPROCS(4)
	use.Lock()
	use.calm, use.later = 0, nil // its timers are of this bubble
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
	time.Sleep(linger)
	synctest.Wait()
	if got := now(); got != 1 {
		t.Fatalf("%d processors when the moment was over", got)
	}
}
