package faultproxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo answers with what it gets.
func echo(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l
}

func open(t *testing.T) (*Proxy, net.Conn) {
	t.Helper()
	p, err := New("127.0.0.1:0", echo(t).Addr().String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return p, c
}

func ask(t *testing.T, c net.Conn, text []byte) []byte {
	t.Helper()
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPassAndFlip(t *testing.T) {
	p, c := open(t)
	text := bytes.Repeat([]byte("0123456789"), 400)
	if got := ask(t, c, text); !bytes.Equal(got, text) {
		t.Fatal("bytes were changed without a rule")
	}
	p.Set(Rule{FlipEvery: 50}, Rule{})
	if got := ask(t, c, text); bytes.Equal(got, text) || p.Flips() == 0 {
		t.Fatalf("nothing was flipped, %d flips are said", p.Flips())
	}
	p.Heal()
	if got := ask(t, c, text); !bytes.Equal(got, text) {
		t.Fatal("bytes are changed after Heal")
	}
}

func TestHoldOneWay(t *testing.T) {
	p, c := open(t)
	ask(t, c, []byte("warm"))
	p.Set(Rule{}, Rule{Hold: true})
	if _, err := c.Write([]byte("held")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("an answer came through a held direction: %v", err)
	}
	p.Heal()
	b := make([]byte, 4)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "held" {
		t.Fatalf("after the hold: %q, %v", b, err)
	}
}

func TestRefuse(t *testing.T) {
	p, c := open(t)
	ask(t, c, []byte("warm"))
	p.Refuse(true)
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection was not reset: %v", err)
	}
	p.Refuse(false)
	again, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	ask(t, again, []byte("again"))
}

func TestRate(t *testing.T) {
	p, c := open(t)
	p.Set(Rule{BytesPerSec: 2000}, Rule{})
	began := time.Now()
	ask(t, c, make([]byte, 400))
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Fatalf("400 bytes at 2000 a second took %v", took)
	}
}
