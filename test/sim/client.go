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
	keys   []string
	acked  map[string]int // version of each key
}

func (w *writer) run() {
	w.conns, w.acked = make([]*session, len(w.l.hosts)), map[string]int{}
	for i := range keysOf {
		w.keys = append(w.keys, fmt.Sprintf("w%d:%d", w.id, i))
	}
	for !w.l.quiet() {
		w.l.sleep(time.Duration(w.rng.Int64N(int64(2 * w.l.c.Pace))))
		if w.l.quiet() {
			break
		}
		if w.burst(w.commands()) {
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
	var bits uint64
	b := make([]byte, r.IntN(n+1))
	for i := range b {
		if i%8 == 0 {
			bits = r.Uint64()
		}
		b[i] = 'a' + byte(bits%16)
		bits >>= 8
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

// command is a SET, or a GET if value is "".
type command struct {
	key, value string
	version    int // of the value; of a GET: what was acked of the key before it was sent
}

// commands are what is sent next, all at once.
func (w *writer) commands() []command {
	all := make([]command, 1+w.rng.IntN(2*w.l.c.Burst-1))
	for i := range all {
		key := w.keys[w.rng.IntN(keysOf)]
		if w.rng.IntN(4) == 0 {
			all[i] = command{key: key, version: w.acked[key]}
			continue
		}
		w.sent++
		all[i] = command{key, key + "#" + strconv.Itoa(w.sent) + "#" + padding(w.rng, w.l.c.Value), w.sent}
	}
	return all
}

// burst sends commands and notes how each came out. It reports whether the node refused some of them for sure.
func (w *writer) burst(all []command) (refused bool) {
	c := w.session()
	if c == nil {
		w.elsewhere()
		return true
	}
	target, lost := w.target, c.send(all)
	move := lost != nil
	for i, x := range all {
		var got []string
		err := lost
		if err == nil {
			got, err = c.reply()
		}
		var said replyError
		if err != nil && !errors.As(err, &said) {
			lost = err // and what follows
		}
		r := w.noted(target, x, got, err)
		refused, move = refused || r, move || err != nil
		if lost != nil && i == len(all)-1 {
			_ = c.Close()
			w.conns[target] = nil
		}
	}
	if move {
		w.elsewhere()
	}
	return refused
}

// noted tells what came of one command. What is answered to a GET is a linearizable read of an active, since standbys refuse: all that this writer, the only one of the key, was
// acked (R14), and nothing that is not committed (R7).
func (w *writer) noted(target int, x command, got []string, err error) (refused bool) {
	node := w.l.hosts[target].name
	var said replyError
	switch {
	case x.value == "" && err == nil:
		w.l.count(func(s *Stats) { s.Read++ })
		w.l.facts.read(node, x.key, got[0], x.version)
	case x.value == "":
	case err == nil:
		w.acked[x.key] = x.version
		w.l.facts.acked(node, x.value)
		w.l.count(func(s *Stats) { s.Written++; s.Acked++ })
	case errors.As(err, &said) && said.refusal():
		w.l.count(func(s *Stats) { s.Written++ })
		return true
	default:
		w.l.count(func(s *Stats) { s.Written++; s.Unknown++ })
	}
	return false
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
	case "READONLY", "LOADING", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "OOM":
		return true
	}
	return false
}

// do sends one command and returns its answer: a string, or a list of strings. An absent value is "".
func (s *session) do(args ...string) ([]string, error) {
	if err := s.write(request(nil, args...)); err != nil {
		return nil, err
	}
	return s.reply()
}

// send sends commands at once.
func (s *session) send(all []command) error {
	var b []byte
	for _, x := range all {
		if x.value == "" {
			b = request(b, "GET", x.key)
		} else {
			b = request(b, "SET", x.key, x.value)
		}
	}
	return s.write(b)
}

func (s *session) write(b []byte) error {
	_ = s.SetDeadline(time.Now().Add(answerWithin))
	_, err := s.Conn.Write(b)
	return err
}

func request(b []byte, args ...string) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), "\r\n"...)
	for _, a := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), "\r\n"...)
		b = append(append(b, a...), "\r\n"...)
	}
	return b
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
