package crashlife

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// pipes is a network of pipes in memory. Everything that listens does so under a name.
type pipes struct {
	mu    sync.Mutex
	at    map[string]*pipeListener
	cut   bool
	conns []net.Conn
}

func newPipes() *pipes { return &pipes{at: map[string]*pipeListener{}} }

type pipeListener struct {
	name  string
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) listen(name string) net.Listener {
	l := &pipeListener{name: name, conns: make(chan net.Conn), done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at[name] = l
	return l
}

func (p *pipes) dial(name string) (net.Conn, error) {
	p.mu.Lock()
	l, cut := p.at[name], p.cut
	p.mu.Unlock()
	if l == nil || cut {
		return nil, errors.New("no route")
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
	case <-l.done:
		return nil, errors.New("connection refused")
	case <-time.After(time.Second):
		return nil, errors.New("connection not taken")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, here, there)
	return here, nil
}

// part cuts all connections, and those to come until it is called with false.
func (p *pipes) part(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.conns = nil
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.name) }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

// client speaks the service protocol.
type client struct {
	conn net.Conn
	r    *bufio.Reader
}

func newClient(c net.Conn) *client { return &client{c, bufio.NewReader(c)} }

// do sends one command and returns its answer: a string, or a list of strings. An absent value is "".
func (c *client) do(args ...string) ([]string, error) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	sent := make(chan error, 1)
	go func() { // a pipe holds nothing: the server may answer before it has read all
		_, err := io.WriteString(c.conn, b.String())
		sent <- err
	}()
	out, err := c.reply()
	return out, errors.Join(err, <-sent)
}

func (c *client) reply() ([]string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return []string{rest}, nil
	case '-':
		return nil, errors.New(rest)
	case '_':
		return []string{""}, nil
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return nil, fmt.Errorf("answer %q: %w", line, err)
	}
	switch {
	case n < 0:
		return []string{""}, nil
	case kind == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return []string{string(b[:n])}, err
	case kind != '*':
		return nil, fmt.Errorf("answer %q", line)
	}
	var all []string
	for range n {
		one, err := c.reply()
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}
