package server

import (
	"sort"
	"strings"

	"repld/internal/resp"
)

const errBadName = "ERR Client names cannot contain spaces, newlines or special characters."

// nameOK allows printable ASCII without the space, because CLIENT LIST separates by spaces.
func nameOK(b []byte) bool {
	for _, c := range b {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

func parseIntOr(c *call, i int, text string) (int64, error) {
	v, ok := resp.ParseInt(c.args[i])
	if !ok {
		return 0, c.fail(text)
	}
	return v, nil
}

func cmdClientID(c *call) error {
	c.w.Int(c.s.info.id)
	return nil
}

func cmdClientInfo(c *call) error {
	c.w.Verbatim("txt", c.s.info.line(c.now))
	return nil
}

func cmdClientSetName(c *call) error {
	if !nameOK(c.args[2]) {
		return c.fail(errBadName)
	}
	c.s.info.setName(string(c.args[2]))
	c.w.OK()
	return nil
}

func cmdClientGetName(c *call) error {
	if name := c.s.info.name(); name != "" {
		c.w.BulkString(name)
	} else {
		c.w.Null()
	}
	return nil
}

func cmdClientSetInfo(c *call) error {
	attribute := c.lowerArg(2)
	if attribute != "lib-name" && attribute != "lib-ver" {
		return c.fail("ERR Unrecognized option '" + cString(c.args[2]) + "'")
	}
	if !nameOK(c.args[3]) {
		return c.fail("ERR " + attribute + " cannot contain spaces, newlines or special characters.")
	}
	n := &c.s.info.names
	n.Lock()
	defer n.Unlock()
	if attribute == "lib-name" {
		n.libName = string(c.args[3])
	} else {
		n.libVer = string(c.args[3])
	}
	c.w.OK()
	return nil
}

func cmdClientReply(c *call) error {
	s := c.s
	switch c.lowerArg(2) {
	case "on":
		s.replyOff, s.skipOne = false, false
		c.w.OK()
	case "off":
		s.replyOff, s.muted = true, true
	case "skip":
		s.skipOne, s.muted = !s.replyOff, true
	default:
		return c.fail(errSyntax)
	}
	return nil
}

func cmdClientNoEvict(c *call) error { return c.onOff() }
func cmdClientNoTouch(c *call) error { return c.onOff() }

func (c *call) onOff() error {
	if !c.is(2, "on") && !c.is(2, "off") {
		return c.fail(errSyntax)
	}
	c.w.OK()
	return nil
}

// clientTypes are the types of connections that may be asked for. All of ours are normal.
func clientType(name string) (normal, known bool) {
	switch name {
	case "normal":
		return true, true
	case "master", "replica", "slave", "pubsub":
		return false, true
	}
	return false, false
}

func cmdClientList(c *call) error {
	want := func(*Session) bool { return true }
	switch {
	case len(c.args) == 4 && c.is(2, "type"):
		normal, known := clientType(c.lowerArg(3))
		if !known {
			return c.fail("ERR Unknown client type '" + cString(c.args[3]) + "'")
		}
		want = func(*Session) bool { return normal }
	case len(c.args) > 3 && c.is(2, "id"):
		ids := make(map[int64]bool)
		for _, a := range c.args[3:] {
			id, ok := resp.ParseInt(a)
			if !ok {
				return c.fail("ERR Invalid client ID")
			}
			ids[id] = true
		}
		want = func(s *Session) bool { return ids[s.info.id] }
	case len(c.args) != 2:
		return c.fail(errSyntax)
	}
	var b strings.Builder
	for _, s := range c.s.srv.sessions() {
		if want(s) {
			b.WriteString(s.info.line(c.now))
		}
	}
	c.w.Verbatim("txt", b.String())
	return nil
}

// killFilter is which connections CLIENT KILL closes; zero fields do not matter.
type killFilter struct {
	id          int64
	addr, laddr *string
	user        *string
	normal      bool
	typed       bool
	keepMe      bool
}

func (f *killFilter) match(s *Session, me *Session) bool {
	return !(f.keepMe && s == me) && (f.id == 0 || f.id == s.info.id) && (f.addr == nil || *f.addr == s.info.addr) &&
		(f.laddr == nil || *f.laddr == s.info.laddr) && (f.user == nil || *f.user == s.info.user()) && (!f.typed || f.normal)
}

func (c *call) parseKill() (killFilter, error) {
	f := killFilter{keepMe: true}
	for i := 2; i < len(c.args); i += 2 {
		if i+1 == len(c.args) {
			return f, c.fail(errSyntax)
		}
		value := string(c.args[i+1])
		switch c.lowerArg(i) {
		case "id":
			id, ok := resp.ParseInt(c.args[i+1])
			if !ok || id < 1 {
				return f, c.fail("ERR client-id should be greater than 0")
			}
			f.id = id
		case "type":
			normal, known := clientType(strings.ToLower(value))
			if !known {
				return f, c.fail("ERR Unknown client type '" + cString(c.args[i+1]) + "'")
			}
			f.normal, f.typed = normal, true
		case "addr":
			f.addr = &value
		case "laddr":
			f.laddr = &value
		case "user":
			if a := c.s.srv.acl.Load(); value != "default" && (a == nil || a.users[value] == nil) {
				return f, c.fail("ERR No such user '" + cString(c.args[i+1]) + "'")
			}
			f.user = &value
		case "skipme":
			switch strings.ToLower(value) {
			case "yes":
				f.keepMe = true
			case "no":
				f.keepMe = false
			default:
				return f, c.fail(errSyntax)
			}
		default:
			return f, c.fail(errSyntax)
		}
	}
	return f, nil
}

func cmdClientKill(c *call) error {
	var f killFilter
	old := len(c.args) == 3
	if old {
		addr := string(c.args[2])
		f.addr = &addr
	} else {
		var err error
		if f, err = c.parseKill(); err != nil {
			return err
		}
	}
	killed := int64(0)
	for _, s := range c.s.srv.sessions() {
		if !f.match(s, c.s) || s != c.s && !s.info.close() {
			continue
		}
		killed++
		if s == c.s {
			s.closing = true
		}
	}
	switch {
	case !old:
		c.w.Int(killed)
	case killed > 0:
		c.w.OK()
	default:
		return c.fail("ERR No such client")
	}
	return nil
}

// sessions are all sessions by age.
func (s *Server) sessions() []*Session {
	s.mu.Lock()
	list := make([]*Session, 0, len(s.mu.sessions))
	for _, session := range s.mu.sessions {
		list = append(list, session)
	}
	s.mu.Unlock()
	sort.Slice(list, func(i, j int) bool { return list[i].info.id < list[j].info.id })
	return list
}
