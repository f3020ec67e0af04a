package server

import "repld/internal/kv"

func cmdDel(c *call) error {
	n := int64(0)
	for _, key := range c.args[1:] {
		existed, err := c.txn.Delete(key)
		if err != nil {
			return err
		}
		if existed {
			n++
		}
	}
	c.w.Int(n)
	return nil
}

// cmdExists is EXISTS and TOUCH. A key named twice counts twice.
func cmdExists(c *call) error {
	n := int64(0)
	for _, key := range c.args[1:] {
		ok, err := c.view.Exists(key)
		if err != nil {
			return err
		}
		c.hit(ok)
		if ok {
			n++
		}
	}
	c.w.Int(n)
	return nil
}

func cmdType(c *call) error {
	e, ok, err := c.view.Get(c.args[1])
	if err != nil {
		return err
	}
	if !ok {
		c.w.Simple("none")
		return nil
	}
	c.w.Simple(e.Type.String())
	return nil
}

func cmdRename(c *call) error {
	done, err := c.rename(false)
	if err == nil && done {
		c.w.OK()
	}
	return err
}

func cmdRenameNX(c *call) error {
	done, err := c.rename(true)
	if err != nil {
		return err
	}
	if done {
		c.w.Int(1)
	} else {
		c.w.Int(0)
	}
	return nil
}

// rename moves a key with its expiry; done is false only when the target was in the way.
func (c *call) rename(unlessExists bool) (done bool, err error) {
	from, to := c.args[1], c.args[2]
	e, ok, err := c.view.Get(from)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, c.fail(errNoKey)
	}
	if string(from) == string(to) {
		return !unlessExists, nil
	}
	s := c.s
	s.scratch = append(s.scratch[:0], e.Value...)
	if unlessExists {
		taken, err := c.view.Exists(to)
		if err != nil || taken {
			return false, err
		}
	}
	if err := c.txn.Set(to, s.scratch, e.ExpireAt); err != nil {
		return false, err
	}
	_, err = c.txn.Delete(from)
	return true, err
}

func cmdCopy(c *call) error {
	replace := false
	for i := 3; i < len(c.args); i++ {
		switch {
		case c.is(i, "replace"):
			replace = true
		case c.is(i, "db") && i+1 < len(c.args):
			i++
			db, err := c.rangeArg(i, -1<<31, 1<<31-1)
			if err != nil {
				return err
			}
			if db != 0 {
				return c.fail("ERR DB index is out of range")
			}
		default:
			return c.fail(errSyntax)
		}
	}
	from, to := c.args[1], c.args[2]
	if string(from) == string(to) {
		return c.fail("ERR source and destination objects are the same")
	}
	e, ok, err := c.view.Get(from)
	if err != nil {
		return err
	}
	if !ok {
		c.w.Int(0)
		return nil
	}
	s := c.s
	s.scratch = append(s.scratch[:0], e.Value...)
	if !replace {
		taken, err := c.view.Exists(to)
		if err != nil {
			return err
		}
		if taken {
			c.w.Int(0)
			return nil
		}
	}
	c.w.Int(1)
	return c.txn.Set(to, s.scratch, e.ExpireAt)
}

// cmdFlush is FLUSHDB and FLUSHALL: there is one database.
func cmdFlush(c *call) error {
	if len(c.args) > 2 || len(c.args) == 2 && !c.is(1, "sync") && !c.is(1, "async") {
		return c.fail(errSyntax)
	}
	c.w.OK()
	return c.txn.Clear()
}

func cmdDBSize(c *call) error {
	n, err := c.view.Len()
	if err != nil {
		return err
	}
	c.w.Int(n)
	return nil
}

// object answers a subcommand of OBJECT about a key that exists.
func (c *call) object(answer func(e kv.Entry)) error {
	e, ok, err := c.view.Get(c.args[2])
	if err != nil {
		return err
	}
	if !ok {
		c.w.Null()
		return nil
	}
	answer(e)
	return nil
}

// cmdObjectEncoding tells what Redis would have chosen for a value that was set whole.
func cmdObjectEncoding(c *call) error {
	return c.object(func(e kv.Entry) { c.w.BulkString(encoding(e.Value)) })
}

func cmdObjectFreq(c *call) error {
	return c.object(func(kv.Entry) {
		c.w.Error("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.")
	})
}

func cmdObjectIdleTime(c *call) error { return c.object(func(kv.Entry) { c.w.Int(0) }) }
func cmdObjectRefCount(c *call) error { return c.object(func(kv.Entry) { c.w.Int(1) }) }
