package failover

import (
	"testing"

	"repld/wal"
)

// TestLeaseUnderDrift: whatever the clocks of active and voter run at within what the margin allows, the active's lease is over before the voter's promise is; each counts on its own
// monotonic clock alone, which has another zero (R14).
// Faults: C2 (clocks of active and voter that run at different speeds, up to what the margin allows, and beyond it: that shows)
func TestLeaseUnderDrift(t *testing.T) {
	const length, margin, second = Mono(1000e6), Mono(100e6), 1e9
	outlives := func(active, voter, delay float64) bool {
		// Moments of true time, in nanoseconds; each clock is a line through another zero.
		at := func(rate float64, zero, true float64) Mono { return Mono(zero + rate*true) }
		lease := NewLease(LeaseOptions{Voters: []string{"v", "w"}, Majority: true, Length: length, Margin: margin})
		lease.Reset(wal.SyncSet{Version: 1, Members: []string{"v"}, K: 1})
		promise := Promise{Length: length}
		for sent := 0.0; sent < 5*second; sent += 0.3 * second {
			lease.Acked("v", at(active, 7e9, sent))
			promise.Heard("a", 1, at(voter, 1e12, sent+delay))
			for now := sent + delay; now < sent+delay+2*second; now += 0.01 * second {
				holds := at(active, 7e9, now) < lease.Until()
				if _, left := promise.Left(2, at(voter, 1e12, now)); holds && left == 0 {
					return true
				}
			}
		}
		return false
	}
	for _, rates := range [][2]float64{{1, 1}, {0.95, 1.05}, {1.05, 0.95}, {0.91, 1}, {1, 1.1}, {0.9999, 1.0001}} {
		for _, delay := range []float64{0, 0.001 * second, 0.4 * second} {
			if outlives(rates[0], rates[1], delay) {
				t.Errorf("clocks at %v, %v s on the wire: the active reads by a lease that the voter no longer keeps", rates, delay/second)
			}
		}
	}
	if !outlives(0.8, 1.2, 0) {
		t.Error("clocks far beyond the margin should break it: this test proves nothing")
	}
}
