package difftest

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// step is what one connection sends at once.
type step struct {
	conn     int
	inline   bool // as a line instead of an array
	commands [][]string
}

// generator makes random commands.
type generator struct{ *rand.Rand }

func pick[T any](g generator, list ...T) T { return list[g.IntN(len(list))] }

// step is a single command mostly, else a pipeline.
func (g generator) step() step {
	s := step{conn: g.IntN(connections)}
	n := 1
	if g.IntN(5) == 0 {
		n = 2 + g.IntN(8)
	}
	for len(s.commands) < n {
		s.commands = append(s.commands, g.command()...)
	}
	s.inline = g.IntN(20) == 0
	return s
}

func (g generator) key() string {
	if g.IntN(30) == 0 {
		return pick(g, "", "bin\x00\r\n\xff", "*", "k[1]", strings.Repeat("long", 40))
	}
	return "k" + strconv.Itoa(g.IntN(6))
}

func (g generator) keys() []string {
	var list []string
	for range 1 + g.IntN(4) {
		list = append(list, g.key())
	}
	return list
}

func (g generator) value() string {
	switch g.IntN(4) {
	case 0:
		return g.integer()
	case 1:
		return g.float()
	case 2:
		return strings.Repeat(pick(g, "x", "abc", "\x00\xff", "1"), g.IntN(60))
	}
	return pick(g, "", "hello", "a b", "\r\n", "OK", "1 ", " 1", "-", "+1", "01", "0x10", "1e3", "nan", "inf", "-inf", "3.0e3", "QUEUED")
}

func (g generator) integer() string {
	if g.IntN(3) > 0 {
		return strconv.Itoa(g.IntN(41) - 20)
	}
	return pick(g, "9223372036854775807", "-9223372036854775808", "9223372036854775806", "9223372036854775808", "-1", "0", "-0", "00", "abc", "", "1.5",
		"4611686018427387904", "2147483648", "-2147483649", "99999999999999999999", "1e3", " 1", "+1")
}

func (g generator) float() string {
	switch g.IntN(6) {
	case 0:
		return strconv.FormatFloat(g.NormFloat64()*1000, 'f', g.IntN(20), 64)
	case 1:
		return strconv.FormatFloat(g.NormFloat64(), 'e', g.IntN(18), 64)
	case 2:
		return fmt.Sprintf("%d.%d", g.IntN(2000)-1000, g.IntN(100000))
	case 3:
		return pick(g, ".5", "5.", "-.5", "1e17", "1e-17", "1e-18", "123456789012345678901234567890", "0.1", "0.2", "-0", "-0.0", "1e4000", "1e5000", "1e-5000", "0x1p3", "0x.8",
			"1_0", "0b1", "0o7", "010", "1e", "e1", "--1", "infinity", "INF", "nan", "", " 1", "1 ", "1\x00")
	}
	return strconv.Itoa(g.IntN(100))
}

// seconds from now: far enough that both servers agree whether the key is there, and hardly ever twice the same.
func (g generator) seconds() string {
	if g.IntN(6) == 0 {
		return pick(g, "0", "-1", "-100", "abc", "", "9223372036854775807", "9223372036854775", "-9223372036854775808", "1.5", "9223372036854776")
	}
	return strconv.Itoa(1000 + g.IntN(1_000_000_000))
}

func (g generator) millis() string {
	if g.IntN(6) == 0 {
		return pick(g, "0", "-1", "-100000", "abc", "9223372036854775807", "-9223372036854775808", "9223372036854770000")
	}
	return strconv.Itoa(1_000_000 + g.IntN(1_000_000_000_000))
}

// instant is a unix time, past or far from now.
func (g generator) instant(unit int64) string {
	if g.IntN(5) == 0 {
		return pick(g, "1", "0", "-1", "1000000000", "abc", "9223372036854775807", "-9223372036854775808", "9223372036854775")
	}
	return strconv.FormatInt((4_000_000_000+g.Int64N(1000))*unit, 10)
}

// mangle spoils a command now and then: the case of its name, one argument more or fewer.
func (g generator) mangle(args []string) []string {
	name := args[0]
	if g.IntN(2) == 0 {
		args[0] = strings.ToUpper(name)
	}
	switch name {
	case "scan", "setrange", "shutdown", "wait", "slowlog": // could make cursors, giants, an end, an endless wait
		return args
	}
	switch g.IntN(40) {
	case 0:
		return args[:max(1, len(args)-1)]
	case 1, 2:
		switch name {
		case "set", "getex", "setex", "psetex", "expire", "pexpire": // could make keys expire during the comparison
			return args
		}
		if g.IntN(2) == 0 {
			return append(args, g.value())
		}
		if len(args) > 2 { // but not the key, which DBSIZE would not know
			args[2+g.IntN(len(args)-2)] = g.value()
		}
	}
	return args
}

// command is one command, rarely several that belong together.
func (g generator) command() [][]string {
	if g.IntN(100) == 0 { // which keys Redis counts although they have expired depends on who looked at them
		return [][]string{{"exists", "k0", "k1", "k2", "k3", "k4", "k5", "", "bin\x00\r\n\xff", "*", "k[1]", strings.Repeat("long", 40)}, {"dbsize"}}
	}
	var args []string
	switch g.IntN(12) {
	case 0, 1, 2, 3:
		args = g.stringCommand()
	case 4, 5:
		args = g.setCommand()
	case 6, 7:
		args = g.keyCommand()
	case 8, 9:
		args = g.expiryCommand()
	case 10:
		args = g.transactionCommand()
	default:
		args = g.otherCommand()
	}
	return [][]string{g.mangle(args)}
}

func (g generator) options(list ...[]string) []string {
	var out []string
	for g.IntN(2) == 0 {
		o := pick(g, list...)
		if g.IntN(3) == 0 {
			o = append([]string{strings.ToUpper(o[0])}, o[1:]...)
		}
		out = append(out, o...)
	}
	return out
}

func (g generator) setCommand() []string {
	expiry := [][]string{{"ex", g.seconds()}, {"px", g.millis()}, {"exat", g.instant(1)}, {"pxat", g.instant(1000)}}
	switch g.IntN(4) {
	case 0:
		return append([]string{"getex", g.key()}, g.options(append(expiry, []string{"persist"}, []string{"foo"}, []string{"ex"})...)...)
	case 1:
		return []string{"set", g.key(), g.value()}
	}
	return append([]string{"set", g.key(), g.value()},
		g.options(append(expiry, []string{"nx"}, []string{"xx"}, []string{"get"}, []string{"keepttl"}, []string{"persist"}, []string{"px"})...)...)
}

func (g generator) stringCommand() []string {
	switch g.IntN(20) {
	case 0:
		return []string{"setnx", g.key(), g.value()}
	case 1:
		return []string{"setex", g.key(), g.seconds(), g.value()}
	case 2:
		return []string{"psetex", g.key(), g.millis(), g.value()}
	case 3:
		return []string{"getset", g.key(), g.value()}
	case 4:
		return []string{"getdel", g.key()}
	case 5:
		return append([]string{"mget"}, g.keys()...)
	case 6, 7:
		args := []string{pick(g, "mset", "msetnx")}
		for range 1 + g.IntN(3) {
			args = append(args, g.key(), g.value())
		}
		return args
	case 8:
		return []string{"append", g.key(), g.value()}
	case 9:
		return []string{"strlen", g.key()}
	case 10:
		return []string{pick(g, "getrange", "substr"), g.key(), g.integer(), g.integer()}
	case 11:
		return []string{"setrange", g.key(), pick(g, "0", "1", "5", "30", "-1", "536870911", "536870912", "9223372036854775807", "x"), g.short()}
	case 12, 13:
		return []string{pick(g, "incr", "decr"), g.key()}
	case 14, 15:
		return []string{pick(g, "incrby", "decrby"), g.key(), g.integer()}
	case 16, 17:
		return []string{"incrbyfloat", g.key(), g.float()}
	}
	return []string{"get", g.key()}
}

// short is never one byte, so that SETRANGE at the last possible offset stays an error and makes no giant.
func (g generator) short() string { return pick(g, "", "ab", "xyz", "\x00\x01") }

func (g generator) keyCommand() []string {
	switch g.IntN(10) {
	case 0, 1:
		return append([]string{pick(g, "del", "unlink")}, g.keys()...)
	case 2:
		return append([]string{pick(g, "exists", "touch")}, g.keys()...)
	case 3:
		return []string{"type", g.key()}
	case 4:
		return []string{"rename", g.key(), g.key()}
	case 5:
		return []string{"renamenx", g.key(), g.key()}
	case 6:
		return append([]string{"copy", g.key(), g.key()}, g.options([]string{"replace"}, []string{"db", pick(g, "0", "1", "x", "-1")}, []string{"foo"})...)
	case 7:
		return []string{"keys", g.pattern()}
	case 8:
		args := append([]string{"scan", pick(g, "0", "0", "0", "", "x", "-")},
			g.options([]string{"match", g.pattern()}, []string{"count", pick(g, "100", "0", "x")}, []string{"type", pick(g, "string", "STRING", "list")}, []string{"foo"})...)
		return append(args, "count", "1000") // all in one step, because cursors differ
	}
	return pick(g, []string{"randomkey"}, []string{"flushall"}, []string{"flushdb", pick(g, "sync", "async", "foo")}, []string{"object", "idletime", g.key()})
}

func (g generator) pattern() string {
	return pick(g, "*", "k*", "k?", "k[0-2]", "k[^0-2]", "k[1", "\\k1", "?1", "*1*", "", "**", "k[]1]", "k[3-1]", "[", "\\", "k\\", "b*", "*[", "k[a-\xff]", "l*g*o", "[^]", "[\\]k]1")
}

func (g generator) expiryCommand() []string {
	flags := [][]string{{"nx"}, {"xx"}, {"gt"}, {"lt"}, {"foo"}}
	switch g.IntN(8) {
	case 0:
		return append([]string{"expire", g.key(), g.seconds()}, g.options(flags...)...)
	case 1:
		return append([]string{"pexpire", g.key(), g.millis()}, g.options(flags...)...)
	case 2:
		return append([]string{"expireat", g.key(), g.instant(1)}, g.options(flags...)...)
	case 3:
		return append([]string{"pexpireat", g.key(), g.instant(1000)}, g.options(flags...)...)
	case 4:
		return []string{"persist", g.key()}
	}
	return []string{pick(g, "ttl", "pttl", "expiretime", "pexpiretime"), g.key()}
}

func (g generator) transactionCommand() []string {
	return pick(g, []string{"multi"}, []string{"multi"}, []string{"exec"}, []string{"exec"}, []string{"exec"}, []string{"discard"}, []string{"unwatch"},
		append([]string{"watch"}, g.keys()...), append([]string{"watch"}, g.keys()...))
}

func (g generator) otherCommand() []string {
	switch g.IntN(24) {
	case 0:
		return []string{"ping"}
	case 1:
		return []string{"echo", g.value()}
	case 2:
		return []string{"select", pick(g, "0", "0", "1", "x", "-1")}
	case 3:
		return []string{"nosuch" + strings.Repeat("x", g.IntN(200)), g.value(), g.value()}
	case 4:
		return []string{"client", pick(g, "getname", "foo", "setname", "id\r\n", "reply", "kill")}
	case 5:
		return []string{"client", "setname", pick(g, "a", "b c", "", "x\n")}
	case 6:
		return []string{pick(g, "object", "config", "memory", "cluster", "latency", "slowlog", "function", "command"), pick(g, "nosuch", "x\ny")}
	case 7:
		return []string{"object", pick(g, "freq", "idletime"), g.key()}
	case 8:
		return []string{"config", "set", pick(g, "nosuch", "lfu-decay-time", "appendonly"), pick(g, "x", "y")}
	case 9:
		return []string{"config", "get", pick(g, "nosuch", "databases", "maxclients")}
	case 10:
		return append([]string{"command", "getkeys"}, pick(g, g.stringCommand(), g.setCommand(), g.transactionCommand(), []string{"copy", "a", "b"})...)
	case 11:
		return []string{"hello", pick(g, "2", "3", "4", "x", "1")}
	case 12:
		return []string{"hello", "3", pick(g, "foo", "setname", "auth")}
	case 13:
		return []string{"auth", "x"}
	case 14:
		return []string{"auth", pick(g, "default", "nobody"), "x"}
	case 15:
		return []string{"wait", pick(g, "0", "x"), pick(g, "0", "10", "-1", "x")}
	case 16:
		return []string{"cluster", pick(g, "info", "nodes", "slots", "myid")}
	case 17:
		return pick(g, []string{"readonly"}, []string{"readwrite"}, []string{"reset"}, []string{"function", "flush", "foo"},
			[]string{"shutdown", "foo"}, []string{"slowlog", "get", "-2"}, []string{"latency", "latest"}, []string{"function", "list"}, []string{"role"})
	case 18:
		return []string{"memory", "usage", "nokey", pick(g, "samples", "foo"), pick(g, "5", "x", "-1")}
	case 19:
		return append([]string{"client", "kill"}, pick(g, []string{"id", "999999"}, []string{"id", "x"}, []string{"type", "foo"}, []string{"addr"}, []string{"foo", "bar"},
			[]string{"1.2.3.4:5"}, []string{"user", "nobody"}, []string{"skipme", "foo"}, []string{"laddr", "1.2.3.4:5"})...)
	case 20:
		return append([]string{"client", "list"}, pick(g, []string{"type", "foo"}, []string{"id", "x"}, []string{"foo"}, []string{"type"})...)
	}
	return []string{pick(g, "exec", "discard", "multi"), "x"}
}
