package server

import (
	"context"
	"math"
	"strings"
	"time"

	"repld/internal/kv"
	"repld/internal/resp"
)

// call is the execution of one command. There is one a session, used again and again.
type call struct {
	s      *Session
	w      *resp.Writer
	cmd    *command
	args   [][]byte // memory of the reader: valid while the command runs
	now    time.Time
	nowMs  int64
	view   kv.View // for fRead and fWrite commands
	txn    *kv.Txn // for fWrite commands
	inExec bool
	ctx    context.Context // for fBlocking commands outside EXEC

	statusValid bool
	statusCache Status
}

const (
	errSyntax    = "ERR syntax error"
	errNotInt    = "ERR value is not an integer or out of range"
	errNotFloat  = "ERR value is not a valid float"
	errWrongType = "WRONGTYPE Operation against a key holding the wrong kind of value"
	errTooLong   = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
	errNoKey     = "ERR no such key"
)

func (c *call) setNow(t time.Time) { c.now, c.nowMs = t, t.UnixMilli() }

// fail answers an error and stops the handler.
func (c *call) fail(text string) error {
	c.w.Error(text)
	return errReplied
}

func (c *call) failArity() error {
	return c.fail("ERR wrong number of arguments for '" + c.cmd.full + "' command")
}

// failSubArity is what subcommands answer that count their arguments themselves.
func (c *call) failSubArity() error {
	container, _, _ := strings.Cut(strings.ToUpper(c.cmd.full), "|")
	return c.fail("ERR unknown subcommand or wrong number of arguments for '" + cut(c.args[1]) + "'. Try " + container + " HELP.")
}

// status is the group's picture, asked for once a batch.
func (c *call) status() *Status {
	if !c.statusValid {
		c.statusCache = c.s.srv.opts.Backend.Status()
		c.statusValid = true
	}
	return &c.statusCache
}

// intArg is argument i as an integer.
func (c *call) intArg(i int) (int64, error) {
	v, ok := resp.ParseInt(c.args[i])
	if !ok {
		return 0, c.fail(errNotInt)
	}
	return v, nil
}

// rangeArg is argument i as an integer within bounds.
func (c *call) rangeArg(i int, lo, hi int64) (int64, error) {
	v, err := c.intArg(i)
	if err == nil && (v < lo || v > hi) {
		return 0, c.fail("ERR value is out of range, value must between " + itoa(lo) + " and " + itoa(hi))
	}
	return v, err
}

// is reports whether argument i is the option name, which is lower-case.
func (c *call) is(i int, name string) bool { return equalFold(c.args[i], name) }

func (c *call) lowerArg(i int) string { return strings.ToLower(string(c.args[i])) }

// str is the string that key holds; its Value is valid until the next use of the view.
func (c *call) str(key []byte) (e kv.Entry, ok bool, err error) {
	e, ok, err = c.view.Get(key)
	if err != nil {
		return e, false, err
	}
	if ok && e.Type != kv.TypeString {
		return e, false, c.fail(errWrongType)
	}
	return e, ok, nil
}

// hit counts a lookup of a command that reads.
func (c *call) hit(ok bool) {
	if ok {
		c.s.srv.stats.hits.Add(1)
		return
	}
	c.s.srv.stats.misses.Add(1)
}

// put sets a string. An expiry that has passed deletes the key at once: no record keeps a key that nobody could see.
func (c *call) put(key, value []byte, expireAt int64) error {
	if expireAt != 0 && expireAt <= c.nowMs {
		_, err := c.txn.Delete(key)
		return err
	}
	return c.txn.Set(key, value, expireAt)
}

// expireArg is argument i as the time at which a key expires, unix milliseconds. unit is how many milliseconds 1 stands
// for, and it counts from now if relative.
func (c *call) expireArg(i int, unit int64, relative bool) (int64, error) {
	v, err := c.intArg(i)
	if err != nil {
		return 0, err
	}
	if v <= 0 || v > math.MaxInt64/unit {
		return 0, c.failExpire()
	}
	v *= unit
	if relative {
		if v > math.MaxInt64-c.nowMs {
			return 0, c.failExpire()
		}
		v += c.nowMs
	}
	return v, nil
}

func (c *call) failExpire() error {
	return c.fail("ERR invalid expire time in '" + c.cmd.full + "' command")
}

// maxString is the longest string that a key may hold.
func (c *call) maxString() int { return c.s.srv.opts.Limits.MaxBulk }
