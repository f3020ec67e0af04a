package replicate

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// memConn writes to a buffer and reads from one.
type memConn struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.Write(b) }

// sealedBytes is what travels when pieces are written, one after the other.
func sealedBytes(t *testing.T, pieces ...[]byte) []byte {
	t.Helper()
	m := &memConn{}
	c := newSealedConn(m)
	for _, p := range pieces {
		if n, err := c.Write(p); n != len(p) || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, len(p), err)
		}
	}
	return m.out.Bytes()
}

// TestSealedConnCarries any sizes, however the network cuts them.
func TestSealedConnCarries(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var want []byte
	var pieces [][]byte
	for _, n := range []int{1, 12, sealJoin, sealJoin + 1, sealRecord, sealRecord + 1, 3*sealRecord + 5, 256 << 10, 7} {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		pieces, want = append(pieces, p), append(want, p...)
	}
	for _, most := range []int{1, 7, 1000, 1 << 20} {
		c := newSealedConn(&memConn{in: &slowReader{b: sealedBytes(t, pieces...), most: most}})
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("pieces of %d: %d bytes of %d, %v", most, len(got), len(want), err)
		}
	}
}

type slowReader struct {
	b    []byte
	most int
}

func (r *slowReader) Read(b []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), r.most)], r.b)
	r.b = r.b[n:]
	return n, nil
}

// TestSealedConnEveryBit holds W11: whichever bit flips, nothing of the record, nor of what follows, is believed. Nor is a record that is repeated, left out or swapped.
// Faults: W11 (every bit of the connection below a session without TLS; records repeated, lost and swapped)
func TestSealedConnEveryBit(t *testing.T) {
	first, second := []byte("an ack: durable up to 4711"), []byte("a heartbeat: committed up to 4700")
	whole := sealedBytes(t, first, second)
	one := sealHead + len(first)
	read := func(b []byte) ([]byte, error) { return io.ReadAll(newSealedConn(&memConn{in: bytes.NewReader(b)})) }
	damaged := func(what string, b []byte, prefix []byte) {
		t.Helper()
		got, err := read(b)
		if !bytes.Equal(got, prefix) {
			t.Fatalf("%s: %q was believed", what, got)
		}
		if err == nil {
			t.Fatalf("%s: no error", what)
		}
	}
	for i := range whole {
		for bit := range 8 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			want := first
			if i < one {
				want = nil
			}
			got, err := read(b)
			if !bytes.Equal(got, want) {
				t.Fatalf("bit %d of byte %d: %q was believed, %v", bit, i, got, err)
			}
			if err != nil && !errors.Is(err, ErrProtocol) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	damaged("repeated", append(bytes.Clone(whole[:one]), whole...), first)
	damaged("left out", whole[one:], nil)
	damaged("swapped", append(bytes.Clone(whole[one:]), whole[:one]...), nil)
}

// TestSealedConnDeadline: a deadline in the middle of a record loses nothing of it.
func TestSealedConnDeadline(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	text := []byte("in two pieces")
	b := sealedBytes(t, text)
	c := newSealedConn(near)
	go func() { _, _ = far.Write(b[:len(b)/2]) }()
	got := make([]byte, 64)
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("half of a record was read: %v", err)
	}
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = far.Write(b[len(b)/2:]) }()
	n, err := c.Read(got)
	if err != nil || !bytes.Equal(got[:n], text) {
		t.Fatalf("%q, %v", got[:n], err)
	}
}

// FuzzSealedConn: no bytes make it panic, or hold more than what arrived and one record.
func FuzzSealedConn(f *testing.F) {
	m := &memConn{}
	c := newSealedConn(m)
	_, _ = c.Write([]byte("hello"))
	f.Add(m.out.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newSealedConn(&memConn{in: bytes.NewReader(b)})
		_, _ = io.Copy(io.Discard, s)
		if cap(s.in.buf) > sealHead+sealRecord {
			t.Fatalf("%d bytes held", cap(s.in.buf))
		}
	})
}
