package server

import (
	"bytes"
	"math/rand/v2"

	"repld/internal/kv"
	"repld/internal/resp"
)

func encoding(value []byte) string {
	switch _, isInt := resp.ParseInt(value); {
	case isInt:
		return "int"
	case len(value) <= 44:
		return "embstr"
	default:
		return "raw"
	}
}

// walk calls fn for the keys of a range until it returns false.
func (c *call) walk(o kv.RangeOptions, fn func(it kv.Iterator) bool) error {
	it, err := c.view.Iter(o)
	if err != nil {
		return err
	}
	for it.Next() && fn(it) {
	}
	err = it.Err()
	if e := it.Close(); err == nil {
		err = e
	}
	return err
}

func cmdKeys(c *call) error {
	pattern := c.args[1]
	at, n := c.w.Len(), 0
	o := kv.RangeOptions{KeysOnly: true}
	if prefix := literalPrefix(pattern); len(prefix) > 0 {
		o.Lower, o.Upper = prefix, successor(prefix)
	}
	err := c.walk(o, func(it kv.Iterator) bool {
		if globMatch(pattern, it.Key(), false) {
			c.w.Bulk(it.Key())
			n++
		}
		return !c.w.Overflow()
	})
	c.w.InsertArray(at, n)
	return err
}

// successor is the least key that is greater than every key with the prefix; nil if there is none.
func successor(prefix []byte) []byte {
	next := bytes.Clone(prefix)
	for i := len(next) - 1; i >= 0; i-- {
		if next[i] < 0xff {
			next[i]++
			return next[:i+1]
		}
	}
	return nil
}

// cmdRandomKey looks at a random place between the first and the last key and walks a few keys up or down from there:
// every key may come, though not each as often as another, since the state is ordered and not hashed.
func cmdRandomKey(c *call) error {
	first, any, err := c.keyAfter(kv.RangeOptions{}, 0)
	if err != nil {
		return err
	}
	if !any {
		c.w.Null()
		return nil
	}
	last, _, err := c.keyAfter(kv.RangeOptions{Reverse: true}, 0)
	if err != nil {
		return err
	}
	n, err := c.view.Len()
	if err != nil {
		return err
	}
	o, steps := kv.RangeOptions{}, rand.IntN(randomSteps)
	if n <= randomSteps {
		steps = rand.IntN(int(max(n, 1)))
	} else if rand.IntN(2) == 0 {
		o.Lower = between(first, last)
	} else {
		o.Upper, o.Reverse = between(first, last), true
	}
	key, any, err := c.keyAfter(o, steps)
	if err != nil {
		return err
	}
	if !any {
		key = last
	}
	c.w.Bulk(key)
	return nil
}

// randomSteps is how far RANDOMKEY walks on at most.
const randomSteps = 32

// keyAfter is the key that many steps after the first of a range, or the last if there are fewer.
func (c *call) keyAfter(o kv.RangeOptions, steps int) (key []byte, any bool, err error) {
	o.KeysOnly = true
	err = c.walk(o, func(it kv.Iterator) bool {
		key, any = append(key[:0], it.Key()...), true
		steps--
		return steps >= 0
	})
	return key, any, err
}

// between is a random string from first to last, as far as 8 bytes after what they have in common tell them apart.
func between(first, last []byte) []byte {
	n := 0
	for n < len(first) && n < len(last) && first[n] == last[n] {
		n++
	}
	lo, hi := word(first[n:]), word(last[n:])
	v := lo
	if hi > lo {
		v += rand.Uint64N(hi - lo)
	}
	key := append([]byte(nil), first[:n]...)
	for shift := 56; shift >= 0; shift -= 8 {
		key = append(key, byte(v>>shift))
	}
	return key
}

// word is the first 8 bytes as a big-endian number, zeros after the end.
func word(b []byte) uint64 {
	var v uint64
	for i := range 8 {
		v <<= 8
		if i < len(b) {
			v |= uint64(b[i])
		}
	}
	return v
}

// maxScanCount bounds the work of one SCAN.
const maxScanCount = 100_000

func cmdScan(c *call) error {
	cursor, ok := parseCursor(c.args[1])
	if !ok {
		return c.fail("ERR invalid cursor")
	}
	var pattern, wantType []byte
	count := int64(10)
	for i := 2; i < len(c.args); i += 2 {
		more := i+1 < len(c.args)
		switch {
		case c.is(i, "count") && more:
			v, err := c.intArg(i + 1)
			if err != nil {
				return err
			}
			if v < 1 {
				return c.fail(errSyntax)
			}
			count = min(v, maxScanCount)
		case c.is(i, "match") && more:
			pattern = c.args[i+1]
		case c.is(i, "type") && more:
			wantType = c.args[i+1]
		default:
			return c.fail(errSyntax)
		}
	}
	return c.scan(cursor, pattern, wantType, int(count))
}

// scan examines up to count keys from where the cursor stands and answers those that match.
func (c *call) scan(cursor uint64, pattern, wantType []byte, count int) error {
	o := kv.RangeOptions{KeysOnly: true, Lower: c.s.srv.cursors.position(cursor)}
	if prefix := literalPrefix(pattern); len(prefix) > 0 {
		o.Upper = successor(prefix)
		if bytes.Compare(prefix, o.Lower) > 0 {
			o.Lower = prefix
		}
	}
	if o.Upper != nil && bytes.Compare(o.Lower, o.Upper) >= 0 {
		c.w.Array(2)
		c.w.BulkString("0")
		c.w.Array(0)
		return nil
	}
	start := c.w.Len()
	found, next := 0, uint64(0)
	err := c.walk(o, func(it kv.Iterator) bool {
		key := it.Key()
		if count == 0 {
			next = c.s.srv.cursors.remember(key)
			return false
		}
		count--
		if (pattern == nil || globMatch(pattern, key, false)) && (wantType == nil || equalFold(wantType, it.Entry().Type.String())) {
			c.w.Bulk(key)
			found++
		}
		return true
	})
	c.w.InsertScan(start, next, found)
	return err
}
