package kv

import (
	"testing"
	"testing/synctest"
	"time"
)

// While others are busy a digest works for a twentieth of the time, but reads its floor, so that it ends (R12); with a rate of its own it keeps to that.
func TestYield(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ worked, want time.Duration }{
		{0, 0}, {100 * time.Microsecond, 1900 * time.Microsecond}, {time.Millisecond, floorStep - time.Millisecond}, {floorStep, 0}, {time.Hour, 0},
	} {
		if got := yieldFor(tc.worked); got != tc.want {
			t.Errorf("after %v: %v, want %v", tc.worked, got, tc.want)
		}
	}
	synctest.Test(t, func(t *testing.T) { // time stands still but for what is waited
		busy := true
		took := func(rate int64, busy func() bool) time.Duration {
			began := time.Now()
			d := newDigester(t.Context(), rate, busy)
			d.woke = began.Add(-100 * time.Microsecond) // as if the step had taken so long
			d.bytes = digestStep
			if err := d.pause(); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		is := func() bool { return busy }
		if got := took(0, is); got != 1900*time.Microsecond {
			t.Errorf("busy: paused for %v", got)
		}
		if got := took(digestStep, is); got != time.Second {
			t.Errorf("with a rate: paused for %v", got)
		}
		busy = false
		if got := took(0, is); got != 0 {
			t.Errorf("idle: paused for %v", got)
		}
		if got := took(0, nil); got != 0 {
			t.Errorf("alone: paused for %v", got)
		}
	})
}
