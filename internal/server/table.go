package server

import (
	"strings"
	"sync/atomic"
)

// flag says how a command is treated. The first group goes over the wire in answers to COMMAND, in this order.
type flag uint32

const (
	fWrite       flag = 1 << iota // makes effects: its batch goes through the sequencer
	fRead                         // needs a view
	fDenyOOM                      // may take memory
	fAdmin                        // for operators
	fNoScript                     //
	fLoading                      // answered while the node recovers
	fStale                        // answered by a standby without a link
	fSkipSlowlog                  //
	fFast                         // constant time
	fNoAuth                       // answered before the password
	fAllowBusy                    //
	fNoMulti                      // refused inside MULTI

	// Not on the wire.
	fControl   // steers the transaction: executed, not queued, inside MULTI
	fSequence  // needs the sequencer without writing: WATCH
	fPin       // reads several keys, which must be of one state
	fAlone     // is a batch of its own: must not, or should not for its length, run under the sequencer lock
	fBlocking  // may wait: runs outside Step. Implies fAlone
	fDangerous // ACL category of its own accord
	fNoCats    // no ACL category but its speed's: containers
)

// wireFlags names the flags that COMMAND answers, by bit.
var wireFlags = [...]string{
	"write", "readonly", "denyoom", "admin", "noscript", "loading", "stale", "skip_slowlog", "fast", "no_auth", "allow_busy", "no_multi",
}

// command is a row of the table: what COMMAND answers about it, and how it is executed.
type command struct {
	name  string // lower-case; full is "client|list" for a subcommand
	full  string
	arity int // exact number of arguments, the name included; negative: at least so many
	flags flag
	keys  keyRange
	specs string // flags of the key specifications, '|' between two
	tips  string // space between two
	group string
	cats  string // ACL categories of the group, if not the usual ones
	since string
	doc   string
	subs  []*command
	do    func(*call) error

	stats commandStats
}

// keyRange says which arguments are keys: from first to last (negative: from the end) by step. Zero: none.
type keyRange struct{ first, last, step int }

var (
	key1    = keyRange{1, 1, 1}
	key2    = keyRange{2, 2, 1}
	keyPair = keyRange{1, 2, 1}
	keysAll = keyRange{1, -1, 1}
	keysKV  = keyRange{1, -1, 2}
)

// commandStats are counters since start or CONFIG RESETSTAT.
type commandStats struct {
	calls, nanos, rejected, failed atomic.Uint64
}

func (s *commandStats) reset() {
	s.calls.Store(0)
	s.nanos.Store(0)
	s.rejected.Store(0)
	s.failed.Store(0)
}

func (c *command) has(f flag) bool { return c.flags&f != 0 }

// arityOK reports whether n arguments, the name included, may be given.
func (c *command) arityOK(n int) bool {
	if c.arity >= 0 {
		return n == c.arity
	}
	return n >= -c.arity
}

// table is the commands of one server, by lower-case name, and in the order of their definition.
type table struct {
	byName map[string]*command
	list   []*command
}

func newTable() *table {
	t := &table{byName: make(map[string]*command)}
	for _, group := range [][]*command{
		connectionCommands(), clientCommands(), transactionCommands(), stringCommands(), keyCommands(), expiryCommands(),
		serverCommands(), clusterCommands(), diagnosticCommands(), aclCommands(), repldCommands(),
	} {
		for _, c := range group {
			c.full = c.name
			t.byName[c.name] = c
			t.list = append(t.list, c)
			for _, sub := range c.subs {
				sub.full = c.name + "|" + sub.name
				sub.group, sub.since = orString(sub.group, c.group), orString(sub.since, c.since)
			}
		}
	}
	return t
}

func orString(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

const longestName = 32

// lookup finds the command, or subcommand, that args call. With a container and an unknown subcommand it returns nil and
// the container.
func (t *table) lookup(args [][]byte) (cmd, container *command) {
	var lower [longestName]byte
	name := args[0]
	if len(name) > longestName {
		return nil, nil
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	cmd = t.byName[string(lower[:len(name)])]
	if cmd == nil || len(cmd.subs) == 0 || len(args) == 1 {
		return cmd, nil
	}
	for _, sub := range cmd.subs {
		if equalFold(args[1], sub.name) {
			return sub, nil
		}
	}
	return nil, cmd
}

// find resolves "name" or "name|sub" as the COMMAND subcommands take it.
func (t *table) find(name []byte) *command {
	parts := strings.SplitN(strings.ToLower(string(name)), "|", 2)
	cmd := t.byName[parts[0]]
	if cmd == nil || len(parts) == 1 {
		return cmd
	}
	for _, sub := range cmd.subs {
		if sub.name == parts[1] {
			return sub
		}
	}
	return nil
}

// each visits all commands and subcommands.
func (t *table) each(fn func(*command)) {
	for _, c := range t.list {
		fn(c)
		for _, sub := range c.subs {
			fn(sub)
		}
	}
}

// equalFold compares without regard to ASCII case; lower is lower-case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
