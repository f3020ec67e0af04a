package server

import (
	"strconv"
	"strings"
	"time"
)

func cmdOK(c *call) error {
	c.w.OK()
	return nil
}

func cmdZero(c *call) error {
	c.w.Int(0)
	return nil
}

func cmdEmptyArray(c *call) error {
	c.w.Array(0)
	return nil
}

func cmdEmptyMap(c *call) error {
	c.w.Map(0)
	return nil
}

func cmdTime(c *call) error {
	now := time.Now()
	c.w.Array(2)
	c.w.BulkInt(now.Unix())
	c.w.BulkInt(int64(now.Nanosecond() / 1000))
	return nil
}

func cmdNoCluster(c *call) error { return c.fail("ERR This instance has cluster support disabled") }

func cmdFunctionFlush(c *call) error {
	if len(c.args) > 3 {
		return c.failSubArity()
	}
	if len(c.args) == 3 && !c.is(2, "sync") && !c.is(2, "async") {
		return c.fail("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
	}
	c.w.OK()
	return nil
}

func cmdFunctionList(c *call) error {
	for i := 2; i < len(c.args); i++ {
		switch {
		case c.is(i, "withcode"):
		case c.is(i, "libraryname") && i+1 < len(c.args):
			i++
		default:
			// Redis does not trim this text, as it does others: line ends become spaces.
			return c.fail("ERR Unknown argument " + strings.NewReplacer("\r", " ", "\n", " ").Replace(cString(c.args[i])))
		}
	}
	return cmdEmptyArray(c)
}

// keyOverhead is about what a key takes besides its bytes and its value's, in the store's memory table.
const keyOverhead = 56

func cmdMemoryUsage(c *call) error {
	for i := 3; i < len(c.args); i += 2 {
		if !c.is(i, "samples") || i+1 >= len(c.args) {
			return c.fail(errSyntax)
		}
		n, err := c.intArg(i + 1)
		if err != nil {
			return err
		}
		if n < 0 {
			return c.fail(errSyntax)
		}
	}
	e, ok, err := c.view.Get(c.args[2])
	if err != nil {
		return err
	}
	if !ok {
		c.w.Null()
		return nil
	}
	c.w.Int(int64(len(c.args[2]) + len(e.Value) + keyOverhead))
	return nil
}

// maxSleep bounds DEBUG SLEEP: it must not keep a connection for longer than a person would (R12).
const maxSleep = time.Minute

// cmdDebug is DEBUG SLEEP seconds, which delays this connection only, DEBUG LOG message, and DEBUG LASTLSN: the LSN of the last record that the
// connection's last batch with a write, or WATCH, wrote or saw, and 1 if that record is the batch's own. A checker of histories replays the log up to there and compares the replies.
func cmdDebug(c *call) error {
	switch {
	case c.is(1, "sleep") && len(c.args) == 3:
		seconds, err := strconv.ParseFloat(string(c.args[2]), 64)
		if err != nil || !(seconds >= 0 && seconds <= maxSleep.Seconds()) {
			return c.fail(errNotFloat)
		}
		timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.s.info.kicked.Done():
		}
		c.w.OK()
	case c.is(1, "log") && len(c.args) == 3:
		c.s.srv.opts.Logger.Info("debug log", "client", c.s.info.id, "message", cut(c.args[2]))
		c.w.OK()
	case c.is(1, "lastlsn") && len(c.args) == 2:
		own := int64(0)
		if c.s.lastBatch.wrote {
			own = 1
		}
		c.w.Array(2)
		c.w.Int(int64(c.s.lastBatch.lsn))
		c.w.Int(own)
	case c.is(1, "help") && len(c.args) == 2:
		c.w.Array(4)
		c.w.Simple("DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
		c.w.Simple("SLEEP <seconds>")
		c.w.Simple("LOG <message>")
		c.w.Simple("LASTLSN")
	default:
		return c.fail("ERR DEBUG command not allowed. Only DEBUG SLEEP, DEBUG LOG and DEBUG LASTLSN are known here.")
	}
	return nil
}

// cmdShutdown takes Redis' options, none of which matters here: a clean stop always keeps everything.
func cmdShutdown(c *call) error {
	var save, nosave, abort bool
	for i := 1; i < len(c.args); i++ {
		switch c.lowerArg(i) {
		case "save":
			save = true
		case "nosave":
			nosave = true
		case "now", "force":
		case "abort":
			abort = true
		default:
			return c.fail(errSyntax)
		}
	}
	switch {
	case save && nosave || abort && len(c.args) > 2:
		return c.fail(errSyntax)
	case abort:
		return c.fail("ERR No shutdown in progress.")
	case c.s.srv.opts.OnShutdown == nil:
		return c.fail("ERR SHUTDOWN is disabled here: stop the service instead")
	}
	c.s.srv.opts.Logger.Info("shutdown asked for by a client", "client", c.s.info.id, "addr", c.s.info.addr)
	go c.s.srv.opts.OnShutdown()
	c.s.closing = true
	return nil
}
