package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startServer serves o, whose Backend must be set, on a unix socket and returns its path.
func startServer(t testing.TB, o Options) (*Server, string) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := ListenUnix(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, true) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, ErrClosed) {
			t.Errorf("serve: %v, want ErrClosed", err)
		}
	})
	return s, path
}

// peer is a connection that a test speaks on by hand.
type peer struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func dial(t testing.TB, path string) *peer {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (p *peer) send(raw string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, raw); err != nil {
		p.t.Fatal(err)
	}
}

// do sends a command line, split at spaces, and returns the reply as text: see render.
func (p *peer) do(line string) string {
	p.t.Helper()
	p.send(encode(strings.Fields(line)...))
	return p.reply()
}

func (p *peer) args(args ...string) string {
	p.t.Helper()
	p.send(encode(args...))
	return p.reply()
}

func (p *peer) reply() string {
	p.t.Helper()
	s, err := render(p.r)
	if err != nil {
		p.t.Fatalf("reading a reply: %v", err)
	}
	return s
}

// ended reports whether the server closes the connection, having sent nothing more.
func (p *peer) ended() {
	p.t.Helper()
	if b, err := p.r.ReadByte(); !errors.Is(err, io.EOF) {
		p.t.Fatalf("got byte %q and error %v, want the connection closed", b, err)
	}
}

func encode(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

// render reads one reply and writes it on one line: +OK, -ERR …, :1, "bulk", nil, [a b], {k v}.
func render(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$', '=':
		if n < 0 {
			return "nil", nil
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return "", err
		}
		return strconv.Quote(string(b[:n])), nil
	case '*', '~', '>', '%':
		if n < 0 {
			return "nil", nil
		}
		open, end := "[", "]"
		if line[0] == '%' {
			open, end, n = "{", "}", 2*n
		}
		var parts []string
		for range n {
			part, err := render(r)
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		return open + strings.Join(parts, " ") + end, nil
	case '_':
		return "nil", nil
	}
	return line, nil
}

// eventually waits until ok, and fails the test after a while.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-tick.C
	}
}
