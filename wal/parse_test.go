package wal

import "testing"

func TestParsePosition(t *testing.T) {
	for _, p := range []Position{{}, {Epoch: 3, LSN: 1042, Hash: 0x9f86d081884c7d65}, {Epoch: 1<<64 - 1, LSN: 1<<64 - 1, Hash: 1}} {
		if got, err := ParsePosition(p.String()); err != nil || got != p {
			t.Errorf("%s: %s, %v", p, got, err)
		}
	}
	for _, text := range []string{"", "1/2", "1/2/3", "1/2/00000000000000zz", "-1/2/0000000000000000", "1/2/0000000000000000/", "x/2/0000000000000000", "1/2/00000000000000000"} {
		if p, err := ParsePosition(text); err == nil {
			t.Errorf("%q was taken for %s", text, p)
		}
	}
}
