package difftest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	connections = 2
	roundSteps  = 250
	replyLimit  = 10 * time.Second
	shrinkLimit = 10 * time.Second
)

// Options bound a run. The environment overrides them: REPLD_DIFF_SEED, REPLD_DIFF_COMMANDS, REPLD_DIFF_TIME.
type Options struct {
	// Seed makes the commands; 0 draws one.
	Seed uint64
	// Commands ends the run; default 100,000.
	Commands int
	// Time ends the run too; default 4 s.
	Time time.Duration
}

func (o *Options) fromEnvironment(t testing.TB) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Commands == 0 {
		o.Commands = 100_000
	}
	if o.Time == 0 {
		o.Time = 4 * time.Second
	}
	must := func(name string, set func(string) error) {
		if v := os.Getenv(name); v != "" {
			if err := set(v); err != nil {
				t.Fatalf("%s=%s: %v", name, v, err)
			}
		}
	}
	must("REPLD_DIFF_SEED", func(v string) (err error) { o.Seed, err = strconv.ParseUint(v, 10, 64); return })
	must("REPLD_DIFF_COMMANDS", func(v string) (err error) { o.Commands, err = strconv.Atoi(v); return })
	must("REPLD_DIFF_TIME", func(v string) (err error) { o.Time, err = time.ParseDuration(v); return })
}

// Run sends random commands to both servers until the options end it, and fails t at the first difference. Both lose all
// their keys.
func Run(t testing.TB, subject, redis Dial, o Options) {
	t.Helper()
	o.fromEnvironment(t)
	end := time.Now().Add(o.Time)
	sent := 0
	for round := uint64(0); sent < o.Commands && time.Now().Before(end); round++ {
		g := generator{rand.New(rand.NewPCG(o.Seed, round))}
		protos := [connections]int{2 + g.IntN(2), 2 + g.IntN(2)}
		var steps []step
		for range roundSteps {
			s := g.step()
			steps = append(steps, s)
			sent += len(s.commands)
		}
		d, err := compare(subject, redis, protos, steps)
		if err != nil {
			t.Fatalf("REPLD_DIFF_SEED=%d round %d: %v", o.Seed, round, err)
		}
		if d == nil {
			continue
		}
		steps, d = shrink(subject, redis, protos, steps[:d.step+1], d)
		t.Fatalf("replies differ; REPLD_DIFF_SEED=%d round %d, protocols %v\n%s%s", o.Seed, round, protos, transcript(steps), d)
	}
	t.Logf("%d commands compared, seed %d", sent, o.Seed)
}

// difference is the first reply that was not the same.
type difference struct {
	step           int
	command        []string
	subject, redis string
}

func (d *difference) String() string {
	return fmt.Sprintf("%q\n  here:  %q\n  redis: %q\n", d.command, d.subject, d.redis)
}

func transcript(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		for _, c := range s.commands {
			fmt.Fprintf(&b, "  [%d] %q", s.conn, c)
			if s.inline {
				b.WriteString(" (inline)")
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// shrink drops steps that the difference does not need, in ever smaller pieces, for a limited time.
func shrink(subject, redis Dial, protos [connections]int, steps []step, d *difference) ([]step, *difference) {
	end := time.Now().Add(shrinkLimit)
	for size := len(steps) / 2; size > 0; size /= 2 {
		for from := 0; from+size < len(steps) && time.Now().Before(end); {
			fewer := append(append([]step(nil), steps[:from]...), steps[from+size:]...)
			if again, err := compare(subject, redis, protos, fewer); err == nil && again != nil {
				steps, d = fewer[:again.step+1], again
				continue
			}
			from += size
		}
	}
	return steps, d
}

// client is one connection to one server.
type client struct {
	conn net.Conn
	r    *bufio.Reader
}

func open(dial Dial) (*client, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, r: bufio.NewReader(conn)}, nil
}

// send sends the commands at once and reads their replies.
func (c *client) send(s step) ([]reply, error) {
	var b strings.Builder
	for _, args := range s.commands {
		if s.inline {
			b.WriteString(inline(args))
			continue
		}
		fmt.Fprintf(&b, "*%d\r\n", len(args))
		for _, a := range args {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(replyLimit)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c.conn, b.String()); err != nil {
		return nil, err
	}
	var replies []reply
	for range s.commands {
		r, err := readReply(c.r)
		if err != nil {
			return replies, err
		}
		replies = append(replies, r)
	}
	return replies, nil
}

// inline writes a command as a quoted line.
func inline(args []string) string {
	var words []string
	for _, a := range args {
		var b strings.Builder
		for i := range len(a) {
			fmt.Fprintf(&b, `\x%02x`, a[i])
		}
		words = append(words, `"`+b.String()+`"`)
	}
	return strings.Join(words, " ") + "\r\n"
}

// pair is the same connection to both servers.
type pair struct {
	subject, redis *client
	queued         []string // between MULTI and EXEC
}

// compare runs the steps on empty servers over new connections and returns the first difference.
func compare(subject, redis Dial, protos [connections]int, steps []step) (*difference, error) {
	var pairs [connections]pair
	for i := range pairs {
		var err1, err2 error
		pairs[i].subject, err1 = open(subject)
		pairs[i].redis, err2 = open(redis)
		for _, c := range []*client{pairs[i].subject, pairs[i].redis} {
			if c != nil {
				defer c.conn.Close()
			}
		}
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
	}
	for i := range pairs {
		hello := step{commands: [][]string{{"flushall"}, {"hello", strconv.Itoa(protos[i])}}}
		if d, err := pairs[i].run(hello); err != nil || d != nil {
			return d, err
		}
	}
	for i, s := range steps {
		d, err := pairs[s.conn].run(s)
		if err != nil {
			return nil, fmt.Errorf("%w, at step %d:\n%s", err, i, transcript(steps[max(0, i-3):i+1]))
		}
		if d != nil {
			d.step = i
			return d, nil
		}
	}
	return nil, nil
}

func (p *pair) run(s step) (*difference, error) {
	want, err := p.redis.send(s)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	got, err := p.subject.send(s)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	for i, args := range s.commands {
		if name := strings.ToLower(args[0]); !p.same(name, got[i], want[i]) {
			return &difference{command: args, subject: string(got[i].raw), redis: string(want[i].raw)}, nil
		}
	}
	return nil, nil
}

// same compares, following what is queued.
func (p *pair) same(name string, got, want reply) bool {
	switch {
	case name == "multi" && want.line == "OK", name == "discard", name == "reset":
		p.queued = nil
	case want.kind == '+' && want.line == "QUEUED":
		p.queued = append(p.queued, name)
	case name == "exec":
		queued := p.queued
		p.queued = nil
		return sameExec(queued, got, want)
	}
	return same(name, got, want)
}
