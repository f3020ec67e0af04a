package replicate

import (
	"sync"
	"time"
)

// throttle is a token bucket that may run into debt: take first, wait after, so that pieces larger than the bucket pass.
// A rate of 0 is unlimited. Safe for concurrent use.
type throttle struct {
	rate, burst float64 // bytes/s, bytes

	mu   sync.Mutex
	have float64
	last time.Time
}

func newThrottle(rate int64) *throttle {
	return &throttle{rate: float64(rate), burst: max(float64(rate)/10, chunk)}
}

// take takes n bytes at the time now and returns how long to wait before the next.
func (t *throttle) take(n int, now time.Time) time.Duration {
	if t.rate <= 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last.IsZero() {
		t.have = t.burst
	} else if d := now.Sub(t.last); d > 0 {
		t.have = min(t.burst, t.have+d.Seconds()*t.rate)
	}
	t.last = now
	t.have -= float64(n)
	if t.have >= 0 {
		return 0
	}
	return time.Duration(-t.have / t.rate * float64(time.Second))
}
