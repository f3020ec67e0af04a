package coresim

// Shrink drops events from a failed run while it still fails by the same rule, first many at a time, then one by one, and returns the smallest that it found. It
// runs at most budget times, and the last time with a trace of so many lines.
func Shrink(r Result, budget, lines int) Result {
	fails := func(events []Event) (Result, bool) {
		budget--
		c := r.Config
		c.Events = events
		next := Run(c, 0)
		return next, next.Err != nil && rule(next.Err) == rule(r.Err)
	}
	for size := max(1, len(r.Config.Events)/2); budget > 0; {
		dropped := false
		for at := 0; at < len(r.Config.Events) && budget > 0; {
			events := append([]Event(nil), r.Config.Events[:at]...)
			events = append(events, r.Config.Events[min(at+size, len(r.Config.Events)):]...)
			if next, ok := fails(events); ok {
				r, dropped = next, true
			} else {
				at += size
			}
		}
		if size == 1 && !dropped {
			break
		}
		size = max(1, size/2)
	}
	return Run(r.Config, lines)
}

// rule is the name before the colon.
func rule(err error) string {
	text := err.Error()
	for i := range len(text) {
		if text[i] == ':' {
			return text[:i]
		}
	}
	return text
}
