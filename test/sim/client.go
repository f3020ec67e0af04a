package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answerWithin is how long a client waits. Every command is answered much earlier unless the node, or the way to it, is gone (R12).
const answerWithin = 6 * time.Second

// keysOf is how many keys each writer has.
const keysOf = 40

// writer is a client that writes to keys of its own, one command at a time, to whom it believes to be active.
type writer struct {
	l      *life
	id     int
	rng    *rand.Rand
	target int
	conns  []*session
	sent   int
	acked  map[string]int // version of each key
}

func (w *writer) run() {
	w.conns, w.acked = make([]*session, len(w.l.hosts)), map[string]int{}
	for !w.l.quiet() {
		w.l.sleep(time.Duration(w.rng.Int64N(int64(2 * w.l.c.Pace))))
		if w.l.quiet() {
			break
		}
		key := fmt.Sprintf("w%d:%d", w.id, w.rng.IntN(keysOf))
		if w.rng.IntN(4) == 0 {
			w.get(key)
			continue
		}
		w.sent++
		value := fmt.Sprintf("%s#%d#%s", key, w.sent, padding(w.rng, w.l.c.Value))
		acked, refused := w.set(key, value)
		if acked {
			w.acked[key] = w.sent
		}
		if refused {
			w.l.sleep(50 * time.Millisecond)
		}
	}
	for _, c := range w.conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

func padding(r *rand.Rand, n int) string {
	b := make([]byte, r.IntN(n+1))
	for i := range b {
		b[i] = byte('a' + r.IntN(26))
	}
	return string(b)
}

// session is the connection to the target, nil if there is none to be had.
func (w *writer) session() *session {
	if c := w.conns[w.target]; c != nil {
		return c
	}
	c, err := w.l.dial(w.l.hosts[w.target].name)
	if err != nil {
		return nil
	}
	w.conns[w.target] = c
	return c
}

// get reads once. Standbys refuse, so what is answered is a linearizable read of an active: all that this writer, the only one of the key, was acked (R14), and nothing
// that is not committed (R7).
func (w *writer) get(key string) {
	c := w.session()
	if c == nil {
		w.elsewhere()
		return
	}
	got, err := c.do("GET", key)
	var said replyError
	switch {
	case err == nil:
		w.l.count(func(s *Stats) { s.Read++ })
		w.l.facts.read(w.l.hosts[w.target].name, key, got[0], w.acked[key])
		return
	case !errors.As(err, &said):
		_ = c.Close()
		w.conns[w.target] = nil
	}
	w.elsewhere()
}

// set writes once and notes how that came out.
func (w *writer) set(key, value string) (acked, refused bool) {
	h := w.l.hosts[w.target]
	c := w.session()
	if c == nil {
		w.elsewhere()
		return false, true
	}
	w.l.count(func(s *Stats) { s.Written++ })
	_, err := c.do("SET", key, value)
	var said replyError
	switch {
	case err == nil:
		w.l.facts.acked(h.name, value)
		w.l.count(func(s *Stats) { s.Acked++ })
		return true, false
	case errors.As(err, &said) && said.refusal():
		w.elsewhere()
		return false, true
	}
	w.l.count(func(s *Stats) { s.Unknown++ })
	if !errors.As(err, &said) {
		_ = c.Close()
		w.conns[w.target] = nil
	}
	w.elsewhere()
	return false, false
}

// elsewhere moves, mostly, to the node that became active last.
func (w *writer) elsewhere() {
	w.target = w.rng.IntN(len(w.l.hosts))
	if w.rng.IntN(4) == 0 {
		return
	}
	if a := w.l.facts.latest(); a != "" {
		w.target = slices.IndexFunc(w.l.hosts, func(h *host) bool { return h.name == a })
	}
}

// session speaks the Redis protocol.
type session struct {
	net.Conn
	r *bufio.Reader
}

// replyError is an error that the node answered with.
type replyError string

func (e replyError) Error() string { return string(e) }

// refusal reports whether nothing was written for sure.
func (e replyError) refusal() bool {
	code, _, _ := strings.Cut(string(e), " ")
	switch code {
	case "READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN":
		return true
	}
	return false
}

// do sends one command and returns its answer: a string, or a list of strings. An absent value is "".
func (s *session) do(args ...string) ([]string, error) {
	_ = s.SetDeadline(time.Now().Add(answerWithin))
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(s.Conn, b.String()); err != nil {
		return nil, err
	}
	return s.reply()
}

func (s *session) reply() ([]string, error) {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return []string{rest}, nil
	case '-':
		return nil, replyError(rest)
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
		_, err := io.ReadFull(s.r, b)
		return []string{string(b[:n])}, err
	case kind != '*':
		return nil, fmt.Errorf("answer %q", line)
	}
	var all []string
	for range n {
		one, err := s.reply()
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}
