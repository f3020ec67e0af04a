package sentinel

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strconv"
	"strings"
	"time"

	"repld/internal/resp"
)

// execute answers one command. It is read-only but for the connection's own state.
func (c *conn) execute(args [][]byte) {
	name := strings.ToLower(string(args[0]))
	if !c.authed && name != "auth" && name != "hello" && name != "quit" && name != "reset" {
		c.fail("NOAUTH Authentication required.")
		return
	}
	if c.subscriberOnly(name) {
		c.fail("ERR Can't execute '" + name + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
		return
	}
	do, known := commands[name]
	switch {
	case !known:
		c.fail("ERR unknown command '" + printable(args[0]) + "'. This is the Sentinel port of repld: no data is served here.")
	case len(args) < do.least:
		c.fail("ERR wrong number of arguments for '" + name + "' command")
	default:
		do.run(c, args)
	}
}

// subscriberOnly: with RESP2 a subscriber may do nothing else, because answers and messages look alike.
func (c *conn) subscriberOnly(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.proto != 2 || c.subscriptions() == 0 {
		return false
	}
	switch name {
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ping", "quit", "reset":
		return false
	}
	return true
}

type handler struct {
	least int // arguments, the name included
	run   func(c *conn, args [][]byte)
}

var commands = map[string]handler{
	"ping":         {1, cmdPing},
	"echo":         {2, func(c *conn, args [][]byte) { c.reply(func(w *resp.Writer) { w.Bulk(args[1]) }) }},
	"hello":        {1, cmdHello},
	"auth":         {2, cmdAuth},
	"quit":         {1, func(c *conn, _ [][]byte) { c.ok(); c.last = true }},
	"reset":        {1, cmdReset},
	"client":       {2, cmdClient},
	"command":      {1, func(c *conn, _ [][]byte) { c.reply(func(w *resp.Writer) { w.Array(0) }) }},
	"info":         {1, cmdInfo},
	"role":         {1, cmdRole},
	"sentinel":     {2, cmdSentinel},
	"subscribe":    {2, func(c *conn, args [][]byte) { c.subscribe("subscribe", args[1:]) }},
	"psubscribe":   {2, func(c *conn, args [][]byte) { c.subscribe("psubscribe", args[1:]) }},
	"unsubscribe":  {1, func(c *conn, args [][]byte) { c.unsubscribe("unsubscribe", args[1:]) }},
	"punsubscribe": {1, func(c *conn, args [][]byte) { c.unsubscribe("punsubscribe", args[1:]) }},
	"shutdown":     {1, func(c *conn, _ [][]byte) { c.fail("ERR this is a part of a repld node: stop the node") }},
}

func (c *conn) fail(text string) { c.reply(func(w *resp.Writer) { w.Error(text) }) }

func (c *conn) ok() { c.reply((*resp.Writer).OK) }

func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, string(b[:min(len(b), 64)]))
}

func cmdPing(c *conn, args [][]byte) {
	c.mu.Lock()
	subscriber := c.mu.proto == 2 && c.subscriptions() > 0
	c.mu.Unlock()
	c.reply(func(w *resp.Writer) {
		switch {
		case subscriber:
			w.Array(2)
			w.BulkString("pong")
			w.BulkString(string(lastArg(args)))
		case len(args) > 1:
			w.Bulk(args[1])
		default:
			w.Simple("PONG")
		}
	})
}

func lastArg(args [][]byte) []byte {
	if len(args) > 1 {
		return args[1]
	}
	return nil
}

const errWrongPass = "WRONGPASS invalid username-password pair or user is disabled."

func (c *conn) login(user, password []byte) bool {
	want, got := sha256.Sum256([]byte(c.s.opts.Password)), sha256.Sum256(password)
	ok := subtle.ConstantTimeCompare(want[:], got[:]) == 1 || c.s.opts.Password == ""
	if !ok || string(user) != "default" {
		return false
	}
	c.authed = true
	c.in.SetAuthenticated(true)
	return true
}

func cmdAuth(c *conn, args [][]byte) {
	user := []byte("default")
	switch {
	case len(args) > 3:
		c.fail("ERR syntax error")
		return
	case len(args) == 3:
		user = args[1]
	case c.s.opts.Password == "":
		c.fail("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
		return
	}
	if !c.login(user, args[len(args)-1]) {
		c.fail(errWrongPass)
		return
	}
	c.ok()
}

// cmdHello is HELLO [version [AUTH user password] [SETNAME name]].
func cmdHello(c *conn, args [][]byte) {
	proto := 0
	if len(args) > 1 {
		v, err := strconv.Atoi(string(args[1]))
		if err != nil {
			c.fail("ERR Protocol version is not an integer or out of range")
			return
		}
		if v < 2 || v > 3 {
			c.fail("NOPROTO unsupported protocol version")
			return
		}
		proto = v
	}
	name := c.name
	for i := 2; i < len(args); i++ {
		switch opt := strings.ToLower(string(args[i])); {
		case opt == "auth" && i+2 < len(args):
			if !c.login(args[i+1], args[i+2]) {
				c.fail(errWrongPass)
				return
			}
			i += 2
		case opt == "setname" && i+1 < len(args):
			i++
			name = string(args[i])
		default:
			c.fail("ERR Syntax error in HELLO option '" + printable(args[i]) + "'")
			return
		}
	}
	if !c.authed {
		c.fail("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	c.name = name
	if proto != 0 {
		c.mu.Lock()
		c.mu.proto = proto
		c.mu.Unlock()
	}
	c.reply(func(w *resp.Writer) {
		w.Map(6)
		w.BulkString("server")
		w.BulkString("redis")
		w.BulkString("version")
		w.BulkString(c.s.opts.RedisVersion)
		w.BulkString("proto")
		w.Int(int64(w.Proto()))
		w.BulkString("id")
		w.Int(c.id)
		w.BulkString("mode")
		w.BulkString("sentinel")
		w.BulkString("modules")
		w.Array(0)
	})
}

func cmdReset(c *conn, _ [][]byte) {
	c.mu.Lock()
	c.mu.proto = 2
	clear(c.mu.channels)
	clear(c.mu.patterns)
	c.mu.Unlock()
	c.name, c.authed = "", c.s.opts.Password == ""
	c.in.SetAuthenticated(c.authed)
	c.reply(func(w *resp.Writer) { w.Simple("RESET") })
}

func cmdClient(c *conn, args [][]byte) {
	switch sub := strings.ToLower(string(args[1])); {
	case sub == "setname" && len(args) == 3:
		c.name = string(args[2])
		c.ok()
	case sub == "setinfo" && len(args) == 4, sub == "no-evict" && len(args) == 3, sub == "no-touch" && len(args) == 3:
		c.ok()
	case sub == "getname" && len(args) == 2:
		c.reply(func(w *resp.Writer) { w.BulkString(c.name) })
	case sub == "id" && len(args) == 2:
		c.reply(func(w *resp.Writer) { w.Int(c.id) })
	case sub == "info" && len(args) == 2:
		c.reply(func(w *resp.Writer) { w.Verbatim("txt", c.line()) })
	case sub == "list":
		var b strings.Builder
		for _, other := range c.s.all() {
			b.WriteString(other.line())
		}
		c.reply(func(w *resp.Writer) { w.Verbatim("txt", b.String()) })
	default:
		c.fail("ERR unknown subcommand or wrong number of arguments for '" + printable(args[1]) + "'. Try CLIENT HELP.")
	}
}

// line describes the connection; the name, which belongs to its own goroutine, is not shown.
func (c *conn) line() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("id=%d addr=%s laddr=%s age=%d sub=%d psub=%d resp=%d\n", c.id, c.nc.RemoteAddr(), c.nc.LocalAddr(),
		int64(time.Since(c.born)/time.Second), len(c.mu.channels), len(c.mu.patterns), c.mu.proto)
}

// subscribe is SUBSCRIBE and PSUBSCRIBE: one confirmation for each.
func (c *conn) subscribe(kind string, names [][]byte) {
	c.reply(func(w *resp.Writer) {
		for _, n := range names {
			if set := c.set(kind); len(set) < maxSubscriptions {
				set[string(n)] = true
			} else {
				w.Error("ERR too many subscriptions")
				continue
			}
			c.confirm(w, kind, n)
		}
	})
}

// maxSubscriptions bounds what one connection may make this node remember.
const maxSubscriptions = 256

// unsubscribe is UNSUBSCRIBE and PUNSUBSCRIBE; without names, of all.
func (c *conn) unsubscribe(kind string, names [][]byte) {
	c.reply(func(w *resp.Writer) {
		set := c.set(kind)
		if len(names) == 0 {
			for n := range set {
				names = append(names, []byte(n))
			}
		}
		if len(names) == 0 {
			c.confirm(w, kind, nil)
		}
		for _, n := range names {
			delete(set, string(n))
			c.confirm(w, kind, n)
		}
	})
}

// set is the subscriptions of a kind, under mu.
func (c *conn) set(kind string) map[string]bool {
	if strings.HasPrefix(kind, "p") {
		return c.mu.patterns
	}
	return c.mu.channels
}

func (c *conn) confirm(w *resp.Writer, kind string, name []byte) {
	w.Push(3)
	w.BulkString(kind)
	if name == nil {
		w.Null()
	} else {
		w.Bulk(name)
	}
	w.Int(int64(c.subscriptions()))
}
