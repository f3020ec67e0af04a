package server

import "math"

// setOptions are what SET and GETEX take after their fixed arguments.
type setOptions struct {
	nx, xx, get, keepTTL, persist bool
	expire                        string // "ex", "px", "exat" or "pxat"; "" if none
	at                            int    // index of the expiry's argument
}

// parseSetOptions reads the options from argument i on. SET and GETEX each take their own; what excludes what is as in
// Redis' parseExtendedStringArgumentsOrReply, including that an expiry may be given twice, the last counting.
func (c *call) parseSetOptions(i int, set bool) (setOptions, error) {
	var o setOptions
	for ; i < len(c.args); i++ {
		switch name := c.lowerArg(i); {
		case name == "nx" && set && !o.xx:
			o.nx = true
		case name == "xx" && set && !o.nx:
			o.xx = true
		case name == "get" && set:
			o.get = true
		case name == "keepttl" && set && o.expire == "":
			o.keepTTL = true
		case name == "persist" && !set && o.expire == "":
			o.persist = true
		case (name == "ex" || name == "px" || name == "exat" || name == "pxat") && !o.keepTTL && !o.persist &&
			(o.expire == "" || o.expire == name) && i+1 < len(c.args):
			o.expire, o.at = name, i+1
			i++
		default:
			return o, c.fail(errSyntax)
		}
	}
	return o, nil
}

// expireAt is the time that the options set, unix milliseconds; 0 without one.
func (c *call) expireAt(o setOptions) (int64, error) {
	switch o.expire {
	case "ex":
		return c.expireArg(o.at, 1000, true)
	case "px":
		return c.expireArg(o.at, 1, true)
	case "exat":
		return c.expireArg(o.at, 1000, false)
	case "pxat":
		return c.expireArg(o.at, 1, false)
	}
	return 0, nil
}

func cmdSet(c *call) error {
	key, value := c.args[1], c.args[2]
	if len(c.args) == 3 {
		c.w.OK()
		return c.txn.Set(key, value, 0)
	}
	o, err := c.parseSetOptions(3, true)
	if err != nil {
		return err
	}
	at, err := c.expireAt(o)
	if err != nil {
		return err
	}
	if o.get {
		if _, _, err := c.replyString(key); err != nil {
			return err
		}
	}
	if o.nx || o.xx || o.keepTTL {
		e, ok, err := c.view.Get(key)
		if err != nil {
			return err
		}
		if o.nx && ok || o.xx && !ok {
			if !o.get {
				c.w.Null()
			}
			return nil
		}
		if o.keepTTL {
			at = e.ExpireAt
		}
	}
	if !o.get {
		c.w.OK()
	}
	return c.put(key, value, at)
}

func cmdGetEX(c *call) error {
	key := c.args[1]
	o, err := c.parseSetOptions(2, false)
	if err != nil {
		return err
	}
	e, ok, err := c.str(key)
	if err != nil {
		return err
	}
	if !ok {
		c.w.Null()
		return nil
	}
	at, err := c.expireAt(o)
	if err != nil {
		return err
	}
	c.w.Bulk(e.Value)
	if o.expire == "" && !(o.persist && e.ExpireAt != 0) {
		return nil
	}
	return c.setExpire(key, at)
}

// setExpire changes when an existing key expires, 0 for never; a time that has passed deletes it.
func (c *call) setExpire(key []byte, at int64) error {
	if at != 0 && at <= c.nowMs {
		_, err := c.txn.Delete(key)
		return err
	}
	_, err := c.txn.SetExpire(key, at)
	return err
}

// expiryWhen is argument 2 of the EXPIRE family, unix milliseconds. Negative times are allowed: they delete.
func (c *call) expiryWhen() (int64, error) {
	when, err := c.intArg(2)
	if err != nil {
		return 0, err
	}
	if c.cmd.name == "expire" || c.cmd.name == "expireat" {
		if when > math.MaxInt64/1000 || when < math.MinInt64/1000 {
			return 0, c.failExpire()
		}
		when *= 1000
	}
	if c.cmd.name == "expire" || c.cmd.name == "pexpire" {
		if when > math.MaxInt64-c.nowMs {
			return 0, c.failExpire()
		}
		when += c.nowMs
	}
	return when, nil
}
