package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"repld/wal"
)

func encode(ops ...string) []byte {
	b := binary.AppendUvarint(nil, uint64(len(ops)))
	return append(b, strings.Join(ops, "")...)
}

func str(s string) string { return string(binary.AppendUvarint(nil, uint64(len(s)))) + s }

func set(k, v string) string { return "\x01" + str(k) + str(v) }
func del(k string) string    { return "\x00" + str(k) }
func rdel(a, b string) string {
	return "\x0f" + str(a) + str(b)
}

var badPayloads = map[string][]byte{
	"empty":                 {},
	"no operations":         encode(),
	"only a number":         {3},
	"number too high":       append(binary.AppendUvarint(nil, 1<<40), 1, 1, 1),
	"cut key":               encode("\x01\x05\x01"),
	"cut value":             encode("\x01\x01\x01\x09x"),
	"long length":           encode("\x01\xff\xff\xff\xff\xff\x01"),
	"bytes behind":          append(encode(del("\x01k")), 0),
	"merge":                 encode("\x02" + str("\x01k") + str("v")),
	"log data":              encode("\x03" + str("x")),
	"single delete":         encode("\x07" + str("\x01k")),
	"range key":             encode("\x15" + str("\x01a") + str("\x01b")),
	"applied position":      encode(set("\x00p", strings.Repeat("\x01", positionLen))),
	"delete of position":    encode(del("\x00p")),
	"other system row":      encode(set("\x00x", "")),
	"count not last":        encode(set("\x00n", strings.Repeat("\x00", 8)), del("\x01k")),
	"short count":           encode(set("\x00n", "1")),
	"negative count":        encode(set("\x00n", strings.Repeat("\xff", 8))),
	"range over the system": encode(rdel("\x00", "\x04")),
	"part range":            encode(rdel("\x01a", "\x01b")),
	"collection row":        encode(set("\x02\x00\x00\x00\x00\x00\x00\x00\x01x", "")),
	"class beyond":          encode(set("\x04", "")),
	"empty row":             encode(set("", "")),
	"empty meta":            encode(set("\x01k", "")),
	"unknown type":          encode(set("\x01k", "\x02\x00v")),
	"later meta version":    encode(set("\x01k", "\x11\x00v")),
	"cut expiry":            encode(set("\x01k", "\x01\x80")),
	"huge expiry":           encode(set("\x01k", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
	"short expiry row":      encode(set("\x03abc", "")),
	"expiry row with value": encode(set("\x03\x00\x00\x00\x00\x00\x00\x00\x01k", "v")),
	"key too long":          encode(del("\x01" + strings.Repeat("k", MaxKeyBytes+1))),
}

func TestBadPayloads(t *testing.T) {
	for name, p := range badPayloads {
		called := false
		err := WalkEffects(p, func(Effect) error { called = true; return nil })
		if !errors.Is(err, ErrBadEffects) || called {
			t.Errorf("%s: %v (called %v), want ErrBadEffects", name, err, called)
		}
	}
}

func TestWalkEffects(t *testing.T) {
	s := openTest(t, Options{})
	c := &chain{t: t}
	write(t, s, c, func(x *Txn) error { return x.Set([]byte("old"), nil, 5000) })
	p := effects(t, s, func(x *Txn) error {
		_ = x.Set([]byte("old"), []byte("v"), 7000)
		_, err := x.Delete([]byte("old"))
		_ = x.Clear()
		_ = x.Set(nil, []byte("empty key"), 0)
		_ = x.Set([]byte("b"), nil, 0)
		return err
	})
	var got []string
	err := WalkEffects(p, func(e Effect) error {
		got = append(got, fmt.Sprintf("%v %v %q %v %q %d %d", e.Op, e.Row, e.Key, e.Type, e.Value, e.ExpireAt, e.Count))
		return nil
	})
	want := []string{
		`del expiry "old" none "" 5000 0`, `set key "old" string "v" 7000 0`, `set expiry "old" none "" 7000 0`,
		`del key "old" none "" 0 0`, `del expiry "old" none "" 7000 0`,
		`clear key "" none "" 0 0`, `set key "" string "empty key" 0 0`, `set key "b" string "" 0 0`, `set system "" none "" 0 2`,
	}
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("%v\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	stop := errors.New("stop")
	if err := WalkEffects(p, func(Effect) error { return stop }); err != stop {
		t.Errorf("walk did not stop: %v", err)
	}
}

// FuzzEffects: whatever a payload holds, walking and applying it agree on whether it is one, nothing panics, and what was
// applied can be read, whole and by key.
func FuzzEffects(f *testing.F) {
	for _, p := range badPayloads {
		f.Add(p)
	}
	f.Add(encode(set("\x01k", "\x01\x05v"), set("\x03\x00\x00\x00\x00\x00\x00\x00\x05k", ""), set("\x00n", "\x00\x00\x00\x00\x00\x00\x00\x01")))
	f.Add(encode(rdel("\x01", "\x04"), del("\x01k"), del("\x03\x00\x00\x00\x00\x00\x00\x00\x05k")))
	s := openTest(f, Options{})
	c := &chain{t: f}
	f.Fuzz(func(t *testing.T, payload []byte) {
		walked := WalkEffects(payload, func(Effect) error { return nil })
		if walked != nil && !errors.Is(walked, ErrBadEffects) {
			t.Fatalf("walk: %v", walked)
		}
		c.t = t
		before, end := s.Applied(), c.end
		fr := c.frame(wal.KindEffects, payload)
		err := s.Apply([]*wal.Frame{fr})
		if (err == nil) != (walked == nil) {
			t.Fatalf("walk: %v, apply: %v", walked, err)
		}
		if err != nil {
			if s.Applied() != before {
				t.Fatal("a refused frame moved the position")
			}
			c.end = end
			return
		}
		if s.Applied() != fr.End() {
			t.Fatalf("applied %s, want %s", s.Applied(), fr.End())
		}
		v := s.View(t0)
		defer v.Close()
		content(t, v)
		digest(t, s)
		if err := s.Apply([]*wal.Frame{c.frame(wal.KindEffects, encode(rdel("\x01", "\x04")))}); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzMeta(f *testing.F) {
	f.Add([]byte("\x01\x00v"))
	f.Add([]byte("\x01\x80\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(appendMeta(nil, e.Type, e.Value, e.ExpireAt))
		if err != nil || string(again.Value) != string(e.Value) || again.ExpireAt != e.ExpireAt {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}
