package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ACL says which named users there are, and what each may do, in the words of Redis' ACL files:
//
//	user shop on >password ~cart:* +@read +@write +@connection
//	user report on #sha256-of-a-password %R~* +@read +@connection
//
// A user begins with nothing: off, no password, no commands, no keys. Rules apply from left to right.
type ACL struct {
	users map[string]*aclUser
	names []string // in the order of the file
}

// aclUser is one user. It does not change once the file is read.
type aclUser struct {
	name      string
	rules     string // as written, passwords hidden
	on        bool
	passwords [][sha256.Size]byte
	commands  map[string]bool // by full name
	keys      []aclPattern
}

// aclPattern lets read or write keys that match.
type aclPattern struct {
	glob        []byte
	read, write bool
}

// ErrACL is an ACL file that cannot be understood.
var ErrACL = errors.New("acl")

const longestUser = 64

// ParseACL reads an ACL file. Lines that begin with '#' and empty ones are passed over. Every rule is understood or refused: one that was passed over would let somebody do what
// the file forbids.
func ParseACL(text string) (*ACL, error) {
	t := newTable()
	a := &ACL{users: map[string]*aclUser{}}
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		u, err := parseUser(t, words)
		if err == nil && a.users[u.name] != nil {
			err = fmt.Errorf("user %s is there twice", u.name)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrACL, i+1, err)
		}
		a.users[u.name] = u
		a.names = append(a.names, u.name)
	}
	if len(a.names) == 0 {
		return nil, fmt.Errorf("%w: no user is in it", ErrACL)
	}
	return a, nil
}

func parseUser(t *table, words []string) (*aclUser, error) {
	if words[0] != "user" || len(words) < 2 || !nameOK([]byte(words[1])) || len(words[1]) > longestUser {
		return nil, fmt.Errorf("a line is: user NAME rule …; a name has up to %d characters", longestUser)
	}
	u := &aclUser{name: words[1], commands: map[string]bool{}}
	said := []string{"user", u.name}
	for _, rule := range words[2:] {
		if err := u.apply(t, rule); err != nil {
			return nil, fmt.Errorf("user %s: %w", u.name, err)
		}
		if rule[0] == '>' || rule[0] == '#' {
			rule = rule[:1] + "***"
		}
		said = append(said, rule)
	}
	if u.on && len(u.passwords) == 0 {
		return nil, fmt.Errorf("user %s is on and has no password: anybody could be it", u.name)
	}
	u.rules = strings.Join(said, " ")
	return u, nil
}

func (u *aclUser) apply(t *table, rule string) error {
	rest := rule[1:]
	switch strings.ToLower(rule) {
	case "on", "off":
		u.on = strings.EqualFold(rule, "on")
		return nil
	case "allkeys":
		u.keys = []aclPattern{{glob: []byte("*"), read: true, write: true}}
		return nil
	case "resetkeys":
		u.keys = nil
		return nil
	case "allcommands":
		return u.allow(t, "@all", true)
	case "nocommands":
		return u.allow(t, "@all", false)
	case "allchannels", "resetchannels":
		return nil // there are none
	case "nopass":
		return errors.New("nopass: a user without a password is not to be had; the socket's permissions are for that")
	}
	switch rule[0] {
	case '>':
		if rest == "" {
			return errors.New("an empty password")
		}
		u.passwords = append(u.passwords, sha256.Sum256([]byte(rest)))
	case '#':
		b, err := hex.DecodeString(rest)
		if err != nil || len(b) != sha256.Size {
			return errors.New("# is followed by 64 hexadecimal digits, the SHA-256 of a password")
		}
		u.passwords = append(u.passwords, [sha256.Size]byte(b))
	case '~':
		u.keys = append(u.keys, aclPattern{glob: []byte(rest), read: true, write: true})
	case '%':
		mode, glob, ok := strings.Cut(rest, "~")
		mode = strings.ToUpper(mode)
		if !ok || mode == "" || strings.Trim(mode, "RW") != "" {
			return fmt.Errorf("%q is none of %%R~pattern, %%W~pattern, %%RW~pattern", rule)
		}
		u.keys = append(u.keys, aclPattern{glob: []byte(glob), read: strings.Contains(mode, "R"), write: strings.Contains(mode, "W")})
	case '+', '-':
		return u.allow(t, strings.ToLower(rest), rule[0] == '+')
	case '&':
		return nil // channels: there are none
	default:
		return fmt.Errorf("rule %q is not known here", rule)
	}
	return nil
}

// allow lets the user execute a command, a subcommand or a category, or not.
func (u *aclUser) allow(t *table, what string, yes bool) error {
	found := false
	t.each(func(c *command) {
		container, _, _ := strings.Cut(c.full, "|")
		if what == "@all" || what == c.full || what == container || slices.Contains(c.categories(), what) {
			u.commands[c.full], found = yes, true
		}
	})
	if !found && slices.Contains(foreignCategories, what) {
		return nil // commands that Redis has and this server has not
	}
	if !found {
		return fmt.Errorf("no command or category is called %q", what)
	}
	return nil
}

// foreignCategories are those of Redis that no command here belongs to.
var foreignCategories = []string{"@bitmap", "@blocking", "@geo", "@hash", "@hyperloglog", "@list", "@pubsub", "@set", "@sortedset", "@stream", "@scripting"}

const (
	errNoPermCommand = "NOPERM this user has no permissions to run the '%s' command"
	errNoPermKeys    = "NOPERM this user has no permissions to access one of the keys used as arguments"
)

// refuses is the error that keeps a user from executing a command, "" if none does. What authenticates is open to all. Commands inside REPLD.ONCE and REPLD.RECEIPT are looked at, too.
func (u *aclUser) refuses(t *table, cmd *command, args [][]byte) string {
	for cmd != nil && cmd.arityOK(len(args)) {
		if !cmd.has(fNoAuth) && !u.commands[cmd.full] {
			return fmt.Sprintf(errNoPermCommand, cmd.full)
		}
		if !u.mayKeys(cmd, args) {
			return errNoPermKeys
		}
		switch cmd.name {
		case "repld.once":
			args = args[3:]
		case "repld.receipt":
			args = args[1:]
		default:
			return ""
		}
		cmd, _ = t.lookup(args)
	}
	return "" // the command itself says what is wrong
}

// mayKeys reports whether all keys that args name may be accessed as the command does. KV.RANGE names none and answers values of any: it is for those who may read all.
func (u *aclUser) mayKeys(cmd *command, args [][]byte) bool {
	if cmd.name == "kv.range" {
		return slices.ContainsFunc(u.keys, func(p aclPattern) bool { return p.read && string(p.glob) == "*" })
	}
	if cmd.keys.first == 0 {
		return true
	}
	last := cmd.keys.last
	if last < 0 {
		last += len(args)
	}
	n := 0
	for i := cmd.keys.first; i <= last && i < len(args); i += cmd.keys.step {
		read, write := cmd.access(n)
		if cmd.name == "set" && !slices.ContainsFunc(args[3:], func(a []byte) bool { return equalFold(a, "get") }) {
			read = false
		}
		if !u.mayKey(args[i], read, write) {
			return false
		}
		n++
	}
	return true
}

func (u *aclUser) mayKey(key []byte, read, write bool) bool {
	return slices.ContainsFunc(u.keys, func(p aclPattern) bool {
		return (!read || p.read) && (!write || p.write) && globMatch(p.glob, key, false)
	})
}

// access says what is done with the n-th key: its value is read, it is changed, or neither, as EXISTS does.
func (c *command) access(n int) (read, write bool) {
	specs := strings.Split(c.specs, "|")
	spec := specs[min(n, len(specs)-1)]
	for _, word := range strings.Fields(spec) {
		switch word {
		case "access":
			read = true
		case "insert", "update", "delete":
			write = true
		}
	}
	return read, write
}

// login makes the session that of the user that a name and a password are of, false if they are of none.
func (s *Session) login(name, password []byte) bool {
	list := s.srv.acl.Load()
	u, ok := s.authenticate(list, name, password)
	if !ok {
		return false
	}
	s.setUser(u)
	s.setAuthed(true)
	if s.srv.acl.Load() != list {
		s.closing = true // the file was read again meanwhile, and this session was not seen: it has to come again
	}
	return true
}

// authenticate finds the user. Comparisons take the same time whoever is asked for: of hashes, so that the length is not told either.
//
// Without an entry of its own "default" may do everything: with the password, or, where nobody is asked for it, with any, as in Redis.
func (s *Session) authenticate(list *ACL, name, password []byte) (u *aclUser, ok bool) {
	got := sha256.Sum256(password)
	if list != nil {
		u = list.users[string(name)]
	}
	if u != nil {
		for _, want := range u.passwords {
			ok = subtle.ConstantTimeCompare(want[:], got[:]) == 1 || ok
		}
		return u, ok && u.on
	}
	want := sha256.Sum256([]byte(s.srv.opts.Password))
	ok = subtle.ConstantTimeCompare(want[:], got[:]) == 1 && s.srv.opts.Password != ""
	return nil, string(name) == "default" && (ok || s.srv.opts.Password == "" && !s.needAuth)
}

// SetACL puts an ACL file that was read again in force, on a server that has one. Connections of users who are gone or changed are closed after their running batch; how many, is returned.
func (s *Server) SetACL(next *ACL) (closed int) {
	old := s.acl.Swap(next)
	for _, session := range s.sessions() {
		name := session.info.user()
		if !old.users[name].same(next.users[name]) && session.info.close() {
			closed++
		}
	}
	return closed
}

// same reports whether a user is what it was; nil is one who is not in the file.
func (u *aclUser) same(v *aclUser) bool {
	if u == nil || v == nil {
		return u == v
	}
	return u.rules == v.rules && slices.Equal(u.passwords, v.passwords)
}
