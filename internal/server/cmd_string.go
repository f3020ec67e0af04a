package server

import (
	"math"
	"strconv"

	"repld/internal/kv"
	"repld/internal/resp"
)

func itoa(v int64) string { return strconv.FormatInt(v, 10) }

// replyString answers what str found.
func (c *call) replyString(key []byte) (kv.Entry, bool, error) {
	e, ok, err := c.str(key)
	if err != nil {
		return e, false, err
	}
	if !ok {
		c.w.Null()
		return e, false, nil
	}
	c.w.Bulk(e.Value)
	return e, true, nil
}

func cmdGet(c *call) error {
	_, ok, err := c.replyString(c.args[1])
	if err == nil {
		c.hit(ok)
	}
	return err
}

func cmdGetSet(c *call) error {
	if _, _, err := c.replyString(c.args[1]); err != nil {
		return err
	}
	return c.txn.Set(c.args[1], c.args[2], 0)
}

func cmdGetDel(c *call) error {
	_, ok, err := c.replyString(c.args[1])
	if err != nil || !ok {
		return err
	}
	_, err = c.txn.Delete(c.args[1])
	return err
}

func cmdSetNX(c *call) error {
	ok, err := c.view.Exists(c.args[1])
	if err != nil {
		return err
	}
	if ok {
		c.w.Int(0)
		return nil
	}
	c.w.Int(1)
	return c.txn.Set(c.args[1], c.args[2], 0)
}

// cmdSetEX is SETEX and PSETEX.
func cmdSetEX(c *call) error {
	unit := int64(1000)
	if c.cmd.name == "psetex" {
		unit = 1
	}
	at, err := c.expireArg(2, unit, true)
	if err != nil {
		return err
	}
	c.w.OK()
	return c.put(c.args[1], c.args[3], at)
}

func cmdMGet(c *call) error {
	c.w.Array(len(c.args) - 1)
	for _, key := range c.args[1:] {
		e, ok, err := c.view.Get(key)
		if err != nil {
			return err
		}
		ok = ok && e.Type == kv.TypeString
		c.hit(ok)
		if ok {
			c.w.Bulk(e.Value)
		} else {
			c.w.Null()
		}
	}
	return nil
}

func (c *call) putAll() error {
	for i := 1; i < len(c.args); i += 2 {
		if err := c.txn.Set(c.args[i], c.args[i+1], 0); err != nil {
			return err
		}
	}
	return nil
}

func cmdMSet(c *call) error {
	if len(c.args)%2 == 0 {
		return c.failArity()
	}
	c.w.OK()
	return c.putAll()
}

func cmdMSetNX(c *call) error {
	if len(c.args)%2 == 0 {
		return c.failArity()
	}
	for i := 1; i < len(c.args); i += 2 {
		ok, err := c.view.Exists(c.args[i])
		if err != nil {
			return err
		}
		if ok {
			c.w.Int(0)
			return nil
		}
	}
	c.w.Int(1)
	return c.putAll()
}

func cmdStrLen(c *call) error {
	e, ok, err := c.str(c.args[1])
	if err != nil {
		return err
	}
	c.hit(ok)
	c.w.Int(int64(len(e.Value)))
	return nil
}

func cmdAppend(c *call) error {
	key, tail := c.args[1], c.args[2]
	e, ok, err := c.str(key)
	if err != nil {
		return err
	}
	if !ok {
		c.w.Int(int64(len(tail)))
		return c.txn.Set(key, tail, 0)
	}
	if len(e.Value)+len(tail) > c.maxString() {
		return c.fail(errTooLong)
	}
	s := c.s
	s.scratch = append(append(s.scratch[:0], e.Value...), tail...)
	c.w.Int(int64(len(s.scratch)))
	return c.txn.Set(key, s.scratch, e.ExpireAt)
}

func cmdSetRange(c *call) error {
	key, piece := c.args[1], c.args[3]
	offset, err := c.intArg(2)
	if err != nil {
		return err
	}
	if offset < 0 {
		return c.fail("ERR offset is out of range")
	}
	e, ok, err := c.str(key)
	if err != nil {
		return err
	}
	if len(piece) == 0 {
		c.w.Int(int64(len(e.Value)))
		return nil
	}
	if offset > int64(c.maxString()-len(piece)) {
		return c.fail(errTooLong)
	}
	end := int(offset) + len(piece)
	value := make([]byte, max(end, len(e.Value)))
	copy(value, e.Value)
	copy(value[offset:], piece)
	c.w.Int(int64(len(value)))
	if !ok {
		return c.txn.Set(key, value, 0)
	}
	return c.txn.Set(key, value, e.ExpireAt)
}

// cmdGetRange is GETRANGE and SUBSTR: both ends are included, negative ones count from the end.
func cmdGetRange(c *call) error {
	from, err := c.intArg(2)
	if err != nil {
		return err
	}
	to, err := c.intArg(3)
	if err != nil {
		return err
	}
	e, ok, err := c.str(c.args[1])
	if err != nil {
		return err
	}
	c.hit(ok)
	n := int64(len(e.Value))
	if n == 0 || from < 0 && to < 0 && from > to {
		c.w.Bulk(nil)
		return nil
	}
	if from < 0 {
		from = max(n+from, 0)
	}
	if to < 0 {
		to = max(n+to, 0)
	}
	to = min(to, n-1)
	if from > to {
		c.w.Bulk(nil)
		return nil
	}
	c.w.Bulk(e.Value[from : to+1])
	return nil
}

func cmdIncr(c *call) error { return c.add(1) }
func cmdDecr(c *call) error { return c.add(-1) }

func cmdIncrBy(c *call) error {
	by, err := c.intArg(2)
	if err != nil {
		return err
	}
	return c.add(by)
}

func cmdDecrBy(c *call) error {
	by, err := c.intArg(2)
	if err != nil {
		return err
	}
	if by == math.MinInt64 {
		return c.fail("ERR decrement would overflow")
	}
	return c.add(-by)
}

func (c *call) add(by int64) error {
	key := c.args[1]
	e, ok, err := c.str(key)
	if err != nil {
		return err
	}
	v := int64(0)
	if ok {
		if v, ok = resp.ParseInt(e.Value); !ok {
			return c.fail(errNotInt)
		}
	}
	if by < 0 && v < math.MinInt64-by || by > 0 && v > math.MaxInt64-by {
		return c.fail("ERR increment or decrement would overflow")
	}
	v += by
	c.w.Int(v)
	var digits [20]byte
	return c.txn.Set(key, strconv.AppendInt(digits[:0], v, 10), e.ExpireAt)
}

func cmdIncrByFloat(c *call) error {
	key := c.args[1]
	e, ok, err := c.str(key)
	if err != nil {
		return err
	}
	var v extended
	if ok {
		if v, ok = parseExtended(e.Value); !ok {
			return c.fail(errNotFloat)
		}
	}
	by, ok := parseExtended(c.args[2])
	if !ok {
		return c.fail(errNotFloat)
	}
	sum, ok := v.add(by)
	if !ok {
		return c.fail("ERR increment would produce NaN or Infinity")
	}
	text := sum.format()
	c.w.Bulk(text)
	return c.txn.Set(key, text, e.ExpireAt)
}
