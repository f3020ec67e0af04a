package server

func cmdPing(c *call) error {
	switch len(c.args) {
	case 1:
		c.w.Simple("PONG")
	case 2:
		c.w.Bulk(c.args[1])
	default:
		return c.failArity()
	}
	return nil
}

func cmdEcho(c *call) error {
	c.w.Bulk(c.args[1])
	return nil
}

func cmdQuit(c *call) error {
	c.w.OK()
	c.s.closing = true
	return nil
}

func cmdSelect(c *call) error {
	db, err := c.rangeArg(1, -1<<31, 1<<31-1)
	if err != nil {
		return err
	}
	if db != 0 {
		return c.fail("ERR DB index is out of range")
	}
	c.w.OK()
	return nil
}

func cmdReset(c *call) error {
	s := c.s
	s.tx.discard(s)
	s.replyOff, s.skipOne = false, false
	s.info.setName("")
	s.setProto(2)
	s.setUser(nil)
	s.setAuthed(!s.needAuth)
	c.w.Simple("RESET")
	return nil
}

func (s *Session) setProto(v int) {
	s.out.SetProto(v)
	s.info.proto.Store(int64(v))
}

const errWrongPass = "WRONGPASS invalid username-password pair or user is disabled."

func cmdAuth(c *call) error {
	user, password := []byte("default"), c.args[1]
	switch {
	case len(c.args) > 3:
		return c.fail(errSyntax)
	case len(c.args) == 3:
		user, password = c.args[1], c.args[2]
	case c.s.srv.opts.Password == "" && c.s.srv.acl.Load() == nil:
		return c.fail("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	}
	if !c.s.login(user, password) {
		return c.fail(errWrongPass)
	}
	c.w.OK()
	return nil
}

// cmdHello is HELLO [version [AUTH user password] [SETNAME name]].
func cmdHello(c *call) error {
	proto := int64(c.w.Proto())
	if len(c.args) > 1 {
		v, err := c.protoArg()
		if err != nil {
			return err
		}
		proto = v
	}
	var user, password, name []byte
	for i := 2; i < len(c.args); i++ {
		left := len(c.args) - 1 - i
		switch {
		case c.is(i, "auth") && left >= 2:
			user, password = c.args[i+1], c.args[i+2]
			i += 2
		case c.is(i, "setname") && left >= 1:
			i++
			if name = c.args[i]; !nameOK(name) {
				return c.fail(errBadName)
			}
		default:
			return c.fail("ERR Syntax error in HELLO option '" + cString(c.args[i]) + "'")
		}
	}
	s := c.s
	if user != nil {
		if !s.login(user, password) {
			return c.fail(errWrongPass)
		}
	}
	if !s.authed {
		return c.fail("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
	}
	if name != nil {
		s.info.setName(string(name))
	}
	s.setProto(int(proto))
	c.hello()
	return nil
}

func (c *call) protoArg() (int64, error) {
	v, err := parseIntOr(c, 1, "ERR Protocol version is not an integer or out of range")
	if err == nil && (v < 2 || v > 3) {
		return 0, c.fail("NOPROTO unsupported protocol version")
	}
	return v, err
}

func (c *call) hello() {
	w := c.w
	w.Map(7)
	w.BulkString("server")
	w.BulkString("redis")
	w.BulkString("version")
	w.BulkString(c.s.srv.opts.RedisVersion)
	w.BulkString("proto")
	w.Int(int64(w.Proto()))
	w.BulkString("id")
	w.Int(c.s.info.id)
	w.BulkString("mode")
	w.BulkString("standalone")
	w.BulkString("role")
	if c.status().Role == RoleActive {
		w.BulkString("master")
	} else {
		w.BulkString("replica")
	}
	w.BulkString("modules")
	w.Array(0)
}
