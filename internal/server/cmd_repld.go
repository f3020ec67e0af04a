package server

import (
	"encoding/binary"
	"errors"

	"github.com/cespare/xxhash/v2"

	"repld/internal/kv"
)

// cmdEpoch is REPLD.EPOCH [seen]. A client carries the highest epoch that it has seen; a node that does not know of it yet is a stale active, or behind, and
// must serve that client nothing (R3 as far as clients can help).
func cmdEpoch(c *call) error {
	if len(c.args) > 2 {
		return c.failArity()
	}
	st := c.status()
	if len(c.args) == 2 {
		seen, err := c.intArg(1)
		if err != nil {
			return err
		}
		if seen > int64(st.Epoch) {
			c.s.closing = true
			return c.fail("STALE node " + st.Node + " knows epoch " + itoa(int64(st.Epoch)) + ", the client has seen " + itoa(seen))
		}
	}
	c.w.Map(5)
	c.w.BulkString("forwards") // what this connection sends is executed by the active
	c.w.Bool(c.s.forwards())
	c.w.BulkString("epoch")
	c.w.Int(int64(st.Epoch))
	c.w.BulkString("role")
	c.w.BulkString(string(st.Role))
	c.w.BulkString("node")
	c.w.BulkString(st.Node)
	c.w.BulkString("active")
	c.w.BulkString(st.Active)
	return nil
}

// longestOnce is how long a result may be kept, ms: results are part of the state.
const longestOnce = 7 * 24 * 3600 * 1000

// cmdOnce is REPLD.ONCE id ttl-ms command …: the command's reply is kept under the id in the same record as its effects, so that after any crash or change of
// the active both are there or neither, and a repetition either finds the reply or is the first to be executed.
func cmdOnce(c *call) error {
	id := c.args[1]
	if len(id) == 0 || len(id) > kv.MaxIDBytes {
		return c.fail("ERR an id has 1 to " + itoa(kv.MaxIDBytes) + " bytes")
	}
	ttl, err := c.rangeArg(2, 1, longestOnce)
	if err != nil {
		return err
	}
	cmd, args, err := c.onceCommand()
	if err != nil {
		return err
	}
	hash := onceHash(args)
	kept, ok, err := c.txn.Result(id)
	if err != nil {
		return err
	}
	if ok {
		return c.replay(kept, hash)
	}
	from := c.w.Len()
	outer, outerArgs := c.cmd, c.args
	c.cmd, c.args = cmd, args
	err = cmd.do(c)
	c.cmd, c.args = outer, outerArgs
	if err != nil && !errors.Is(err, errReplied) {
		return err // the record is aborted
	}
	reply := c.w.Bytes()[from:]
	switch {
	case c.w.Overflow() || len(reply) == 0:
		return Errorf("ERR", "the reply is too large")
	case reply[0] == '-' && !c.txn.Changed():
		return err // nothing happened: a repetition may try again
	case len(reply)+1 > kv.MaxReplyBytes:
		return Errorf("ERR", "a reply of %d bytes cannot be kept for an id: at most %d. Nothing was written", len(reply), kv.MaxReplyBytes-1)
	}
	return c.txn.PutResult(id, kv.Result{ExpireAt: c.nowMs + ttl, Hash: hash, Reply: append([]byte{byte(c.w.Proto())}, reply...)})
}

// onceCommand is the command inside, if it may be executed by id.
func (c *call) onceCommand() (*command, [][]byte, error) {
	args := c.args[3:]
	cmd, _ := c.s.srv.table.lookup(args)
	switch {
	case cmd == nil:
		return nil, nil, c.fail(unknownCommand(args))
	case !cmd.arityOK(len(args)):
		return nil, nil, c.fail("ERR wrong number of arguments for '" + cmd.full + "' command")
	case !cmd.has(fWrite) || cmd.has(fControl|fAlone|fBlocking|fNoMulti) || cmd.do == nil:
		return nil, nil, c.fail("ERR REPLD.ONCE executes commands that write; '" + cmd.full + "' is none that it may")
	}
	return cmd, args, nil
}

// replay answers what the first execution was answered.
func (c *call) replay(kept kv.Result, hash uint64) error {
	switch {
	case kept.Hash != hash:
		return c.fail("ERR this id belongs to another command")
	case len(kept.Reply) < 2:
		return Errorf("ERR", "the result of this id cannot be read")
	case int(kept.Reply[0]) != c.w.Proto() && kept.Reply[1] != ':' && kept.Reply[1] != '+' && kept.Reply[1] != '$':
		return c.fail("ERR the result of this id was answered with RESP" + itoa(int64(kept.Reply[0])) + ": ask with that protocol")
	}
	c.w.Raw(kept.Reply[1:])
	return nil
}

// onceHash tells commands apart; an argument's length is hashed too, so that no two commands run into each other.
func onceHash(args [][]byte) uint64 {
	d := xxhash.New()
	var n [8]byte
	for _, a := range args {
		binary.LittleEndian.PutUint64(n[:], uint64(len(a)))
		_, _ = d.Write(n[:]) // writing to a hash cannot fail
		_, _ = d.Write(a)
	}
	return d.Sum64()
}
