package server

// expireOptions are the conditions of the EXPIRE family.
type expireOptions struct{ nx, xx, gt, lt bool }

func (c *call) parseExpireOptions() (o expireOptions, err error) {
	for i := 3; i < len(c.args); i++ {
		switch c.lowerArg(i) {
		case "nx":
			o.nx = true
		case "xx":
			o.xx = true
		case "gt":
			o.gt = true
		case "lt":
			o.lt = true
		default:
			return o, c.fail("ERR Unsupported option " + cString(c.args[i]))
		}
	}
	if o.nx && (o.xx || o.gt || o.lt) {
		return o, c.fail("ERR NX and XX, GT or LT options at the same time are not compatible")
	}
	if o.gt && o.lt {
		return o, c.fail("ERR GT and LT options at the same time are not compatible")
	}
	return o, nil
}

// allow reports whether a key that expires at old (0: never) may be given the time when.
func (o expireOptions) allow(old, when int64) bool {
	switch {
	case o.nx && old != 0, o.xx && old == 0:
		return false
	case o.gt && (old == 0 || when <= old):
		return false
	case o.lt && old != 0 && when >= old:
		return false
	}
	return true
}

// cmdExpire is EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
func cmdExpire(c *call) error {
	o, err := c.parseExpireOptions()
	if err != nil {
		return err
	}
	when, err := c.expiryWhen()
	if err != nil {
		return err
	}
	key := c.args[1]
	e, ok, err := c.view.Get(key)
	if err != nil {
		return err
	}
	if !ok || !o.allow(e.ExpireAt, when) {
		c.w.Int(0)
		return nil
	}
	c.w.Int(1)
	if when <= c.nowMs {
		_, err := c.txn.Delete(key)
		return err
	}
	return c.setExpire(key, when)
}

// cmdTTL is TTL, PTTL, EXPIRETIME and PEXPIRETIME: -2 for a missing key, -1 for one that does not expire. Seconds are
// rounded to the nearest.
func cmdTTL(c *call) error {
	e, ok, err := c.view.Get(c.args[1])
	if err != nil {
		return err
	}
	c.hit(ok)
	if !ok {
		c.w.Int(-2)
		return nil
	}
	if e.ExpireAt == 0 {
		c.w.Int(-1)
		return nil
	}
	left := e.ExpireAt - c.view.Now().UnixMilli()
	switch c.cmd.name {
	case "ttl":
		c.w.Int(roundSeconds(left))
	case "pttl":
		c.w.Int(left)
	case "expiretime":
		c.w.Int(roundSeconds(e.ExpireAt))
	default:
		c.w.Int(e.ExpireAt)
	}
	return nil
}

// roundSeconds does not overflow.
func roundSeconds(ms int64) int64 { return ms/1000 + (ms%1000+500)/1000 }

func cmdPersist(c *call) error {
	e, ok, err := c.view.Get(c.args[1])
	if err != nil {
		return err
	}
	if !ok || e.ExpireAt == 0 {
		c.w.Int(0)
		return nil
	}
	c.w.Int(1)
	return c.setExpire(c.args[1], 0)
}
