package server

import (
	"bytes"

	"repld/internal/kv"
)

// cmdKVRange is KV.RANGE start end [LIMIT n] [REV]: the keys k with start <= k < end in byte order, with REV from the
// highest down, at most n. "-" as start and "+" as end leave that side open. RESP2 is answered with a flat array of keys
// and values; RESP3 with an array of pairs, because a map would lose the order in most clients.
func cmdKVRange(c *call) error {
	limit, o := int64(-1), kv.RangeOptions{}
	for i := 3; i < len(c.args); i++ {
		switch {
		case c.is(i, "rev"):
			o.Reverse = true
		case c.is(i, "limit") && i+1 < len(c.args):
			i++
			n, err := c.intArg(i)
			if err != nil {
				return err
			}
			if n < 0 {
				return c.fail("ERR LIMIT can't be negative")
			}
			limit = n
		default:
			return c.fail(errSyntax)
		}
	}
	if lower := c.args[1]; string(lower) != "-" {
		o.Lower = lower
	}
	if upper := c.args[2]; string(upper) != "+" {
		o.Upper = upper
	}
	if limit == 0 || o.Upper != nil && bytes.Compare(o.Lower, o.Upper) >= 0 {
		c.w.Array(0)
		return nil
	}
	return c.kvRange(o, limit)
}

func (c *call) kvRange(o kv.RangeOptions, limit int64) error {
	at, n := c.w.Len(), 0
	err := c.walk(o, func(it kv.Iterator) bool {
		e := it.Entry()
		if e.Type != kv.TypeString {
			return true
		}
		if c.w.Proto() == 3 {
			c.w.Array(2)
		}
		c.w.Bulk(it.Key())
		c.w.Bulk(e.Value)
		n++
		return int64(n) != limit && !c.w.Overflow()
	})
	if c.w.Proto() == 3 {
		c.w.InsertArray(at, n)
	} else {
		c.w.InsertArray(at, 2*n)
	}
	return err
}
