package server

import (
	"bytes"
	"testing"
)

// referenceMatch is Redis' algorithm, recursion and all.
func referenceMatch(p, s []byte) bool {
	for len(p) > 0 && len(s) > 0 {
		switch p[0] {
		case '*':
			for len(p) > 1 && p[1] == '*' {
				p = p[1:]
			}
			if len(p) == 1 {
				return true
			}
			for ; len(s) > 0; s = s[1:] {
				if referenceMatch(p[1:], s) {
					return true
				}
			}
			return false
		case '[':
			next, ok := matchSet(p, 1, s[0], false)
			if !ok {
				return false
			}
			p, s = p[next:], s[1:]
		case '?':
			p, s = p[1:], s[1:]
		case '\\':
			if len(p) > 1 {
				p = p[1:]
			}
			fallthrough
		default:
			if p[0] != s[0] {
				return false
			}
			p, s = p[1:], s[1:]
		}
		if len(s) == 0 {
			p = bytes.TrimLeft(p, "*")
		}
	}
	return len(p) == 0 && len(s) == 0
}

// FuzzGlob: the matcher without recursion equals the one with it.
func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{{"a*b?[c-e]*", "aXXbZdYY"}, {"*a*a*a", "aaaaaaaab"}, {"[^a]\\*", "b*"}, {"[a", "a"}, {"**", ""}, {"*[", "x["}, {"a\\", "a\\"}} {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	f.Fuzz(func(t *testing.T, pattern, s []byte) {
		if len(pattern) > 24 || len(s) > 24 {
			return // the reference may take exponentially long
		}
		want := referenceMatch(pattern, s) || len(s) == 0 && string(pattern) == "*"
		if got := globMatch(pattern, s, false); got != want {
			t.Fatalf("%q against %q: got %v, want %v", pattern, s, got, want)
		}
		if prefix := literalPrefix(pattern); globMatch(pattern, s, false) && !bytes.HasPrefix(s, prefix) {
			t.Fatalf("%q matches %q without its prefix %q", s, pattern, prefix)
		}
	})
}

// FuzzExtended: whatever is taken for a number can be written, and what was written is taken again.
func FuzzExtended(f *testing.F) {
	for _, s := range []string{"3.0e3", "0x1p-3", "-inf", "1e4932", ".5", "5.", "1e-4950", "-0", "123456789012345678901234567890"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		x, ok := parseExtended(b)
		if !ok || x.inf != 0 {
			return
		}
		text := x.format()
		if _, ok := parseExtended(text); !ok {
			t.Fatalf("%q became %q, which is no number", b, text)
		}
	})
}

func TestGlobIsNotExponential(t *testing.T) {
	pattern := bytes.Repeat([]byte("a*"), 200)
	if globMatch(append(pattern, 'b'), bytes.Repeat([]byte("a"), 4000), false) {
		t.Fatal("matched")
	}
}
