package server

import (
	"math/bits"
	"strings"
)

// categories are the ACL categories of a command.
func (c *command) categories() []string {
	var list []string
	if c.has(fWrite) {
		list = append(list, "@write")
	}
	if c.has(fRead) {
		list = append(list, "@read")
	}
	if c.has(fAdmin) {
		list = append(list, "@admin")
	}
	if c.has(fAdmin | fDangerous) {
		list = append(list, "@dangerous")
	}
	if c.has(fFast) {
		list = append(list, "@fast")
	} else {
		list = append(list, "@slow")
	}
	if c.cats != "" {
		return append(list, strings.Fields(c.cats)...)
	}
	if c.has(fNoCats) {
		return list
	}
	switch c.group {
	case "generic":
		list = append(list, "@keyspace")
	case "string", "connection", "scripting":
		list = append(list, "@"+c.group)
	case "transactions":
		list = append(list, "@transaction")
	}
	return list
}

// describe answers one element of COMMAND: name, arity, flags, first, last and step of the keys, categories, tips, key
// specifications, subcommands.
func (c *call) describe(cmd *command) {
	w := c.w
	w.Array(10)
	w.BulkString(cmd.full)
	w.Int(int64(cmd.arity))
	flags := uint32(cmd.flags) & (1<<len(wireFlags) - 1)
	w.Set(bits.OnesCount32(flags))
	for i, name := range wireFlags {
		if flags&(1<<i) != 0 {
			w.Simple(name)
		}
	}
	w.Int(int64(cmd.keys.first))
	w.Int(int64(cmd.keys.last))
	w.Int(int64(cmd.keys.step))
	cats := cmd.categories()
	w.Set(len(cats))
	for _, cat := range cats {
		w.Simple(cat)
	}
	tips := strings.Fields(cmd.tips)
	w.Set(len(tips))
	for _, t := range tips {
		w.BulkString(t)
	}
	c.describeKeys(cmd)
	w.Set(len(cmd.subs))
	for _, sub := range cmd.subs {
		c.describe(sub)
	}
}

// describeKeys writes the key specifications: one that covers the whole range, or one for each key if their flags differ.
func (c *call) describeKeys(cmd *command) {
	w := c.w
	var specs []string
	if cmd.specs != "" {
		specs = strings.Split(cmd.specs, "|")
	}
	w.Set(len(specs))
	for i, spec := range specs {
		w.Map(3)
		w.BulkString("flags")
		flags := strings.Fields(spec)
		w.Set(len(flags))
		for _, f := range flags {
			w.Simple(f)
		}
		last := 0
		if cmd.keys.last < 0 {
			last = cmd.keys.last
		}
		w.BulkString("begin_search")
		w.Map(2)
		w.BulkString("type")
		w.BulkString("index")
		w.BulkString("spec")
		w.Map(1)
		w.BulkString("index")
		w.Int(int64(cmd.keys.first + i))
		w.BulkString("find_keys")
		w.Map(2)
		w.BulkString("type")
		w.BulkString("range")
		w.BulkString("spec")
		w.Map(3)
		w.BulkString("lastkey")
		w.Int(int64(last))
		w.BulkString("keystep")
		w.Int(int64(cmd.keys.step))
		w.BulkString("limit")
		w.Int(0)
	}
}

func cmdCommand(c *call) error {
	list := c.s.srv.table.list
	c.w.Array(len(list))
	for _, cmd := range list {
		c.describe(cmd)
	}
	return nil
}

func cmdCommandCount(c *call) error {
	c.w.Int(int64(len(c.s.srv.table.list)))
	return nil
}

func cmdCommandInfo(c *call) error {
	if len(c.args) == 2 {
		return cmdCommand(c)
	}
	c.w.Array(len(c.args) - 2)
	for _, name := range c.args[2:] {
		if cmd := c.s.srv.table.find(name); cmd != nil {
			c.describe(cmd)
		} else {
			c.w.NullArray()
		}
	}
	return nil
}

func cmdCommandDocs(c *call) error {
	var list []*command
	if len(c.args) == 2 {
		list = c.s.srv.table.list
	}
	for _, name := range c.args[2:] {
		if cmd := c.s.srv.table.find(name); cmd != nil {
			list = append(list, cmd)
		}
	}
	c.w.Map(len(list))
	for _, cmd := range list {
		c.document(cmd)
	}
	return nil
}

func (c *call) document(cmd *command) {
	w := c.w
	w.BulkString(cmd.full)
	if len(cmd.subs) > 0 {
		w.Map(4)
	} else {
		w.Map(3)
	}
	w.BulkString("summary")
	w.BulkString(cmd.doc)
	w.BulkString("since")
	w.BulkString(cmd.since)
	w.BulkString("group")
	w.BulkString(cmd.group)
	if len(cmd.subs) > 0 {
		w.BulkString("subcommands")
		w.Map(len(cmd.subs))
		for _, sub := range cmd.subs {
			c.document(sub)
		}
	}
}

func cmdCommandList(c *call) error {
	keep := func(*command) bool { return true }
	switch {
	case len(c.args) == 2:
	case len(c.args) == 5 && c.is(2, "filterby") && c.is(3, "module"):
		keep = func(*command) bool { return false }
	case len(c.args) == 5 && c.is(2, "filterby") && c.is(3, "pattern"):
		keep = func(cmd *command) bool { return globMatch(c.args[4], []byte(cmd.full), true) }
	case len(c.args) == 5 && c.is(2, "filterby") && c.is(3, "aclcat"):
		keep = func(cmd *command) bool {
			for _, cat := range cmd.categories() {
				if cat == "@"+c.lowerArg(4) {
					return true
				}
			}
			return false
		}
	default:
		return c.fail(errSyntax)
	}
	at, n := c.w.Len(), 0
	add := func(cmd *command) {
		if keep(cmd) {
			c.w.BulkString(cmd.full)
			n++
		}
	}
	if len(c.args) == 2 {
		for _, cmd := range c.s.srv.table.list {
			add(cmd)
		}
	} else {
		c.s.srv.table.each(add)
	}
	c.w.InsertArray(at, n)
	return nil
}

func cmdCommandGetKeys(c *call) error {
	args := c.args[2:]
	cmd, _ := c.s.srv.table.lookup(args)
	switch {
	case cmd == nil:
		return c.fail("ERR Invalid command specified")
	case cmd.keys.first == 0:
		return c.fail("ERR The command has no key arguments")
	case !cmd.arityOK(len(args)):
		return c.fail("ERR Invalid number of arguments specified for command")
	}
	last := cmd.keys.last
	if last < 0 {
		last += len(args)
	}
	at, n := c.w.Len(), 0
	for i := cmd.keys.first; i <= last; i += cmd.keys.step {
		c.w.Bulk(args[i])
		n++
	}
	c.w.InsertArray(at, n)
	return nil
}

// cmdContainer answers a container command without a subcommand.
func cmdContainer(c *call) error { return c.failArity() }

// cmdHelp lists the subcommands of the container that was called.
func cmdHelp(c *call) error {
	container := c.s.srv.table.byName[strings.TrimSuffix(c.cmd.full, "|help")]
	lines := []string{strings.ToUpper(container.name) + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"}
	for _, sub := range container.subs {
		lines = append(lines, strings.ToUpper(sub.name), "    "+sub.doc)
	}
	c.w.Array(len(lines))
	for _, l := range lines {
		c.w.Simple(l)
	}
	return nil
}
