package coresim

// trace is a hash of everything that happened, and, when on, the last lines in words.
type trace struct {
	hash  uint64
	on    bool
	lines []string
	limit int
}

func (t *trace) mix(x uint64) { t.hash = mix(t.hash, x) }

func (t *trace) word(s string) {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	t.mix(h)
}

func (t *trace) line(s string) {
	if len(t.lines) >= 2*t.limit {
		t.lines = append(t.lines[:0], t.lines[len(t.lines)-t.limit:]...)
	}
	t.lines = append(t.lines, s)
}

// last returns the last lines.
func (t *trace) last() []string {
	return t.lines[max(0, len(t.lines)-t.limit):]
}
